"""Bytes to values, within limits (AMQP 1.0 part 1).

Whatever the bytes, a decoder returns a value or raises `DecodeError`: it never reads beyond the end it was given, never
nests deeper than `DEPTH_MAX` and never makes more than `ITEMS_MAX` elements, so that a short message cannot ask for a
large allocation (an array of a billion nulls is ten bytes long).
"""

import struct
import uuid
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Final

from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.limits import DEPTH_MAX, ITEMS_MAX
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


def decode(data: bytes) -> AmqpValue:
    """The one value that `data` holds; raises `DecodeError` when it holds less or more."""
    decoder = Decoder(data, 0, len(data))
    value = decoder.value()
    if decoder.position != len(data):
        raise DecodeError("bytes after the value")
    return value


def skip(data: bytes, position: int, end: int) -> int:
    """Where the value at `position` ends, without making it; raises `DecodeError` beyond `end`."""
    for _ in range(DEPTH_MAX):
        if position >= end or data[position]:
            return _skip_plain(data, position, end)
        position = _skip_plain(data, position + 1, end)
    raise DecodeError("nested too deeply")


def _skip_plain(data: bytes, position: int, end: int) -> int:
    """As `skip`, for a value that is not described."""
    if position >= end:
        raise DecodeError("value cut off")
    code = data[position]
    if code < 0x40:
        raise DecodeError(f"no type {code:#04x}")
    after = position + 1 + _WIDTHS[code >> 4]
    if code >= 0xA0 and after <= end:
        after += int.from_bytes(data[position + 1 : after], "big")
    if after > end:
        raise DecodeError("value cut off")
    return after


class Decoder:
    """Reads values one after the other from `data` between `position` and `end`."""

    __slots__ = ("_depth", "_items_left", "data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end
        self._depth = 0
        self._items_left = ITEMS_MAX

    def value(self) -> AmqpValue:
        """The next value."""
        code = self._take(1)[0]
        if code:
            return self._primitive(code)
        self._descend()
        descriptor = self.value()
        value = self.value()
        self._depth -= 1
        return Described(descriptor, value)

    def list_bounds(self) -> tuple[int, int]:
        """Element count and end position of the list that comes next; its elements follow."""
        code = self._take(1)[0]
        if code == 0x45:
            return 0, self.position
        if code not in (0xC0, 0xD0):
            raise DecodeError(f"a list was expected, not {code:#04x}")
        return self._bounds(1 if code == 0xC0 else 4)

    def _take(self, size: int) -> bytes:
        start = self.position
        after = start + size
        if after > self.end:
            raise DecodeError("value cut off")
        self.position = after
        return self.data[start:after]

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise DecodeError("nested too deeply")

    def _primitive(self, code: int) -> AmqpValue:
        """The value of the constructor `code`, whose body comes next."""
        fixed = _FIXED.get(code)
        if fixed is not None:
            return fixed[1](self._take(fixed[0]))
        variable = _VARIABLE.get(code)
        if variable is not None:
            return self._variable(code, variable)
        compound = _COMPOUND.get(code)
        if compound is None:
            raise DecodeError(f"no type {code:#04x}")
        self._descend()
        value = compound(self, 1 if code in (0xC0, 0xC1, 0xE0) else 4)
        self._depth -= 1
        return value

    def _variable(self, code: int, convert: Callable[[bytes], AmqpValue]) -> AmqpValue:
        size = self._take(1)[0] if code < 0xB0 else int.from_bytes(self._take(4), "big")
        try:
            return convert(self._take(size))
        except UnicodeDecodeError as error:
            raise DecodeError("text that is none") from error

    def _bounds(self, width: int) -> tuple[int, int]:
        """Count and end of a compound value whose size and count are `width` bytes each."""
        size = int.from_bytes(self._take(width), "big")
        end = self.position + size
        if end > self.end or size < width:
            raise DecodeError("value cut off")
        count = int.from_bytes(self._take(width), "big")
        self._items_left -= count
        if self._items_left < 0:
            raise DecodeError("too many elements")
        return count, end

    def _list(self, width: int) -> AmqpValue:
        count, end = self._bounds(width)
        items = [self.value() for _ in range(count)]
        return self._closed(items, end)

    def _map(self, width: int) -> AmqpValue:
        count, end = self._bounds(width)
        if count % 2:
            raise DecodeError("a key without a value")
        pairs: dict[AmqpValue, AmqpValue] = {}
        for _ in range(count // 2):
            key = self.value()
            if not isinstance(key, Hashable) or isinstance(key, (Array, Described)) or key in pairs:
                raise DecodeError("a key that is compound or comes twice")
            pairs[key] = self.value()
        return self._closed(pairs, end)

    def _array(self, width: int) -> AmqpValue:
        count, end = self._bounds(width)
        if count == 0 and self.position == end:
            # The specification has a constructor here too; pyamqp leaves it out.
            return Array(type(None), ())
        descriptors = []
        code = self._take(1)[0]
        while code == 0:
            self._descend()
            descriptors.append(self.value())
            code = self._take(1)[0]
        kind: type = Described if descriptors else kind_of(code)
        items = [self._element(code, descriptors) for _ in range(count)]
        self._depth -= len(descriptors)
        return self._closed(Array(kind, tuple(items)), end)

    def _element(self, code: int, descriptors: list[AmqpValue]) -> AmqpValue:
        value = self._primitive(code)
        for descriptor in reversed(descriptors):
            value = Described(descriptor, value)
        return value

    def _closed(self, value: AmqpValue, end: int) -> AmqpValue:
        if self.position != end:
            raise DecodeError("size and elements of a value differ")
        return value


def kind_of(code: int) -> type:
    """The Python type of an array's constructor; raises `DecodeError` where there is none."""
    try:
        return _KINDS[code]
    except KeyError as error:
        raise DecodeError(f"no type {code:#04x}") from error


def _signed(kind: type[Byte | Short | Int | Long | Timestamp]) -> Callable[[bytes], AmqpValue]:
    return lambda body: kind(int.from_bytes(body, "big", signed=True))


def _unsigned(kind: type[UByte | UShort | UInt | ULong]) -> Callable[[bytes], AmqpValue]:
    return lambda body: kind(int.from_bytes(body, "big"))


def _boolean(body: bytes) -> bool:
    if body[0] > 1:
        raise DecodeError("a boolean that is neither")
    return body[0] == 1


def _char(body: bytes) -> Char:
    try:
        return Char(body.decode("utf-32-be"))
    except UnicodeDecodeError as error:
        raise DecodeError("a character that is none") from error


_WIDTHS: Final = (0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 1, 4, 1, 4, 1, 4)
"""Bytes after a constructor by its upper half (AMQP 1.0 §1.2.2): the body's, or the size's where one follows."""

_FIXED: Final[Mapping[int, tuple[int, Callable[[bytes], AmqpValue]]]] = MappingProxyType(
    {
        0x40: (0, lambda body: None),
        0x41: (0, lambda body: True),
        0x42: (0, lambda body: False),
        0x43: (0, lambda body: UInt(0)),
        0x44: (0, lambda body: ULong(0)),
        0x45: (0, lambda body: []),
        0x50: (1, _unsigned(UByte)),
        0x51: (1, _signed(Byte)),
        0x52: (1, _unsigned(UInt)),
        0x53: (1, _unsigned(ULong)),
        0x54: (1, _signed(Int)),
        0x55: (1, _signed(Long)),
        0x56: (1, _boolean),
        0x60: (2, _unsigned(UShort)),
        0x61: (2, _signed(Short)),
        0x70: (4, _unsigned(UInt)),
        0x71: (4, _signed(Int)),
        0x72: (4, lambda body: Float(struct.unpack(">f", body)[0])),
        0x73: (4, _char),
        0x74: (4, Decimal32),
        0x80: (8, _unsigned(ULong)),
        0x81: (8, _signed(Long)),
        0x82: (8, lambda body: float(struct.unpack(">d", body)[0])),
        0x83: (8, _signed(Timestamp)),
        0x84: (8, Decimal64),
        0x94: (16, Decimal128),
        0x98: (16, lambda body: uuid.UUID(bytes=body)),
    }
)

_VARIABLE: Final[Mapping[int, Callable[[bytes], AmqpValue]]] = MappingProxyType(
    {
        0xA0: lambda body: body,
        0xA1: lambda body: body.decode(),
        0xA3: lambda body: Symbol(body.decode("ascii")),
        0xB0: lambda body: body,
        0xB1: lambda body: body.decode(),
        0xB3: lambda body: Symbol(body.decode("ascii")),
    }
)

_COMPOUND: Final[Mapping[int, Callable[[Decoder, int], AmqpValue]]] = MappingProxyType(
    {
        0xC0: Decoder._list,
        0xD0: Decoder._list,
        0xC1: Decoder._map,
        0xD1: Decoder._map,
        0xE0: Decoder._array,
        0xF0: Decoder._array,
    }
)

_KINDS: Final[Mapping[int, type]] = MappingProxyType(
    {
        0x40: type(None),
        **dict.fromkeys((0x41, 0x42, 0x56), bool),
        0x50: UByte,
        0x51: Byte,
        **dict.fromkeys((0x43, 0x52, 0x70), UInt),
        **dict.fromkeys((0x44, 0x53, 0x80), ULong),
        **dict.fromkeys((0x54, 0x71), Int),
        **dict.fromkeys((0x55, 0x81), Long),
        0x60: UShort,
        0x61: Short,
        0x72: Float,
        0x73: Char,
        0x74: Decimal32,
        0x82: float,
        0x83: Timestamp,
        0x84: Decimal64,
        0x94: Decimal128,
        0x98: uuid.UUID,
        **dict.fromkeys((0xA0, 0xB0), bytes),
        **dict.fromkeys((0xA1, 0xB1), str),
        **dict.fromkeys((0xA3, 0xB3), Symbol),
        **dict.fromkeys((0x45, 0xC0, 0xD0), list),
        **dict.fromkeys((0xC1, 0xD1), dict),
        **dict.fromkeys((0xE0, 0xF0), Array),
    }
)
