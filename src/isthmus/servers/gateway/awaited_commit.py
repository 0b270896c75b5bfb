"""A request that waits until what it appended to the log is durable."""

import asyncio

from isthmus.base.errors import Code, HubError


class AwaitedCommit:
    """The `CommitWaiter` of `count` appends; made on the event loop, and awaited by one task at most."""

    def __init__(self, count: int = 1) -> None:
        self._left = count
        self._durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def durable(self) -> None:
        """Returns when all are durable; raises `HubError` `SERVICE_UNAVAILABLE` when one never will be.

        What was appended stays appended when the wait is cancelled.
        """
        await self._durable

    def committed(self, cookies: list[int]) -> None:
        self._left -= len(cookies)
        if not self._left and not self._durable.done():
            self._durable.set_result(None)

    def failed(self, cookies: list[int], reason: str) -> None:
        if not self._durable.done():
            self._durable.set_exception(HubError(Code.SERVICE_UNAVAILABLE, f"The message was not stored: {reason}"))
