"""Operations that run to their end even when who asked for them goes away.

A change is durable before it is in force: a snapshot is replaced, sessions are cut and devices hear of it after the
commit. A caller that hangs up in between must not leave the door open that the record says is closed.
"""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")


class Completion:
    """Keeps started operations alive, as many as callers start; used on one event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()

    async def run(self, operation: Coroutine[object, object, Result]) -> Result:
        """The operation's result; cancelling the wait does not cancel the operation."""
        task: asyncio.Task[Result] = asyncio.get_running_loop().create_task(operation)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def settled(self) -> None:
        """Returns when no operation is under way; for the time before what they use is closed."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Whoever waits is told; an operation whose caller has left tells nobody, and asyncio shall not mind.
            task.exception()
