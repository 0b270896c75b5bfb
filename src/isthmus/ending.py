"""How a process of ours is told to end: the first signal asks, the second one does not wait."""

import asyncio
import signal
from collections.abc import Awaitable
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)
"""Signals that end a process; the second one at once."""


def told_to_end(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Is set by the first signal to end; the second one ends the process at once, whatever it is doing."""
    stop = asyncio.Event()

    def told() -> None:
        stop.set()
        for number in ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in ENDING:
        loop.add_signal_handler(number, told)
    return stop


async def unless(stop: asyncio.Event, work: Awaitable[Any]) -> bool:
    """Does the work, unless `stop` comes first, which cancels it; True when it is done. Raises what the work raises."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
        return doing.done()
    finally:
        doing.cancel()
        stopping.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
