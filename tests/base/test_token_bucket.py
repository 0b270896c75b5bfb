"""A token bucket, and what holds of it whatever is taken when."""

from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.token_bucket import TokenBucket

TAKES = st.lists(st.tuples(st.integers(0, 300), st.floats(0, 2)), min_size=1, max_size=40)


def test_a_burst_of_one_second_passes_and_more_has_to_wait() -> None:
    bucket = TokenBucket(100, 0.0)

    assert bucket.take(100, 0.0) == 0
    assert bucket.take(50, 0.0) == 0.5
    assert bucket.take(0, 0.5) == 0
    assert bucket.take(1, 0.5) == 0.01


def test_silence_does_not_save_up() -> None:
    bucket = TokenBucket(100, 0.0)

    assert bucket.take(150, 1000.0) == 0.5


@given(TAKES)
def test_whoever_waits_as_told_keeps_the_rate(takes: list[tuple[int, float]]) -> None:
    bucket = TokenBucket(100, 0.0)
    now, taken = 0.0, 0
    for count, pause in takes:
        now += pause
        wait = bucket.take(count, now)
        taken += count
        now += wait
        assert taken <= 100 + 100 * now + 1e-6


@given(TAKES, st.sampled_from([1.0, 50.0, 100.0, 6000.0]))
def test_what_passes_at_once_and_in_all_keeps_to_capacity_and_rate(
    takes: list[tuple[int, float]], capacity: float
) -> None:
    bucket = TokenBucket(100, 0.0, capacity=capacity)
    now, passed, largest = 0.0, 0, 0
    for count, pause in takes:
        now += pause
        if bucket.take_if_there(count, now) == 0:
            passed += count
            largest = max(largest, count)
        # One that is larger than the bucket passes when it is full, and is owed.
        assert passed <= max(capacity, largest) + 100 * now + 1e-6


@given(TAKES)
def test_what_is_refused_takes_nothing_and_passes_after_the_time_told(takes: list[tuple[int, float]]) -> None:
    bucket = TokenBucket(100, 0.0)
    now = 0.0
    for count, pause in takes:
        now += pause
        wait = bucket.take_if_there(count, now)
        if wait > 0:
            assert bucket.take_if_there(count, now) > 0
            now += wait + 1e-9
            assert bucket.take_if_there(count, now) == 0


def test_more_than_the_bucket_holds_passes_once_it_is_full() -> None:
    bucket = TokenBucket(10, 0.0, capacity=20)
    assert bucket.take_if_there(100, 0.0) == 0
    assert bucket.take_if_there(1, 0.0) > 8
    assert bucket.take_if_there(1, 8.2) == 0
