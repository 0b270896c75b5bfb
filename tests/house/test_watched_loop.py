"""The watch itself: a loop that is held is reported, one that waits properly is not."""

import asyncio
import time
from collections.abc import Coroutine

from support.watched_loop import CPU_SECONDS_MAX, Stalls, WatchedLoop


def test_computing_in_one_turn_is_reported() -> None:
    stalls = Stalls()
    _run(stalls, _compute(CPU_SECONDS_MAX + 0.4))
    assert "computed" in stalls.worst


def test_waiting_is_not_reported() -> None:
    stalls = Stalls()
    _run(stalls, asyncio.sleep(0.01))
    assert not stalls.worst


def _run(stalls: Stalls, work: Coroutine[None, None, None]) -> None:
    loop = WatchedLoop.reporting_to(stalls)
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def _compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
