"""Sessions: credit, windows, deliveries and their settlement, between two peers."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.wire.amqp import performatives as p
from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.errors import Condition, MisuseError
from isthmus.wire.amqp.events import (
    CreditGranted,
    DeliveryRefused,
    Disposition,
    LinkAttached,
    LinkDetached,
    Transfer,
)
from isthmus.wire.amqp.limits import (
    HELD_DELIVERIES_MAX,
    INCOMING_WINDOW,
    PARTIAL_BYTES_MAX,
    UNSETTLED_OUT_MAX,
    WINDOW_REFRESH,
)
from isthmus.wire.amqp.link import LinkRole
from isthmus.wire.amqp.message import data
from isthmus.wire.amqp.outlet import frame
from isthmus.wire.amqp.states import (
    ACCEPTED_STATE,
    DeliveryState,
    Error,
    Modified,
    Received,
    Rejected,
    Released,
)
from isthmus.wire.amqp.transfer import transfer_flags, transfer_head
from isthmus.wire.amqp.values import Described, Symbol, ULong
from wire.amqp.peers import Peers, feed, frames, raw, receiving, sending

# Credit and windows.


@pytest.mark.rule("AMQP-2.6.7", "AMQP-2.6.9")
def test_nothing_is_sent_without_credit() -> None:
    peers, client, server = sending(credit=0)
    assert server.sendable == 0
    with pytest.raises(MisuseError):
        server.send(b"x")
    client.grant(2)
    peers.run()
    assert peers.server_events[-1] == CreditGranted(server, 2, drain=False)
    assert server.send_settled([b"a", b"b", b"c"]) == 2
    assert server.sendable == 0


@pytest.mark.rule("AMQP-2.6.7")
def test_credit_counts_from_what_the_peer_has_seen() -> None:
    peers, client, server = sending(credit=3)
    server.send_settled([b"a", b"b"])
    client.grant(3)
    peers.run()
    assert server.sendable == 1, "the grant was made before the two arrived"


def test_credit_granted_before_the_attach_is_answered_is_told_after() -> None:
    server = raw(p.Attach("n", 0, True), p.Flow(1, 5, 0, 5, 0, 0, 9))
    told = list(server.events())
    assert not any(isinstance(event, CreditGranted) for event in told)
    (link,) = [event.link for event in told if isinstance(event, LinkAttached)]
    link.accept()
    assert list(server.events()) == [CreditGranted(link, 9, drain=False)]


@pytest.mark.rule("AMQP-2.6.7", "AMQP-2.6.8")
def test_a_drain_is_answered_by_the_credit_used_up() -> None:
    peers, client, server = sending(credit=0)
    client.grant(10, drain=True)
    peers.run()
    assert peers.server_events[-1] == CreditGranted(server, 10, drain=True)
    server.send_settled([b"the only one"])
    server.drained()
    server.drained()
    peers.client_frames.clear()
    peers.run()
    (flow,) = peers.told_client(0x13)
    assert flow[5:9] == [10, 0, 0, True]
    assert (client.credit, client.delivery_count) == (0, 10)


@pytest.mark.rule("AMQP-2.6.10")
def test_a_link_without_credit_any_more_is_stopped() -> None:
    peers, client, server = sending(credit=5)
    server.send(data(b"1"))
    peers.run()
    client.grant(0)
    peers.run()
    assert server.sendable == 0
    with pytest.raises(MisuseError):
        server.send(data(b"2"))
    client.grant(1)
    peers.run()
    assert server.sendable == 1


@pytest.mark.rule("AMQP-2.6.7")
@pytest.mark.parametrize("handle", [None, 0])
def test_an_echo_is_answered(handle: int | None) -> None:
    server = raw(p.Attach("n", 0, True))
    for event in server.events():
        if isinstance(event, LinkAttached):
            event.link.accept()
    server.data_to_send()
    feed(server, frame(0, p.Flow(1, 5, 0, 5, handle, None if handle is None else 0, 4, echo=True).encode()))
    (answer,) = frames(server.data_to_send())
    known = (None, None, None, None) if handle is None else (0, 0, 4, 0)
    assert answer == p.Flow(0, INCOMING_WINDOW, 1, 4_294_967_295, *known).encode()


@pytest.mark.rule("AMQP-2.5.6")
def test_the_session_window_is_announced_before_it_is_used_up() -> None:
    peers = Peers().open()
    peers.on_server = lambda event: event.link.accept(credit=100_000) if isinstance(event, LinkAttached) else None
    client, _ = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    peers.client_frames.clear()
    sent = 0
    while sent < 3 * INCOMING_WINDOW:
        assert client.sendable
        sent += client.send_settled([b"x"] * 1_000)
        peers.run()
    assert len(peers.told_client(0x13)) == sent // WINDOW_REFRESH
    assert sum(isinstance(event, Transfer) for event in peers.server_events) == sent


@pytest.mark.rule("AMQP-2.5.6", "AMQP-2.6.14")
def test_a_closed_window_holds_the_rest_of_a_delivery_until_it_opens() -> None:
    server = raw(
        p.Attach("n", 0, True), p.Attach("m", 1, True), p.Flow(1, 2, 0, 5, 1, 0, 9), p.Flow(1, 2, 0, 5, 0, 0, 9)
    )
    links = []
    for event in server.events():
        if isinstance(event, LinkAttached):
            event.link.accept(credit=0)
            links.append(event.link)
    first, second = links
    server.data_to_send()
    first.send(b"x" * 3_000_000)
    assert len(frames(server.data_to_send())) == 2
    assert first.sendable == second.sendable == 0
    with pytest.raises(MisuseError):
        second.send(b"y")
    told = feed(server, frame(0, p.Flow(3, 10, 0, 5).encode()))
    assert told == [CreditGranted(first, 8, drain=False), CreditGranted(second, 9, drain=False)]
    (last,) = frames(server.data_to_send())
    assert len(last) < 1_048_576
    assert second.sendable == 9


@pytest.mark.parametrize("sizes", [[10] * 9, [10, 3_000_000, 10, 10], [3_000_000, 3_000_000]], ids=str)
def test_as_many_as_sendable_says_are_taken_whatever_their_size(sizes: list[int]) -> None:
    server = raw(p.Attach("n", 0, True), p.Flow(1, 4, 0, 5, 0, 0, 100))
    (link,) = [event.link for event in server.events() if isinstance(event, LinkAttached)]
    link.accept()
    assert list(server.events()) == [CreditGranted(link, 100, drain=False)]
    assert link.sendable == 4, "the window is narrower than the credit"
    taken = link.send_settled([b"x" * size for size in sizes])
    assert taken == min(4, len(sizes))
    assert link.sendable == 0
    assert len(transfers(server)) == 4
    told = feed(server, frame(0, p.Flow(5, 100, 0, 5, 0, taken, 100).encode()))
    assert link.sendable > 90
    assert told == [CreditGranted(link, 100, drain=False)]
    assert len(transfers(server)) == sum(-(-size // 1_048_496) for size in sizes[:taken]) - 4


def test_a_link_that_leaves_takes_its_unsent_frames_along() -> None:
    server = raw(p.Attach("n", 0, True), p.Flow(1, 1, 0, 5, 0, 0, 9))
    (link,) = [event.link for event in server.events() if isinstance(event, LinkAttached)]
    link.accept()
    link.send(b"x" * 3_000_000)
    link.detach()
    server.data_to_send()
    feed(server, frame(0, p.Flow(2, 10, 0, 5).encode()))
    assert server.data_to_send() == b""


# Deliveries.


def test_what_is_sent_arrives_as_it_was() -> None:
    peers, _, server = sending()
    server.send(b"a", b"", b"bc", message_format=0x80013700, tag=b"tag", settled=True)
    server.send(b"x" * 200_000, message_format=7)
    peers.run()
    transfers = [event for event in peers.client_events if isinstance(event, Transfer)]
    assert [event[1:4] for event in transfers] == [(0, b"tag", 0x80013700), (1, struct.pack(">I", 1), 7)]
    assert [event.payload for event in transfers] == [b"abc", b"x" * 200_000]
    assert [event.settled for event in transfers] == [True, False]


@pytest.mark.rule("AMQP-2.6.14")
@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=12), st.sampled_from([512, 600, 1_500]))
@settings(max_examples=50)
def test_messages_of_any_size_cross_frames_of_any_size(sizes: list[int], max_frame_size: int) -> None:
    peers = Peers().open(max_frame_size=max_frame_size)
    client, server = peers.attach(peers.begin(), "down", LinkRole.RECEIVER)
    client.grant(100)
    peers.run()
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    half = len(messages) // 2
    assert server.send_settled(messages[:half]) == half
    for message in messages[half:]:
        server.send(message)
    peers.run()
    assert [event.payload for event in peers.client_events if isinstance(event, Transfer)] == messages
    assert all(len(body) + 8 <= max_frame_size for body in peers.client_frames)


@pytest.mark.rule("AMQP-2.8.7")
@pytest.mark.parametrize("tag", [b"", b"x" * 33])
def test_a_tag_has_a_length(tag: bytes) -> None:
    _, _, server = sending()
    with pytest.raises(MisuseError):
        server.send(b"x", tag=tag)


def test_transfers_behind_an_unanswered_attach_are_held_and_told_after() -> None:
    flags = transfer_flags(settled=False, more=False)
    heads = [transfer_head(0, n, None, message_format=0, flags=flags) + b"%d" % n for n in range(3)]
    server = raw(p.Attach("n", 0, False, initial_delivery_count=0), *heads)
    told = list(server.events())
    (link,) = [event.link for event in told if isinstance(event, LinkAttached)]
    assert not any(isinstance(event, Transfer) for event in told)
    link.accept()
    assert [event.payload for event in server.events() if isinstance(event, Transfer)] == [b"0", b"1", b"2"]


def test_held_transfers_are_limited() -> None:
    flags = transfer_flags(settled=True, more=False)
    heads = [transfer_head(0, n, None, message_format=0, flags=flags) for n in range(HELD_DELIVERIES_MAX + 1)]
    server = raw(p.Attach("n", 0, False, initial_delivery_count=0), *heads)
    last = list(server.events())[-1]
    assert isinstance(last, LinkDetached)
    assert last.error
    assert last.error.condition == Condition.TRANSFER_LIMIT_EXCEEDED


@pytest.mark.rule("AMQP-2.6.14")
def test_an_aborted_delivery_is_not_told() -> None:
    more = transfer_head(0, 0, None, message_format=0, flags=transfer_flags(settled=False, more=True)) + b"half"
    abort = transfer_head(0, 0, None, message_format=0, flags=b"\x42\x42\x40\x40\x40\x41\x40")
    whole = transfer_head(0, 1, None, message_format=0, flags=transfer_flags(settled=False, more=False)) + b"whole"
    server = raw(p.Attach("n", 0, False, initial_delivery_count=0), more, abort, whole)
    payloads = []
    for event in server.events():
        if isinstance(event, LinkAttached):
            event.link.accept()
        elif isinstance(event, Transfer):
            payloads.append(event.payload)
    assert payloads == [b"whole"]


@pytest.mark.rule("AMQP-2.7.3", "AMQP-2.8.18")
@pytest.mark.parametrize("size", [50_000, 200_000], ids=["in one frame", "in several"])
def test_a_message_too_large_is_rejected(size: int) -> None:
    peers = Peers().open()
    peers.on_server = lambda event: event.link.accept(max_message_size=10) if isinstance(event, LinkAttached) else None
    client, server = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    client.send(b"x" * size)
    client.send(b"small")
    peers.run()
    assert DeliveryRefused(server, 0, size) in peers.server_events
    (outcome,) = [event for event in peers.client_events if isinstance(event, Disposition)]
    assert outcome.delivery_id == 0
    assert isinstance(outcome.state, Rejected)
    assert outcome.state.error
    assert outcome.state.error.condition == Condition.MESSAGE_SIZE_EXCEEDED
    assert [event.payload for event in peers.server_events if isinstance(event, Transfer)] == [b"small"]


def test_a_settled_message_too_large_costs_the_link() -> None:
    peers = Peers().open()
    peers.on_server = lambda event: event.link.accept(max_message_size=10) if isinstance(event, LinkAttached) else None
    client, _ = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    client.send(b"x" * 11, settled=True)
    peers.run()
    last = peers.client_events[-1]
    assert isinstance(last, LinkDetached)
    assert last.error
    assert last.error.condition == Condition.MESSAGE_SIZE_EXCEEDED


def test_unfinished_deliveries_are_limited_over_all_links() -> None:
    peers = Peers().open()
    session = peers.begin()
    flags = transfer_flags(settled=True, more=True)
    piece = b"x" * 65_000
    ends = [peers.attach(session, f"{number}", LinkRole.SENDER)[0] for number in range(10)]
    for number in range(PARTIAL_BYTES_MAX // len(piece) + 1):
        handle = ends[number % len(ends)].handle
        session.write(transfer_head(handle, handle, None, message_format=0, flags=flags) + piece)
    peers.run()
    assert not peers.server.opened
    assert not peers.client.opened


# Settlement.


@pytest.mark.rule("AMQP-2.6.12", "AMQP-2.7.6")
def test_neighbours_settled_alike_go_out_in_one_disposition() -> None:
    peers, client, server = receiving()
    for _ in range(10):
        client.send(b"x")
    peers.run()
    peers.client_frames.clear()
    rejected = Rejected(Error("a:b"))
    for number in range(10):
        server.settle(number, rejected if number == 4 else ACCEPTED_STATE)
    server.settle(3, ACCEPTED_STATE)
    server.settle(77, ACCEPTED_STATE)
    peers.run()
    ranges = [fields[:4] for fields in peers.told_client(0x15)]
    assert ranges == [[True, 0, 3, True], [True, 4, 4, True], [True, 5, 9, True]]
    outcomes = [event for event in peers.client_events if isinstance(event, Disposition)]
    assert [event.delivery_id for event in outcomes] == list(range(10))
    assert outcomes[4].state == rejected
    assert not client.unsettled


def test_a_disposition_is_not_overtaken_by_a_detach_or_a_close() -> None:
    peers, client, server = receiving()
    client.send(b"x")
    client.send(b"y")
    peers.run()
    server.settle(0, ACCEPTED_STATE)
    server.detach()
    assert [body[2] for body in frames(peers.server.data_to_send())] == [0x15, 0x16]
    peers, client, server = receiving()
    client.send(b"x")
    peers.run()
    server.settle(0, ACCEPTED_STATE)
    peers.server.close()
    assert [body[2] for body in frames(peers.server.data_to_send())] == [0x15, 0x18]


OUTCOMES: list[DeliveryState] = [
    ACCEPTED_STATE,
    Released(),
    Rejected(Error("a:b", "c", {Symbol("k"): "v"})),
    Rejected(),
    Modified(delivery_failed=True, undeliverable_here=True, annotations={Symbol("k"): "v"}),
    Received(1, 2),
    Described(ULong(0x34), [b"tx"]),
    None,
]


@pytest.mark.rule("AMQP-3.4.1", "AMQP-3.4.2", "AMQP-3.4.3", "AMQP-3.4.4", "AMQP-3.4.5")
@pytest.mark.parametrize("state", OUTCOMES, ids=repr)
@pytest.mark.parametrize("settled", [True, False])
def test_each_state_the_peer_tells_is_told(state: DeliveryState, *, settled: bool) -> None:
    peers, client, server = sending()
    delivery_id = server.send(b"x")
    peers.run()
    session = client.owner
    session.write(p.Disposition(True, delivery_id, delivery_id, settled, state).encode())
    peers.run()
    told = settled or not (state is None or isinstance(state, Received))
    assert (peers.server_events[-1] == Disposition(server, delivery_id, state, settled)) is told
    assert bool(server.unsettled) is not settled


@pytest.mark.rule("AMQP-2.6.12")
def test_an_unsettled_outcome_is_told_once() -> None:
    peers, client, server = sending()
    delivery_id = server.send(b"x")
    peers.run()
    for state, settled in ((ACCEPTED_STATE, False), (Released(), False), (ACCEPTED_STATE, True)):
        client.owner.write(p.Disposition(True, delivery_id, delivery_id, settled, state).encode())
    peers.run()
    told = [(event.state, event.settled) for event in peers.server_events if isinstance(event, Disposition)]
    assert told == [(ACCEPTED_STATE, False), (ACCEPTED_STATE, True)]


@pytest.mark.parametrize("how", ["the peer settles", "we settle", "a link leaves"])
def test_too_much_unsettled_stops_sending_until_there_is_less(how: str) -> None:
    peers, client, server = sending(credit=UNSETTLED_OUT_MAX + 5)
    other_client, other = peers.attach(peers.session, "other", LinkRole.RECEIVER)
    other_client.grant(3)
    peers.run()
    for _ in range(UNSETTLED_OUT_MAX - 1):
        server.send(b"x")
        if not server.sendable:
            peers.run()
    last = other.send(b"y")
    peers.run()
    assert other.credit == 2
    assert other.sendable == server.sendable == 0
    if how == "the peer settles":
        client.owner.write(p.Disposition(True, 0, 0, True, ACCEPTED_STATE).encode())
    elif how == "we settle":
        other.settle(last, ACCEPTED_STATE)
    else:
        server.detach()
    peers.server_events.clear()
    peers.run()
    assert CreditGranted(other, 2, drain=False) in peers.server_events


@pytest.mark.rule("AMQP-2.6.12")
def test_a_sender_settles_after_an_unsettled_outcome() -> None:
    peers, client, server = sending()
    delivery_id = server.send(b"x")
    peers.run()
    client.owner.write(p.Disposition(True, delivery_id, delivery_id, False, ACCEPTED_STATE).encode())
    peers.run()
    peers.client_frames.clear()
    server.settle(delivery_id, ACCEPTED_STATE)
    server.settle(delivery_id, ACCEPTED_STATE)
    peers.run()
    assert [fields[:4] for fields in peers.told_client(0x15)] == [[False, delivery_id, delivery_id, True]]
    assert not client.unsettled


def test_a_disposition_over_all_numbers_costs_what_is_unsettled() -> None:
    peers, client, server = sending()
    sent = [server.send(b"x") for _ in range(3)]
    peers.run()
    client.owner.write(p.Disposition(True, 0, 0xFFFFFFFF, True, ACCEPTED_STATE).encode())
    peers.run()
    told = [event.delivery_id for event in peers.server_events if isinstance(event, Disposition)]
    assert told == sent


def test_deliveries_of_a_link_that_is_over_are_forgotten() -> None:
    peers, client, server = receiving()
    client.send(b"x")
    peers.run()
    client.detach()
    peers.run()
    server.settle(0, ACCEPTED_STATE)
    assert peers.server.data_to_send() == b""


def transfers(server: Connection) -> list[bytes]:
    """The transfers among what the server has to send."""
    return [body for body in frames(server.data_to_send()) if body[2] == 0x14]
