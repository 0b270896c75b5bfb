"""Waiting for a group of appends to the log, whatever becomes of each."""

import asyncio


class Appends:
    """A `CommitWaiter` for appends that are waited for together."""

    def __init__(self) -> None:
        self.appended = 0
        self.durable = 0
        self.reason = ""
        self._failed = 0
        self._change = asyncio.Event()

    def committed(self, cookies: list[int]) -> None:
        self.durable += len(cookies)
        self._change.set()

    def failed(self, cookies: list[int], reason: str) -> None:
        self._failed += len(cookies)
        self.reason = reason
        self._change.set()

    async def settled(self) -> None:
        """Returns when every append has been told of."""
        while self.durable + self._failed < self.appended:
            self._change.clear()
            await self._change.wait()
