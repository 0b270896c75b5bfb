"""What a telemetry record says, free of any protocol: the envelope around a payload."""

from enum import StrEnum

import msgspec


class MessageSource(StrEnum):
    """Kind of record, in the words readers see as `iothub-message-source`."""

    TELEMETRY = "Telemetry"
    TWIN_CHANGES = "twinChangeEvents"
    DEVICE_LIFECYCLE = "deviceLifecycleEvents"
    DEVICE_CONNECTION_STATE = "deviceConnectionStateEvents"


PropertyValue = str | int | float | bool | bytes | None
"""Application properties; MQTT and HTTP send strings only, AMQP any primitive."""


class Envelope(msgspec.Struct, frozen=True, array_like=True, omit_defaults=False):
    """Everything stored beside a payload.

    Append fields at the end only, with defaults: old records are read for ever.

    `system` holds the sender's system properties under the canonical names `message-id`, `correlation-id`, `user-id`,
    `to`, `content-type`, `content-encoding`, `absolute-expiry-time`, `creation-time` (both ms since the epoch),
    `dt-subject`, `iothub-interface-id`, `iothub-message-schema`, `Diagnostic-Id`, `Correlation-Context`.
    `auth_method` is the JSON text of `iothub-connection-auth-method`.
    """

    device_id: str
    module_id: str = ""
    source: MessageSource = MessageSource.TELEMETRY
    auth_method: str = ""
    generation_id: str = ""
    door: str = ""
    principal: str = ""
    model_id: str = ""
    system: dict[str, PropertyValue] = {}
    properties: dict[str, PropertyValue] = {}
    enrichments: dict[str, str] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode


def encode_envelope(envelope: Envelope) -> bytes:
    """The stored form; equal envelopes of one connection may share one encoding."""
    return _encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """The envelope of a stored record; raises `msgspec.DecodeError` on damage."""
    return _decode(data)
