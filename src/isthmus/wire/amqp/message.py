"""Messages: sections found without being decoded, decoded when asked for, and encoded (AMQP 1.0 §3.2).

A message is stored and forwarded as encoded sections; `Message` only knows where they begin and end. Sections are taken
in any order, because one client in the field writes delivery-annotations last.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from isthmus.wire.amqp import encode as e
from isthmus.wire.amqp.decode import Decoder, decode, skip
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.fields import Fields, code_of
from isthmus.wire.amqp.values import AmqpValue, Described, Symbol

BATCH_FORMAT: Final = 0x80013700
"""message-format of a batch: each data section of the body is a whole encoded message (Event Hubs, Service Bus)."""

SECTIONS_MAX: Final = 8_192
"""Sections of one message, so messages of one batch."""


class Section(IntEnum):
    """Sections by the lowest byte of their descriptor."""

    HEADER = 0x70
    DELIVERY_ANNOTATIONS = 0x71
    MESSAGE_ANNOTATIONS = 0x72
    PROPERTIES = 0x73
    APPLICATION_PROPERTIES = 0x74
    DATA = 0x75
    SEQUENCE = 0x76
    VALUE = 0x77
    FOOTER = 0x78


_BODY: Final = frozenset((0x75, 0x76, 0x77))
_SECTIONS: Final = frozenset(map(int, Section))


@dataclass(frozen=True, slots=True)
class Header:
    """Delivery details (AMQP 1.0 §3.2.1); `ttl_ms` is None for no end."""

    durable: bool = False
    priority: int = 4
    ttl_ms: int | None = None
    first_acquirer: bool = False
    delivery_count: int = 0

    def encode(self) -> bytes:
        """The section, the delivery count explicit: readers take null for unknown."""
        return e.performative(
            Section.HEADER,
            e.boolean(self.durable),
            e.ubyte(self.priority),
            e.uint(self.ttl_ms),
            e.boolean(self.first_acquirer),
            e.uint(self.delivery_count),
        )


@dataclass(frozen=True, slots=True)
class Properties:
    """Immutable properties (AMQP 1.0 §3.2.4).

    Message and correlation ids keep their AMQP type (`ULong`, `uuid.UUID`, `bytes` or `str`), because who asked expects
    the answer to carry the same. Times are milliseconds since the epoch.
    """

    message_id: AmqpValue = None
    user_id: bytes | None = None
    to: str | None = None
    subject: str | None = None
    reply_to: str | None = None
    correlation_id: AmqpValue = None
    content_type: str | None = None
    content_encoding: str | None = None
    absolute_expiry_time: int | None = None
    creation_time: int | None = None
    group_id: str | None = None
    group_sequence: int | None = None
    reply_to_group_id: str | None = None

    def encode(self) -> bytes:
        """The section, with all thirteen fields."""
        return e.performative(
            Section.PROPERTIES,
            e.encode(self.message_id),
            e.binary(self.user_id),
            e.string(self.to),
            e.string(self.subject),
            e.string(self.reply_to),
            e.encode(self.correlation_id),
            _name(self.content_type),
            _name(self.content_encoding),
            e.timestamp(self.absolute_expiry_time),
            e.timestamp(self.creation_time),
            e.string(self.group_id),
            e.uint(self.group_sequence),
            e.string(self.reply_to_group_id),
        )


class Message:
    """An encoded message; raises `DecodeError` when it is none, or when a section asked for is not as it should be."""

    __slots__ = ("_body", "_payload", "_sections")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._sections: dict[int, tuple[int, int]] = {}
        self._body: list[tuple[int, int, int]] = []
        position, end = 0, len(payload)
        while position < end:
            code, start = _descriptor(payload, position, end)
            after = skip(payload, start, end)
            self._note(code, start, after)
            position = after

    @property
    def header(self) -> Header | None:
        """The header, None when there is none."""
        values = self._list(Section.HEADER)
        if values is None:
            return None
        fields = Fields(values)
        durable, priority, ttl = fields.boolean(), fields.ubyte(), fields.uint()
        return Header(durable, 4 if priority is None else priority, ttl, fields.boolean(), fields.uint() or 0)

    @property
    def delivery_annotations(self) -> dict[Symbol, AmqpValue]:
        """Annotations for the next hop, empty when there are none."""
        return self._map(Section.DELIVERY_ANNOTATIONS)

    @property
    def annotations(self) -> dict[Symbol, AmqpValue]:
        """Message annotations, empty when there are none."""
        return self._map(Section.MESSAGE_ANNOTATIONS)

    @property
    def properties(self) -> Properties:
        """The properties, all None when there are none."""
        values = self._list(Section.PROPERTIES)
        return Properties() if values is None else _properties(Fields(values))

    @property
    def application_properties(self) -> dict[str, AmqpValue]:
        """Application properties, empty when there are none."""
        return {str(key): value for key, value in self._pairs(Section.APPLICATION_PROPERTIES).items()}

    @property
    def footer(self) -> dict[Symbol, AmqpValue]:
        """The footer, empty when there is none."""
        return self._map(Section.FOOTER)

    @property
    def body_section(self) -> Section | None:
        """Which kind of body it is; None for a message without."""
        return Section(self._body[0][0]) if self._body else None

    @property
    def data(self) -> list[bytes]:
        """The data sections of the body, those of a batch being messages; empty for another kind of body."""
        return [_binary(self._payload, start, end) for code, start, end in self._body if code == Section.DATA]

    @property
    def values(self) -> list[AmqpValue]:
        """The decoded sections of a body that is no data: one amqp-value, or amqp-sequences."""
        return [decode(self._payload[start:end]) for code, start, end in self._body if code != Section.DATA]

    def encoded(self, *sections: Section) -> bytes:
        """The given sections as they came, one after the other in the order given; those not there are left out."""
        parts = []
        for section in sections:
            if section in self._sections:
                start, end = self._sections[section]
                parts.append(e.described(section, self._payload[start:end]))
            parts.extend(
                e.described(section, self._payload[start:end]) for code, start, end in self._body if code == section
            )
        return b"".join(parts)

    def _note(self, code: int, start: int, end: int) -> None:
        if code in _BODY:
            if self._body and (self._body[0][0] != code or code == Section.VALUE):
                raise DecodeError("a body of several kinds")
            self._body.append((code, start, end))
            if len(self._body) > SECTIONS_MAX:
                raise DecodeError("too many sections")
        elif code in self._sections or code not in _SECTIONS:
            raise DecodeError(f"section {code:#04x} is unknown or comes twice")
        else:
            self._sections[code] = (start, end)

    def _section(self, section: Section) -> AmqpValue:
        bounds = self._sections.get(section)
        return None if bounds is None else decode(self._payload[bounds[0] : bounds[1]])

    def _list(self, section: Section) -> list[AmqpValue] | None:
        value = self._section(section)
        if value is None or isinstance(value, list):
            return value
        raise DecodeError(f"section {section.name} is not a list")

    def _map(self, section: Section) -> dict[Symbol, AmqpValue]:
        return {Symbol(key): value for key, value in self._pairs(section).items()}

    def _pairs(self, section: Section) -> dict[AmqpValue, AmqpValue]:
        value = self._section(section)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise DecodeError(f"section {section.name} is not a map of names")
        return value


def annotations(section: Section, values: Mapping[Symbol, AmqpValue]) -> bytes:
    """An annotations or footer section with symbol keys; nothing when there are none."""
    return e.described(section, e.fields(values)) if values else b""


def application_properties(values: Mapping[str, AmqpValue]) -> bytes:
    """The application-properties section; nothing when there are none."""
    if not values:
        return b""
    pairs = ((e.string(key), e.encode(value)) for key, value in values.items())
    return e.described(Section.APPLICATION_PROPERTIES, e.map_of(pairs))


def data(payload: bytes) -> bytes:
    """A data section."""
    return data_head(len(payload)) + payload


def data_head(size: int) -> bytes:
    """What comes before a payload of `size` bytes to make it a data section, so that it need not be copied."""
    return e.described(Section.DATA, e.binary_head(size))


def value(body: AmqpValue) -> bytes:
    """An amqp-value section."""
    return e.described(Section.VALUE, e.encode(body))


def batch(messages: Iterable[bytes]) -> bytes:
    """The body of a batch of encoded messages, to be sent with `BATCH_FORMAT`."""
    return b"".join(map(data, messages))


def _name(text: str | None) -> bytes:
    """A symbol; a string where a device's text is not ASCII, which a symbol cannot say."""
    return e.symbol(text) if text is None or text.isascii() else e.string(text)


def _descriptor(payload: bytes, position: int, end: int) -> tuple[int, int]:
    """Code of the section at `position` and where its value begins."""
    if payload[position : position + 2] == b"\x00\x53" and position + 2 < end:
        return payload[position + 2], position + 3
    if payload[position] != 0:
        raise DecodeError("a section is a described value")
    decoder = Decoder(payload, position + 1, end)
    descriptor = decoder.value()
    if isinstance(descriptor, Described):
        raise DecodeError("a descriptor that is described")
    return code_of(descriptor), decoder.position


def _binary(payload: bytes, start: int, end: int) -> bytes:
    code = payload[start]
    if code == 0xA0:
        return payload[start + 2 : end]
    if code == 0xB0:
        return payload[start + 5 : end]
    raise DecodeError("a data section is binary")


def _properties(fields: Fields) -> Properties:
    return Properties(
        fields.any(),
        fields.binary(),
        fields.string(),
        fields.string(),
        fields.string(),
        fields.any(),
        fields.string(),
        fields.string(),
        fields.timestamp(),
        fields.timestamp(),
        fields.string(),
        fields.uint(),
        fields.string(),
    )
