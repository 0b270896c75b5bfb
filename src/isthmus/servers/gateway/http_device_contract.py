"""What a device's HTTPS requests mean to an IoT hub: headers and bodies as messages and back; pure.

Single messages and entries of a batch have the same names for their properties (IoT Hub REST reference, "Send device
event" and "Receive device bound notification"). Names are compared without case, because HTTP stacks change it; the
name of an application property stays as it came.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from isthmus.base.clock import iso_utc, parse_iso_ms
from isthmus.base.errors import NOT_JSON, Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import DEVICE_MESSAGES_PER_SECOND
from isthmus.commands.cloud_to_device import Ack, Locked
from isthmus.servers.gateway.property_bag import TIMES, PropertyBag, text_of
from isthmus.servers.gateway.telemetry_contract import check_size

BATCH_TYPE = "application/vnd.microsoft.iothub.json"
"""The media type that makes a body a batch; whatever else is said, the body is one message."""

BATCH_MESSAGES_MAX = DEVICE_MESSAGES_PER_SECOND
"""Messages of one batch: as many as a device may send in a second."""

PROPERTY_PREFIX = "iothub-app-"

SYSTEM_HEADERS: Mapping[str, str] = {
    "iothub-messageid": "message-id",
    "iothub-correlationid": "correlation-id",
    "iothub-userid": "user-id",
    "iothub-to": "to",
    "iothub-contenttype": "content-type",
    "iothub-contentencoding": "content-encoding",
    "iothub-expiry": "absolute-expiry-time",
    "iothub-creationtimeutc": "creation-time",
    "iothub-messageschema": "iothub-message-schema",
    "iothub-interface-id": "iothub-interface-id",
    "dt-subject": "dt-subject",
}
"""Names that a device sends and the canonical names they stand for."""

ACK_HEADER = "iothub-ack"
"""Means something from a service only; from a device it is a property like any other, as it is over MQTT."""

DEVICEBOUND_HEADERS: Mapping[str, str] = {
    "message-id": "iothub-messageid",
    "correlation-id": "iothub-correlationid",
    "user-id": "iothub-userid",
    "content-type": "ContentType",
    "content-encoding": "ContentEncoding",
}
"""Canonical names that a device is told; the last two without a prefix, as client libraries look for them."""

PROPERTY_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token (RFC 9110 §5.6.2), which is what "Create and read IoT Hub messages" allows over HTTPS."""

PROPERTY_VALUE = re.compile(r"[ -~]*")
"""What client libraries let pass: printable ASCII."""

UNSENDABLE = re.compile(r"[\x00-\x1f\x7f]")
"""What no header's value may hold (RFC 9110 §5.5)."""

DOTNET_TIME = "%m/%d/%Y %H:%M:%S"
"""How .NET writes a time when nobody says otherwise (`DateTime.ToString`, invariant culture)."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """A device-to-cloud message, within its size."""

    bag: PropertyBag
    payload: bytes


class _Entry(msgspec.Struct):
    """A message of a batch; whatever else is in it is passed over."""

    body: str
    base64_encoded: bool = msgspec.field(default=True, name="base64Encoded")
    properties: dict[str, Scalar] | None = None


_decode_batch = msgspec.json.Decoder(list[_Entry]).decode


def single_message(headers: Iterable[tuple[str, str]], body: bytes) -> DeviceMessage:
    """The message of a request.

    Raises `HubError` with the refusal `contract.message-header` or `limit.message-size`.
    """
    return _message(headers, body)


def batch_messages(body: bytes) -> list[DeviceMessage]:
    """The messages of a batch, all of them good.

    Raises `HubError` as `single_message`, or with the refusal `contract.batch` or `limit.batch`.
    """
    try:
        entries = _decode_batch(body)
    except NOT_JSON as error:
        said = str(error)
        raise HubError(Code.DESERIALIZATION_ERROR, "The body is not a batch of messages", _no_batch(said)) from error
    if not entries:
        raise HubError(Code.ARGUMENT_INVALID, "The batch is empty", _no_batch("[]"))
    if len(entries) > BATCH_MESSAGES_MAX:
        remedy = f"Send at most {BATCH_MESSAGES_MAX} messages in one batch."
        refusal = Refusal(Hop.LIMIT, "limit.batch", f"{len(entries)} messages", remedy)
        raise HubError(Code.MESSAGE_TOO_LARGE, "The batch has too many messages", refusal)
    return [_message((entry.properties or {}).items(), _payload(entry)) for entry in entries]


def devicebound_headers(ref: DeviceRef, message: Locked) -> dict[str, str] | None:
    """The headers of a cloud-to-device message; None when headers cannot carry a property of it."""
    headers = {
        "Content-Type": "application/octet-stream",
        "ETag": f'"{message.lock_token}"',
        "iothub-sequencenumber": str(message.sequence),
        "iothub-to": f"/devices/{ref.device_id}/messages/devicebound",
        "iothub-enqueuedtime": iso_utc(message.enqueued_ms),
        "iothub-expiry": iso_utc(message.expires_ms),
        "iothub-deliverycount": str(message.delivery_count),
        ACK_HEADER: message.ack or Ack.NONE,
    }
    system = message.system
    headers |= {header: text_of(system[name]) for name, header in DEVICEBOUND_HEADERS.items() if name in system}
    for name, value in message.properties.items():
        if not PROPERTY_NAME.fullmatch(name):
            return None
        headers[PROPERTY_PREFIX + name] = "" if value is None else text_of(value)
    return None if any(UNSENDABLE.search(value) for value in headers.values()) else headers


def _message(named: Iterable[tuple[str, Scalar]], payload: bytes) -> DeviceMessage:
    bag = PropertyBag()
    for name, value in named:
        _take(bag, name, value)
    check_size(bag.size + len(payload))
    return DeviceMessage(bag, payload)


def _take(bag: PropertyBag, name: str, value: Scalar) -> None:
    """Notes one header or property; what means nothing to a hub is passed over."""
    key = name.lower()
    system = SYSTEM_HEADERS.get(key)
    if key.startswith(PROPERTY_PREFIX) or key == ACK_HEADER:
        own = name[len(PROPERTY_PREFIX) :] if key != ACK_HEADER else ACK_HEADER
        if not PROPERTY_NAME.fullmatch(own):
            raise _bad_header(name, "Give the property a name of letters, digits and !#$%&'*+-.^_`|~ only.")
        bag.properties[own] = None if value is None else _text(name, value)
    elif system is not None and value is not None:
        text = _text(name, value)
        bag.system[system] = _time(name, text) if system in TIMES else text


def _text(name: str, value: Scalar) -> str:
    text = text_of(value)
    if not PROPERTY_VALUE.fullmatch(text):
        raise _bad_header(f"{name}: {text}", "Use printable ASCII, or send by MQTT, where values may be any text.")
    return text


def _time(name: str, text: str) -> int:
    moment = parse_iso_ms(text)
    if moment is not None:
        return moment
    try:
        return int(datetime.strptime(text, DOTNET_TIME).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError as error:
        remedy = "Write times as ISO 8601 in UTC, as in 2026-01-01T00:00:00Z."
        raise _bad_header(f"{name}: {text}", remedy) from error


def _payload(entry: _Entry) -> bytes:
    if not entry.base64_encoded:
        return entry.body.encode()
    try:
        return base64.b64decode(entry.body, validate=True)
    except (binascii.Error, ValueError) as error:
        refusal = _no_batch(f"body {entry.body[:64]}")
        raise HubError(Code.ARGUMENT_INVALID, "A body of the batch is not base64", refusal) from error


def _no_batch(value: str) -> Refusal:
    remedy = 'Send a JSON array of {"body": base64, "properties": {…}}, or say "base64Encoded": false for text.'
    return Refusal(Hop.CONTRACT, "contract.batch", value[:256], remedy)


def _bad_header(value: str, remedy: str) -> HubError:
    refusal = Refusal(Hop.CONTRACT, "contract.message-header", value[:256], remedy)
    return HubError(Code.ARGUMENT_INVALID, "A property of the message is not well formed", refusal)
