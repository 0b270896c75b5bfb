"""Delivers cloud-to-device messages over one MQTT connection.

Theory of operation. One task at most runs at a time, started by `wake` and ended when there is nothing to do, so an
idle connection has none. It locks as many messages as the window has room for, sends them in the order of the queue,
and settles those that were acknowledged. `wake` says that something may have changed: a message came, a subscription
was made, the device read what was written. An acknowledgement frees a place in the window and wakes as well.

    QoS 1   locked ─▶ sent, waiting under its packet identifier ─▶ acknowledged ─▶ completed
    QoS 0   locked ─▶ sent ─▶ completed

Whatever is locked and not completed when the connection ends is given back by `close`, in one call and without counting
as a delivery; the next connection gets it first. A lock that ran out is not told here: its message comes again by the
same way, under a new packet identifier, and the late acknowledgement settles nothing (IoT Hub developer guide, "Send
cloud-to-device messages").
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.state import Damaged
from isthmus.servers.gateway.mqtt_contract import TOPIC_BYTES_MAX, devicebound_topic
from isthmus.servers.gateway.ports import DeviceboundMessage, DeviceboundQueue


class Outgoing(Protocol):
    """How a delivery sends; a connection has it."""

    def window(self) -> int:
        """How many messages may be sent now; 0 without a subscription, or while the device does not read."""

    def send(self, topic: bytes, payload: bytes) -> int | None:
        """Sends a message: its packet identifier, 0 at QoS 0, or None when it cannot be sent any more."""


class Delivery:
    """The cloud-to-device side of a connection; `failed` is called with whatever ends it unexpectedly."""

    __slots__ = (
        "_acknowledged",
        "_closed",
        "_failed",
        "_maybe_more",
        "_outgoing",
        "_queue",
        "_ref",
        "_sent",
        "_task",
        "_unsent",
    )

    def __init__(
        self, ref: DeviceRef, queue: DeviceboundQueue, outgoing: Outgoing, failed: Callable[[Exception], None]
    ) -> None:
        self._ref = ref
        self._queue = queue
        self._outgoing = outgoing
        self._failed = failed
        self._unsent: list[str] = []
        self._sent: dict[int, str] = {}
        self._acknowledged: list[str] = []
        self._maybe_more = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Looks whether there is something to deliver."""
        self._maybe_more = True
        self._start()

    def acknowledged(self, packet_id: int) -> None:
        """The device has taken the message sent under `packet_id`."""
        self._acknowledged.append(self._sent.pop(packet_id))
        self._start()

    async def close(self) -> None:
        """Ends deliveries, settles what was acknowledged, and gives back the rest; called once."""
        self._closed = True
        if self._task is not None:
            await self._task
        self._unsent += self._sent.values()
        self._sent.clear()
        await self._give_back()

    def _start(self) -> None:
        if self._task is None and not self._closed and self._has_work():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _has_work(self) -> bool:
        return bool(self._acknowledged) or (self._maybe_more and not self._closed and self._outgoing.window() > 0)

    async def _run(self) -> None:
        try:
            while self._has_work():
                if self._acknowledged:
                    await self._settle(self._queue.complete, self._acknowledged.pop(0))
                else:
                    await self._deliver(self._outgoing.window())
        except Exception as error:
            self._failed(error)
        finally:
            self._task = None

    async def _deliver(self, room: int) -> None:
        self._maybe_more = False
        try:
            messages = await self._queue.receive(self._ref, room)
        except Damaged:
            # It stays where it is, and those behind it are served.
            self._maybe_more = True
            return
        if len(messages) >= room:
            self._maybe_more = True
        self._unsent = [message.lock_token for message in messages]
        for message in messages:
            if not await self._send(message):
                break
        await self._give_back()

    async def _send(self, message: DeviceboundMessage) -> bool:
        topic = devicebound_topic(
            self._ref,
            system=message.system,
            properties=message.properties,
            expiry_ms=message.expiry_ms,
            ack=message.ack,
        )
        if len(topic) > TOPIC_BYTES_MAX:
            # It fits into no MQTT packet; its sender is told by feedback, and those behind it are served.
            await self._settle(self._queue.reject, self._unsent.pop(0))
            return True
        packet_id = None if self._closed else self._outgoing.send(topic, message.payload)
        if packet_id is None:
            return False
        lock_token = self._unsent.pop(0)
        if packet_id:
            self._sent[packet_id] = lock_token
        else:
            await self._settle(self._queue.complete, lock_token)
        return True

    async def _settle(self, settle: Callable[[DeviceRef, str], Awaitable[None]], lock_token: str) -> None:
        try:
            await settle(self._ref, lock_token)
        except HubError as error:
            if error.code is not Code.MESSAGE_LOCK_LOST:
                raise
            # The message waits again, or somebody has purged it.
            self._maybe_more = True

    async def _give_back(self) -> None:
        if self._unsent:
            lock_tokens, self._unsent = self._unsent, []
            await self._queue.release_all(self._ref, lock_tokens)
