"""Messages: sections are found, decoded when asked for, and read by pyamqp when we wrote them."""

import uuid
from typing import Any

import pytest
from azure.eventhub._pyamqp._decode import decode_payload
from azure.eventhub._pyamqp._encode import encode_payload
from azure.eventhub._pyamqp.message import Header as PyamqpHeader
from azure.eventhub._pyamqp.message import Message as PyamqpMessage
from azure.eventhub._pyamqp.message import Properties as PyamqpProperties
from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.amqp import message as m
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.message import SECTIONS_MAX, Header, Message, Properties, Section
from isthmus.wire.amqp.values import Int, Long, Symbol, Timestamp, UInt, ULong

PROPERTIES = Properties(
    message_id=uuid.UUID(int=3),
    user_id=b"user",
    to="/devices/d/messages/events",
    subject="s",
    reply_to="r",
    correlation_id=ULong(0),
    content_type="application/json",
    content_encoding="utf-8",
    absolute_expiry_time=1_700_000_000_000,
    creation_time=0,
    group_id="g",
    group_sequence=7,
    reply_to_group_id="q",
)
ANNOTATIONS = {Symbol("x-opt-sequence-number"): Long(5), Symbol("x-opt-enqueued-time"): Timestamp(6)}


@pytest.mark.rule("AMQP-3.2.1", "AMQP-3.2.2", "AMQP-3.2.3", "AMQP-3.2.4", "AMQP-3.2.5", "AMQP-3.2.6", "AMQP-3.2.9")
def test_every_section_is_found_in_any_order() -> None:
    parts = [
        Header(durable=True, priority=9, ttl_ms=10, first_acquirer=True, delivery_count=3).encode(),
        m.annotations(Section.MESSAGE_ANNOTATIONS, {Symbol("a"): "b"}),
        PROPERTIES.encode(),
        m.application_properties({"k": Int(1)}),
        m.data(b"body"),
        m.annotations(Section.FOOTER, {Symbol("f"): None}),
        m.annotations(Section.DELIVERY_ANNOTATIONS, {Symbol("late"): True}),
    ]
    for order in (parts, parts[::-1]):
        read = Message(b"".join(order))
        assert read.header == Header(durable=True, priority=9, ttl_ms=10, first_acquirer=True, delivery_count=3)
        assert read.delivery_annotations == {"late": True}
        assert read.annotations == {"a": "b"}
        assert read.properties == PROPERTIES
        assert read.application_properties == {"k": 1}
        assert read.data == [b"body"]
        assert read.footer == {"f": None}


def test_what_is_not_there_is_empty() -> None:
    read = Message(b"")
    assert read.header is None
    assert read.properties == Properties()
    assert read.annotations == read.application_properties == read.footer == {}
    assert read.body_section is None
    assert read.data == read.values == []


def test_sections_are_given_back_as_they_came() -> None:
    annotations, properties, data = m.annotations(Section.FOOTER, ANNOTATIONS), PROPERTIES.encode(), m.data(b"x" * 300)
    read = Message(properties + data + data + annotations)
    assert read.encoded(Section.PROPERTIES, Section.HEADER, Section.DATA) == properties + data + data
    assert read.encoded(Section.FOOTER) == annotations


@pytest.mark.rule("AMQP-3.2.7", "AMQP-3.2.8")
def test_a_value_and_sequences_are_bodies_too() -> None:
    assert Message(m.value({"k": ULong(1)})).values == [{"k": 1}]
    assert Message(m.value(None)).values == [None]
    sequences = Message(b"\x00\x53\x76\x45" + b"\x00\x53\x76\xc0\x02\x01\x41")
    assert sequences.body_section is Section.SEQUENCE
    assert sequences.values == [[], [True]]
    assert sequences.data == []


@pytest.mark.rule("AMQP-1.5")
def test_descriptors_may_be_long_or_symbolic() -> None:
    long = b"\x00\x80" + (0x75).to_bytes(8, "big") + b"\xa0\x01x"
    symbolic = b"\x00\xa3\x10amqp:data:binary\xb0\x00\x00\x00\x01y"
    assert Message(long + symbolic).data == [b"x", b"y"]


def test_text_of_devices_that_is_no_symbol_goes_as_string() -> None:
    assert Message(Properties(content_type="größe").encode()).properties.content_type == "größe"


def test_empty_maps_make_no_section() -> None:
    assert m.application_properties({}) == m.annotations(Section.FOOTER, {}) == b""


def test_a_head_makes_a_payload_a_data_section() -> None:
    for size in (0, 1, 255, 256, 70_000):
        assert Message(m.data_head(size) + b"x" * size).data == [b"x" * size]


REFUSED = {
    "no section": b"\x40",
    "an unknown section": b"\x00\x53\x79\x45",
    "a section twice": m.Header().encode() * 2,
    "two kinds of body": m.data(b"") + m.value(None),
    "two values": m.value(None) * 2,
    "a section cut off": m.data(b"abc")[:-1],
    "a descriptor only": b"\x00\x53\x75",
    "too many sections": m.data(b"") * (SECTIONS_MAX + 1),
}


@pytest.mark.parametrize("payload", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        Message(payload)


@pytest.mark.rule("AMQP-3.2.4", "AMQP-3.2.5")
def test_a_section_of_the_wrong_type_is_refused_when_it_is_read() -> None:
    read = Message(b"\x00\x53\x73\xa1\x01x" + b"\x00\x53\x74\x45" + b"\x00\x53\x75\xa1\x01x")
    with pytest.raises(DecodeError):
        read.properties  # noqa: B018
    with pytest.raises(DecodeError):
        read.application_properties  # noqa: B018
    with pytest.raises(DecodeError):
        read.data  # noqa: B018


def test_pyamqp_reads_our_message() -> None:
    encoded = b"".join(
        (
            Header(delivery_count=2).encode(),
            m.annotations(Section.MESSAGE_ANNOTATIONS, ANNOTATIONS),
            PROPERTIES.encode(),
            m.application_properties({"k": "v"}),
            m.data(b"body"),
        )
    )
    read = decode_payload(memoryview(encoded))
    assert read.header.delivery_count == 2
    assert read.message_annotations == {b"x-opt-sequence-number": 5, b"x-opt-enqueued-time": 6}
    assert read.application_properties == {b"k": b"v"}
    assert read.data == [b"body"]
    assert read.properties.message_id == uuid.UUID(int=3)
    assert read.properties.content_type == b"application/json"
    assert read.properties.reply_to_group_id == b"q"


def test_pyamqp_s_message_is_read() -> None:
    output = bytearray()
    message = PyamqpMessage(
        header=PyamqpHeader(durable=True),
        delivery_annotations={"d": 1},
        message_annotations={"x-opt-partition-key": "key"},
        properties=PyamqpProperties(message_id="id", content_type="text/plain", group_sequence=4),
        application_properties={"k": True},
        data=[b"one", b"two"],
    )
    encode_payload(output, message)
    read = Message(bytes(output))
    assert read.header == Header(durable=True)
    assert read.delivery_annotations == {"d": Int(1)}
    assert read.annotations == {"x-opt-partition-key": "key"}
    assert read.properties == Properties(message_id="id", content_type="text/plain", group_sequence=UInt(4))
    assert read.application_properties == {"k": True}
    assert read.data == [b"one", b"two"]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(payload: bytes) -> None:
    _read(payload)


@given(st.data())
def test_a_damaged_message_is_read_or_refused(draw: st.DataObject) -> None:
    payload = bytearray(Header().encode() + PROPERTIES.encode() + m.application_properties({"k": "v"}) + m.data(b"x"))
    for _ in range(draw.draw(st.integers(1, 4))):
        payload[draw.draw(st.integers(0, len(payload) - 1))] = draw.draw(st.integers(0, 255))
    _read(bytes(payload))


def _read(payload: bytes) -> Any:
    """Reads everything; a `DecodeError` is all that may come of it."""
    try:
        read = Message(payload)
        return (
            read.header,
            read.delivery_annotations,
            read.annotations,
            read.properties,
            read.application_properties,
            read.footer,
            read.data,
            read.values,
        )
    except DecodeError:
        return None
