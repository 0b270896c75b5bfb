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
        self._leftover: asyncio.Task[None] | None = None

    async def get(self) -> Connection:
        """The connection there is, or a new one, for which all that come meanwhile wait; raises what `make` does.

        Raises TimeoutError, and ConnectionAbortedError when it is closed meanwhile: nobody was cancelled then. Who is
        cancelled leaves the new one to the others.
        """
        if self._there is not None:
            return self._there
        if self._making is None:
            self._making = asyncio.create_task(self._made())
            self._making.add_done_callback(self._finished)
        making = self._making
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if making.cancelled() and caller is not None and not caller.cancelling():
                raise ConnectionAbortedError("the connection was closed while it was made") from None
            raise

    async def give_up(self, connection: Connection) -> None:
        """Ends a connection that failed; the next caller gets a new one. Never raises."""
        if self._there is connection:
            self._there = None
        await self._ended(connection)

    async def close(self) -> None:
        """Ends what there is, or is being made; never raises, and takes no longer than ending takes at most."""
        making, self._making = self._making, None
        if making is not None:
            making.cancel()
            await asyncio.wait([making], timeout=END_SECONDS_MAX)
        there, self._there = self._there, None
        if there is not None:
            await self._ended(there)

    async def _made(self) -> Connection:
        async with asyncio.timeout(MAKE_SECONDS_MAX):
            return await self._make()

    def _finished(self, task: "asyncio.Task[Connection]") -> None:
        made = None if task.cancelled() or task.exception() is not None else task.result()
        if self._making is task:
            self._making, self._there = None, made
        elif made is not None:  # it was given up while it was made, and came about all the same
            self._leftover = asyncio.create_task(self._ended(made))

    async def _ended(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(END_SECONDS_MAX):
                await self._end(connection)
        except Exception:  # what is given up cannot be helped, whatever a client says of it
            return
