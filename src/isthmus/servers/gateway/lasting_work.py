"""Work that a connection began and that outlives it: what it held is given back, what it was told is written."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class LastingWork:
    """The tasks of all connections of one protocol; bounded by what each connection may have under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begins work that runs to its end, whatever becomes of its connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drained(self) -> None:
        """Returns when no work of any connection is left; for the time after all connections were closed."""
        while self._tasks:
            await asyncio.wait(self._tasks)
