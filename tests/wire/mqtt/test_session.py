"""The server's side of a connection, alone and against the client's side in memory."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.errors import ConnectCode, LocalError, ProtocolError
from isthmus.wire.mqtt.events import Failed, ServerEvent, TimedOut
from isthmus.wire.mqtt.packets import (
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    encode,
)
from isthmus.wire.mqtt.session import (
    CONNECT_SECONDS_MAX,
    PIPELINED_BYTES_MAX,
    ServerSession,
    SessionState,
)
from wire.cases.mqtt import BAD, GOOD, Bad


@pytest.mark.rule("MQTT-2.3.1-6", "MQTT-4.3.2-2")
def test_a_message_is_acknowledged_across_two_peers() -> None:
    client, server = pair()
    sent = client.publish(b"t", b"hello", qos=1)
    (message,) = server.receive(sent, 1.0)

    assert isinstance(message, Publish)
    assert (message.topic, message.payload, message.qos) == (b"t", b"hello", 1)
    assert client.receive(server.puback([message.packet_id])) == [PubAck(message.packet_id)]
    assert client.waiting == set()


@pytest.mark.rule(
    "MQTT-2.3.1-7",
    "MQTT-3.8.4-1",
    "MQTT-3.8.4-2",
    "MQTT-3.8.4-4",
    "MQTT-3.8.4-5",
    "MQTT-3.9.3-1",
    "MQTT-3.10.4-4",
    "MQTT-3.12.4-1",
)
def test_subscriptions_and_pings_are_answered() -> None:
    client, server = pair()

    assert server.receive(client.subscribe(("a/#", 1), ("b", 2)), 1.0) == [Subscribe(1, (("a/#", 1), ("b", 2)))]
    assert client.receive(server.suback(1, [1, 0x80])) == [SubAck(1, (1, 0x80))]
    assert server.receive(client.unsubscribe("a/#"), 1.0) == [Unsubscribe(2, ("a/#",))]
    assert client.receive(server.unsuback(2)) == [UnsubAck(2)]
    assert server.receive(client.ping(), 1.0) == []
    assert client.receive(server.take_output()) == [PingResp()]
    assert server.take_output() == b""


@pytest.mark.rule("MQTT-3.3.1-3", "MQTT-3.3.1-9", "MQTT-4.3.1-1", "MQTT-4.3.2-1")
def test_the_server_sends_at_both_qualities() -> None:
    client, server = pair()
    zero = server.publish(b"t", b"0")
    packet_id, one = server.publish_acknowledged(b"t", b"1")

    assert client.receive(zero + one) == [Publish(b"t", b"0"), Publish(b"t", b"1", 1, packet_id)]
    assert server.receive(client.puback([packet_id]), 1.0) == [PubAck(packet_id)]


@pytest.mark.rule("MQTT-3.14.4-1", "MQTT-3.14.4-2")
def test_a_disconnect_ends_everything() -> None:
    client, server = pair()

    assert server.receive(client.disconnect() + encode(Publish(b"t", b"")), 1.0) == [Disconnect()]
    assert client.closed
    assert server.state is SessionState.CLOSED
    assert server.receive(encode(Publish(b"t", b"")), 1.0) == []


@pytest.mark.rule("MQTT-3.1.4-5", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
@pytest.mark.parametrize("code", [code for code in ConnectCode if code is not ConnectCode.ACCEPTED])
def test_a_refusal_drops_what_was_sent_behind_the_connect(code: ConnectCode) -> None:
    client, server = ClientSession(), session()
    events = server.receive(client.connect(Connect("d")) + client.publish(b"t", b"x"), 0.0)

    assert events == [Connect("d")]
    assert client.receive(server.refuse(code)) == [ConnAck(False, code)]
    assert not client.connected
    assert server.state is SessionState.CLOSED


@pytest.mark.rule("MQTT-3.2.0-1")
def test_what_was_sent_behind_the_connect_waits_for_the_answer() -> None:
    server = session()
    connect, first, second = encode(Connect("d")), encode(Publish(b"t", b"1")), encode(Publish(b"t", b"2"))

    assert server.receive(connect + first[:3], 0.0) == [Connect("d")]
    assert server.receive(first[3:], 0.0) == []
    assert server.receive(second, 0.0) == []
    connack, events = server.accept(keep_alive=0, session_present=True, now=0.0)
    assert connack == encode(ConnAck(True, ConnectCode.ACCEPTED))
    assert events == [Publish(b"t", b"1"), Publish(b"t", b"2")]


def test_what_is_kept_behind_the_connect_is_bounded() -> None:
    server = session()
    server.receive(encode(Connect("d")), 0.0)
    server.receive(bytes(PIPELINED_BYTES_MAX), 0.0)

    assert rules(server.receive(b"\0", 0.0)) == ["limit"]
    assert server.state is SessionState.CLOSED


def test_a_connect_may_not_be_as_long_as_a_message() -> None:
    assert rules(session().receive(b"\x10\x81\x80\x06", 0.0)) == ["limit"]


@pytest.mark.rule("MQTT-3.1.0-1", "MQTT-3.1.2-2", "MQTT-3.1.3-8")
@pytest.mark.parametrize(
    ("data", "rule", "answer"),
    [
        (encode(PingReq()), "MQTT-3.1.0-1", b""),
        (b"\x10\x0a\x00\x04MQTT\x05\x02\x00\x3c", "MQTT-3.1.2-2", b"\x20\x02\x00\x01"),
        (b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00", "MQTT-3.1.3-8", b"\x20\x02\x00\x02"),
        (b"GET / HTTP/1.1\r\n", "MQTT-3.1.0-1", b""),
    ],
)
def test_a_wrong_beginning_is_answered_as_specified(data: bytes, rule: str, answer: bytes) -> None:
    server = session()

    assert rules(server.receive(data, 0.0)) == [rule]
    assert server.take_output() == answer
    assert server.state is SessionState.CLOSED


@pytest.mark.rule("MQTT-3.1.0-2", "MQTT-4.8.0-1")
@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (encode(Connect("d")), "MQTT-3.1.0-2"),
        (encode(PubRel(1)), "MQTT-4.8.0-1"),
        (encode(ConnAck(False, ConnectCode.ACCEPTED)), "MQTT-4.8.0-1"),
        (encode(PingResp()), "MQTT-4.8.0-1"),
    ],
)
def test_a_packet_out_of_place_fails_behind_what_was_good(data: bytes, rule: str) -> None:
    _, server = pair()
    events = server.receive(encode(Publish(b"t", b"x")) + data, 1.0)

    assert events[0] == Publish(b"t", b"x")
    assert rules(events[1:]) == [rule]


@pytest.mark.rule("MQTT-4.8.0-1")
@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_each_bad_case_is_a_failure_and_never_an_exception(case: Bad) -> None:
    _, server = pair()
    (failed,) = server.receive(case.data, 1.0)

    assert isinstance(failed, Failed)
    assert isinstance(failed.error, ProtocolError)


@pytest.mark.rule("MQTT-4.6.0-2")
def test_pubacks_out_of_order_fail() -> None:
    client, server = pair()
    first, _ = server.publish_acknowledged(b"t", b"1")
    second, _ = server.publish_acknowledged(b"t", b"2")

    assert rules(server.receive(client.puback([second]), 1.0)) == ["MQTT-4.6.0-2"]
    assert first != second


def test_a_puback_of_an_earlier_connection_is_dropped_and_counted() -> None:
    client, server = pair()

    assert server.receive(client.puback([9]), 1.0) == []
    assert server.stale_pubacks == 1


def test_the_outbound_window_is_bounded() -> None:
    client, server = pair()
    identifiers = [server.publish_acknowledged(b"t", b"")[0] for _ in range(server.outbound_free)]

    with pytest.raises(LocalError, match="window"):
        server.publish_acknowledged(b"t", b"")
    server.receive(client.puback(identifiers[:1]), 1.0)
    assert server.outbound_free == 1


@pytest.mark.rule("MQTT-2.3.1-4", "MQTT-4.3.2-1")
@given(st.lists(st.booleans(), max_size=300))
def test_no_outbound_identifier_is_used_twice_at_a_time(sends: list[bool]) -> None:
    _, server = pair()
    server._last_packet_id = 65_400
    waiting: list[int] = []
    for send in sends:
        if send and server.outbound_free:
            identifier, _ = server.publish_acknowledged(b"t", b"")
            assert 0 < identifier <= 65_535
            assert identifier not in waiting
            waiting.append(identifier)
        elif waiting:
            assert server.receive(encode(PubAck(waiting[0])), 1.0) == [PubAck(waiting.pop(0))]


def test_the_inbound_window_pauses_and_an_acknowledgement_resumes() -> None:
    client, server = pair()
    events = server.receive(b"".join(client.publish(b"t", b"", qos=1) for _ in range(4)), 1.0)

    assert server.paused
    server.puback([event.packet_id for event in events if isinstance(event, Publish)][:1])
    assert not server.paused


@pytest.mark.rule("MQTT-3.1.2-24")
@pytest.mark.parametrize(("keep_alive", "silence"), [(60, 90.0), (0, 1767.0), (65_535, 1767.0), (1, 1.5)])
def test_silence_is_one_and_a_half_keep_alives_up_to_the_cap(keep_alive: int, silence: float) -> None:
    server = session()
    server.receive(encode(Connect("d", keep_alive=keep_alive)), 5.0)
    server.accept(keep_alive=keep_alive, session_present=False, now=10.0)

    assert server.next_deadline() == 10.0 + silence
    assert server.tick(10.0 + silence - 0.1) == []
    server.receive(encode(PingReq()), 11.0)
    assert server.tick(10.0 + silence) == []
    assert server.tick(11.0 + silence) == [TimedOut(awaiting_connect=False)]
    assert server.next_deadline() is None


def test_an_owner_that_does_not_read_keeps_the_peer_alive() -> None:
    _, server = pair(keep_alive=10)
    server.heard(100.0)

    assert server.next_deadline() == 115.0


def test_the_connect_has_to_come_in_time_and_slow_bytes_do_not_help() -> None:
    server = session()
    server.receive(b"\x10", CONNECT_SECONDS_MAX - 1)

    assert server.next_deadline() == CONNECT_SECONDS_MAX
    assert server.tick(CONNECT_SECONDS_MAX) == [TimedOut(awaiting_connect=True)]


def test_nothing_can_be_said_before_the_connect_is_answered() -> None:
    with pytest.raises(LocalError):
        session().publish(b"t", b"")
    with pytest.raises(LocalError):
        session().accept(keep_alive=0, session_present=False, now=0.0)


@given(
    st.lists(st.sampled_from([case.data for case in GOOD] + [case.data for case in BAD]), max_size=6),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_any_split_gives_the_same_events(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    whole = run(data, [])

    assert run(data, cuts) == whole


@pytest.mark.rule("MQTT-3.2.0-1")
def test_the_client_knows_what_a_server_may_not_do() -> None:
    silent = ClientSession()
    assert rules(silent.receive(encode(PingResp()))) == ["MQTT-3.2.0-1"]
    assert silent.receive(encode(PingResp())) == []
    lying = ClientSession()
    assert rules(lying.receive(b"\x20\x02\x01\x05")) == ["MQTT-3.2.2-4"]
    client, _ = pair()
    assert rules(client.receive(encode(PubAck(5)))) == ["MQTT-2.3.1-6"]
    client, _ = pair()
    assert rules(client.receive(encode(ConnAck(False, ConnectCode.ACCEPTED)))) == ["MQTT-3.2.0-1"]
    client, _ = pair()
    assert rules(client.receive(encode(Disconnect()))) == ["MQTT-4.8.0-1"]


@pytest.mark.rule("MQTT-2.3.1-2")
def test_the_client_never_uses_an_identifier_twice() -> None:
    client = ClientSession()
    client.waiting = set(range(1, 65_535))
    client.publish(b"t", b"", qos=1)

    assert 65_535 in client.waiting
    with pytest.raises(LocalError, match="identifiers"):
        client.publish(b"t", b"", qos=1)
    client.waiting.remove(7)
    client.publish(b"t", b"", qos=1)
    assert 7 in client.waiting


def session() -> ServerSession:
    """A connection at time 0 with an inbound window of 4 and an outbound one of 3."""
    return ServerSession(
        0.0, remaining_length_max=400_000, silence_seconds_max=1767.0, inbound_window_max=4, outbound_window_max=3
    )


def pair(keep_alive: int = 60) -> tuple[ClientSession, ServerSession]:
    """A client and a server that have met."""
    client, server = ClientSession(), session()
    assert server.receive(client.connect(Connect("d", keep_alive=keep_alive)), 0.0) == [
        Connect("d", keep_alive=keep_alive)
    ]
    connack, events = server.accept(keep_alive=keep_alive, session_present=False, now=0.0)
    assert events == []
    assert client.receive(connack) == [ConnAck(False, ConnectCode.ACCEPTED)]
    return client, server


def rules(events: Sequence[object]) -> list[str]:
    """The rules that were broken."""
    return [event.error.rule for event in events if isinstance(event, Failed)]


def run(data: bytes, cuts: list[int]) -> tuple[list[str], bytes]:
    """Events (as text, since errors do not compare) and output of a met server that reads `data` in pieces."""
    _, server = pair()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    events: list[ServerEvent] = []
    for start, end in pairwise(edges):
        events += server.receive(data[start:end], 1.0)
    return [repr(event) for event in events], server.take_output()
