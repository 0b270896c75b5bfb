"""A connection that lasts: made when it is needed, shared by whoever needs it, given up after a failure."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

MAKE_SECONDS_MAX: Final = 20
"""A connection with its TLS, its token and its first answer; the clients themselves would wait for minutes."""

END_SECONDS_MAX: Final = 5
"""A peer that does not let go is left alone."""

Connection = TypeVar("Connection")


class Lasting(Generic[Connection]):
    """Holds one connection at a time. On one event loop.

    `make` connects and cleans up after itself when it fails or is cancelled; `end` disconnects.
    """

    def __init__(self, make: Callable[[], Awaitable[Connection]], end: Callable[[Connection], Awaitable[None]]) -> None:
        self._make = make
        self._end = end
        self._there: Connection | None = None
        self._making: asyncio.Task[Connection] | None = None

    async def get(self) -> Connection:
        """The connection there is, or a new one, for which all that come meanwhile wait; raises what `make` does.

        Raises TimeoutError. Cancelling leaves the new one to the others.
        """
        if self._there is not None:
            return self._there
        if self._making is None:
            self._making = asyncio.create_task(self._made())
            self._making.add_done_callback(self._finished)
        return await asyncio.shield(self._making)

    async def give_up(self, connection: Connection) -> None:
        """Ends a connection that failed; the next caller gets a new one. Never raises."""
        if self._there is connection:
            self._there = None
        await self._ended(connection)

    async def close(self) -> None:
        """Ends what there is, or is being made; never raises."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.wait([self._making])
        there, self._there = self._there, None
        if there is not None:
            await self._ended(there)

    async def _made(self) -> Connection:
        async with asyncio.timeout(MAKE_SECONDS_MAX):
            return await self._make()

    def _finished(self, task: "asyncio.Task[Connection]") -> None:
        self._making = None
        if not task.cancelled() and task.exception() is None:
            self._there = task.result()

    async def _ended(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                await self._end(connection)
        except Exception:  # what is given up cannot be helped, whatever a client says of it
            return
