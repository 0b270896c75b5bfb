"""Values to bytes, in the shortest form of each type (AMQP 1.0 part 1)."""

import struct
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from isthmus.wire.amqp.errors import MisuseError
from isthmus.wire.amqp.values import (
    AmqpValue,
    Array,
    Byte,
    Char,
    Decimal32,
    Decimal64,
    Decimal128,
    Described,
    Float,
    Int,
    Long,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)

NULL: Final = b"\x40"
TRUE: Final = b"\x41"
FALSE: Final = b"\x42"


def encode(value: AmqpValue) -> bytes:
    """The bytes of any value; raises `MisuseError` for a type without an AMQP type or a number out of range."""
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise MisuseError(f"{type(value).__name__} has no AMQP type")
    try:
        return encoder(value)
    except (struct.error, OverflowError, UnicodeEncodeError) as error:
        raise MisuseError(f"{type(value).__name__} out of range: {error}") from error


def boolean(value: bool | None) -> bytes:
    """A boolean, or null."""
    if value is None:
        return NULL
    return TRUE if value else FALSE


def ubyte(value: int | None) -> bytes:
    """A ubyte, or null."""
    return NULL if value is None else struct.pack(">BB", 0x50, value)


def ushort(value: int | None) -> bytes:
    """A ushort, or null."""
    return NULL if value is None else struct.pack(">BH", 0x60, value)


def uint(value: int | None) -> bytes:
    """A uint, or null."""
    if value is None:
        return NULL
    if value == 0:
        return b"\x43"
    return struct.pack(">BB", 0x52, value) if 0 < value < 256 else struct.pack(">BI", 0x70, value)


def ulong(value: int | None) -> bytes:
    """A ulong, or null."""
    if value is None:
        return NULL
    if value == 0:
        return b"\x44"
    return struct.pack(">BB", 0x53, value) if 0 < value < 256 else struct.pack(">BQ", 0x80, value)


def timestamp(value: int | None) -> bytes:
    """Milliseconds since the epoch as a timestamp, or null."""
    return NULL if value is None else struct.pack(">Bq", 0x83, value)


def string(value: str | None) -> bytes:
    """A string, or null."""
    return NULL if value is None else _variable(0xA1, value.encode())


def symbol(value: str | None) -> bytes:
    """A symbol, or null."""
    return NULL if value is None else _variable(0xA3, value.encode("ascii"))


def binary(value: bytes | None) -> bytes:
    """A binary, or null."""
    return NULL if value is None else _variable(0xA0, value)


def symbols(values: Iterable[str] | None) -> bytes:
    """An array of symbol, also for one (SASL readers index into it); null for None."""
    return NULL if values is None else encode(Array(Symbol, tuple(Symbol(value) for value in values)))


def fields(values: Mapping[Symbol, AmqpValue] | None) -> bytes:
    """A map with symbol keys, or null."""
    return NULL if values is None else map_of((symbol(key), encode(value)) for key, value in values.items())


def map_of(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A map of encoded keys and values."""
    parts = [part for pair in pairs for part in pair]
    return _compound(0xC1, parts)


def list_of(parts: list[bytes]) -> bytes:
    """A list of encoded values, never the empty-list form `0x45` (readers of performatives do not know it)."""
    return _compound(0xC0, parts)


def described(code: int, value: bytes) -> bytes:
    """An encoded value under a numeric descriptor below 256, always as smallulong (readers skip three bytes)."""
    return b"\x00\x53" + bytes((code,)) + value


def performative(code: int, *parts: bytes) -> bytes:
    """A described list of the encoded fields, every one of them written."""
    return described(code, list_of(list(parts)))


def binary_head(size: int) -> bytes:
    """Constructor and length of a binary of `size` bytes."""
    return bytes((0xA0, size)) if size < 256 else struct.pack(">BI", 0xB0, size)


def _variable(small_code: int, body: bytes) -> bytes:
    size = len(body)
    if size < 256:
        return bytes((small_code, size)) + body
    return struct.pack(">BI", small_code | 0x10, size) + body


def _compound(small_code: int, parts: list[bytes]) -> bytes:
    body = b"".join(parts)
    count, size = len(parts), len(body)
    if size < 255 and count < 256:
        return bytes((small_code, size + 1, count)) + body
    return struct.pack(">BII", small_code | 0x10, size + 4, count) + body


def _int(value: int) -> bytes:
    return struct.pack(">Bb", 0x54, value) if -128 <= value < 128 else struct.pack(">Bi", 0x71, value)


def _long(value: int) -> bytes:
    return struct.pack(">Bb", 0x55, value) if -128 <= value < 128 else struct.pack(">Bq", 0x81, value)


def _list(value: list[AmqpValue]) -> bytes:
    return list_of([encode(item) for item in value]) if value else b"\x45"


def _map(value: dict[AmqpValue, AmqpValue]) -> bytes:
    return map_of((encode(key), encode(item)) for key, item in value.items())


def _described(value: Described) -> bytes:
    return b"\x00" + encode(value.descriptor) + encode(value.value)


def _array(value: Array) -> bytes:
    constructor, bodies = _elements(value.kind, value.items)
    body = constructor + b"".join(bodies)
    count, size = len(bodies), len(body)
    if size < 255 and count < 256:
        return bytes((0xE0, size + 1, count)) + body
    return struct.pack(">BII", 0xF0, size + 4, count) + body


def _elements(kind: type, items: tuple[Any, ...]) -> tuple[bytes, list[bytes]]:
    """The one constructor of an array and the bodies of its elements."""
    if any(type(item) is not kind for item in items):
        raise MisuseError(f"an array of {kind.__name__} holds something else")
    if kind is Described:
        return _described_elements(items)
    wide = _ARRAY_CODES.get(kind)
    if wide is None:
        raise MisuseError(f"no array of {kind.__name__}")
    return bytes((wide,)), [_wide_body(wide, item) for item in items]


def _described_elements(items: tuple[Described, ...]) -> tuple[bytes, list[bytes]]:
    if not items:
        return NULL, []
    descriptor = items[0].descriptor
    if any(item.descriptor != descriptor for item in items):
        raise MisuseError("an array of described values has one descriptor")
    constructor, bodies = _elements(type(items[0].value), tuple(item.value for item in items))
    return b"\x00" + encode(descriptor) + constructor, bodies


def _wide_body(code: int, item: Any) -> bytes:
    """The body of an element under the widest constructor of its type."""
    body = _WIDE[code](item)
    if code in _SIZED:
        return len(body).to_bytes(4, "big") + body
    return body


def _wide_list(value: list[AmqpValue]) -> bytes:
    return len(value).to_bytes(4, "big") + b"".join(encode(item) for item in value)


def _wide_map(value: dict[AmqpValue, AmqpValue]) -> bytes:
    parts = [encode(key) + encode(item) for key, item in value.items()]
    return (2 * len(parts)).to_bytes(4, "big") + b"".join(parts)


def _wide_array(value: Array) -> bytes:
    constructor, bodies = _elements(value.kind, value.items)
    return len(bodies).to_bytes(4, "big") + constructor + b"".join(bodies)


def _fixed(form: str) -> Callable[[Any], bytes]:
    return struct.Struct(form).pack


def _decimal(code: int, width: int) -> Callable[[Any], bytes]:
    def pack(value: bytes) -> bytes:
        if len(value) != width:
            raise OverflowError(f"a decimal of {len(value)} bytes")
        return bytes((code,)) + value

    return pack


def _char(value: str) -> bytes:
    if len(value) != 1:
        raise OverflowError("a char is one character")
    return value.encode("utf-32-be")


_ENCODERS: Final[Mapping[type, Callable[[Any], bytes]]] = MappingProxyType(
    {
        type(None): lambda value: NULL,
        bool: boolean,
        UByte: ubyte,
        UShort: ushort,
        UInt: uint,
        ULong: ulong,
        Byte: lambda value: struct.pack(">Bb", 0x51, value),
        Short: lambda value: struct.pack(">Bh", 0x61, value),
        Int: _int,
        Long: _long,
        Float: lambda value: struct.pack(">Bf", 0x72, value),
        float: lambda value: struct.pack(">Bd", 0x82, value),
        Char: lambda value: b"\x73" + _char(value),
        Timestamp: timestamp,
        Decimal32: _decimal(0x74, 4),
        Decimal64: _decimal(0x84, 8),
        Decimal128: _decimal(0x94, 16),
        uuid.UUID: lambda value: b"\x98" + value.bytes,
        bytes: binary,
        str: string,
        Symbol: symbol,
        list: _list,
        dict: _map,
        Array: _array,
        Described: _described,
    }
)

_ARRAY_CODES: Final[Mapping[type, int]] = MappingProxyType(
    {
        type(None): 0x40,
        bool: 0x56,
        UByte: 0x50,
        UShort: 0x60,
        UInt: 0x70,
        ULong: 0x80,
        Byte: 0x51,
        Short: 0x61,
        Int: 0x71,
        Long: 0x81,
        Float: 0x72,
        float: 0x82,
        Char: 0x73,
        Timestamp: 0x83,
        Decimal32: 0x74,
        Decimal64: 0x84,
        Decimal128: 0x94,
        uuid.UUID: 0x98,
        bytes: 0xB0,
        str: 0xB1,
        Symbol: 0xB3,
        list: 0xD0,
        dict: 0xD1,
        Array: 0xF0,
    }
)

_SIZED: Final = frozenset((0xB0, 0xB1, 0xB3, 0xD0, 0xD1, 0xF0))

_WIDE: Final[Mapping[int, Callable[[Any], bytes]]] = MappingProxyType(
    {
        0x40: lambda value: b"",
        0x56: lambda value: b"\x01" if value else b"\x00",
        0x50: _fixed(">B"),
        0x60: _fixed(">H"),
        0x70: _fixed(">I"),
        0x80: _fixed(">Q"),
        0x51: _fixed(">b"),
        0x61: _fixed(">h"),
        0x71: _fixed(">i"),
        0x81: _fixed(">q"),
        0x72: _fixed(">f"),
        0x82: _fixed(">d"),
        0x73: _char,
        0x83: _fixed(">q"),
        0x74: bytes,
        0x84: bytes,
        0x94: bytes,
        0x98: lambda value: value.bytes,
        0xB0: bytes,
        0xB1: lambda value: value.encode(),
        0xB3: lambda value: value.encode("ascii"),
        0xD0: _wide_list,
        0xD1: _wide_map,
        0xF0: _wide_array,
    }
)
