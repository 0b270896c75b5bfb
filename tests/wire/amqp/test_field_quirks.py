"""What clients in the field need beyond the specification, or do beside it: a test for each, named by what it protects.

Where pyamqp (azure-eventhub, azure-servicebus) is the reason, pyamqp itself is the counterpart.
"""

import uuid
from typing import Any

import pytest
from azure.eventhub._pyamqp._decode import decode_frame, decode_payload
from azure.eventhub._pyamqp.constants import LinkState
from azure.eventhub._pyamqp.error import AMQPLinkError
from azure.eventhub._pyamqp.message import Message as PyamqpMessage
from azure.eventhub._pyamqp.message import Properties as PyamqpProperties

from isthmus.wire.amqp import message as m
from isthmus.wire.amqp import performatives as p
from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.errors import Condition, MisuseError
from isthmus.wire.amqp.events import (
    ConnectionClosed,
    Event,
    LinkAttached,
    LinkDetached,
    Opened,
    SessionBegun,
    SessionEnded,
    Transfer,
)
from isthmus.wire.amqp.handshake import AMQP_HEADER, MECHANISMS, SASL_HEADER
from isthmus.wire.amqp.limits import REDIRECT_DETACH_SECONDS
from isthmus.wire.amqp.link import Link, LinkRole
from isthmus.wire.amqp.message import Message
from isthmus.wire.amqp.outlet import frame
from isthmus.wire.amqp.states import (
    ACCEPTED_STATE,
    Accepted,
    Error,
    Modified,
    Outcome,
    Rejected,
    Released,
    Source,
    Target,
    encode_state,
)
from isthmus.wire.amqp.transfer import transfer_flags, transfer_head
from isthmus.wire.amqp.values import Array, Described, Int, Symbol, ULong
from wire.amqp.peers import Peers, feed, frames
from wire.amqp.pyamqp_client import PyamqpClient

FIELDS = {
    p.Open("c"): 10,
    p.Begin(0, 1, 2, 3): 8,
    p.Attach("n", 0, True): 14,
    p.Flow(0, 1, 2, 3): 11,
    p.Disposition(True, 0, 0, True, None): 6,
    p.Detach(0, True): 3,
    p.End(): 1,
    p.Close(): 1,
    p.SaslMechanisms(MECHANISMS): 1,
    p.SaslOutcome(p.SaslCode.OK): 2,
}


@pytest.mark.rule("AMQP-1.4")
@pytest.mark.parametrize(("performative", "count"), FIELDS.items(), ids=lambda value: type(value).__name__)
def test_quirk_01_every_field_of_every_performative_is_written(performative: p.Performative, count: int) -> None:
    encoded = performative.encode()
    assert encoded[:2] == b"\x00\x53", "the descriptor is a smallulong"
    assert encoded[3] in (0xC0, 0xD0), "never the empty-list form"
    assert len(fields_of(encoded)) == count


def test_quirk_01_every_field_of_a_transfer_is_written() -> None:
    head = transfer_head(1, 2, None, message_format=3, flags=transfer_flags(settled=True, more=False))
    code, fields = decode_frame(memoryview(head + b"payload"))
    assert code == 0x14
    assert fields == [1, 2, b"\0\0\0\2", 3, True, False, None, None, None, None, None, b"payload"]


@pytest.mark.rule("AMQP-2.8.14")
def test_quirk_02_errors_carry_all_three_fields() -> None:
    for encoded in (
        p.Close(Error("a:b")).encode(),
        p.End(Error("a:b")).encode(),
        p.Detach(0, True, Error("a:b")).encode(),
    ):
        assert decode_frame(memoryview(encoded))[1][-1] == [b"a:b", None, None]
    rejected = fields_of(p.Disposition(True, 0, 0, True, Rejected(Error("a:b", "c"))).encode())[4]
    assert rejected == {"rejected": [[b"a:b", b"c", None]]}


def test_quirk_02_pyamqp_reads_why_its_connection_was_closed() -> None:
    client = PyamqpClient()
    client.server.close(Error("amqp:unauthorized-access", "no"))
    client.run()
    assert client.connection._error.condition == b"amqp:unauthorized-access"


@pytest.mark.rule("AMQP-2.6.3")
def test_quirk_03_source_and_target_are_echoed() -> None:
    selector = Described(Symbol("apache.org:selector-filter:string"), "amqp.annotation.x-opt-offset > '-1'")
    source = Source("hub/ConsumerGroups/$default/Partitions/0", filter={Symbol(selector.descriptor): selector})
    peers = Peers().open()
    client, _ = peers.attach(peers.begin(), "link", LinkRole.RECEIVER, source=source, target=Target("me"))
    assert client.source == source
    assert client.target == Target("me")


def test_quirk_03_pyamqp_takes_its_links_for_attached() -> None:
    client = PyamqpClient()
    received: list[Any] = []
    assert client.receiver("amqps://hub.example/hub/x", received).state is LinkState.ATTACHED
    assert client.sender("hub").state is LinkState.ATTACHED


@pytest.mark.rule("AMQP-2.7.3")
def test_quirk_04_a_sending_end_states_its_initial_delivery_count() -> None:
    peers = Peers().open()
    session = peers.begin()
    peers.client_frames.clear()
    peers.attach(session, "link", LinkRole.RECEIVER)
    (attach,) = peers.told_client(0x12)
    assert attach[9] == 0


@pytest.mark.rule("AMQP-2.7.4")
def test_quirk_04_a_flow_carries_handle_delivery_count_and_credit() -> None:
    peers = Peers().open()
    session = peers.begin()
    peers.client_frames.clear()
    peers.attach(session, "link", LinkRole.SENDER)
    (flow,) = peers.told_client(0x13)
    assert flow[4:7] == [0, 0, 1_000]


@pytest.mark.rule("AMQP-2.4.2")
def test_quirk_05_header_open_begin_attach_and_transfer_may_be_pipelined() -> None:
    attach = p.Attach("$cbs", 0, False, target=Target("$cbs"), source=Source("$cbs"), initial_delivery_count=0)
    flags = transfer_flags(settled=False, more=False)
    pipelined = AMQP_HEADER + b"".join(
        frame(0, body)
        for body in (
            p.Open("c", "hub.example").encode(),
            p.Begin(None, 0, 100, 100).encode(),
            attach.encode(),
            transfer_head(0, 0, b"t", message_format=0, flags=flags) + m.value("token"),
        )
    )
    server = Connection("server", 0.0)
    server.receive(pipelined, 0.0)
    told: list[Event] = []
    for event in server.events():
        told.append(event)
        if isinstance(event, LinkAttached):
            event.link.accept()
    assert [type(event) for event in told] == [Opened, SessionBegun, LinkAttached, Transfer]


def test_quirk_06_a_client_may_leave_sasl_out() -> None:
    server = Connection("server", 0.0)
    told = feed(server, AMQP_HEADER + frame(0, p.Open("rhea", "hub.example").encode()))
    assert told == [Opened("rhea", "hub.example", {})]
    assert server.data_to_send().startswith(AMQP_HEADER)


@pytest.mark.rule("AMQP-5.3.3.1")
def test_quirk_07_mechanisms_are_an_array_in_order() -> None:
    server = Connection("server", 0.0)
    feed(server, SASL_HEADER)
    data = server.data_to_send()
    assert data.startswith(SASL_HEADER)
    assert fields_of(data[16:]) == [[b"EXTERNAL", b"MSSBCBS", b"ANONYMOUS", b"PLAIN"]]


@pytest.mark.rule("AMQP-1.4", "AMQP-5.3.3.1")
def test_quirk_07_a_single_mechanism_is_an_array_too() -> None:
    assert fields_of(p.SaslMechanisms(("PLAIN",)).encode()) == [[b"PLAIN"]]


@pytest.mark.rule("AMQP-2.5.4")
def test_quirk_08_frames_after_the_end_of_a_session_are_ignored() -> None:
    client = PyamqpClient()
    link = client.sender("hub")
    client.session.end()
    link._outgoing_detach(close=True)
    client.run()
    client.session._outgoing_flow()
    client.run()
    assert client.server.opened
    assert any(isinstance(event, SessionEnded) for event in client.transport.events)


def test_quirk_08_a_detach_of_an_unknown_handle_is_ignored() -> None:
    peers = Peers().open()
    session = peers.begin()
    session.write(p.Detach(77, True).encode())
    peers.run()
    assert peers.server.opened
    assert not any(isinstance(event, SessionEnded | ConnectionClosed) for event in peers.server_events)


@pytest.mark.rule("AMQP-3.2.11")
@pytest.mark.parametrize("message_id", [uuid.UUID(int=5), ULong(0), "a string", b"binary"], ids=repr)
def test_quirk_09_a_correlation_id_has_the_type_of_its_message_id(message_id: Any) -> None:
    request = Message(m.Properties(message_id=message_id).encode() + m.value("token"))
    answer = Message(m.Properties(correlation_id=request.properties.message_id).encode() + m.value(None))
    assert type(answer.properties.correlation_id) is type(message_id)
    assert answer.properties.correlation_id == message_id


def test_quirk_10_links_tell_their_session_apart() -> None:
    peers = Peers().open()
    first, second = peers.begin(), peers.begin()
    ends = [peers.attach(session, f"{session.channel}", LinkRole.RECEIVER)[1] for session in (first, second)]
    again = peers.attach(first, "request", LinkRole.SENDER)[1]
    assert ends[0].channel == again.channel != ends[1].channel


def test_quirk_11_a_status_code_is_an_int() -> None:
    encoded = m.application_properties({"status-code": Int(200), "status-description": "OK"})
    assert b"\xa1\x0bstatus-code\x71\x00\x00\x00\xc8" in encoded
    with pytest.raises(MisuseError):
        m.application_properties({"status-code": 200})


@pytest.mark.rule("AMQP-3.4.2", "AMQP-3.4.3")
@pytest.mark.parametrize("outcome", [Released(), Modified(), Rejected()], ids=repr)
def test_quirk_12_a_send_is_answered_by_accepted_or_a_rejection_with_its_error(outcome: Outcome) -> None:
    peers = Peers().open()
    client, server = peers.attach(peers.begin(), "link", LinkRole.SENDER)
    delivery_id = client.send(b"message")
    peers.run()
    with pytest.raises(MisuseError):
        server.settle(delivery_id, outcome)
    server.settle(delivery_id, Rejected(Error("amqp:not-found", "no such device")))
    peers.run()
    assert not client.unsettled


def test_quirk_13_credit_is_granted_with_the_attach() -> None:
    assert PyamqpClient().sender("hub").current_link_credit == 1_000


def test_quirk_13_transfers_beyond_the_credit_are_taken() -> None:
    peers = Peers().open()
    peers.on_server = lambda event: event.link.accept(credit=2) if isinstance(event, LinkAttached) else None
    client, server = peers.attach(peers.begin(), "link", LinkRole.SENDER)
    client.credit = 10
    for _ in range(10):
        client.send(b"message", settled=True)
    peers.run()
    assert sum(isinstance(event, Transfer) for event in peers.server_events) == 10
    assert server.attached
    assert server.credit == 0


def test_quirk_14_each_of_several_sessions_is_answered_on_its_channel() -> None:
    peers = Peers().open()
    peers.client_frames.clear()
    channels = [peers.begin().channel for _ in range(3)]
    assert [fields[0] for fields in peers.told_client(0x11)] == channels == [0, 1, 2]


@pytest.mark.rule("AMQP-3.2.1")
def test_quirk_15_the_header_states_its_delivery_count() -> None:
    header = decode_payload(memoryview(m.Header().encode() + m.data(b""))).header
    assert header.delivery_count == 0
    assert m.Header().encode().endswith(b"\x43")


@pytest.mark.rule("AMQP-2.6.3", "AMQP-2.6.5")
def test_quirk_16_a_refused_link_has_no_ends_and_is_detached_for_good() -> None:
    client = PyamqpClient(on_link=refuse)
    link = client.receiver("hub/none", [])
    with pytest.raises(AMQPLinkError) as caught:
        link.get_state()
    assert caught.value.condition == b"amqp:not-found"
    assert caught.value.description == b"no such entity"


def test_quirk_16_pyamqp_learns_the_condition_of_a_refused_sender() -> None:
    client = PyamqpClient(on_link=refuse)
    link = client.sender("hub/none")
    with pytest.raises(AMQPLinkError) as caught:
        link.get_state()
    assert caught.value.condition == b"amqp:not-found"


def test_quirk_17_a_redirect_waits_between_attach_and_detach() -> None:
    info: p.Properties = {
        Symbol("hostname"): "hub.example",
        Symbol("port"): Int(5671),
        Symbol("address"): "amqps://hub.example:5671/hub",
    }
    peers = Peers().open()
    later = peers.now + REDIRECT_DETACH_SECONDS
    peers.on_server = lambda event: redirect(event, Error(Condition.LINK_REDIRECT, "go there", info), later)
    client, _ = peers.attach(peers.begin(), "events", LinkRole.RECEIVER)
    assert client.attached, "the attach came, without ends and without the detach"
    assert client.source is None
    assert peers.server.next_deadline == later
    peers.server.tick(later - 0.01)
    peers.run()
    assert client.attached
    peers.server.tick(later)
    peers.run()
    assert peers.client_events[-1] == LinkDetached(client, Error("amqp:link:redirect", "go there", info))


@pytest.mark.rule("AMQP-2.8.11")
def test_batches_come_apart_into_the_messages_they_hold() -> None:
    inner = [m.application_properties({"n": Int(n)}) + m.data(b"%d" % n) for n in range(3)]
    outer = Message(m.batch(inner))
    assert outer.data == inner
    assert [Message(one).data for one in outer.data] == [[b"0"], [b"1"], [b"2"]]


def test_pyamqp_sends_and_hears_that_its_message_was_taken() -> None:
    client = PyamqpClient()
    link = client.sender("hub")
    settled: list[Any] = []
    properties = PyamqpProperties(message_id=uuid.UUID(int=7), content_type="application/json")
    message = PyamqpMessage(data=[b"x" * 300_000], properties=properties, application_properties={"k": "v"})
    link.send_transfer(message, settled=False, on_send_complete=lambda reason, state: settled.append(state))
    (event,) = [event for event in client.transport.events if isinstance(event, Transfer)]
    taken = Message(event.payload)
    assert taken.properties.message_id == uuid.UUID(int=7)
    assert taken.properties.content_type == "application/json"
    assert taken.application_properties == {"k": "v"}
    assert taken.data == [b"x" * 300_000]
    event.link.settle(event.delivery_id, ACCEPTED_STATE)
    client.run()
    assert settled == [{"accepted": []}]


def test_pyamqp_receives_what_is_sent_in_one_frame_or_many() -> None:
    client = PyamqpClient()
    received: list[Any] = []
    client.receiver("hub", received, link_credit=10)
    (link,) = client.server_links()
    messages = [m.data(b"small"), m.data(b"x" * 3_000_000), m.Properties(message_id="id").encode() + m.data(b"last")]
    assert link.send_settled(messages) == 3
    client.run()
    assert [len(message.data[0]) for message in received] == [5, 3_000_000, 4]
    assert received[2].properties.message_id == b"id"


def test_accepted_in_its_shortest_form_is_read_by_pyamqp() -> None:
    state = fields_of(p.Disposition(True, 3, 5, True, Accepted()).encode())
    assert state == [True, 3, 5, True, {"accepted": []}, False]
    assert encode_state(Accepted()) == b"\x00\x53\x24\x45"


def test_what_peers_send_is_what_frames_finds() -> None:
    assert frames(AMQP_HEADER + frame(0, p.Close().encode())) == [p.Close().encode()]


def test_an_array_of_partition_ids_is_read_by_pyamqp() -> None:
    body = m.value({"partition_ids": Array(str, ("0", "1"))})
    assert decode_payload(memoryview(body)).value == {b"partition_ids": [b"0", b"1"]}


def refuse(link: Link) -> None:
    link.refuse(Error(Condition.NOT_FOUND, "no such entity"))


def fields_of(performative: bytes) -> Any:
    """The fields as pyamqp reads them."""
    return decode_frame(memoryview(performative))[1]


def redirect(event: Event, error: Error, at: float) -> None:
    if isinstance(event, LinkAttached):
        event.link.refuse_later(error, detach_at=at)
