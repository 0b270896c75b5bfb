"""Links: how they are attached, answered, detached and refused."""

import pytest

from isthmus.wire.amqp import performatives as p
from isthmus.wire.amqp.errors import Condition, MisuseError
from isthmus.wire.amqp.events import (
    LinkAttached,
    LinkDetached,
    SessionEnded,
)
from isthmus.wire.amqp.limits import (
    LINKS_MAX,
)
from isthmus.wire.amqp.link import Link, LinkRole, LinkState
from isthmus.wire.amqp.outlet import frame
from isthmus.wire.amqp.performatives import ReceiverSettleMode, SenderSettleMode
from isthmus.wire.amqp.states import (
    ACCEPTED_STATE,
    Error,
    Source,
    Target,
)
from isthmus.wire.amqp.transfer import transfer_flags, transfer_head
from isthmus.wire.amqp.values import Described, Symbol, ULong
from wire.amqp.peers import Peers, feed, frames, raw, receiving

REFUSAL = Error("amqp:not-found", "no such node")


@pytest.mark.rule("AMQP-2.7.3", "AMQP-3.5.3", "AMQP-3.5.4")
def test_an_attach_tells_all_the_peer_said() -> None:
    selector = Described(Symbol("apache.org:selector-filter:string"), "x > 1")
    attach = p.Attach(
        "name",
        7,
        True,
        SenderSettleMode.UNSETTLED,
        ReceiverSettleMode.SECOND,
        Source("from", filter={Symbol("apache.org:selector-filter:string"): selector}),
        Target("to"),
        None,
        1_000,
        (),
        ("com.microsoft:georeplication",),
        {Symbol("com.microsoft:epoch"): ULong(3)},
    )
    link = next(event.link for event in raw(attach).events() if isinstance(event, LinkAttached))
    assert (link.name, link.role, link.channel, link.state) == ("name", LinkRole.SENDER, 0, LinkState.REQUESTED)
    assert (link.source_address, link.target_address) == ("from", "to")
    assert isinstance(link.source, Source)
    assert link.source.filters == {"apache.org:selector-filter:string": selector}
    assert (link.sender_settle_mode, link.receiver_settle_mode) == (
        SenderSettleMode.UNSETTLED,
        ReceiverSettleMode.SECOND,
    )
    assert link.peer_max_message_size == 1_000
    assert link.desired_capabilities == ("com.microsoft:georeplication",)
    assert link.properties == {"com.microsoft:epoch": 3}


@pytest.mark.rule("AMQP-2.6.3", "AMQP-2.8.2", "AMQP-2.8.3")
def test_an_accepted_attach_is_answered_as_told() -> None:
    peers = Peers().open()
    peers.on_server = lambda event: (
        event.link.accept(
            source=Source("other"),
            properties={Symbol("k"): "v"},
            offered_capabilities=("offered",),
            max_message_size=5,
            credit=7,
            sender_settle_mode=SenderSettleMode.MIXED,
            receiver_settle_mode=ReceiverSettleMode.FIRST,
        )
        if isinstance(event, LinkAttached)
        else None
    )
    client, _ = peers.attach(peers.begin(), "up", LinkRole.SENDER, target=Target("to"))
    assert client.attached
    assert (client.source_address, client.target_address) == ("other", "to")
    assert client.properties == {"k": "v"}
    assert client.offered_capabilities == ("offered",)
    assert client.peer_max_message_size == 5
    assert client.sendable == 7
    assert client.sender_settle_mode is SenderSettleMode.MIXED
    assert client.receiver_settle_mode is ReceiverSettleMode.FIRST


@pytest.mark.rule("AMQP-4")
def test_a_coordinator_comes_as_it_is_and_can_be_refused() -> None:
    coordinator = Described(ULong(0x30), [])
    server = raw(p.Attach("tx", 0, False, target=coordinator, initial_delivery_count=0))
    link = next(event.link for event in server.events() if isinstance(event, LinkAttached))
    assert link.target == coordinator
    assert link.target_address == ""
    link.refuse(Error(Condition.NOT_IMPLEMENTED))
    assert frames(server.data_to_send())[-1] == p.Detach(0, True, Error(Condition.NOT_IMPLEMENTED)).encode()


def test_a_refused_link_makes_no_more_events() -> None:
    peers = Peers().open()
    peers.on_server = lambda event: event.link.refuse(REFUSAL) if isinstance(event, LinkAttached) else None
    client, server = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    assert server.state is LinkState.GONE
    assert peers.client_events[-1] == LinkDetached(client, REFUSAL)
    assert not any(isinstance(event, LinkDetached) for event in peers.server_events)


@pytest.mark.rule("AMQP-2.6.6", "AMQP-2.7.7")
def test_a_detach_of_the_peer_is_answered_in_kind_and_told_once() -> None:
    peers, client, server = receiving()
    client.detach(Error("a:b"))
    peers.run()
    assert server.state is client.state is LinkState.GONE
    assert [event for event in peers.server_events if isinstance(event, LinkDetached)] == [
        LinkDetached(server, Error("a:b"))
    ]
    assert peers.told_client(0x16) == [[0, True, None]]


@pytest.mark.rule("AMQP-2.6.2", "AMQP-2.6.6")
def test_our_detach_is_told_at_once_and_frees_the_handle_when_confirmed() -> None:
    peers, client, server = receiving()
    server.detach(REFUSAL)
    server.detach(REFUSAL)
    states = [server.state]
    assert list(peers.server.events()) == [LinkDetached(server, REFUSAL)]
    peers.run()
    assert [*states, server.state] == [LinkState.DETACHING, LinkState.GONE]
    assert peers.client_events[-1] == LinkDetached(client, REFUSAL)


@pytest.mark.rule("AMQP-2.6.1", "AMQP-2.6.2")
def test_handles_and_names_are_used_again() -> None:
    peers = Peers().open()
    session = peers.begin()
    handles = []
    for _ in range(3):
        client, server = peers.attach(session, "up", LinkRole.SENDER)
        handles.append(server.handle)
        client.detach()
        peers.run()
    assert handles == [0, 0, 0]


@pytest.mark.rule("AMQP-2.6.1", "AMQP-2.8.18")
def test_the_newer_of_two_links_of_one_name_has_it() -> None:
    first, second = (p.Attach("n", handle, False, initial_delivery_count=0) for handle in (0, 1))
    server = raw(first, second)
    attached: list[Link] = []
    detached: list[LinkDetached] = []
    for event in server.events():
        if isinstance(event, LinkAttached):
            attached.append(event.link)
            event.link.accept()
        elif isinstance(event, LinkDetached):
            detached.append(event)
    assert [(event.link, event.error and event.error.condition) for event in detached] == [
        (attached[0], Condition.STOLEN)
    ]
    assert attached[1].attached


@pytest.mark.rule("AMQP-2.6.1", "AMQP-2.8.1")
def test_the_two_directions_of_one_name_are_two_links() -> None:
    peers = Peers().open()
    session = peers.begin()
    ends = [peers.attach(session, "$cbs", role) for role in (LinkRole.SENDER, LinkRole.RECEIVER)]
    assert all(end.attached for pair in ends for end in pair)


def test_calls_on_a_link_that_is_gone_do_nothing_and_sending_refuses() -> None:
    peers, client, server = receiving()
    client.detach()
    peers.run()
    server.accept()
    server.refuse(REFUSAL)
    server.refuse_later(REFUSAL, detach_at=1.0)
    server.grant(5)
    server.drained()
    server.detach()
    server.settle(0, ACCEPTED_STATE)
    assert peers.server.data_to_send() == b""
    with pytest.raises(MisuseError):
        client.send(b"late")
    assert client.send_settled([b"late"]) == 0


def test_a_link_may_be_accepted_after_the_peer_left() -> None:
    server = raw(p.Attach("n", 0, False, initial_delivery_count=0), p.Detach(0, True))
    told = list(server.events())
    (link,) = [event.link for event in told if isinstance(event, LinkAttached)]
    assert told[-1] == LinkDetached(link, None)
    link.accept()
    answers = [body[2] for body in frames(server.data_to_send())]
    assert answers == [0x10, 0x11, 0x12, 0x16], "the detach is answered behind an attach without ends"


def test_a_delayed_refusal_is_overtaken_by_the_peer_s_detach() -> None:
    server = raw(p.Attach("n", 0, True))
    (link,) = [event.link for event in server.events() if isinstance(event, LinkAttached)]
    link.refuse_later(REFUSAL, detach_at=10.0)
    server.data_to_send()
    deadlines = [server.next_deadline]
    feed(server, frame(0, p.Detach(0, True).encode()))
    assert frames(server.data_to_send()) == [p.Detach(0, True, REFUSAL).encode()]
    assert [*deadlines, server.next_deadline] == [10.0, None]
    assert link.state is LinkState.GONE


def test_too_many_links_are_refused_then_the_connection_is_closed() -> None:
    server = raw()
    begins = b"".join(frame(channel, p.Begin(None, 0, 5, 5).encode()) for channel in (1, 2))
    feed(server, begins)
    attaches = [p.Attach(f"n{number}", number // 3, True).encode() for number in range(2 * LINKS_MAX + 1)]
    told = feed(server, b"".join(frame(number % 3, attach) for number, attach in enumerate(attaches)))
    assert sum(isinstance(event, LinkAttached) for event in told) == LINKS_MAX
    assert not server.opened


MORE = transfer_flags(settled=True, more=True)
SESSION_FAULTS: dict[str, tuple[list[p.Performative | bytes], Condition]] = {
    "more links than the peer takes": (
        [p.End(), p.Begin(None, 0, 5, 5, 1), *(p.Attach(name, n, True) for n, name in enumerate("abc"))],
        Condition.RESOURCE_LIMIT_EXCEEDED,
    ),
    "a handle in use": ([p.Attach("a", 0, True), p.Attach("b", 0, True)], Condition.HANDLE_IN_USE),
    "a transfer without a link": ([b"\x00\x53\x14\xc0\x02\x01\x43"], Condition.UNATTACHED_HANDLE),
    "a transfer to a sender": ([p.Attach("a", 0, True), b"\x00\x53\x14\xc0\x02\x01\x43"], Condition.UNATTACHED_HANDLE),
    "a delivery without an id": (
        [p.Attach("a", 0, False, initial_delivery_count=0), b"\x00\x53\x14\xc0\x02\x01\x43"],
        Condition.INVALID_FIELD,
    ),
    "a delivery id in use": (
        [p.Attach("a", 0, False, initial_delivery_count=0), *2 * [b"\x00\x53\x14\xc0\x03\x02\x43\x43"]],
        Condition.NOT_ALLOWED,
    ),
    "a delivery within another": (
        [
            p.Attach("a", 0, False, initial_delivery_count=0),
            *(
                transfer_head(0, n, None, message_format=0, flags=transfer_flags(settled=True, more=True))
                for n in (1, 2)
            ),
        ],
        Condition.NOT_ALLOWED,
    ),
}


@pytest.mark.rule("AMQP-2.5.4", "AMQP-2.8.17")
@pytest.mark.parametrize(("bodies", "condition"), SESSION_FAULTS.values(), ids=SESSION_FAULTS.keys())
def test_a_fault_within_a_session_ends_it_and_no_more(
    bodies: list[p.Performative | bytes], condition: Condition
) -> None:
    server = raw(*bodies)
    ended = list(server.events())[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.error
    assert ended.error.condition == condition
    assert server.opened
    assert frames(server.data_to_send())[-1] == p.End(ended.error).encode()
