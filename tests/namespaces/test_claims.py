"""Who needs which address, and from when on nobody does."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from isthmus.namespaces.claims import CLAIMS_MAX, Claims, TooManyClaims
from isthmus.namespaces.orders import Spot

HERE, THERE = Spot("plant", "10.1.0.5"), Spot("lab", "10.1.0.5")


def test_what_nobody_claims_any_more_is_free() -> None:
    claims = Claims()
    claims.claim(1, HERE)
    claims.claim(2, HERE)
    assert not claims.give_up(1, HERE)
    assert claims.give_up(2, HERE)
    assert claims.give_up(3, THERE)


def test_an_orphan_is_free_after_its_time_and_not_when_it_is_claimed_again() -> None:
    claims = Claims()
    claims.claim(1, HERE)
    claims.claim(1, THERE)
    claims.leave(1, until=30.0)
    claims.claim(2, THERE)
    assert claims.next_due() == 30.0
    assert claims.due(29.9) == []
    assert claims.due(30.0) == [HERE]
    assert (claims.due(99.0), claims.next_due()) == ([], None)


def test_what_another_one_claims_is_no_orphan() -> None:
    claims = Claims()
    claims.claim(1, HERE)
    claims.claim(2, HERE)
    claims.leave(1, until=30.0)
    assert claims.next_due() is None


def test_an_orphan_that_is_given_up_is_free_at_once() -> None:
    claims = Claims()
    claims.adopt([HERE], until=30.0)
    assert claims.give_up(1, HERE)
    assert claims.due(30.0) == []


def test_a_connection_claims_only_so_many() -> None:
    claims = Claims()
    spots = [Spot("plant", f"10.1.{number // 256}.{number % 256}") for number in range(CLAIMS_MAX)]
    for spot in spots:
        claims.claim(1, spot)
    claims.claim(1, spots[0])
    with pytest.raises(TooManyClaims):
        claims.claim(1, THERE)
    claims.claim(2, THERE)


class ClaimsMachine(RuleBasedStateMachine):
    """Against the plainest account there is: nothing is freed while claimed, and everything is freed once."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = Claims()
        self.held: set[tuple[int, Spot]] = set()
        self.orphans: dict[Spot, float] = {}
        self.now = 0.0

    holders = st.integers(1, 3)
    spots = st.sampled_from([HERE, THERE, Spot("", "10.1.0.5")])

    @rule(holder=holders, spot=spots)
    def claim(self, holder: int, spot: Spot) -> None:
        self.claims.claim(holder, spot)
        self.held.add((holder, spot))
        self.orphans.pop(spot, None)

    @rule(holder=holders, spot=spots)
    def give_up(self, holder: int, spot: Spot) -> None:
        self.held.discard((holder, spot))
        free = not any(held == spot for _, held in self.held)
        assert self.claims.give_up(holder, spot) == free
        if free:
            self.orphans.pop(spot, None)

    @rule(holder=holders)
    def leave(self, holder: int) -> None:
        left = {spot for held_by, spot in self.held if held_by == holder}
        self.held = {each for each in self.held if each[0] != holder}
        self.orphans |= {spot: self.now + 3 for spot in left if not any(held == spot for _, held in self.held)}
        self.claims.leave(holder, self.now + 3)

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        due = {spot for spot, until in self.orphans.items() if until <= self.now}
        assert set(self.claims.due(self.now)) == due
        self.orphans = {spot: until for spot, until in self.orphans.items() if spot not in due}

    @invariant()
    def next_due_is_the_first(self) -> None:
        assert self.claims.next_due() == min(self.orphans.values(), default=None)


TestClaims = ClaimsMachine.TestCase
