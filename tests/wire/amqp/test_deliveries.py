"""Books of deliveries: numbers that wrap, ranges, and settlements put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.amqp.deliveries import SERIAL_MASK, Settlements, Unsettled, allowance
from isthmus.wire.amqp.performatives import Disposition
from isthmus.wire.amqp.states import ACCEPTED_STATE, Error, Rejected


def test_an_allowance_is_less_what_is_underway() -> None:
    assert allowance(10, sent=7, seen=3) == 6
    assert allowance(10, sent=30, seen=3) == 0
    assert allowance(10, sent=2, seen=SERIAL_MASK) == 7
    assert allowance(SERIAL_MASK, sent=5, seen=1) == SERIAL_MASK - 4


def test_a_peer_ahead_of_us_is_taken_to_have_seen_all() -> None:
    assert allowance(10, sent=3, seen=7) == 10


@given(st.sets(st.integers(-20, 20)), st.integers(-25, 25), st.integers(0, 60))
def test_a_range_finds_the_numbers_within_it(numbers: set[int], first: int, length: int) -> None:
    unsettled: Unsettled[None] = Unsettled({number & SERIAL_MASK: None for number in numbers})
    expected = {number & SERIAL_MASK for number in numbers if first <= number <= first + length}
    assert set(unsettled.between(first & SERIAL_MASK, (first + length) & SERIAL_MASK)) == expected


def test_the_widest_range_costs_no_more_than_there_is() -> None:
    unsettled: Unsettled[None] = Unsettled({5: None, SERIAL_MASK: None})
    assert unsettled.between(0, SERIAL_MASK) == [5, SERIAL_MASK]


@pytest.mark.rule("AMQP-2.8.10")
def test_ranges_stop_where_numbers_wrap() -> None:
    settlements = Settlements()
    for number in (SERIAL_MASK - 1, SERIAL_MASK, 0, 1):
        settlements.add(number, ACCEPTED_STATE, receiver=True)
    told = [(disposition.first, disposition.last) for disposition in settlements.take()]
    assert told == [(SERIAL_MASK - 1, SERIAL_MASK), (0, 1)]
    assert list(settlements.take()) == []


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.booleans()), max_size=30))
def test_what_was_settled_is_told_in_order_and_once(settled: list[tuple[int, bool, bool]]) -> None:
    settlements = Settlements()
    for number, accepted, receiver in settled:
        settlements.add(number, ACCEPTED_STATE if accepted else Rejected(Error("a:b")), receiver=receiver)
    told = [
        (number, disposition.state == ACCEPTED_STATE, disposition.receiver)
        for disposition in settlements.take()
        for number in range(disposition.first, disposition.last + 1)
    ]
    assert told == settled


@pytest.mark.rule("AMQP-2.7.6")
def test_a_disposition_of_settlements_is_settled() -> None:
    settlements = Settlements()
    settlements.add(3, ACCEPTED_STATE, receiver=False)
    assert list(settlements.take()) == [Disposition(False, 3, 3, True, ACCEPTED_STATE)]
