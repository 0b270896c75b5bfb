"""AMQP's types as Python values, one Python type per AMQP type, so that a value is sent back as what it came as.

| AMQP                        | Python                                             |
|-----------------------------|----------------------------------------------------|
| null, boolean, double       | `None`, `bool`, `float`                            |
| ubyte, ushort, uint, ulong  | `UByte`, `UShort`, `UInt`, `ULong`                 |
| byte, short, int, long      | `Byte`, `Short`, `Int`, `Long`                     |
| float, char, timestamp      | `Float`, `Char`, `Timestamp` (ms since the epoch)  |
| decimal32, 64, 128          | `Decimal32`, `Decimal64`, `Decimal128` (raw bytes) |
| uuid, binary, string        | `uuid.UUID`, `bytes`, `str`                        |
| symbol                      | `Symbol`                                           |
| list, map, array, described | `list`, `dict`, `Array`, `Described`               |

The number types are ints and `Symbol` is a str, so they compare and hash as such. A plain `int` has no AMQP type and is
not encoded.
"""

import uuid
from dataclasses import dataclass
from typing import TypeAlias


class UByte(int):
    """0 to 2^8 - 1."""

    __slots__ = ()


class UShort(int):
    """0 to 2^16 - 1."""

    __slots__ = ()


class UInt(int):
    """0 to 2^32 - 1."""

    __slots__ = ()


class ULong(int):
    """0 to 2^64 - 1."""

    __slots__ = ()


class Byte(int):
    """-2^7 to 2^7 - 1."""

    __slots__ = ()


class Short(int):
    """-2^15 to 2^15 - 1."""

    __slots__ = ()


class Int(int):
    """-2^31 to 2^31 - 1."""

    __slots__ = ()


class Long(int):
    """-2^63 to 2^63 - 1."""

    __slots__ = ()


class Timestamp(int):
    """Milliseconds since 1970-01-01 UTC, signed 64 bits."""

    __slots__ = ()


class Float(float):
    """A 32-bit IEEE 754 number; more precision is lost in encoding."""

    __slots__ = ()


class Char(str):
    """One Unicode character."""

    __slots__ = ()


class Symbol(str):
    """A name from a constrained domain, ASCII."""

    __slots__ = ()


class Decimal32(bytes):
    """Four bytes of IEEE 754-2008 decimal32, passed through and not interpreted."""

    __slots__ = ()


class Decimal64(bytes):
    """Eight bytes of IEEE 754-2008 decimal64, passed through and not interpreted."""

    __slots__ = ()


class Decimal128(bytes):
    """Sixteen bytes of IEEE 754-2008 decimal128, passed through and not interpreted."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Described:
    """A value with a descriptor, a `ULong` or a `Symbol` in practice (AMQP 1.0 §1.2)."""

    descriptor: "AmqpValue"
    value: "AmqpValue"


@dataclass(frozen=True, slots=True)
class Array:
    """Values of one type; `kind` is their Python type (`type(None)` for null), also when there are none."""

    kind: type
    items: "tuple[AmqpValue, ...]"


AmqpValue: TypeAlias = (
    "bool | UByte | UShort | UInt | ULong | Byte | Short | Int | Long | Float | float | Char | Timestamp"
    " | Decimal32 | Decimal64 | Decimal128 | uuid.UUID | bytes | str | Symbol | list[AmqpValue]"
    " | dict[AmqpValue, AmqpValue] | Array | Described | None"
)
"""Anything that AMQP can say."""
