"""When a way counts as dead, and when as alive again."""

from hypothesis import given
from hypothesis import strategies as st

from isthmus.lab.liveness import ANSWERED_MIN, LOST_MAX, Liveness


def test_a_way_is_dead_until_it_has_answered_often_enough() -> None:
    way = Liveness()
    assert [way.heard(answered=True) for _ in range(ANSWERED_MIN)] == [False] * (ANSWERED_MIN - 1) + [True]
    assert way.alive


def test_a_lost_echo_now_and_then_changes_nothing() -> None:
    way = Liveness()
    for _ in range(ANSWERED_MIN):
        way.heard(answered=True)
    for _ in range(10):
        for answered in [False] * (LOST_MAX - 1) + [True]:
            assert not way.heard(answered=answered)
    assert way.alive


@given(st.lists(st.booleans(), max_size=200))
def test_a_change_is_told_exactly_when_it_happens(answers: list[bool]) -> None:
    way = Liveness()
    for place, answered in enumerate(answers):
        before = way.alive
        assert way.heard(answered=answered) == (way.alive != before)
        if way.alive != before:
            run = ANSWERED_MIN if way.alive else LOST_MAX
            assert answers[place - run + 1 : place + 1] == [way.alive] * run
