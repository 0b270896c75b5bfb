"""Hypothesis strategies for AMQP values of every type."""

import uuid
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

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


def whole(kind: Callable[[int], Any], bits: int, *, signed: bool) -> st.SearchStrategy[Any]:
    """Numbers of a width, small ones often."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.one_of(st.integers(max(low, -200), min(high, 300)), st.integers(low, high)).map(kind)


TEXT = st.text(max_size=20) | st.text(min_size=250, max_size=260)
ASCII = st.text(st.characters(max_codepoint=127), max_size=20)
KINDS: dict[type, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    bool: st.booleans(),
    UByte: whole(UByte, 8, signed=False),
    UShort: whole(UShort, 16, signed=False),
    UInt: whole(UInt, 32, signed=False),
    ULong: whole(ULong, 64, signed=False),
    Byte: whole(Byte, 8, signed=True),
    Short: whole(Short, 16, signed=True),
    Int: whole(Int, 32, signed=True),
    Long: whole(Long, 64, signed=True),
    Timestamp: whole(Timestamp, 64, signed=True),
    Float: st.floats(width=32, allow_nan=False).map(Float),
    float: st.floats(allow_nan=False),
    Char: st.characters(exclude_categories=["Cs"]).map(Char),
    Decimal32: st.binary(min_size=4, max_size=4).map(Decimal32),
    Decimal64: st.binary(min_size=8, max_size=8).map(Decimal64),
    Decimal128: st.binary(min_size=16, max_size=16).map(Decimal128),
    uuid.UUID: st.uuids(),
    bytes: st.binary(max_size=20) | st.binary(min_size=250, max_size=260),
    str: TEXT,
    Symbol: ASCII.map(Symbol),
}
PRIMITIVES: st.SearchStrategy[AmqpValue] = st.one_of(*KINDS.values())
ARRAYS: st.SearchStrategy[AmqpValue] = st.sampled_from(list(KINDS)).flatmap(
    lambda kind: st.lists(KINDS[kind], max_size=5).map(lambda items: Array(kind, tuple(items)))
)
DESCRIPTORS: st.SearchStrategy[AmqpValue] = KINDS[ULong] | KINDS[Symbol]


def described_array(descriptor: AmqpValue) -> st.SearchStrategy[AmqpValue]:
    """Arrays of described values: one descriptor, values of one type."""
    items = st.lists(KINDS[Int], min_size=1, max_size=4)
    return items.map(lambda values: Array(Described, tuple(Described(descriptor, value) for value in values)))


VALUES: st.SearchStrategy[AmqpValue] = st.recursive(
    PRIMITIVES | ARRAYS | DESCRIPTORS.flatmap(described_array),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KINDS[str] | KINDS[Symbol] | KINDS[ULong], inner, max_size=4),
        st.builds(Described, DESCRIPTORS, inner),
        st.lists(st.lists(inner, max_size=3), max_size=3).map(lambda lists: Array(list, tuple(lists))),
    ),
    max_leaves=12,
)


def typed(value: AmqpValue) -> object:
    """A form in which values of different types differ, which numbers and texts themselves do not."""
    match value:
        case list():
            return [typed(item) for item in value]
        case dict():
            return [(typed(key), typed(item)) for key, item in value.items()]
        case Array(kind, items):
            return (Array, kind, [typed(item) for item in items])
        case Described(descriptor, inner):
            return (Described, typed(descriptor), typed(inner))
    return (type(value), value)
