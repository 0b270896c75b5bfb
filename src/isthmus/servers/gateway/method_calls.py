"""Direct methods that wait for the answer of one connection."""

import asyncio
from collections.abc import Callable

from isthmus.base.errors import Code, HubError
from isthmus.base.limits import METHODS_IN_FLIGHT_MAX
from isthmus.devices.ports import MethodAnswer


class MethodCalls:
    """Matches answers with requests by an identifier that rises with each call of the connection."""

    __slots__ = ("_last", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[MethodAnswer]] = {}
        self._last = 0

    async def call(self, send: Callable[[str], None]) -> MethodAnswer:
        """Sends a request under a new identifier and waits for its answer.

        Raises `HubError` `IN_FLIGHT_METHODS_EXCEEDED` when `METHODS_IN_FLIGHT_MAX` wait already, and
        `DEVICE_CONNECTION_CLOSED` when the connection ends first. Cancelling forgets the request.
        """
        if len(self._waiting) >= METHODS_IN_FLIGHT_MAX:
            raise HubError(Code.IN_FLIGHT_METHODS_EXCEEDED, "Too many direct methods wait for the device")
        self._last += 1
        request_id = f"{self._last:x}"
        answer: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            send(request_id)
            return await answer
        finally:
            self._waiting.pop(request_id, None)

    def answered(self, request_id: str, answer: MethodAnswer) -> bool:
        """Takes an answer; False when nobody waits for it any more, and it was dropped."""
        waiting = self._waiting.pop(request_id, None)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(answer)
        return True

    def connection_closed(self) -> None:
        """Ends all calls that wait."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(HubError(Code.DEVICE_CONNECTION_CLOSED, "The device closed its connection"))
