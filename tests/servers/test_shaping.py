"""How a connection is slowed down."""

from hypothesis import given
from hypothesis import strategies as st

from isthmus.servers.gateway.shaping import Pause, Reading, TokenBucket


def test_a_burst_of_one_second_passes_and_more_has_to_wait() -> None:
    bucket = TokenBucket(100, 0.0)

    assert bucket.take(100, 0.0) == 0
    assert bucket.take(50, 0.0) == 0.5
    assert bucket.take(0, 0.5) == 0
    assert bucket.take(1, 0.5) == 0.01


def test_silence_does_not_save_up() -> None:
    bucket = TokenBucket(100, 0.0)

    assert bucket.take(150, 1000.0) == 0.5


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 2)), min_size=1, max_size=40))
def test_whoever_waits_as_told_keeps_the_rate(takes: list[tuple[int, float]]) -> None:
    bucket = TokenBucket(100, 0.0)
    now, taken = 0.0, 0
    for count, pause in takes:
        now += pause
        wait = bucket.take(count, now)
        taken += count
        now += wait
        assert taken <= 100 + 100 * now + 1e-6


class FakeConnection:
    """Counts pauses."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def test_reading_goes_on_when_the_last_reason_is_gone() -> None:
    connection = FakeConnection()
    reading = Reading(connection)
    reading.resume(Pause.RATE)
    reading.pause(Pause.RATE)
    reading.pause(Pause.RATE)
    reading.pause(Pause.BACKLOG)
    reading.resume(Pause.RATE)
    assert connection.calls == ["pause"]
    reading.resume(Pause.BACKLOG)
    reading.resume(Pause.BACKLOG)

    assert connection.calls == ["pause", "resume"]
