"""Types: what is encoded is decoded as what it was, other engines read it, and limits hold."""

import datetime
import uuid
from typing import Any

import pytest
from azure.eventhub._pyamqp._decode import _DECODE_BY_CONSTRUCTOR
from azure.eventhub._pyamqp._encode import encode_value
from azure.eventhub._pyamqp.types import AMQPTypes
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.amqp.decode import decode, skip
from isthmus.wire.amqp.encode import encode
from isthmus.wire.amqp.errors import DecodeError, MisuseError
from isthmus.wire.amqp.limits import DEPTH_MAX, ITEMS_MAX
from isthmus.wire.amqp.values import (
    AmqpValue,
    Array,
    Byte,
    Char,
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
from wire.amqp.values_strategy import VALUES, typed

# AMQP 1.0 part 1, §1.6: the value, and each form it may have on the wire, the shortest first.
FORMS: list[tuple[AmqpValue, list[str]]] = [
    (None, ["40"]),
    (True, ["41", "5601"]),
    (False, ["42", "5600"]),
    (UByte(255), ["50ff"]),
    (UShort(256), ["600100"]),
    (UInt(0), ["43", "5200", "7000000000"]),
    (UInt(7), ["5207", "7000000007"]),
    (UInt(256), ["7000000100"]),
    (ULong(0), ["44", "5300", "800000000000000000"]),
    (ULong(7), ["5307", "800000000000000007"]),
    (ULong(2**64 - 1), ["80ffffffffffffffff"]),
    (Byte(-1), ["51ff"]),
    (Short(-2), ["61fffe"]),
    (Int(-3), ["54fd", "71fffffffd"]),
    (Int(1000), ["71000003e8"]),
    (Long(-3), ["55fd", "81fffffffffffffffd"]),
    (Long(2**40), ["810000010000000000"]),
    (Float(1.5), ["723fc00000"]),
    (1.5, ["823ff8000000000000"]),
    (Char("€"), ["73000020ac"]),
    (Timestamp(1), ["830000000000000001"]),
    (uuid.UUID(int=1), ["9800000000000000000000000000000001"]),
    (b"ab", ["a0026162", "b0000000026162"]),
    ("é", ["a102c3a9", "b100000002c3a9"]),
    (Symbol("a"), ["a30161", "b30000000161"]),
    ([], ["45", "c00100", "d00000000400000000"]),
    ([True, None], ["c003024140", "d000000006000000024140"]),
    ({Symbol("k"): UInt(0)}, ["c10502a3016b43", "d10000000800000002a3016b43"]),
    (Array(Symbol, (Symbol("a"),)), ["f00000000a00000001b30000000161", "e00401a30161"]),
    (Array(UInt, ()), ["e0020070", "f0000000050000000070", "e0020052"]),
    (Described(ULong(0x24), []), ["00532445"]),
]
EACH_FORM = [(value, form) for value, forms in FORMS for form in forms]


@pytest.mark.rule(
    "AMQP-1.2.1",
    "AMQP-1.2.2",
    "AMQP-1.2.3",
    "AMQP-1.2.4",
    "AMQP-1.6.1",
    "AMQP-1.6.2",
    "AMQP-1.6.3",
    "AMQP-1.6.4",
    "AMQP-1.6.5",
    "AMQP-1.6.6",
    "AMQP-1.6.7",
    "AMQP-1.6.8",
    "AMQP-1.6.9",
    "AMQP-1.6.10",
    "AMQP-1.6.11",
    "AMQP-1.6.12",
    "AMQP-1.6.16",
    "AMQP-1.6.17",
    "AMQP-1.6.18",
    "AMQP-1.6.19",
    "AMQP-1.6.20",
    "AMQP-1.6.21",
    "AMQP-1.6.22",
    "AMQP-1.6.23",
    "AMQP-1.6.24",
)
@pytest.mark.parametrize(("value", "form"), EACH_FORM, ids=lambda it: it if isinstance(it, str) else repr(it))
def test_each_form_of_a_value_is_decoded_with_its_type(value: AmqpValue, form: str) -> None:
    assert typed(decode(bytes.fromhex(form))) == typed(value)


@pytest.mark.rule("AMQP-1.6.2", "AMQP-1.6.5", "AMQP-1.6.6", "AMQP-1.6.9", "AMQP-1.6.10", "AMQP-1.6.22")
@pytest.mark.parametrize("value", [value for value, _ in FORMS if not isinstance(value, Array)], ids=repr)
def test_the_shortest_form_is_encoded(value: AmqpValue) -> None:
    assert encode(value).hex() == next(forms[0] for known, forms in FORMS if typed(known) == typed(value))


@given(VALUES)
def test_what_is_encoded_is_decoded_as_what_it_was(value: AmqpValue) -> None:
    encoded = encode(value)
    assert typed(decode(encoded)) == typed(value)
    assert skip(encoded, 0, len(encoded)) == len(encoded)


@pytest.mark.rule("AMQP-1.2.2", "AMQP-1.2.3")
@given(VALUES, st.data())
def test_a_value_cut_short_is_refused(value: AmqpValue, draw: st.DataObject) -> None:
    encoded = encode(value)
    cut = encoded[: draw.draw(st.integers(0, len(encoded) - 1))]
    with pytest.raises(DecodeError):
        decode(cut)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except DecodeError:
        return
    assert typed(decode(encode(value))) == typed(value) or _has_nan(value)


@pytest.mark.rule("AMQP-1.1.2")
@given(st.binary(max_size=100))
def test_skipping_stays_within_the_bytes(data: bytes) -> None:
    try:
        assert 0 < skip(data, 0, len(data)) <= len(data)
    except DecodeError:
        return


@given(VALUES)
def test_pyamqp_reads_the_same_value(value: AmqpValue) -> None:
    if not _known_to_pyamqp(value):
        return
    encoded = memoryview(encode(value))
    rest, read = _DECODE_BY_CONSTRUCTOR[encoded[0]](encoded[1:])
    assert not rest
    assert read == _as_pyamqp(value)


def test_an_empty_array_may_lack_its_constructor() -> None:
    output = bytearray()
    encode_value(output, {"TYPE": AMQPTypes.array, "VALUE": []})
    assert output.hex() == "e00100"
    assert decode(bytes(output)) == Array(type(None), ())


PYAMQP_WRITES: list[tuple[dict[str, Any], AmqpValue]] = [
    ({"TYPE": AMQPTypes.ulong, "VALUE": 5}, ULong(5)),
    ({"TYPE": AMQPTypes.uint, "VALUE": 500}, UInt(500)),
    ({"TYPE": AMQPTypes.ushort, "VALUE": 500}, UShort(500)),
    ({"TYPE": AMQPTypes.int, "VALUE": -5}, Int(-5)),
    ({"TYPE": AMQPTypes.long, "VALUE": 2**40}, Long(2**40)),
    ({"TYPE": AMQPTypes.short, "VALUE": -5}, Short(-5)),
    ({"TYPE": AMQPTypes.boolean, "VALUE": True}, True),
    ({"TYPE": AMQPTypes.double, "VALUE": 2.5}, 2.5),
    ({"TYPE": AMQPTypes.float, "VALUE": 2.5}, Float(2.5)),
    ({"TYPE": AMQPTypes.symbol, "VALUE": b"s" * 300}, Symbol("s" * 300)),
    ({"TYPE": AMQPTypes.string, "VALUE": "ü"}, "ü"),
    ({"TYPE": AMQPTypes.timestamp, "VALUE": datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)}, Timestamp(86_400_000)),
    ({"TYPE": AMQPTypes.uuid, "VALUE": uuid.UUID(int=9)}, uuid.UUID(int=9)),
    ({"TYPE": AMQPTypes.array, "VALUE": [{"TYPE": AMQPTypes.symbol, "VALUE": b"x"}]}, Array(Symbol, (Symbol("x"),))),
    ({"TYPE": AMQPTypes.map, "VALUE": {"a": b"b"}}, {"a": b"b"}),
    ({"TYPE": None, "VALUE": ["a", 1, None, {"b": False}]}, ["a", Int(1), None, {"b": False}]),
]


@pytest.mark.parametrize(("written", "value"), PYAMQP_WRITES, ids=lambda it: repr(it)[:40])
def test_what_pyamqp_writes_is_read_with_its_type(written: dict[str, Any], value: AmqpValue) -> None:
    output = bytearray()
    encode_value(output, written)
    assert typed(decode(bytes(output))) == typed(value)


REFUSED = {
    "nothing": "",
    "no such type": "ff",
    "more than one value": "4040",
    "a boolean of 2": "5602",
    "text that is not UTF-8": "a101ff",
    "a symbol that is not ASCII": "a302c3a9",
    "half of a surrogate pair": "730000d800",
    "a list shorter than it says": "c0044040",
    "a list longer than it says": "c0030140404040",
    "a list with bytes behind its last element": "c003014040",
    "a list without room for its count": "c000",
    "a key without a value": "c102014140",
    "a key twice": "c109 04 a30161 40 a30161 40",
    "a key that is a list": "c103 02 45 40",
    "an array without constructor": "e00101",
    "an array of no such type": "e0020101",
    "a descriptor without value": "005324",
    "a size of four gigabytes": "b0ffffffff00",
    "a billion nulls": "f000000005 3b9aca00 40",
    "a billion elements": "d000000005 3b9aca00 40",
}


@pytest.mark.rule("AMQP-1.2.3", "AMQP-1.6.20", "AMQP-1.6.21", "AMQP-1.6.23")
@pytest.mark.parametrize("form", REFUSED.values(), ids=REFUSED.keys())
def test_bytes_that_are_no_value_are_refused(form: str) -> None:
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(form))


@pytest.mark.rule("AMQP-1.6.13", "AMQP-1.6.14", "AMQP-1.6.15")
def test_a_decimal_passes_through() -> None:
    assert decode(encode(Decimal128(bytes(range(16))))) == bytes(range(16))


@pytest.mark.parametrize(
    "wrap", [lambda inner: [inner], lambda inner: Described(ULong(1), inner)], ids=["list", "described"]
)
def test_nesting_is_limited(wrap: Any) -> None:
    value: AmqpValue = None
    for _ in range(DEPTH_MAX):
        value = wrap(value)
    assert decode(encode(value)) == value
    with pytest.raises(DecodeError, match="nested"):
        decode(encode(wrap(value)))


@pytest.mark.parametrize(
    "prefix", [b"\x00", b"\x00\x53\x24", b"\x00\x45", b"\xc0\xff\x01", b"\xe0\xff\x01\x00"], ids=repr
)
def test_deep_nonsense_is_refused_without_deep_recursion(prefix: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(prefix * 100_000)
    with pytest.raises(DecodeError):
        skip(b"\x00" * 100_000, 0, 100_000)


def test_elements_are_limited_over_all_levels() -> None:
    half = b"\xf0" + (5).to_bytes(4, "big") + (ITEMS_MAX // 2).to_bytes(4, "big") + b"\x40"
    assert decode(half) == Array(type(None), (None,) * (ITEMS_MAX // 2))
    pair = b"\xd0" + (4 + 2 * len(half)).to_bytes(4, "big") + (2).to_bytes(4, "big") + half + half
    with pytest.raises(DecodeError, match="too many"):
        decode(pair)


@pytest.mark.parametrize(
    "value",
    [UByte(256), UInt(-1), ULong(2**64), Long(2**63), Char("ab"), Symbol("é"), 5, object(), {1: 2}],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_type_or_does_not_fit_is_our_misuse(value: Any) -> None:
    with pytest.raises(MisuseError):
        encode(value)


@pytest.mark.rule("AMQP-1.2.4", "AMQP-1.6.24")
def test_an_array_holds_one_type() -> None:
    with pytest.raises(MisuseError):
        encode(Array(str, ("a", Symbol("b"))))


def _has_nan(value: AmqpValue) -> bool:
    return "nan" in repr(value)


def _known_to_pyamqp(value: AmqpValue) -> bool:
    """pyamqp has no char and no small decimals, reads decimals as numbers, and cannot hash all keys."""
    match value:
        case Char() | bytes() if type(value) is not bytes:
            return False
        case list():
            return all(_known_to_pyamqp(item) for item in value)
        case dict():
            keys = [key.encode() if isinstance(key, str) else key for key in value]
            return len(set(keys)) == len(keys) and all(map(_known_to_pyamqp, value.values()))
        case Array(kind, items):
            # Its reader of arrays knows neither described elements nor the constructor of an empty one.
            return bool(items) and kind is not Described and all(map(_known_to_pyamqp, items))
        case Described(descriptor, inner):
            return descriptor not in range(0x23, 0x28) and _known_to_pyamqp(inner)
    return True


def _as_pyamqp(value: AmqpValue) -> object:
    """Text as bytes, arrays as lists, described values without their descriptor."""
    match value:
        case str():
            return value.encode()
        case list():
            return [_as_pyamqp(item) for item in value]
        case dict():
            return {_as_pyamqp(key): _as_pyamqp(item) for key, item in value.items()}
        case Array(_, items):
            return [_as_pyamqp(item) for item in items]
        case Described(_, inner):
            return _as_pyamqp(inner)
    return value
