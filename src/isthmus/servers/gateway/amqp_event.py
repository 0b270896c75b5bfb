"""Log records as AMQP messages, the way readers of the built-in endpoint expect them.

An event is encoded once per envelope: what does not change from record to record of a device (its annotations, its
properties) is kept encoded, so that a delivery costs one struct and one join. Sections follow in the order message
annotations, properties, application properties, data; the typing of each field is that of the IoT Hub developer guide,
"Create and read IoT Hub messages", and of the Event Hubs AMQP protocol guide.
"""

import struct
from dataclasses import dataclass
from typing import Final

from isthmus.telemetry.message import Envelope, PropertyValue, decode_envelope
from isthmus.telemetry.ports import PartitionInfo, Record
from isthmus.wire.amqp import encode
from isthmus.wire.amqp.values import Long, Symbol, Timestamp

ENVELOPES_KEPT_MAX: Final = 4_096
"""Encoded envelopes kept, the oldest dropped first: one per device and property bag in the usual case."""

_MAP_HEAD: Final = struct.Struct(">4sII")
_MAP_CODE: Final = b"\x00\x53\x72\xd1"
_SEQUENCE: Final = encode.symbol("x-opt-sequence-number") + b"\x81"
_ENQUEUED: Final = encode.symbol("x-opt-enqueued-time") + b"\x83"
_INGRESS: Final = encode.symbol("iothub-enqueuedtime") + b"\x83"
_OFFSET: Final = encode.symbol("x-opt-offset")
_NUMBER: Final = struct.Struct(">q")
_DYNAMIC_ENTRIES: Final = 8
"""Keys and values of the four annotations that differ from record to record."""

_ANNOTATION_FIELDS: Final = (
    ("iothub-connection-device-id", "device_id"),
    ("iothub-connection-module-id", "module_id"),
    ("iothub-connection-auth-method", "auth_method"),
    ("iothub-connection-auth-generation-id", "generation_id"),
    ("dt-dataschema", "model_id"),
)
_SYSTEM_ANNOTATIONS: Final = ("dt-subject", "iothub-interface-id", "iothub-message-schema", "Diagnostic-Id")


@dataclass(frozen=True, slots=True)
class _Parts:
    """The constant parts of an envelope: annotation entries and their count, then the sections before the data."""

    entries: bytes
    count: int
    sections: bytes


class EventEncoder:
    """Encodes records; one per event loop, its memory bounded by `ENVELOPES_KEPT_MAX`."""

    def __init__(self) -> None:
        self._kept: dict[bytes, _Parts] = {}

    def encode(self, record: Record, last: PartitionInfo | None = None, now_ms: int = 0) -> bytes:
        """The message of a record; with `last` it carries the receiver runtime metric as delivery annotations."""
        parts = self._kept.get(record.envelope) or self._keep(record.envelope)
        offset = encode.string(str(record.offset))
        entries = b"".join(
            (
                _SEQUENCE,
                _NUMBER.pack(record.sequence),
                _OFFSET,
                offset,
                _ENQUEUED,
                _NUMBER.pack(record.enqueued_ms),
                _INGRESS,
                _NUMBER.pack(record.ingress_ms),
                parts.entries,
            )
        )
        message = b"".join(
            (
                _MAP_HEAD.pack(_MAP_CODE, len(entries) + 4, parts.count),
                entries,
                parts.sections,
                _data(record.payload),
            )
        )
        return message if last is None else runtime_metric(last, now_ms) + message

    def _keep(self, envelope: bytes) -> _Parts:
        if len(self._kept) >= ENVELOPES_KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        parts = self._kept[envelope] = _constant_parts(decode_envelope(envelope))
        return parts


def _constant_parts(envelope: Envelope) -> _Parts:
    annotations: dict[str, str] = {"iothub-message-source": envelope.source.value}
    for key, field in _ANNOTATION_FIELDS:
        if value := getattr(envelope, field):
            annotations[key] = value
    for key in (*_SYSTEM_ANNOTATIONS, "Correlation-Context"):
        if (value := envelope.system.get(key)) is not None:
            annotations[key] = str(value)
    entries = b"".join(encode.symbol(key) + encode.string(value) for key, value in annotations.items())
    sections = _properties(envelope.system) + _application_properties({**envelope.properties, **envelope.enrichments})
    return _Parts(entries, _DYNAMIC_ENTRIES + 2 * len(annotations), sections)


def _properties(system: dict[str, PropertyValue]) -> bytes:
    """The properties section; nothing when no field is set, as readers then see no section at all."""
    user_id = _text(system, "user-id")
    fields = (
        encode.string(_text(system, "message-id")),
        encode.binary(None if user_id is None else user_id.encode()),
        encode.string(_text(system, "to")),
        encode.NULL,
        encode.NULL,
        encode.string(_text(system, "correlation-id")),
        _symbol_or_string(_text(system, "content-type")),
        _symbol_or_string(_text(system, "content-encoding")),
        encode.timestamp(_milliseconds(system, "absolute-expiry-time")),
        encode.timestamp(_milliseconds(system, "creation-time")),
        encode.NULL,
        encode.NULL,
        encode.NULL,
    )
    if all(field == encode.NULL for field in fields):
        return b""
    return encode.performative(0x73, *fields)


def _application_properties(properties: dict[str, PropertyValue]) -> bytes:
    if not properties:
        return b""
    pairs = ((encode.string(key), _value(value)) for key, value in properties.items())
    return encode.described(0x74, encode.map_of(pairs))


def _value(value: PropertyValue) -> bytes:
    """An application property; whole numbers without a type of their own travel as long."""
    return encode.encode(Long(value) if type(value) is int else value)


def _data(payload: bytes) -> bytes:
    return encode.described(0x75, encode.binary(payload))


def runtime_metric(last: PartitionInfo, now_ms: int) -> bytes:
    """Delivery annotations of a reader that tracks the last enqueued event (Event Hubs, receiver runtime metric)."""
    annotations = encode.fields(
        {
            Symbol("last_enqueued_sequence_number"): Long(last.last_sequence),
            Symbol("last_enqueued_offset"): str(last.last_offset),
            Symbol("last_enqueued_time_utc"): Timestamp(last.last_enqueued_ms),
            Symbol("runtime_info_retrieval_time_utc"): Timestamp(now_ms),
        }
    )
    return encode.described(0x71, annotations)


def _text(system: dict[str, PropertyValue], key: str) -> str | None:
    value = system.get(key)
    return None if value is None else str(value)


def _milliseconds(system: dict[str, PropertyValue], key: str) -> int | None:
    value = system.get(key)
    return int(value) if isinstance(value, int) else None


def _symbol_or_string(value: str | None) -> bytes:
    """Content type and encoding are symbols; what is not ASCII is sent as a string and not lost."""
    return encode.symbol(value) if value is None or value.isascii() else encode.string(value)
