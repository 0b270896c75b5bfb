"""Connections: open and close, channels, deadlines, faults, and input in any split."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.wire.amqp import message as m
from isthmus.wire.amqp import performatives as p
from isthmus.wire.amqp.connection import EMPTY_FRAME, Connection
from isthmus.wire.amqp.errors import Condition
from isthmus.wire.amqp.events import (
    ConnectionClosed,
    LinkAttached,
    LinkDetached,
    Opened,
    SessionBegun,
    SessionEnded,
    Transfer,
)
from isthmus.wire.amqp.handshake import AMQP_HEADER, SASL_HEADER
from isthmus.wire.amqp.limits import (
    CHANNEL_MAX,
    CLOSE_SECONDS_MAX,
    FRAME_BYTES_MAX,
    HANDSHAKE_SECONDS_MAX,
    UNSETTLED_BYTES_MAX,
)
from isthmus.wire.amqp.link import LinkRole
from isthmus.wire.amqp.outlet import frame
from isthmus.wire.amqp.states import ACCEPTED_STATE, Error, Source, Target
from isthmus.wire.amqp.transfer import transfer_flags, transfer_head
from isthmus.wire.amqp.values import Symbol
from wire.amqp.peers import Peers, feed, frames, server_told

OPEN = p.Open("c", "hub.example", properties={Symbol("product"): "test"})
OPENED = AMQP_HEADER + frame(0, OPEN.encode())
BEGIN = frame(0, p.Begin(None, 0, 100, 100).encode())
ATTACH = frame(0, p.Attach("up", 0, False, target=Target("a"), initial_delivery_count=0).encode())


def opened(**more: int) -> Connection:
    """A server with an open connection."""
    server = Connection("server", 0.0, **more)
    feed(server, OPENED)
    server.data_to_send()
    return server


@pytest.mark.rule("AMQP-2.4.1", "AMQP-2.7.1")
def test_an_open_is_answered_with_our_limits() -> None:
    server = Connection("server", 0.0, idle_timeout_ms=240_000)
    assert feed(server, OPENED) == [Opened("c", "hub.example", {Symbol("product"): "test"})]
    expected = p.Open("server", None, FRAME_BYTES_MAX, CHANNEL_MAX, 240_000)
    assert server.data_to_send() == AMQP_HEADER + frame(0, expected.encode())
    assert server.opened


@pytest.mark.rule("AMQP-2.4.3", "AMQP-2.7.9")
def test_the_peer_s_close_is_answered() -> None:
    server = opened()
    assert feed(server, BEGIN + frame(0, p.Close(Error("a:b", "c")).encode()))[1:] == [
        SessionEnded(0, Error("a:b", "c")),
        ConnectionClosed(Error("a:b", "c"), by_peer=True),
    ]
    assert server.data_to_send().endswith(frame(0, p.Close().encode()))
    assert server.finished


@pytest.mark.rule("AMQP-2.4.3", "AMQP-2.4.6")
def test_our_close_ends_everything_and_waits_for_the_peer_s() -> None:
    peers = Peers().open()
    _, link = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    error = Error("amqp:unauthorized-access", "expired")
    peers.server.close(error)
    peers.server.close()
    assert not over(peers.server)
    peers.run()
    assert peers.server_events[-3:] == [
        LinkDetached(link, error),
        SessionEnded(0, error),
        ConnectionClosed(error, by_peer=False),
    ]
    assert peers.client_events[-1] == ConnectionClosed(error, by_peer=True)
    assert peers.server.finished
    assert peers.client.finished


def test_a_close_that_is_not_answered_is_finished_in_time() -> None:
    server = opened()
    server.close()
    assert server.next_deadline == CLOSE_SECONDS_MAX
    assert feed(server, BEGIN, 1.0)[1:] == []
    server.tick(CLOSE_SECONDS_MAX - 0.1)
    assert not over(server)
    server.tick(CLOSE_SECONDS_MAX)
    assert server.finished
    assert server.next_deadline is None


def test_a_lost_transport_ends_everything_once() -> None:
    peers = Peers().open()
    _, link = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    peers.server.lost()
    peers.server.lost()
    told = [LinkDetached(link, None), SessionEnded(0, None), ConnectionClosed(None, by_peer=True)]
    assert list(peers.server.events()) == told
    assert peers.server.data_to_send() == b""
    assert peers.server.finished


def test_a_slow_peer_is_given_up() -> None:
    server = Connection("server", 100.0)
    feed(server, AMQP_HEADER[:5], 101.0)
    assert server.next_deadline == 100.0 + HANDSHAKE_SECONDS_MAX
    server.tick(100.0 + HANDSHAKE_SECONDS_MAX)
    assert server.finished


def test_a_peer_that_never_opens_is_told_why() -> None:
    server = Connection("server", 0.0)
    feed(server, AMQP_HEADER)
    server.tick(HANDSHAKE_SECONDS_MAX)
    bodies = frames(server.data_to_send())
    assert [body[2] for body in bodies] == [0x10, 0x18], "our open comes before our close"


@pytest.mark.rule("AMQP-2.4.5")
def test_silence_of_twice_the_idle_time_out_closes() -> None:
    server = opened(idle_timeout_ms=10_000)
    assert server.next_deadline == 20.0
    feed(server, EMPTY_FRAME, 5.0)
    assert server.next_deadline == 25.0
    server.tick(24.9)
    assert server.opened
    server.tick(25.0)
    (closed,) = server.events()
    assert isinstance(closed, ConnectionClosed)
    assert closed.error
    assert closed.error.condition == Condition.RESOURCE_LIMIT_EXCEEDED


@pytest.mark.rule("AMQP-2.3.2", "AMQP-2.4.5")
def test_we_speak_within_half_of_the_peer_s_idle_time_out() -> None:
    server = Connection("server", 0.0, idle_timeout_ms=0)
    feed(server, AMQP_HEADER + frame(0, p.Open("c", idle_timeout_ms=60_000).encode()))
    server.data_to_send()
    assert server.next_deadline == 30.0
    server.tick(29.0)
    assert server.data_to_send() == b""
    server.tick(30.0)
    assert server.data_to_send() == EMPTY_FRAME
    assert server.next_deadline == 60.0


def test_a_peer_without_idle_time_out_needs_no_deadline() -> None:
    assert opened(idle_timeout_ms=0).next_deadline is None


@pytest.mark.rule("AMQP-2.5.2", "AMQP-2.7.8")
def test_channels_are_used_again_after_both_ends() -> None:
    server = opened()
    told = [event for _ in range(3) for event in feed(server, BEGIN + frame(0, p.End().encode()))]
    assert [type(event) for event in told] == [SessionBegun, SessionEnded] * 3
    assert server.opened


@pytest.mark.rule("AMQP-2.5.4", "AMQP-2.5.5")
def test_a_session_that_we_ended_is_deaf_until_the_peer_s_end() -> None:
    peers = Peers().open()
    session = peers.begin()
    client, _ = peers.attach(session, "up", LinkRole.SENDER)
    peers.server.end_session(session.channel, Error("a:b"))
    peers.server.end_session(session.channel)
    client.send(b"late", settled=True)
    peers.run()
    assert not any(isinstance(event, Transfer) for event in peers.server_events)
    assert peers.client_events[-1] == SessionEnded(0, Error("a:b"))
    assert peers.begin().channel == 0
    assert peers.server.opened


@pytest.mark.rule("AMQP-2.5.1", "AMQP-2.7.2")
def test_each_side_begins_sessions() -> None:
    peers = Peers().open()
    peers.begin()
    assert peers.server.begin().channel == 1
    peers.run()
    assert peers.client_events[-1] == SessionBegun(1)
    assert peers.server_events[-1] == SessionBegun(1)


FAULTS: dict[str, tuple[bytes, Condition]] = {
    "no frame": (b"\xff" * 8, Condition.FRAMING_ERROR),
    "too large a frame": (b"\x00\x02\x00\x00\x02\x00\x00\x00", Condition.FRAMING_ERROR),
    "a SASL frame": (frame(0, p.SaslChoice("PLAIN").encode(), sasl=True), Condition.FRAMING_ERROR),
    "nonsense": (frame(0, b"nonsense"), Condition.DECODE_ERROR),
    "a value that is no performative": (frame(0, b"\x41"), Condition.DECODE_ERROR),
    "an unknown performative": (frame(0, b"\x00\x53\x19\xc0\x02\x01\x40"), Condition.DECODE_ERROR),
    "a field of the wrong type": (frame(0, b"\x00\x53\x11\xc0\x05\x04\x41\x41\x41\x41"), Condition.DECODE_ERROR),
    "a missing field": (frame(0, b"\x00\x53\x11\xc0\x02\x01\x40"), Condition.DECODE_ERROR),
    "a second open": (frame(0, OPEN.encode()), Condition.NOT_ALLOWED),
    "a channel that never was": (frame(9, p.Flow(0, 1, 0, 1).encode()), Condition.NOT_ALLOWED),
    "a transfer on a channel that never was": (frame(9, b"\x00\x53\x14\xc0\x02\x01\x43"), Condition.NOT_ALLOWED),
    "an end of what never was": (frame(9, p.End().encode()), Condition.NOT_ALLOWED),
    "a channel in use": (BEGIN + BEGIN, Condition.NOT_ALLOWED),
    "a channel above channel-max": (frame(CHANNEL_MAX + 1, BEGIN[8:]), Condition.FRAMING_ERROR),
    "an answer to no begin": (frame(0, p.Begin(3, 0, 1, 1).encode()), Condition.NOT_ALLOWED),
    "a handle above handle-max": (BEGIN + frame(0, p.Attach("n", 1 << 20, True).encode()), Condition.FRAMING_ERROR),
    "a transfer that is none": (BEGIN + ATTACH + frame(0, b"\x00\x53\x14\x45"), Condition.DECODE_ERROR),
}


@pytest.mark.rule("AMQP-2.4.6", "AMQP-2.8.14", "AMQP-2.8.15", "AMQP-2.8.16")
@pytest.mark.parametrize(("data", "condition"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_the_peer_closes_with_its_condition(data: bytes, condition: Condition) -> None:
    server = opened()
    closed = feed(server, data)[-1]
    assert isinstance(closed, ConnectionClosed)
    assert closed.error
    assert closed.error.condition == condition
    assert frames(server.data_to_send())[-1] == p.Close(closed.error).encode()
    assert not over(server), "the peer is to read why"
    feed(server, frame(0, p.Close().encode()))
    assert server.finished is (condition is not Condition.FRAMING_ERROR)
    server.tick(CLOSE_SECONDS_MAX)
    assert server.finished


REFUSED_OPENS: dict[str, tuple[p.Performative, Condition]] = {
    "too small a frame size": (p.Open("c", max_frame_size=511), Condition.INVALID_FIELD),
    "too short an idle time-out": (p.Open("c", idle_timeout_ms=999), Condition.NOT_ALLOWED),
    "no open": (p.Begin(None, 0, 1, 1), Condition.NOT_ALLOWED),
}


@pytest.mark.parametrize(("performative", "condition"), REFUSED_OPENS.values(), ids=REFUSED_OPENS.keys())
def test_an_open_that_will_not_do_is_answered_first(performative: p.Performative, condition: Condition) -> None:
    server = Connection("server", 0.0)
    (closed,) = feed(server, AMQP_HEADER + frame(0, performative.encode()))
    assert isinstance(closed, ConnectionClosed)
    assert closed.error
    assert closed.error.condition == condition
    assert [body[2] for body in frames(server.data_to_send())] == [0x10, 0x18]


@pytest.mark.rule("AMQP-2.4.4")
def test_both_may_close_at_once() -> None:
    peers = Peers().open()
    peers.client.close()
    peers.server.close()
    upward, downward = peers.client.data_to_send(), peers.server.data_to_send()
    peers.server.receive(upward, peers.now)
    peers.client.receive(downward, peers.now)
    peers.run()
    for side in (peers.client, peers.server):
        assert side.finished
        assert side.data_to_send() == b""


@pytest.mark.rule("AMQP-2.5.3")
def test_both_may_end_a_session_at_once() -> None:
    peers = Peers().open()
    session = peers.begin()
    peers.client.end_session(session.channel)
    peers.server.end_session(0)
    upward, downward = peers.client.data_to_send(), peers.server.data_to_send()
    peers.server.receive(upward, peers.now)
    peers.client.receive(downward, peers.now)
    peers.run()
    assert peers.client.opened
    assert peers.server.opened
    assert peers.begin().channel == session.channel


@pytest.mark.rule("AMQP-2.4.6")
def test_a_close_behind_a_fault_in_one_read_finishes() -> None:
    server = opened()
    feed(server, frame(0, b"nonsense") + frame(0, p.Close().encode()))
    assert server.finished


@pytest.mark.rule("AMQP-2.4.3")
def test_a_closed_connection_tells_nothing_more() -> None:
    server = opened()
    feed(server, BEGIN + ATTACH + frame(0, p.Close().encode()))
    server.data_to_send()
    feed(server, BEGIN + ATTACH)
    server.tick(1e9)
    assert list(server.events()) == []
    assert server.data_to_send() == b""


def test_reading_pauses_while_too_much_is_unsettled() -> None:
    peers = Peers().open()
    client, server = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    size = 1_000_000
    for _ in range(UNSETTLED_BYTES_MAX // size + 1):
        assert not peers.server.paused
        client.send(b"x" * size)
        peers.run()
    assert peers.server.paused
    server.settle(0, ACCEPTED_STATE)
    assert not peers.server.paused


def test_a_pause_ends_with_the_link_that_caused_it() -> None:
    peers = Peers().open()
    client, server = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    for _ in range(UNSETTLED_BYTES_MAX // 1_000_000 + 1):
        client.send(b"x" * 1_000_000)
    peers.run()
    assert peers.server.paused
    server.detach()
    assert not peers.server.paused


def over(connection: Connection) -> bool:
    """Asked by a call, so that the type checker believes that the answer changes."""
    return connection.finished


def conversation() -> bytes:
    """What a client says from the first header to the close, in one piece."""
    flags, more = transfer_flags(settled=False, more=False), transfer_flags(settled=False, more=True)
    down = p.Attach("down", 1, True, source=Source("s"), target=Target("t"))
    bodies: list[p.Performative | bytes] = [
        OPEN,
        p.Begin(None, 0, 100, 100),
        p.Attach("up", 0, False, target=Target("a"), initial_delivery_count=0),
        down,
        p.Flow(1, 100, 0, 100, 1, 0, 7),
        transfer_head(0, 0, None, message_format=0, flags=flags) + m.data(b"one"),
        transfer_head(0, 1, b"tag", message_format=5, flags=more) + m.data(b"two")[:3],
        b"",
        transfer_head(0, 1, b"tag", message_format=5, flags=flags) + m.data(b"two")[3:],
        p.Disposition(True, 0, 9, True, ACCEPTED_STATE),
        p.Detach(0, True),
        p.End(),
        p.Detach(1, True),
        p.Close(),
    ]
    encoded = [body if isinstance(body, bytes) else body.encode() for body in bodies]
    sasl = SASL_HEADER + frame(0, p.SaslChoice("PLAIN", b"\0u\0p").encode(), sasl=True)
    return sasl + AMQP_HEADER + b"".join(frame(0, body) for body in encoded)


@given(st.lists(st.integers(1, 60), max_size=30))
@settings(max_examples=60)
def test_any_split_of_the_input_gives_the_same_events_and_answers(sizes: list[int]) -> None:
    data = conversation()
    pieces, position = [], 0
    for size in [*sizes, len(data)]:
        pieces.append(data[position : position + size])
        position += size
    assert server_told(pieces) == server_told([data])


def test_a_whole_conversation_is_told_in_order() -> None:
    told, _ = server_told([conversation()])
    assert [line.split("(")[0] for line in told] == [
        "SaslInit",
        "Opened",
        "SessionBegun",
        "LinkAttached",
        "LinkAttached",
        "CreditGranted",
        "Transfer",
        "Transfer",
        "LinkDetached",
        "LinkDetached",
        "SessionEnded",
        "ConnectionClosed",
    ]


def test_a_call_made_in_the_loop_brings_its_events_into_it() -> None:
    server = opened()
    server.receive(BEGIN + ATTACH, 0.0)
    told: list[type] = []
    for event in server.events():
        told.append(type(event))
        if isinstance(event, LinkAttached):
            event.link.accept()
            event.link.detach()
    assert told == [SessionBegun, LinkAttached, LinkDetached]


@pytest.mark.parametrize(
    "call",
    [
        lambda server: server.sasl_accept(),
        lambda server: server.end_session(0),
        lambda server: server.close(Error("a:b")),
        lambda server: server.tick(1.0),
        lambda server: server.receive(b"more", 1.0),
    ],
)
def test_calls_on_a_finished_connection_do_nothing(call: Callable[[Connection], None]) -> None:
    server = opened()
    server.lost()
    list(server.events())
    call(server)
    assert list(server.events()) == []
    assert server.data_to_send() == b""


def test_what_comes_behind_a_fault_of_framing_is_not_kept() -> None:
    server = Connection("server", 0.0)
    server.receive(AMQP_HEADER + b"\0" * 100_000, 0.0)
    list(server.events())

    assert len(server._input) == 0
