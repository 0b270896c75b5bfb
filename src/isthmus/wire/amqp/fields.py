"""The fields of a described list, read in order with their types checked (AMQP 1.0 §1.4)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.values import AmqpValue, Array, Described, Symbol, Timestamp, UByte, UInt, ULong, UShort

Kind = TypeVar("Kind", bool, str, bytes, UByte, UShort, UInt, ULong, Timestamp)

SYMBOLIC: Final[Mapping[str, int]] = MappingProxyType(
    {
        "amqp:open:list": 0x10,
        "amqp:begin:list": 0x11,
        "amqp:attach:list": 0x12,
        "amqp:flow:list": 0x13,
        "amqp:transfer:list": 0x14,
        "amqp:disposition:list": 0x15,
        "amqp:detach:list": 0x16,
        "amqp:end:list": 0x17,
        "amqp:close:list": 0x18,
        "amqp:error:list": 0x1D,
        "amqp:received:list": 0x23,
        "amqp:accepted:list": 0x24,
        "amqp:rejected:list": 0x25,
        "amqp:released:list": 0x26,
        "amqp:modified:list": 0x27,
        "amqp:source:list": 0x28,
        "amqp:target:list": 0x29,
        "amqp:sasl-mechanisms:list": 0x40,
        "amqp:sasl-init:list": 0x41,
        "amqp:sasl-challenge:list": 0x42,
        "amqp:sasl-response:list": 0x43,
        "amqp:sasl-outcome:list": 0x44,
        "amqp:header:list": 0x70,
        "amqp:delivery-annotations:map": 0x71,
        "amqp:message-annotations:map": 0x72,
        "amqp:properties:list": 0x73,
        "amqp:application-properties:map": 0x74,
        "amqp:data:binary": 0x75,
        "amqp:amqp-sequence:list": 0x76,
        "amqp:amqp-value:*": 0x77,
        "amqp:footer:map": 0x78,
    }
)
"""A descriptor may also be a symbol (AMQP 1.0 §1.3)."""


def code_of(descriptor: AmqpValue) -> int:
    """The numeric form of a descriptor; -1 for one that AMQP does not define."""
    if isinstance(descriptor, ULong):
        return int(descriptor)
    if isinstance(descriptor, Symbol):
        return SYMBOLIC.get(descriptor, -1)
    return -1


class Fields:
    """Reads one field after the other; missing ones at the end are null."""

    __slots__ = ("_position", "_values")

    def __init__(self, values: list[AmqpValue]) -> None:
        self._values = values
        self._position = 0

    @classmethod
    def of(cls, value: Described) -> "Fields":
        """The fields of a described list; raises `DecodeError` when it is not one."""
        if not isinstance(value.value, list):
            raise DecodeError("a composite value is a list")
        return cls(value.value)

    def any(self) -> AmqpValue:
        """The next field, whatever its type."""
        position = self._position
        self._position = position + 1
        return self._values[position] if position < len(self._values) else None

    def all(self, count: int) -> list[AmqpValue]:
        """The next `count` fields."""
        return [self.any() for _ in range(count)]

    def string(self) -> str | None:
        """A string or a symbol: peers mix them up, and both are text."""
        return self._of(str)

    def binary(self) -> bytes | None:
        return self._of(bytes)

    def ubyte(self) -> UByte | None:
        return self._of(UByte)

    def ushort(self) -> UShort | None:
        return self._of(UShort)

    def uint(self) -> UInt | None:
        return self._of(UInt)

    def ulong(self) -> ULong | None:
        return self._of(ULong)

    def timestamp(self) -> Timestamp | None:
        return self._of(Timestamp)

    def boolean(self) -> bool:
        """A boolean whose default is false, as all of AMQP's are."""
        return self._of(bool) or False

    def need_string(self) -> str:
        return self._needed(self.string())

    def need_boolean(self) -> bool:
        return self._needed(self._of(bool))

    def need_ubyte(self) -> UByte:
        return self._needed(self.ubyte())

    def need_uint(self) -> UInt:
        return self._needed(self.uint())

    def need_ulong(self) -> ULong:
        return self._needed(self.ulong())

    def fields(self) -> dict[Symbol, AmqpValue] | None:
        """A map with symbol keys; string keys are taken as symbols."""
        value = self.any()
        if value is None:
            return None
        if not isinstance(value, dict):
            raise DecodeError(f"field {self._position} is not a map")
        return {self._key(key): item for key, item in value.items()}

    def symbols(self) -> tuple[str, ...]:
        """A field of multiple symbols: an array, a single one, or null for none (AMQP 1.0 §1.4)."""
        value = self.any()
        if value is None:
            return ()
        items = value.items if isinstance(value, Array) else (value,)
        return tuple(self._key(item) for item in items)

    def _key(self, value: AmqpValue) -> Symbol:
        if not isinstance(value, str):
            raise DecodeError(f"field {self._position} holds something else than symbols")
        return value if isinstance(value, Symbol) else Symbol(value)

    def _of(self, kind: type[Kind]) -> Kind | None:
        value = self.any()
        if value is None or isinstance(value, kind):
            return value
        raise DecodeError(f"field {self._position} is not {kind.__name__}")

    def _needed(self, value: Kind | None) -> Kind:
        if value is None:
            raise DecodeError(f"field {self._position} is missing")
        return value
