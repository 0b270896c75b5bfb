"""Performatives: decoded as they were encoded, shorter ones with their defaults, transfers in all forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.amqp import performatives as p
from isthmus.wire.amqp.encode import encode
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.states import ACCEPTED_STATE, Error, Source, Target
from isthmus.wire.amqp.transfer import (
    TRANSFER,
    TransferFields,
    continuation_head,
    read_transfer,
    settled_frames,
    transfer_flags,
    transfer_head,
)
from isthmus.wire.amqp.values import AmqpValue, Array, Described, Symbol, UByte, UInt, ULong
from wire.amqp.peers import frames
from wire.amqp.values_strategy import VALUES

FULL: list[p.Performative] = [
    p.Open("c", "h", 512, 9, 1_000, {Symbol("k"): "v"}, ("en",), ("de",), ("offered",), ("desired",)),
    p.Open("c"),
    p.Begin(3, 1, 2, 3, 4),
    p.Begin(None, 1, 2, 3),
    p.Attach(
        "n",
        300,
        True,
        p.SenderSettleMode.SETTLED,
        p.ReceiverSettleMode.SECOND,
        Source("a", UInt(0), Symbol("never"), UInt(5), False, {}, Symbol("copy"), {}, None, Array(Symbol, ()), None),
        Target("b", UInt(0), Symbol("never"), UInt(5), False, {}, None),
        0,
        1 << 40,
        ("offered", "more"),
        ("desired",),
        {Symbol("k"): ULong(1)},
    ),
    p.Attach("n", 0, False),
    p.Flow(1, 2, 3, 4, 5, 6, 7, 8, True, True),
    p.Flow(None, 2, 3, 4),
    p.Disposition(True, 1, 2, True, ACCEPTED_STATE),
    p.Disposition(False, 4_294_967_295, 4_294_967_295, False, None),
    p.Detach(1, True, Error("a:b", "c", {Symbol("k"): Symbol("v")})),
    p.Detach(0, False),
    p.End(Error("a:b")),
    p.Close(),
]
SASL: list[p.SaslPerformative] = [
    p.SaslMechanisms(("A", "B")),
    p.SaslChoice("PLAIN", b"response", "h"),
    p.SaslChoice("EXTERNAL"),
    p.SaslOutcome(p.SaslCode.SYS_TEMP),
]


@pytest.mark.rule(
    "AMQP-2.7.1", "AMQP-2.7.2", "AMQP-2.7.3", "AMQP-2.7.4", "AMQP-2.7.6", "AMQP-2.7.7", "AMQP-2.7.8", "AMQP-2.7.9"
)
@pytest.mark.parametrize("performative", FULL, ids=lambda it: type(it).__name__)
def test_a_performative_is_decoded_as_it_was_encoded(performative: p.Performative) -> None:
    encoded = performative.encode()
    assert p.decode_performative(b"...." + encoded + b"...", 4, 4 + len(encoded)) == performative


@pytest.mark.rule("AMQP-5.3.3.2", "AMQP-5.3.3.5")
@pytest.mark.parametrize("performative", SASL, ids=lambda it: type(it).__name__)
def test_a_sasl_performative_is_decoded_as_it_was_encoded(performative: p.SaslPerformative) -> None:
    encoded = performative.encode()
    assert p.decode_sasl(encoded, 0, len(encoded)) == performative


SHORT: dict[str, tuple[int, list[AmqpValue], p.Performative]] = {
    "open": (0x10, ["c"], p.Open("c")),
    "begin": (0x11, [None, UInt(0), UInt(1), UInt(2)], p.Begin(None, 0, 1, 2)),
    "attach": (0x12, ["n", UInt(1), True], p.Attach("n", 1, True)),
    "flow": (0x13, [None, UInt(1), UInt(2), UInt(3)], p.Flow(None, 1, 2, 3)),
    "disposition of one": (0x15, [True, UInt(7)], p.Disposition(True, 7, 7, False, None)),
    "detach": (0x16, [UInt(1)], p.Detach(1, False)),
    "end": (0x17, [], p.End()),
    "close": (0x18, [], p.Close()),
    "an error of one field": (0x18, [Described(ULong(0x1D), [Symbol("a:b")])], p.Close(Error("a:b"))),
}


@pytest.mark.rule("AMQP-1.4")
@pytest.mark.parametrize(("code", "fields", "expected"), SHORT.values(), ids=SHORT.keys())
def test_fields_left_out_at_the_end_have_their_defaults(
    code: int, fields: list[AmqpValue], expected: p.Performative
) -> None:
    encoded = encode(Described(ULong(code), fields))
    assert p.decode_performative(encoded, 0, len(encoded)) == expected


@pytest.mark.rule("AMQP-1.5")
def test_a_descriptor_may_be_a_symbol() -> None:
    encoded = encode(Described(Symbol("amqp:end:list"), []))
    assert p.decode_performative(encoded, 0, len(encoded)) == p.End()


@pytest.mark.rule("AMQP-1.4")
def test_a_field_of_several_symbols_may_hold_one() -> None:
    fields: list[AmqpValue] = ["c", None, None, None, None, Symbol("en"), Array(Symbol, (Symbol("de"),))]
    encoded = encode(Described(ULong(0x10), fields))
    assert p.decode_performative(encoded, 0, len(encoded)) == p.Open(
        "c", outgoing_locales=("en",), incoming_locales=("de",)
    )


WRONG: dict[str, tuple[int, list[AmqpValue]]] = {
    "a name that is a number": (0x12, [UInt(1), UInt(1), True]),
    "no such settle mode": (0x12, ["n", UInt(1), True, UByte(3)]),
    "no such receiver settle mode": (0x12, ["n", UInt(1), True, None, UByte(2)]),
    "a source that is a string": (0x12, ["n", UInt(1), True, None, None, "a"]),
    "a target that is a string": (0x12, ["n", UInt(1), True, None, None, None, "a"]),
    "properties that are a list": (0x10, ["c", *8 * [None], ["a"]]),
    "capabilities that are numbers": (0x10, ["c", *6 * [None], Array(UInt, (UInt(1),))]),
    "an error that is a string": (0x18, ["a:b"]),
    "an error without condition": (0x18, [Described(ULong(0x1D), [])]),
    "a state that is a string": (0x15, [True, UInt(1), None, True, "accepted"]),
}


@pytest.mark.rule("AMQP-1.4")
@pytest.mark.parametrize(("code", "fields"), WRONG.values(), ids=WRONG.keys())
def test_a_field_of_the_wrong_type_is_refused(code: int, fields: list[AmqpValue]) -> None:
    encoded = encode(Described(ULong(code), fields))
    with pytest.raises(DecodeError):
        p.decode_performative(encoded, 0, len(encoded))


@given(st.sampled_from(FULL), st.data())
def test_a_damaged_performative_is_decoded_or_refused(performative: p.Performative, draw: st.DataObject) -> None:
    encoded = bytearray(performative.encode())
    for _ in range(draw.draw(st.integers(1, 4))):
        encoded[draw.draw(st.integers(0, len(encoded) - 1))] = draw.draw(st.integers(0, 255))
    try:
        p.decode_performative(bytes(encoded), 0, len(encoded))
    except DecodeError:
        return


UINTS = st.integers(0, 300) | st.integers(0, 4_294_967_295)


@pytest.mark.rule("AMQP-2.7.5")
@given(UINTS, UINTS, st.none() | st.binary(min_size=1, max_size=32), UINTS, st.booleans(), st.booleans())
def test_a_transfer_is_read_as_it_was_written(
    handle: int, delivery_id: int, tag: bytes | None, message_format: int, settled: bool, more: bool
) -> None:
    flags = transfer_flags(settled=settled, more=more)
    head = transfer_head(handle, delivery_id, tag, message_format=message_format, flags=flags)
    fields = read_transfer(head + b"payload", 3, len(head) + 7)
    expected_tag = delivery_id.to_bytes(4, "big") if tag is None else tag
    assert fields == TransferFields(handle, delivery_id, expected_tag, message_format, settled, more, False, len(head))


@pytest.mark.rule("AMQP-2.7.5")
@given(UINTS, st.booleans())
def test_a_continuation_leaves_out_what_is_known(handle: int, more: bool) -> None:
    head = continuation_head(handle, flags=transfer_flags(settled=False, more=more))
    assert read_transfer(head, 3, len(head)) == TransferFields(handle, None, None, None, False, more, False, len(head))


@given(st.lists(st.binary(max_size=30), max_size=5), UINTS, UINTS, UINTS)
def test_many_at_once_are_the_same_as_one_by_one(
    messages: list[bytes], handle: int, delivery_id: int, message_format: int
) -> None:
    flags = transfer_flags(settled=True, more=False)
    expected = [
        transfer_head(handle, (delivery_id + n) & 0xFFFFFFFF, None, message_format=message_format, flags=flags)
        + message
        for n, message in enumerate(messages)
    ]
    many = settled_frames(messages, channel=3, handle=handle, delivery_id=delivery_id, message_format=message_format)
    assert frames(b"".join(many)) == expected


@given(st.lists(VALUES, min_size=1, max_size=12))
def test_a_transfer_of_any_fields_is_read_or_refused(values: list[AmqpValue]) -> None:
    encoded = TRANSFER + encode(values)
    try:
        fields = read_transfer(encoded, 3, len(encoded))
    except DecodeError:
        return
    assert fields.payload_start == len(encoded)
    assert 0 <= fields.handle < 1 << 32


@given(st.binary(max_size=60))
def test_a_transfer_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    try:
        assert 0 < read_transfer(data + b"beyond", 0, len(data)).payload_start <= len(data)
    except DecodeError:
        return
