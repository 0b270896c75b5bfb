"""Errors as values, delivery states, and the two ends of a link (AMQP 1.0 §2.8.14, §3.4, §3.5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from isthmus.wire.amqp import encode as e
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.fields import Fields, code_of
from isthmus.wire.amqp.values import AmqpValue, Described, Symbol

ERROR: Final = 0x1D
RECEIVED: Final = 0x23
ACCEPTED: Final = 0x24
REJECTED: Final = 0x25
RELEASED: Final = 0x26
MODIFIED: Final = 0x27
SOURCE: Final = 0x28
TARGET: Final = 0x29


@dataclass(frozen=True, slots=True)
class Error:
    """Why a link, a session, a connection or a delivery came to its end (AMQP 1.0 §2.8.14)."""

    condition: str
    description: str | None = None
    info: Mapping[Symbol, AmqpValue] | None = None

    def encode(self) -> bytes:
        """All three fields, always: some readers index into them."""
        return e.performative(ERROR, e.symbol(self.condition), e.string(self.description), e.fields(self.info))


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receiver took the message; it is now the receiver's."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message is invalid and will not be taken, nor when it is sent again."""

    error: Error | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """The message was not and will not be processed here."""


@dataclass(frozen=True, slots=True)
class Modified:
    """As released, with changes to make before another attempt."""

    delivery_failed: bool = False
    undeliverable_here: bool = False
    annotations: Mapping[Symbol, AmqpValue] | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """How far a partial transfer came; not terminal."""

    section_number: int
    section_offset: int


Outcome: TypeAlias = Accepted | Rejected | Released | Modified
"""What ends a delivery."""

DeliveryState: TypeAlias = Outcome | Received | Described | None
"""What a disposition says: an outcome, progress, or an extension (transactions) as it came; None says nothing."""

ACCEPTED_STATE: Final = Accepted()
RELEASED_STATE: Final = Released()


def encode_state(state: DeliveryState) -> bytes:
    """The described list of a delivery state; null for None."""
    match state:
        case None:
            return e.NULL
        case Accepted():
            return e.described(ACCEPTED, b"\x45")
        case Released():
            return e.described(RELEASED, b"\x45")
        case Rejected(error):
            return e.performative(REJECTED, error.encode() if error else e.NULL)
        case Modified(failed, undeliverable, annotations):
            return e.performative(MODIFIED, e.boolean(failed), e.boolean(undeliverable), e.fields(annotations))
        case Received(number, offset):
            return e.performative(RECEIVED, e.uint(number), e.ulong(offset))
        case Described():
            return e.encode(state)


def decode_state(value: AmqpValue) -> DeliveryState:
    """The delivery state a value stands for; an unknown described type is given back as it came."""
    if value is None:
        return None
    if not isinstance(value, Described):
        raise DecodeError("a delivery state is a described list")
    code = code_of(value.descriptor)
    if code == ACCEPTED:
        return ACCEPTED_STATE
    if code == RELEASED:
        return RELEASED_STATE
    if code not in (REJECTED, MODIFIED, RECEIVED):
        return value
    fields = Fields.of(value)
    if code == REJECTED:
        return Rejected(decode_error(fields.any()))
    if code == MODIFIED:
        return Modified(fields.boolean(), fields.boolean(), fields.fields())
    return Received(fields.need_uint(), fields.need_ulong())


def decode_error(value: AmqpValue) -> Error | None:
    """The error a value stands for, shorter ones included; None for null."""
    if value is None:
        return None
    if not isinstance(value, Described) or code_of(value.descriptor) != ERROR:
        raise DecodeError("an error is a described list")
    fields = Fields.of(value)
    return Error(fields.need_string(), fields.string(), fields.fields())


@dataclass(frozen=True, slots=True)
class Source:
    """Where the messages of a link come from (AMQP 1.0 §3.5.3), each field as it came so that it can be echoed."""

    address: AmqpValue = None
    durable: AmqpValue = None
    expiry_policy: AmqpValue = None
    timeout: AmqpValue = None
    dynamic: AmqpValue = None
    dynamic_node_properties: AmqpValue = None
    distribution_mode: AmqpValue = None
    filter: AmqpValue = None
    default_outcome: AmqpValue = None
    outcomes: AmqpValue = None
    capabilities: AmqpValue = None

    def encode(self) -> bytes:
        """All eleven fields."""
        return e.performative(SOURCE, *[e.encode(getattr(self, name)) for name in self.__slots__])

    @property
    def filters(self) -> dict[str, AmqpValue]:
        """The filter set, by name; empty when there is none."""
        if not isinstance(self.filter, dict):
            return {}
        return {str(key): value for key, value in self.filter.items()}


@dataclass(frozen=True, slots=True)
class Target:
    """Where the messages of a link go (AMQP 1.0 §3.5.4), each field as it came so that it can be echoed."""

    address: AmqpValue = None
    durable: AmqpValue = None
    expiry_policy: AmqpValue = None
    timeout: AmqpValue = None
    dynamic: AmqpValue = None
    dynamic_node_properties: AmqpValue = None
    capabilities: AmqpValue = None

    def encode(self) -> bytes:
        """All seven fields."""
        return e.performative(TARGET, *[e.encode(getattr(self, name)) for name in self.__slots__])


Terminus: TypeAlias = Source | Target | Described | None
"""An end of a link; one of an unknown kind (a coordinator) as it came."""


def encode_terminus(terminus: Terminus) -> bytes:
    """The described list of an end of a link; null for None."""
    if terminus is None:
        return e.NULL
    return e.encode(terminus) if isinstance(terminus, Described) else terminus.encode()


def decode_source(value: AmqpValue) -> Source | Described | None:
    """The source a value stands for."""
    if value is None:
        return None
    if isinstance(value, Described) and code_of(value.descriptor) == SOURCE:
        return Source(*Fields.of(value).all(len(Source.__slots__)))
    return _other_terminus(value)


def decode_target(value: AmqpValue) -> Target | Described | None:
    """The target a value stands for."""
    if value is None:
        return None
    if isinstance(value, Described) and code_of(value.descriptor) == TARGET:
        return Target(*Fields.of(value).all(len(Target.__slots__)))
    return _other_terminus(value)


def _other_terminus(value: AmqpValue) -> Described:
    if not isinstance(value, Described):
        raise DecodeError("an end of a link is a described list")
    return value
