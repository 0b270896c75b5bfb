"""Calls those that have deadlines when these have come."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.base.errors import HubError
from isthmus.base.state import Damaged, StateClosed

PAUSE_SECONDS = 0.02
"""Between two rounds, so that a deadline that cannot be met at once does not take the processor."""

RETRY_SECONDS = 1.0
"""After a round that failed, for the disk to recover."""

WAIT_SECONDS_MAX = 1.0
"""Without a deadline, the longest wait: a wall clock that was set is noticed then, and what waited for it."""


class Timed(Protocol):
    """Has something to do at certain times."""

    def next_deadline_ms(self) -> int | None:
        """Wall time of the next `tick`; None while there is none."""

    def on_earlier(self, wake: Callable[[], None]) -> None:
        """Calls `wake` when the next deadline has become earlier."""

    async def tick(self) -> None:
        """Does what is due."""


async def keep_time(clock: Clock, timed: Sequence[Timed], failed: Callable[[Exception], None]) -> None:
    """Runs until it is cancelled; `failed` hears of rounds that the state refused, which are tried again."""
    earlier = asyncio.Event()
    for one in timed:
        one.on_earlier(earlier.set)
    while True:
        earlier.clear()
        try:
            pause = PAUSE_SECONDS
            for one in timed:
                if _is_due(one, clock):
                    await one.tick()
        except (StateClosed, Damaged, HubError) as error:
            failed(error)
            pause = RETRY_SECONDS
        await asyncio.sleep(pause)
        await _deadline(clock, timed, earlier)


async def _deadline(clock: Clock, timed: Sequence[Timed], earlier: asyncio.Event) -> None:
    deadlines = [when for one in timed if (when := one.next_deadline_ms()) is not None]
    wait = min([WAIT_SECONDS_MAX, *((when - clock.utc_ms()) / 1000 for when in deadlines)])
    if wait > 0:
        try:
            await asyncio.wait_for(earlier.wait(), wait)
        except TimeoutError:
            return


def _is_due(timed: Timed, clock: Clock) -> bool:
    when = timed.next_deadline_ms()
    return when is not None and when <= clock.utc_ms()
