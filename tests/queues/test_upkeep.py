"""The task that calls those with deadlines: at once when due, when woken, and again after a failure."""

import asyncio
from collections.abc import Callable

import pytest

from isthmus.base.state import StateClosed
from isthmus.queues import keep_time
from isthmus.queues import upkeep as upkeep_module
from queues.fakes import MovedClock


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds follow each other at once."""
    monkeypatch.setattr(upkeep_module, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(upkeep_module, "RETRY_SECONDS", 0)


async def test_what_is_due_is_done_and_what_is_not_is_not() -> None:
    clock = MovedClock()
    due, later = Chore(clock), Chore(clock)
    due.deadline_ms, later.deadline_ms = clock.now_ms, clock.now_ms + 3_600_000
    async with Running(clock, [due, later]):
        await due.done.wait()
    assert (due.ticks, later.ticks) == (1, 0)


async def test_an_earlier_deadline_is_met() -> None:
    clock = MovedClock()
    chore = Chore(clock)
    async with Running(clock, [chore]):
        await asyncio.sleep(0)
        chore.deadline_ms = clock.now_ms
        chore.wake()
        await chore.done.wait()
    assert chore.ticks == 1


async def test_a_deadline_that_comes_by_itself_is_met() -> None:
    clock = MovedClock()
    chore = Chore(clock)
    chore.deadline_ms = clock.now_ms + 5
    async with Running(clock, [chore]):
        clock.move(seconds=0.005)
        await chore.done.wait()
    assert chore.ticks == 1


async def test_a_round_that_fails_is_reported_and_tried_again() -> None:
    clock = MovedClock()
    chore = Chore(clock)
    chore.deadline_ms = clock.now_ms
    chore.failures = [StateClosed("full"), StateClosed("full")]
    running = Running(clock, [chore])
    async with running:
        await chore.done.wait()
    assert [str(error) for error in running.failed] == ["full", "full"]


async def test_a_fault_of_ours_ends_it() -> None:
    clock = MovedClock()
    chore = Chore(clock)
    chore.deadline_ms = clock.now_ms
    chore.failures = [RuntimeError("a fault")]
    with pytest.raises(RuntimeError, match="a fault"):
        await keep_time(clock, [chore], lambda error: None)


class Chore:
    """Has one thing to do, at `deadline_ms`."""

    def __init__(self, clock: MovedClock) -> None:
        self.deadline_ms: int | None = None
        self.ticks = 0
        self.failures: list[Exception] = []
        self.done = asyncio.Event()
        self.wake: Callable[[], None] = lambda: None
        self._clock = clock

    def next_deadline_ms(self) -> int | None:
        return self.deadline_ms

    def on_earlier(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    async def tick(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.ticks += 1
        self.deadline_ms = None
        self.done.set()


class Running:
    """The task, cancelled at the end."""

    def __init__(self, clock: MovedClock, chores: list[Chore]) -> None:
        self.failed: list[Exception] = []
        self._clock = clock
        self._chores = chores

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(keep_time(self._clock, self._chores, self.failed.append))

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
