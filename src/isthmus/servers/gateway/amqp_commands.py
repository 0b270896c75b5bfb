"""Cloud-to-device messages that services send over AMQP, and the feedback they read there.

Addresses, properties and outcomes are those of the IoT Hub developer guide, "Send cloud-to-device messages" and
"Receive message feedback".
"""

import uuid
from typing import Final

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId
from isthmus.commands.cloud_to_device import C2DMessage, CloudToDevice, parse_ack
from isthmus.commands.feedback import CONTENT_TYPE, Feedback, FeedbackMessage
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_contract import path_segments
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump, top_up, undecodable
from isthmus.telemetry.message import PropertyValue
from isthmus.wire.amqp import message
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.events import CreditGranted, Disposition, Transfer
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Header, Message, Properties, Section
from isthmus.wire.amqp.states import ACCEPTED_STATE, Modified, Rejected, Released
from isthmus.wire.amqp.values import AmqpValue, Long, Symbol, Timestamp

ACK_PROPERTY: Final = "iothub-ack"


class CommandReceiver(LinkHandler):
    """Takes cloud-to-device messages and accepts each once it is durable in its device's queue.

    Messages are stored side by side, so that they share commits, and in the order in which they came.
    """

    def __init__(self, link: Link, pump: Pump, commands: CloudToDevice, hub: Hub) -> None:
        self._link = link
        self._pump = pump
        self._commands = commands
        self._hub = hub
        link.accept(properties=link.properties)

    def transfer(self, transfer: Transfer) -> None:
        top_up(self._link)
        self._pump.spawn(self._send(transfer))

    async def _send(self, transfer: Transfer) -> None:
        device = ""
        try:
            to, command = decode_command(transfer.payload)
            device = target_device(to)
            await self._commands.send(self._hub, device, command)
        except HubError as error:
            self._link.settle(transfer.delivery_id, Rejected(self._pump.refused(error, device)))
        else:
            self._link.settle(transfer.delivery_id, ACCEPTED_STATE)
        self._pump.flush()


class FeedbackSender(LinkHandler):
    """Hands feedback messages to one reader, each under a lock until it is settled.

    One task sends at a time, for as long as there is credit, room and feedback; what wakes it meanwhile makes it look
    again. What is settled is settled also when the peer closes behind it; a reader that leaves gives back the rest.
    """

    def __init__(self, link: Link, pump: Pump, feedback: Feedback, hub: HubId) -> None:
        self._link = link
        self._pump = pump
        self._feedback = feedback
        self._hub = hub
        self._locked: dict[int, str] = {}
        self._sending = False
        self._woken = False
        link.accept(properties=link.properties)
        self._forget = feedback.on_available(self._available)

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
            self._feedback.release(self._hub, token)
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
            batches = await self._feedback.receive(self._hub)
            if not batches:
                self._link.drained()
                return
            self._hand_out(batches[0])
        if not self._link.credit:
            self._link.drained()

    def _hand_out(self, batch: FeedbackMessage) -> None:
        """Sends a batch, unless the reader has left or taken back its credit meanwhile."""
        if not self._link.sendable:
            self._feedback.release(self._hub, batch.lock_token)
            return
        tag = uuid.UUID(batch.lock_token).bytes
        self._locked[self._link.send(encode_feedback(batch), tag=tag)] = batch.lock_token
        self._pump.flush()

    async def _settle(self, disposition: Disposition, token: str) -> None:
        try:
            match disposition.state:
                case Released() | Modified():
                    await self._feedback.abandon(self._hub, token)
                case Rejected():
                    await self._feedback.reject(self._hub, token)
                case _:
                    # A reader that settles and says no more has read it.
                    await self._feedback.complete(self._hub, token)
        except HubError as error:
            self._pump.refused(error)
        if not disposition.settled:
            self._link.settle(disposition.delivery_id, disposition.state)
        self._pump.flush()


def target_device(to: str | None) -> str:
    """The device of `/devices/{id}/messages/devicebound`, percent-encoded or not; raises HubError ArgumentInvalid."""
    segments = path_segments(to or "")
    match [segment.lower() for segment in segments]:
        case ["devices", _, "messages", "devicebound"] if segments[1]:
            return segments[1]
        case ["devices", _, "modules", _, "messages", "devicebound"]:
            raise _bad_target(to, "Only devices have queues; invoke a method of the module instead.")
        case _:
            raise _bad_target(to, "Set to to /devices/{id}/messages/devicebound.")


def decode_command(payload: bytes) -> tuple[str | None, C2DMessage]:
    """The target and the cloud-to-device message of an AMQP message; raises HubError ArgumentInvalid."""
    try:
        received = Message(payload)
        properties = received.properties
        application = dict(received.application_properties)
        body = _body(received)
    except DecodeError as error:
        raise undecodable(error) from error
    ack = application.pop(ACK_PROPERTY, None)
    return properties.to, C2DMessage(
        payload=body,
        message_id=_text(properties.message_id),
        correlation_id=_text(properties.correlation_id),
        user_id=_text(properties.user_id),
        content_type=_text(properties.content_type),
        content_encoding=_text(properties.content_encoding),
        expiry_ms=_whole(properties.absolute_expiry_time),
        ack=None if ack is None else parse_ack(str(ack)),
        properties={key: _property(key, value) for key, value in application.items()},
    )


def encode_feedback(batch: FeedbackMessage) -> bytes:
    """A feedback message as services read it."""
    annotations = {
        Symbol("iothub-enqueuedtime"): Timestamp(batch.enqueued_ms),
        Symbol("x-opt-sequence-number"): Long(batch.sequence),
        Symbol("x-opt-enqueued-time"): Timestamp(batch.enqueued_ms),
    }
    properties = Properties(
        user_id=batch.user_id.encode(), content_type=CONTENT_TYPE, absolute_expiry_time=batch.expires_ms
    )
    return b"".join(
        (
            Header(delivery_count=batch.delivery_count).encode(),
            message.annotations(Section.MESSAGE_ANNOTATIONS, annotations),
            properties.encode(),
            message.data(batch.body),
        )
    )


def _body(received: Message) -> bytes:
    """The body: data sections joined, or an amqp-value that is text or bytes."""
    values = received.values
    match values:
        case []:
            return b"".join(received.data)
        case [None]:
            return b""
        case [bytes(value)]:
            return bytes(value)
        case [str(value)]:
            return value.encode()
    raise HubError(
        Code.ARGUMENT_INVALID,
        "The body is neither data nor text.",
        Refusal(Hop.CONTRACT, "contract.message", f"{type(values[0]).__name__}", "Send the body as a data section."),
    )


def _text(value: AmqpValue) -> str | None:
    """An id or a name in the one form that every protocol has."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


def _whole(value: int | None) -> int | None:
    return None if value is None else int(value)


def _property(key: str, value: AmqpValue) -> PropertyValue:
    """A property in Python's own types: AMQP's are subclasses that only AMQP knows."""
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case float():
            return float(value)
        case bytes():
            return bytes(value)
        case str() | uuid.UUID():
            return str(value)
    raise HubError(
        Code.ARGUMENT_INVALID,
        "An application property is not a primitive value.",
        Refusal(Hop.CONTRACT, "contract.property", key[:64], "Send text, numbers, booleans or bytes."),
    )


def _bad_target(to: str | None, remedy: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        "The message's target is not valid.",
        Refusal(Hop.CONTRACT, "contract.to", str(to)[:200], remedy),
    )
