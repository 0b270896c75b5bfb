"""Operations that run to their end even when who asked for them goes away.

A change of a resource is durable before it is in force: the snapshot is replaced and the sessions are cut after the
commit. A caller that hangs up in between must not leave the door open that the record says is closed.
"""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

Result = TypeVar("Result")


class Completion:
    """Keeps started operations alive; used on one event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()

    async def run(self, operation: Coroutine[object, object, Result]) -> Result:
        """The operation's result; cancelling the wait does not cancel the operation."""
        task = asyncio.ensure_future(operation)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)
