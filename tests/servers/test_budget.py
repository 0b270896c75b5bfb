"""The socket budget: the rules by example, then for any course of events against a plain model."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from isthmus.servers.gateway import budget as budget_module
from isthmus.servers.gateway.budget import (
    DESCRIPTORS_RESERVED,
    STALLED_PER_SOURCE_MAX,
    STALLED_SECONDS,
    SocketBudget,
    Taken,
    Ticket,
    sockets_for,
    source_of,
)

LATER = STALLED_SECONDS + 1


def test_full_budget_evicts_the_oldest_silent_peer() -> None:
    budget = SocketBudget(2)
    first, _ = ticket(budget.take("a", 0.0)), budget.take("b", 1.0)

    taken = budget.take("c", 2.0)

    assert taken.evicted == (first,)
    assert budget.taken == 2


def test_full_budget_of_proven_peers_turns_the_newcomer_away() -> None:
    budget = SocketBudget(1)
    budget.prove(ticket(budget.take("a", 0.0)))

    assert budget.take("b", 1000.0) == Taken(None)


def test_peer_that_makes_progress_is_kept_and_evicted_once_it_stalls() -> None:
    budget = SocketBudget(1)
    moving = ticket(budget.take("a", 0.0))
    budget.advance(moving, 1.0)

    assert budget.take("b", 1.0 + STALLED_SECONDS / 2) == Taken(None)
    assert budget.take("b", 1.0 + STALLED_SECONDS).evicted == (moving,)


def test_storm_from_one_source_is_let_in_whole() -> None:
    budget = SocketBudget(10 * STALLED_PER_SOURCE_MAX)

    taken = [budget.take("nat", 0.0) for _ in range(5 * STALLED_PER_SOURCE_MAX)]

    assert all(each.ticket is not None and not each.evicted for each in taken)


def test_stalled_sockets_of_one_source_are_limited() -> None:
    budget = SocketBudget(10 * STALLED_PER_SOURCE_MAX)
    stalled = [ticket(budget.take("bad", 0.0)) for _ in range(STALLED_PER_SOURCE_MAX)]

    assert budget.take("good", LATER).evicted == ()
    assert budget.take("bad", LATER).evicted == (stalled[0],)


def test_progress_of_a_stalled_peer_counts() -> None:
    budget = SocketBudget(2)
    first, second = ticket(budget.take("a", 0.0)), ticket(budget.take("a", 0.5))
    newcomer = budget.take("b", LATER)
    assert newcomer.evicted == (first,)

    budget.advance(second, LATER)

    assert budget.take("c", LATER + 1).evicted == (newcomer.ticket,)


def test_released_tickets_make_room() -> None:
    budget = SocketBudget(1)
    only = ticket(budget.take("a", 0.0))
    budget.prove(only)
    budget.release(only)
    budget.release(only)

    assert budget.take("b", 1.0).ticket is not None


def test_a_proven_socket_that_brings_somebody_is_worth_no_more_than_he_is() -> None:
    budget = SocketBudget(2)
    spare, other = ticket(budget.take("connector", 0.0)), ticket(budget.take("a", 1.0))
    budget.prove(spare)
    budget.prove(other)
    assert budget.take("b", 2.0) == Taken(None)

    assert budget.reopen(spare, "device", 2.0) == ()
    assert budget.unproven == 1
    assert budget.take("b", 3.0).evicted == (spare,)
    assert budget.reopen(spare, "device", 4.0) == ()


def test_budget_needs_room() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SocketBudget(0)


@pytest.mark.parametrize(("descriptors", "sockets"), [(20_000, 20_000 - DESCRIPTORS_RESERVED), (10, 1)])
def test_budget_leaves_descriptors_for_files(descriptors: int, sockets: int) -> None:
    assert sockets_for(descriptors) == sockets


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_source_is_an_ipv4_address_or_an_ipv6_network(address: str, source: str) -> None:
    assert source_of(address) == source


@dataclass
class Peer:
    """What the model remembers of a ticket."""

    source: str
    progress: float
    moving: bool = False
    proven: bool = False

    def stalled(self, now: float) -> bool:
        return not self.proven and self.progress <= now - STALLED_SECONDS


class Courses(RuleBasedStateMachine):
    """Any course of accepts, steps, proofs, ends and waiting, against a model that looks at every peer each time."""

    SOCKETS_MAX = 6
    PER_SOURCE_MAX = 2

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(budget_module, "STALLED_PER_SOURCE_MAX", self.PER_SOURCE_MAX)
        self.budget = SocketBudget(self.SOCKETS_MAX)
        self.peers: dict[Ticket, Peer] = {}
        self.now = 0.0

    def teardown(self) -> None:
        self.patch.undo()

    @rule(seconds=st.sampled_from([0.5, STALLED_SECONDS / 2, STALLED_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(source=st.sampled_from("abc"))
    def accept(self, source: str) -> None:
        expected = self.victim(source)
        taken = self.budget.take(source, self.now)
        assert taken.evicted == (() if expected is None else (expected,))
        for evicted in taken.evicted:
            del self.peers[evicted]
        if taken.ticket is None:
            assert len(self.peers) == self.SOCKETS_MAX
            assert all(peer.proven or peer.moving for peer in self.peers.values())
        else:
            assert taken.ticket not in self.peers
            self.peers[taken.ticket] = Peer(source, self.now)

    def victim(self, source: str) -> Ticket | None:
        stalled = [number for number, peer in self.oldest_first() if peer.stalled(self.now)]
        own = [number for number in stalled if self.peers[number].source == source]
        if len(own) >= self.PER_SOURCE_MAX:
            return own[0]
        if len(self.peers) < self.SOCKETS_MAX:
            return None
        silent = [number for number, peer in self.oldest_first() if not peer.moving and not peer.proven]
        return next(iter([*stalled, *silent]), None)

    def oldest_first(self) -> list[tuple[Ticket, Peer]]:
        # Among equals the budget takes those that stand still before those that moved, each in order of arrival.
        return sorted(self.peers.items(), key=lambda item: (item[1].progress, item[1].moving))

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.peers)))
        self.budget.advance(chosen, self.now)
        peer = self.peers.pop(chosen)
        if not peer.proven:
            peer.moving, peer.progress = True, self.now
        self.peers[chosen] = peer

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def prove(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.peers)))
        self.budget.prove(chosen)
        self.peers[chosen].proven = True

    @precondition(lambda self: any(peer.proven for peer in self.peers.values()))
    @rule(source=st.sampled_from("abc"), data=st.data())
    def reopen(self, source: str, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(number for number, peer in self.peers.items() if peer.proven)))
        own = [number for number, peer in self.oldest_first() if peer.stalled(self.now) and peer.source == source]
        evicted = own[:1] if len(own) >= self.PER_SOURCE_MAX else []
        assert list(self.budget.reopen(chosen, source, self.now)) == evicted
        del self.peers[chosen]
        for each in evicted:
            del self.peers[each]
        self.peers[chosen] = Peer(source, self.now)

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.peers)))
        self.budget.release(chosen)
        del self.peers[chosen]

    @invariant()
    def counts_agree(self) -> None:
        assert self.budget.taken == len(self.peers) <= self.SOCKETS_MAX
        assert self.budget.unproven == sum(not peer.proven for peer in self.peers.values())


TestCourses = Courses.TestCase
TestCourses.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.lists(st.sampled_from("ab"), max_size=30))
def test_a_ticket_is_never_given_twice(sources: list[str]) -> None:
    budget = SocketBudget(3)

    given_out = [budget.take(source, float(moment)).ticket for moment, source in enumerate(sources)]

    assert len(set(given_out)) == len(given_out)


def ticket(taken: Taken) -> Ticket:
    assert taken.ticket is not None
    return taken.ticket
