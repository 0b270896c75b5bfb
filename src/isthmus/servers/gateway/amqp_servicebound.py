"""Feedback and file notifications as services read them over AMQP.

Addresses, properties and outcomes are those of the IoT Hub developer guide, "Receive cloud-to-device message feedback"
and "File upload notifications".
"""

import uuid
from collections.abc import Callable
from typing import Final

from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.commands import feedback
from isthmus.commands.servicebound import ServiceboundMessage, ServiceboundQueue
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.wire.amqp import message as wire
from isthmus.wire.amqp.events import CreditGranted, Disposition
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Header, Properties, Section
from isthmus.wire.amqp.states import Modified, Rejected, Released
from isthmus.wire.amqp.values import Long, Symbol, Timestamp

FILE_CONTENT_TYPE: Final = "application/json"

Encoder = Callable[[ServiceboundMessage], bytes]
"""The AMQP form of a message."""


class ServiceboundSender(LinkHandler):
    """Hands the messages of a queue to one reader, each under a lock until it is settled.

    One task sends at a time, for as long as there is credit, room and something to read; what wakes it meanwhile makes
    it look again. What is settled is settled also when the peer closes behind it; a reader that leaves gives back the
    rest.
    """

    def __init__(self, link: Link, pump: Pump, queue: ServiceboundQueue, hub: HubId, encode: Encoder) -> None:
        self._link = link
        self._pump = pump
        self._queue = queue
        self._hub = hub
        self._encode = encode
        self._locked: dict[int, str] = {}
        self._sending = False
        self._woken = False
        link.accept(properties=link.properties)
        self._forget = queue.on_available(self._available)

    def disposition(self, disposition: Disposition) -> None:
        token = self._locked.pop(disposition.delivery_id, None)
        if token is not None:
            self._pump.spawn(self._settle(disposition, token))

    def credit(self, granted: CreditGranted) -> None:
        self._wake()

    def writable(self) -> None:
        self._wake()

    def detached(self) -> None:
        self._forget()
        for token in self._locked.values():
            self._queue.release(self._hub, token)
        self._locked.clear()

    def _available(self, hub: HubId) -> None:
        if hub == self._hub:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        if not self._sending:
            self._sending = True
            self._pump.spawn(self._send())

    async def _send(self) -> None:
        try:
            while self._woken:
                self._woken = False
                await self._send_waiting()
        finally:
            self._sending = False
        self._pump.flush()

    async def _send_waiting(self) -> None:
        while self._link.sendable and not self._pump.congested:
            waiting = await self._queue.receive(self._hub)
            if not waiting:
                self._link.drained()
                return
            self._hand_out(waiting[0])
        if not self._link.credit:
            self._link.drained()

    def _hand_out(self, message: ServiceboundMessage) -> None:
        """Sends a message, unless the reader has left or taken back its credit meanwhile."""
        if not self._link.sendable:
            self._queue.release(self._hub, message.lock_token)
            return
        tag = uuid.UUID(message.lock_token).bytes
        self._locked[self._link.send(self._encode(message), tag=tag)] = message.lock_token
        self._pump.flush()

    async def _settle(self, disposition: Disposition, token: str) -> None:
        try:
            match disposition.state:
                case Released() | Modified():
                    await self._queue.abandon(self._hub, token)
                case Rejected():
                    await self._queue.reject(self._hub, token)
                case _:
                    # A reader that settles and says no more has read it.
                    await self._queue.complete(self._hub, token)
        except HubError as error:
            self._pump.refused(error)
        if not disposition.settled:
            self._link.settle(disposition.delivery_id, disposition.state)
        self._pump.flush()


def encode_feedback(message: ServiceboundMessage) -> bytes:
    """A feedback message as services read it."""
    return _encoded(message, feedback.CONTENT_TYPE)


def encode_file_notification(message: ServiceboundMessage) -> bytes:
    """A file notification as services read it."""
    return _encoded(message, FILE_CONTENT_TYPE)


def _encoded(message: ServiceboundMessage, content_type: str) -> bytes:
    annotations = {
        Symbol("iothub-enqueuedtime"): Timestamp(message.enqueued_ms),
        Symbol("x-opt-sequence-number"): Long(message.sequence),
        Symbol("x-opt-enqueued-time"): Timestamp(message.enqueued_ms),
    }
    properties = Properties(
        user_id=message.user_id.encode(), content_type=content_type, absolute_expiry_time=message.expires_ms
    )
    return b"".join(
        (
            Header(delivery_count=message.delivery_count).encode(),
            wire.annotations(Section.MESSAGE_ANNOTATIONS, annotations),
            properties.encode(),
            wire.data(message.body),
        )
    )
