"""Events of hosted event hubs: from what a sender sent to a log record, and from the record to what a reader gets.

Pure. Everything a sender said comes back in the type in which he said it: the record's payload is his sections from the
properties on, byte for byte, and its envelope has the header and the annotations. Annotations that only a hub may give,
and those of idempotent producers, are taken out on the way in; the hub's own are put in on the way out (Event Hubs AMQP
protocol guide, "Message annotations"; Event Hubs message format 0x80013700).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from isthmus.servers.gateway.amqp_event import runtime_metric
from isthmus.servers.gateway.amqp_links import undecodable
from isthmus.telemetry.ports import PartitionInfo, Record
from isthmus.wire.amqp import encode
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.message import BATCH_FORMAT, Message, Section
from isthmus.wire.amqp.values import AmqpValue, Symbol

PARTITION_KEY: Final = Symbol("x-opt-partition-key")
PUBLISHER: Final = Symbol("x-opt-publisher")

_GIVEN_BY_THE_HUB: Final = frozenset(
    {"x-opt-sequence-number", "x-opt-offset", "x-opt-enqueued-time", "x-opt-sequence-number-epoch", PUBLISHER}
)
_IDEMPOTENT: Final = "com.microsoft:producer-"
_KEPT_SECTIONS: Final = (
    *(Section.PROPERTIES, Section.APPLICATION_PROPERTIES),
    *(Section.DATA, Section.SEQUENCE, Section.VALUE, Section.FOOTER),
)

_MAP_HEAD: Final = struct.Struct(">4sII")
_MAP_CODE: Final = b"\x00\x53\x72\xd1"
_NUMBER: Final = struct.Struct(">q")
_SEQUENCE: Final = encode.symbol("x-opt-sequence-number") + b"\x81"
_ENQUEUED: Final = encode.symbol("x-opt-enqueued-time") + b"\x83"
_OFFSET: Final = encode.symbol("x-opt-offset")
_OWN_ITEMS: Final = 6
"""Keys and values of the three annotations that every event gets."""


class EventEnvelope(msgspec.Struct, frozen=True, array_like=True):
    """What is stored beside an event's payload.

    `header` is the encoded section, empty for none; `annotations` are the encoded keys and values of what the sender
    annotated, `items` of them. Append fields at the end only, with defaults: old records are read for ever.
    """

    header: bytes = b""
    annotations: bytes = b""
    items: int = 0
    door: str = ""
    principal: str = ""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends over a link, and by which door; `publisher` is the name in the address, empty for none."""

    principal: str
    door: str
    publisher: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """The events of one transfer as they are stored, envelope and payload each, and the key that places them.

    `partition_key` is None where the sender gave none, or none that is a text.
    """

    events: tuple[tuple[bytes, bytes], ...]
    partition_key: str | None


_encode_envelope = msgspec.msgpack.Encoder().encode
_decode_envelope = msgspec.msgpack.Decoder(EventEnvelope).decode


def take(payload: bytes, message_format: int, sender: Sender) -> Sent:
    """The events of a transfer, one or a batch; raises HubError ARGUMENT_INVALID for what is no message."""
    try:
        outer = Message(payload)
        outer_annotations = outer.annotations
        if message_format != BATCH_FORMAT:
            return _sent([(outer, outer_annotations)], outer_annotations, sender)
        if outer.body_section is not Section.DATA:
            raise DecodeError("a batch is made of data sections, a message in each")
        inner = [Message(each) for each in outer.data]
        return _sent([(each, each.annotations) for each in inner], outer_annotations, sender)
    except DecodeError as error:
        raise undecodable(error) from error


def _sent(
    messages: list[tuple[Message, dict[Symbol, AmqpValue]]], outer: Mapping[Symbol, AmqpValue], sender: Sender
) -> Sent:
    """A key stands at the batch, or at its first event, and then holds for all."""
    key = _key_of(outer) or (_key_of(messages[0][1]) if messages else None)
    return Sent(tuple(_stored(message, annotations, key, sender) for message, annotations in messages), key)


def _key_of(annotations: Mapping[Symbol, AmqpValue]) -> str | None:
    key = annotations.get(PARTITION_KEY)
    return str(key) if isinstance(key, str) else None


def _stored(
    message: Message, annotations: dict[Symbol, AmqpValue], key: str | None, sender: Sender
) -> tuple[bytes, bytes]:
    kept = {name: value for name, value in annotations.items() if not _is_the_hubs(name)}
    if key is not None:
        kept.setdefault(PARTITION_KEY, key)
    if sender.publisher:
        kept[PUBLISHER] = sender.publisher
    if not all(map(str.isascii, kept)):
        raise DecodeError("the name of an annotation is a symbol")
    entries = b"".join(encode.symbol(name) + encode.encode(value) for name, value in kept.items())
    envelope = EventEnvelope(message.encoded(Section.HEADER), entries, 2 * len(kept), sender.door, sender.principal)
    return _encode_envelope(envelope), message.encoded(*_KEPT_SECTIONS)


def _is_the_hubs(name: str) -> bool:
    return name in _GIVEN_BY_THE_HUB or name.startswith(_IDEMPOTENT)


class HostedEventEncoder:
    """Makes the message of a record that `take` has made."""

    def encode(self, record: Record, last: PartitionInfo | None = None, now_ms: int = 0) -> bytes:
        """The message of a record; with `last` it carries the receiver runtime metric as delivery annotations."""
        envelope = _decode_envelope(record.envelope)
        entries = b"".join(
            (
                _SEQUENCE,
                _NUMBER.pack(record.sequence),
                _OFFSET,
                encode.string(str(record.offset)),
                _ENQUEUED,
                _NUMBER.pack(record.enqueued_ms),
                envelope.annotations,
            )
        )
        return b"".join(
            (
                envelope.header,
                b"" if last is None else runtime_metric(last, now_ms),
                _MAP_HEAD.pack(_MAP_CODE, len(entries) + 4, _OWN_ITEMS + envelope.items),
                entries,
                record.payload,
            )
        )
