"""How a job gives way: while messages of devices wait for the disk, it rests as long as it has worked."""

import asyncio
from collections.abc import Awaitable, Callable

from isthmus.base.clock import Clock

REST_SECONDS_MAX = 0.5
"""A rest after one piece of work, however long the storage took for it."""


class Yielding:
    """Gives way after each piece of work; `is_pressed` says whether devices wait."""

    def __init__(
        self,
        clock: Clock,
        is_pressed: Callable[[], bool],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._is_pressed = is_pressed
        self._pause = pause
        self._since = clock.monotonic()

    def begin(self) -> None:
        """The first piece of work begins."""
        self._since = self._clock.monotonic()

    async def give_way(self) -> None:
        """Rests if need be; the next piece of work begins when this returns."""
        if self._is_pressed():
            await self._pause(min(self._clock.monotonic() - self._since, REST_SECONDS_MAX))
        self._since = self._clock.monotonic()
