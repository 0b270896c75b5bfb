"""What a telemetry record says, free of any protocol: the envelope around a payload."""

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec


class MessageSource(StrEnum):
    """Kind of record, in the words readers see as `iothub-message-source`."""

    TELEMETRY = "Telemetry"
    TWIN_CHANGES = "twinChangeEvents"
    DEVICE_LIFECYCLE = "deviceLifecycleEvents"
    DEVICE_CONNECTION_STATE = "deviceConnectionStateEvents"
    DEVICE_JOB_LIFECYCLE = "deviceJobLifecycleEvents"


PropertyValue = str | int | float | bool | bytes | None
"""Application properties; MQTT and HTTP send strings only, AMQP any primitive."""

if TYPE_CHECKING:
    Properties = dict[str, PropertyValue]
else:
    Properties = dict[str, object]  # msgspec refuses a union of str and bytes, though MessagePack tells them apart


Stamped = dict[int, dict[str, str]]
"""Properties for endpoints, by their numbers; the built-in endpoint is one of them."""

_BUILT_IN = 1
_NOT_ENRICHED = b"\x80\x80"
"""Two empty maps of MessagePack: how the encoding of an envelope ends that nothing enriches."""


class Envelope(msgspec.Struct, frozen=True, array_like=True, omit_defaults=False):
    """Everything stored beside a payload.

    Append fields at the end only, with defaults: old records are read for ever.

    `system` holds the sender's system properties under the canonical names `message-id`, `correlation-id`, `user-id`,
    `to`, `content-type`, `content-encoding`, `absolute-expiry-time`, `creation-time` (both ms since the epoch),
    `dt-subject`, `iothub-interface-id`, `iothub-message-schema`, `Diagnostic-Id`, `Correlation-Context`.
    `auth_method` is the JSON text of `iothub-connection-auth-method`. `enrichments` are properties that readers of the
    built-in endpoint see besides, `stamped` those for other endpoints, by their numbers. Both are last, so that a
    message can be enriched without encoding its envelope once more (`enriched`).
    """

    device_id: str
    module_id: str = ""
    source: MessageSource = MessageSource.TELEMETRY
    auth_method: str = ""
    generation_id: str = ""
    door: str = ""
    principal: str = ""
    model_id: str = ""
    system: Properties = {}
    properties: Properties = {}
    enrichments: dict[str, str] = {}
    stamped: Stamped = {}


class StateEvent(msgspec.Struct, frozen=True, array_like=True):
    """The body of an outbox row: what happened to a device or module, before it becomes a record.

    `op_type` and `schema` are the words readers see as `opType` and `iothub-message-schema`; `operation_ms` is the
    time of the change; `body` is the event's JSON (IoT Hub developer guide, "Non-telemetry event schemas"). Append
    fields at the end only, with defaults: rows written by an older version are read.
    """

    device_id: str
    module_id: str
    source: MessageSource
    op_type: str
    operation_ms: int
    body: bytes
    schema: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode
_decode_state_event = msgspec.msgpack.Decoder(StateEvent).decode


def encode_envelope(envelope: Envelope) -> bytes:
    """The stored form; equal envelopes of one connection may share one encoding."""
    return _encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """The envelope of a stored record; raises `msgspec.DecodeError` on damage."""
    return _decode(data)


def encode_stamped(stamped: Stamped) -> bytes:
    """The end of an envelope's stored form that says by what the message is enriched."""
    others = {number: names for number, names in stamped.items() if number != _BUILT_IN}
    return _encode(stamped.get(_BUILT_IN, {})) + _encode(others)


def enriched(encoded: bytes, stamped: bytes) -> bytes:
    """The stored form of an envelope that nothing enriches yet, with the end that `encode_stamped` made."""
    assert encoded.endswith(_NOT_ENRICHED), "the envelope is enriched already"
    return encoded[: -len(_NOT_ENRICHED)] + stamped


def encode_state_event(event: StateEvent) -> bytes:
    """The stored form of an outbox row's body."""
    return _encode(event)


def decode_state_event(data: bytes) -> StateEvent:
    """The event of an outbox row's body; raises `msgspec.DecodeError` on damage."""
    return _decode_state_event(data)
