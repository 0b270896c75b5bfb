"""The messages of a day: counted, kept over a start, and begun anew at midnight UTC."""

from devices.fakes import HUB, NOW_MS, StandingClock
from isthmus.backends.memory import MemoryState
from isthmus.base.state import Key
from isthmus.resources.daily_messages import KIND, NAME, DailyMessages
from isthmus.resources.throttling import DAY_MS


async def test_a_count_survives_a_start() -> None:
    state, clock = MemoryState(), StandingClock()
    first = DailyMessages(state, clock)
    first.take(HUB, 7)
    await first.write()
    again = DailyMessages(state, clock)
    await again.start([HUB])
    assert again.used(HUB) == 7


async def test_a_new_day_begins_at_midnight_utc() -> None:
    clock = StandingClock()
    days = DailyMessages(MemoryState(), clock)
    days.take(HUB, 7)
    left = days.seconds_left()
    assert left == (DAY_MS - NOW_MS % DAY_MS) / 1000
    clock.now_ms += round(left * 1000) - 1
    assert days.used(HUB) == 7
    clock.now_ms += 1
    assert days.used(HUB) == 0


async def test_what_has_not_changed_is_not_written_again() -> None:
    state = MemoryState()
    days = DailyMessages(state, StandingClock())
    days.take(HUB, 1)
    await days.write()
    written = await state.get(Key(KIND, HUB, NAME))
    await days.write()
    again = await state.get(Key(KIND, HUB, NAME))
    assert written is not None
    assert again == written
