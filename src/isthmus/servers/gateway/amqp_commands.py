"""Cloud-to-device messages that services send over AMQP, and the feedback they read there.

Addresses, properties and outcomes are those of the IoT Hub developer guide, "Send cloud-to-device messages" and
"Receive message feedback".
"""

import uuid
from typing import Final
from urllib.parse import unquote

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.commands.cloud_to_device import C2DMessage, CloudToDevice, parse_ack
from isthmus.commands.feedback import CONTENT_TYPE, Feedback, FeedbackMessage
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_links import Pump
from isthmus.telemetry.message import PropertyValue
from isthmus.wire.amqp import message
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.events import CreditGranted, Disposition, Transfer
from isthmus.wire.amqp.limits import LINK_CREDIT
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Header, Message, Properties, Section
from isthmus.wire.amqp.states import ACCEPTED_STATE, Accepted, Modified, Rejected, Released
from isthmus.wire.amqp.values import AmqpValue, Long, Symbol, Timestamp

ACK_PROPERTY: Final = "iothub-ack"


class CommandReceiver:
    """Takes cloud-to-device messages and accepts each once it is durable in its device's queue."""

    def __init__(self, link: Link, pump: Pump, commands: CloudToDevice, hub: Hub) -> None:
        self._link = link
        self._pump = pump
        self._commands = commands
        self._hub = hub
        self._credit = LINK_CREDIT
        link.accept(properties=dict(link.properties))

    def transfer(self, transfer: Transfer) -> None:
        self._pump.spawn(self._send(transfer))
        self._credit -= 1
        if self._credit < LINK_CREDIT // 2:
            self._credit = LINK_CREDIT
            self._link.grant(LINK_CREDIT)

    def disposition(self, disposition: Disposition) -> None:
        """A sender settles nothing here."""

    def credit(self, granted: CreditGranted) -> None:
        """Credit is ours to give on this link."""

    def writable(self) -> None:
        """Nothing is sent on this link."""

    def detached(self) -> None:
        """What was taken goes on to its queue."""

    async def _send(self, transfer: Transfer) -> None:
        device = ""
        try:
            received = _decoded(transfer.payload)
            device = target_device(received.properties.to)
            await self._commands.send(self._hub, device, command_of(received))
        except HubError as error:
            self._link.settle(transfer.delivery_id, Rejected(self._pump.refused(error, device)))
        else:
            self._link.settle(transfer.delivery_id, ACCEPTED_STATE)
        self._pump.flush()


class FeedbackSender:
    """Hands feedback messages to one reader, each under a lock until it is settled."""

    def __init__(self, link: Link, pump: Pump, feedback: Feedback, hub: Hub) -> None:
        self._link = link
        self._pump = pump
        self._feedback = feedback
        self._hub = hub
        self._locked: dict[int, str] = {}
        self._sending = False
        link.accept(properties=dict(link.properties))
        self._forget = feedback.on_available(lambda number: self._wake() if number == hub.number else None)

    def transfer(self, transfer: Transfer) -> None:
        """A reader sends nothing."""

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
            self._feedback.release(self._hub.number, token)
        self._locked.clear()

    def _wake(self) -> None:
        if not self._sending:
            self._sending = True
            self._pump.spawn(self._send())

    async def _send(self) -> None:
        try:
            while self._link.sendable and not self._pump.congested:
                batch = await self._feedback.receive(self._hub.number)
                if not batch:
                    break
                self._hand_out(batch[0])
        finally:
            self._sending = False
        self._link.drained()
        self._pump.flush()

    def _hand_out(self, batch: FeedbackMessage) -> None:
        if not self._link.sendable:
            self._feedback.release(self._hub.number, batch.lock_token)
            return
        tag = uuid.UUID(batch.lock_token).bytes
        self._locked[self._link.send(encode_feedback(batch), tag=tag)] = batch.lock_token
        self._pump.flush()

    async def _settle(self, disposition: Disposition, token: str) -> None:
        hub = self._hub.number
        try:
            match disposition.state:
                case Released() | Modified():
                    await self._feedback.abandon(hub, token)
                case Rejected():
                    await self._feedback.reject(hub, token)
                case Accepted() | _:
                    await self._feedback.complete(hub, token)
        except HubError as error:
            self._pump.refused(error)
        if not disposition.settled:
            self._link.settle(disposition.delivery_id, disposition.state)
            self._pump.flush()


def target_device(to: str | None) -> str:
    """The device of `/devices/{id}/messages/devicebound`, percent-encoded or not; raises HubError ArgumentInvalid."""
    segments = (to or "").strip("/").split("/")
    match [segment.lower() for segment in segments]:
        case ["devices", _, "messages", "devicebound"] if segments[1]:
            return unquote(segments[1])
        case ["devices", _, "modules", _, "messages", "devicebound"]:
            raise _bad_target(to, "Only devices have queues; invoke a method of the module instead.")
        case _:
            raise _bad_target(to, "Set to to /devices/{id}/messages/devicebound.")


def command_of(received: Message) -> C2DMessage:
    """The cloud-to-device message of an AMQP message; raises HubError ArgumentInvalid."""
    properties = received.properties
    application = dict(received.application_properties)
    ack = application.pop(ACK_PROPERTY, None)
    return C2DMessage(
        payload=_payload(received),
        message_id=_text(properties.message_id),
        correlation_id=_text(properties.correlation_id),
        user_id=properties.user_id.decode("utf-8", "replace") if properties.user_id is not None else None,
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


def _decoded(payload: bytes) -> Message:
    try:
        received = Message(payload)
        _ = received.properties, received.application_properties, received.data
    except DecodeError as error:
        raise HubError(
            Code.ARGUMENT_INVALID,
            "The message cannot be decoded.",
            Refusal(Hop.CONTRACT, "contract.message", error.description[:200], "Send an AMQP 1.0 message."),
        ) from error
    return received


def _payload(received: Message) -> bytes:
    """The body: data sections joined, or the text of an amqp-value."""
    if received.body_section is Section.VALUE:
        (value,) = received.values
        return value if isinstance(value, bytes) else str(value).encode()
    return b"".join(received.data)


def _text(value: AmqpValue) -> str | None:
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
