"""A job rests as long as it has worked while devices wait, and not otherwise."""

from devices.fakes import StandingClock
from isthmus.jobs.yielding import REST_SECONDS_MAX, Yielding


async def test_it_rests_as_long_as_it_worked_within_a_bound_and_only_under_pressure() -> None:
    clock = StandingClock()
    rests: list[float] = []
    pressed = True

    async def pause(seconds: float) -> None:
        rests.append(round(seconds, 3))
        clock.now_ms += int(seconds * 1000)

    yielding = Yielding(clock, lambda: pressed, pause=pause)
    clock.now_ms += 5_000
    yielding.begin()
    for worked_ms in (100, 250, 60_000):
        clock.now_ms += worked_ms
        await yielding.give_way()
    assert rests == [0.1, 0.25, REST_SECONDS_MAX]
    pressed = False
    clock.now_ms += 100
    await yielding.give_way()
    assert len(rests) == 3
