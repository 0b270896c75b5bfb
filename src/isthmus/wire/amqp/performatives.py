"""What peers say to each other in frames, both ways (AMQP 1.0 §2.7, §5.3.3), transfers excepted (see `transfer.py`).

Encoding writes every field of every performative, nulls included, in a list with a size (never the empty-list form)
under a smallulong descriptor: peers in the field index into the fields by position and skip the first three bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from isthmus.wire.amqp import encode as e
from isthmus.wire.amqp.decode import Decoder
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.fields import Fields, code_of
from isthmus.wire.amqp.states import (
    DeliveryState,
    Error,
    Terminus,
    decode_error,
    decode_source,
    decode_state,
    decode_target,
    encode_state,
    encode_terminus,
)
from isthmus.wire.amqp.values import AmqpValue, Described, Symbol

Properties: TypeAlias = Mapping[Symbol, AmqpValue]


class SenderSettleMode(IntEnum):
    """How a sender settles (AMQP 1.0 §2.8.2)."""

    UNSETTLED = 0
    SETTLED = 1
    MIXED = 2


class ReceiverSettleMode(IntEnum):
    """Whether a receiver settles at once or after the sender did (AMQP 1.0 §2.8.3)."""

    FIRST = 0
    SECOND = 1


class SaslCode(IntEnum):
    """How the authentication went (AMQP 1.0 §5.3.3.6)."""

    OK = 0
    AUTH = 1
    SYS = 2
    SYS_PERM = 3
    SYS_TEMP = 4


@dataclass(frozen=True, slots=True)
class Open:
    """Announces a connection's limits; `idle_timeout_ms` is 0 for none."""

    container_id: str
    hostname: str | None = None
    max_frame_size: int = 4_294_967_295
    channel_max: int = 65_535
    idle_timeout_ms: int = 0
    properties: Properties | None = None
    outgoing_locales: tuple[str, ...] = ()
    incoming_locales: tuple[str, ...] = ()
    offered_capabilities: tuple[str, ...] = ()
    desired_capabilities: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return e.performative(
            0x10,
            e.string(self.container_id),
            e.string(self.hostname),
            e.uint(self.max_frame_size),
            e.ushort(self.channel_max),
            e.uint(self.idle_timeout_ms or None),
            e.symbols(self.outgoing_locales or None),
            e.symbols(self.incoming_locales or None),
            e.symbols(self.offered_capabilities or None),
            e.symbols(self.desired_capabilities or None),
            e.fields(self.properties),
        )


@dataclass(frozen=True, slots=True)
class Begin:
    """Begins a session; `remote_channel` is None for the one who begins."""

    remote_channel: int | None
    next_outgoing_id: int
    incoming_window: int
    outgoing_window: int
    handle_max: int = 4_294_967_295

    def encode(self) -> bytes:
        return e.performative(
            0x11,
            e.ushort(self.remote_channel),
            e.uint(self.next_outgoing_id),
            e.uint(self.incoming_window),
            e.uint(self.outgoing_window),
            e.uint(self.handle_max),
            e.NULL,
            e.NULL,
            e.NULL,
        )


@dataclass(frozen=True, slots=True)
class Attach:
    """Attaches a link; `receiver` is the role of the one who says it."""

    name: str
    handle: int
    receiver: bool
    sender_settle_mode: SenderSettleMode | None = None
    receiver_settle_mode: ReceiverSettleMode | None = None
    source: Terminus = None
    target: Terminus = None
    initial_delivery_count: int | None = None
    max_message_size: int | None = None
    offered_capabilities: tuple[str, ...] = ()
    desired_capabilities: tuple[str, ...] = ()
    properties: Properties | None = None

    def encode(self) -> bytes:
        return e.performative(
            0x12,
            e.string(self.name),
            e.uint(self.handle),
            e.boolean(self.receiver),
            e.ubyte(self.sender_settle_mode),
            e.ubyte(self.receiver_settle_mode),
            encode_terminus(self.source),
            encode_terminus(self.target),
            e.NULL,
            e.FALSE,
            e.uint(self.initial_delivery_count),
            e.ulong(self.max_message_size),
            e.symbols(self.offered_capabilities or None),
            e.symbols(self.desired_capabilities or None),
            e.fields(self.properties),
        )


@dataclass(frozen=True, slots=True)
class Flow:
    """Announces windows, and a link's credit where `handle` is given."""

    next_incoming_id: int | None
    incoming_window: int
    next_outgoing_id: int
    outgoing_window: int
    handle: int | None = None
    delivery_count: int | None = None
    link_credit: int | None = None
    available: int | None = None
    drain: bool = False
    echo: bool = False

    def encode(self) -> bytes:
        return e.performative(
            0x13,
            e.uint(self.next_incoming_id),
            e.uint(self.incoming_window),
            e.uint(self.next_outgoing_id),
            e.uint(self.outgoing_window),
            e.uint(self.handle),
            e.uint(self.delivery_count),
            e.uint(self.link_credit),
            e.uint(self.available),
            e.boolean(self.drain),
            e.boolean(self.echo),
            e.NULL,
        )


@dataclass(frozen=True, slots=True)
class Disposition:
    """Tells the state of deliveries `first` to `last`; `receiver` is the role of the one who says it."""

    receiver: bool
    first: int
    last: int
    settled: bool
    state: DeliveryState

    def encode(self) -> bytes:
        return e.performative(
            0x15,
            e.boolean(self.receiver),
            e.uint(self.first),
            e.uint(self.last),
            e.boolean(self.settled),
            encode_state(self.state),
            e.FALSE,
        )


@dataclass(frozen=True, slots=True)
class Detach:
    """Detaches a link, for good when `closed`."""

    handle: int
    closed: bool
    error: Error | None = None

    def encode(self) -> bytes:
        return e.performative(0x16, e.uint(self.handle), e.boolean(self.closed), _error(self.error))


@dataclass(frozen=True, slots=True)
class End:
    """Ends a session."""

    error: Error | None = None

    def encode(self) -> bytes:
        return e.performative(0x17, _error(self.error))


@dataclass(frozen=True, slots=True)
class Close:
    """Closes a connection."""

    error: Error | None = None

    def encode(self) -> bytes:
        return e.performative(0x18, _error(self.error))


@dataclass(frozen=True, slots=True)
class SaslMechanisms:
    """Offers mechanisms, as an array also when there is one."""

    mechanisms: tuple[str, ...]

    def encode(self) -> bytes:
        return e.performative(0x40, e.symbols(self.mechanisms))


@dataclass(frozen=True, slots=True)
class SaslChoice:
    """Chooses a mechanism (sasl-init)."""

    mechanism: str
    initial_response: bytes | None = field(default=None, repr=False)
    hostname: str | None = None

    def encode(self) -> bytes:
        return e.performative(0x41, e.symbol(self.mechanism), e.binary(self.initial_response), e.string(self.hostname))


@dataclass(frozen=True, slots=True)
class SaslOutcome:
    """Tells how it went."""

    code: SaslCode

    def encode(self) -> bytes:
        return e.performative(0x44, e.ubyte(self.code), e.NULL)


Performative: TypeAlias = Open | Begin | Attach | Flow | Disposition | Detach | End | Close
SaslPerformative: TypeAlias = SaslMechanisms | SaslChoice | SaslOutcome


def decode_performative(data: bytes, position: int, end: int) -> Performative:
    """The performative of an AMQP frame's body that is no transfer; raises `DecodeError`."""
    code, fields = _described_list(data, position, end)
    reader = _READERS.get(code)
    if reader is None:
        raise DecodeError(f"no performative {code:#04x}")
    return reader(fields)


def decode_sasl(data: bytes, position: int, end: int) -> SaslPerformative:
    """The performative of a SASL frame's body; raises `DecodeError`."""
    code, fields = _described_list(data, position, end)
    reader = _SASL_READERS.get(code)
    if reader is None:
        raise DecodeError(f"no SASL performative {code:#04x}")
    return reader(fields)


def _described_list(data: bytes, position: int, end: int) -> tuple[int, Fields]:
    decoder = Decoder(data, position, end)
    value = decoder.value()
    if not isinstance(value, Described) or decoder.position != end:
        raise DecodeError("a frame's body is one described list")
    return code_of(value.descriptor), Fields.of(value)


def _error(error: Error | None) -> bytes:
    return e.NULL if error is None else error.encode()


def _open(fields: Fields) -> Open:
    container_id, hostname = fields.need_string(), fields.string()
    max_frame_size, channel_max, idle = fields.uint(), fields.ushort(), fields.uint()
    locales = fields.symbols(), fields.symbols()
    capabilities = fields.symbols(), fields.symbols()
    return Open(
        container_id,
        hostname,
        4_294_967_295 if max_frame_size is None else max_frame_size,
        65_535 if channel_max is None else channel_max,
        idle or 0,
        fields.fields(),
        *locales,
        *capabilities,
    )


def _begin(fields: Fields) -> Begin:
    remote_channel = fields.ushort()
    windows = fields.need_uint(), fields.need_uint(), fields.need_uint()
    handle_max = fields.uint()
    return Begin(remote_channel, *windows, 4_294_967_295 if handle_max is None else handle_max)


def _attach(fields: Fields) -> Attach:
    name, handle, receiver = fields.need_string(), fields.need_uint(), fields.need_boolean()
    modes = _sender_mode(fields.ubyte()), _receiver_mode(fields.ubyte())
    source, target = decode_source(fields.any()), decode_target(fields.any())
    fields.any()  # unsettled and incomplete-unsettled speak of resumption, which is not offered.
    fields.any()
    counts = fields.uint(), fields.ulong()
    return Attach(
        name, handle, receiver, *modes, source, target, *counts, fields.symbols(), fields.symbols(), fields.fields()
    )


def _sender_mode(value: int | None) -> SenderSettleMode | None:
    if value is not None and value > SenderSettleMode.MIXED:
        raise DecodeError("no such settle mode")
    return None if value is None else SenderSettleMode(value)


def _receiver_mode(value: int | None) -> ReceiverSettleMode | None:
    if value is not None and value > ReceiverSettleMode.SECOND:
        raise DecodeError("no such settle mode")
    return None if value is None else ReceiverSettleMode(value)


def _flow(fields: Fields) -> Flow:
    return Flow(
        fields.uint(),
        fields.need_uint(),
        fields.need_uint(),
        fields.need_uint(),
        fields.uint(),
        fields.uint(),
        fields.uint(),
        fields.uint(),
        fields.boolean(),
        fields.boolean(),
    )


def _disposition(fields: Fields) -> Disposition:
    receiver, first, last = fields.need_boolean(), fields.need_uint(), fields.uint()
    return Disposition(receiver, first, first if last is None else last, fields.boolean(), decode_state(fields.any()))


def _sasl_outcome(fields: Fields) -> SaslOutcome:
    code = fields.need_ubyte()
    if code > SaslCode.SYS_TEMP:
        raise DecodeError("no such outcome")
    return SaslOutcome(SaslCode(code))


_READERS: Final[Mapping[int, Callable[[Fields], Performative]]] = MappingProxyType(
    {
        0x10: _open,
        0x11: _begin,
        0x12: _attach,
        0x13: _flow,
        0x15: _disposition,
        0x16: lambda fields: Detach(fields.need_uint(), fields.boolean(), decode_error(fields.any())),
        0x17: lambda fields: End(decode_error(fields.any())),
        0x18: lambda fields: Close(decode_error(fields.any())),
    }
)

_SASL_READERS: Final[Mapping[int, Callable[[Fields], SaslPerformative]]] = MappingProxyType(
    {
        0x40: lambda fields: SaslMechanisms(fields.symbols()),
        0x41: lambda fields: SaslChoice(fields.need_string(), fields.binary(), fields.string()),
        0x44: _sasl_outcome,
    }
)
