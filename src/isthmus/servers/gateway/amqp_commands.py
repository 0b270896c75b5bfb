"""Cloud-to-device messages that services send over AMQP.

Addresses and properties are those of the IoT Hub developer guide, "Send cloud-to-device messages".
"""

import uuid
from typing import Final

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.commands.cloud_to_device import C2DMessage, CloudToDevice, parse_ack
from isthmus.resources.hub import Hub
from isthmus.resources.throttling import Operation
from isthmus.servers.gateway.amqp_contract import path_segments
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump, top_up, undecodable
from isthmus.servers.gateway.throttles import Throttles
from isthmus.telemetry.message import PropertyValue
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.events import Transfer
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Message
from isthmus.wire.amqp.states import ACCEPTED_STATE, Rejected
from isthmus.wire.amqp.values import AmqpValue

ACK_PROPERTY: Final = "iothub-ack"


class CommandReceiver(LinkHandler):
    """Takes cloud-to-device messages and accepts each once it is durable in its device's queue.

    Messages are stored side by side, so that they share commits, and in the order in which they came.
    """

    def __init__(self, link: Link, pump: Pump, commands: CloudToDevice, hub: Hub, throttles: Throttles) -> None:
        self._link = link
        self._pump = pump
        self._commands = commands
        self._hub = hub
        self._throttles = throttles
        link.accept(properties=link.properties)

    def transfer(self, transfer: Transfer) -> None:
        top_up(self._link)
        self._pump.spawn(self._send(transfer))

    async def _send(self, transfer: Transfer) -> None:
        device = ""
        try:
            to, command = decode_command(transfer.payload)
            device = target_device(to)
            self._throttles.require_day(self._hub)
            self._throttles.require(self._hub, Operation.COMMANDS)
            self._throttles.count_day(self._hub, len(transfer.payload))
            await self._commands.send(self._hub, device, command)
        except HubError as error:
            self._link.settle(transfer.delivery_id, Rejected(self._pump.refused(error, device)))
        else:
            self._link.settle(transfer.delivery_id, ACCEPTED_STATE)
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
