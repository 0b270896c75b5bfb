"""Events of hosted event hubs: what a sender said is what a reader hears, with the hub's own annotations."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.servers.gateway.hosted_event import HostedEventEncoder, Sender, Sent, take
from isthmus.telemetry.ports import EVENTS, Partition, PartitionInfo, Record
from isthmus.wire.amqp import message as m
from isthmus.wire.amqp.message import BATCH_FORMAT, Header, Message, Properties, Section
from isthmus.wire.amqp.values import AmqpValue, Int, Long, Symbol, Timestamp

SENDER = Sender("policy:send", "public")
KEY = Symbol("x-opt-partition-key")
PROPERTIES = Properties(
    message_id=uuid.UUID(int=3), user_id=b"me", subject="s", content_type="text/plain", group_id="g"
)
HEADER = Header(durable=True, priority=7, ttl_ms=9)


def annotated(values: dict[Symbol, AmqpValue]) -> bytes:
    return m.annotations(Section.MESSAGE_ANNOTATIONS, values)


def read_back(sent: Sent, number: int = 0, *, last: PartitionInfo | None = None) -> Message:
    envelope, payload = sent.events[number]
    record = Record(Partition(9, 0), 41, 1234, 1_700, 1_600, (EVENTS,), 0, envelope, payload)
    return Message(HostedEventEncoder().encode(record, last, 1_800))


def test_every_section_comes_back_as_it_was_sent() -> None:
    properties = m.application_properties({"whole": Int(1), "half": 0.5, "none": None, "text": "ü", "bytes": b"\0"})
    sent = HEADER.encode() + annotated({Symbol("x-own"): Long(3)}) + PROPERTIES.encode() + properties
    sent += m.data(b"one") + m.data(b"two") + m.annotations(Section.FOOTER, {Symbol("f"): True})
    event = read_back(take(sent, 0, SENDER))
    assert (event.header, event.properties, event.data) == (HEADER, PROPERTIES, [b"one", b"two"])
    assert event.encoded(Section.APPLICATION_PROPERTIES) == properties
    assert event.footer == {"f": True}
    assert event.annotations == {
        "x-opt-sequence-number": 41,
        "x-opt-offset": "1234",
        "x-opt-enqueued-time": 1_700,
        "x-own": 3,
    }
    kinds = [
        type(event.annotations[Symbol(f"x-opt-{name}")]) for name in ("sequence-number", "offset", "enqueued-time")
    ]
    assert kinds == [Long, str, Timestamp]


@pytest.mark.parametrize("body", [m.value({"a": [1.5, None]}), m.value("text"), m.data(b""), b""])
def test_a_body_of_any_kind_is_kept(body: bytes) -> None:
    event = read_back(take(body, 0, SENDER))
    assert event.encoded(Section.DATA, Section.SEQUENCE, Section.VALUE) == body


def test_what_only_a_hub_may_say_is_taken_out() -> None:
    forged: dict[Symbol, AmqpValue] = {
        Symbol("x-opt-sequence-number"): Long(7),
        Symbol("x-opt-offset"): "7",
        Symbol("x-opt-enqueued-time"): Timestamp(7),
        Symbol("x-opt-publisher"): "somebody",
        Symbol("com.microsoft:producer-epoch"): Int(1),
    }
    annotations = read_back(take(annotated(forged) + m.data(b""), 0, SENDER)).annotations
    assert annotations == {"x-opt-sequence-number": 41, "x-opt-offset": "1234", "x-opt-enqueued-time": 1_700}


def test_a_publisher_is_the_one_of_the_address() -> None:
    event = read_back(take(m.data(b""), 0, Sender("policy:send", "public", "machine")))
    assert event.annotations[Symbol("x-opt-publisher")] == "machine"


def test_a_batch_is_split_and_its_key_is_everybodys() -> None:
    first, second = annotated({KEY: "own"}) + m.data(b"1"), PROPERTIES.encode() + m.value(None)
    sent = take(annotated({KEY: "all"}) + m.batch([first, second]), BATCH_FORMAT, SENDER)
    assert sent.partition_key == "all"
    assert [read_back(sent, number).annotations[KEY] for number in range(2)] == ["own", "all"]
    assert read_back(sent, 1).properties == PROPERTIES


def test_a_batch_without_a_key_takes_that_of_its_first_event() -> None:
    sent = take(m.batch([annotated({KEY: "own"}) + m.data(b"1"), m.data(b"2")]), BATCH_FORMAT, SENDER)
    assert sent.partition_key == "own"
    assert read_back(sent, 1).annotations[KEY] == "own"


def test_a_key_that_is_no_text_is_kept_and_places_nothing() -> None:
    sent = take(annotated({KEY: Int(5)}) + m.data(b""), 0, SENDER)
    assert sent.partition_key is None
    assert read_back(sent).annotations[KEY] == Int(5)


@pytest.mark.parametrize(
    ("payload", "message_format"),
    [
        (b"\x00", 0),
        (m.batch([b"\x00\x53"]), BATCH_FORMAT),
        (m.value("no batch"), BATCH_FORMAT),
        (b"", BATCH_FORMAT),
        (b"\x00\x53\x72\xc1\x08\x02\xa1\x02\xc3\xbc\xa1\x01b" + m.data(b""), 0),
    ],
)
def test_what_is_no_message_is_refused(payload: bytes, message_format: int) -> None:
    with pytest.raises(HubError) as refused:
        take(payload, message_format, SENDER)
    assert refused.value.code is Code.ARGUMENT_INVALID
    assert refused.value.refusal is not None
    assert refused.value.refusal.rule == "contract.message"


def test_a_reader_that_tracks_hears_of_the_last_event() -> None:
    event = read_back(take(HEADER.encode() + m.data(b""), 0, SENDER), last=PartitionInfo(0, 50, 999, 1_750, 51))
    assert event.delivery_annotations[Symbol("last_enqueued_sequence_number")] == Long(50)
    assert event.header == HEADER


@given(st.binary(max_size=200), st.sampled_from([0, BATCH_FORMAT]))
def test_any_bytes_are_an_event_or_a_refusal(payload: bytes, message_format: int) -> None:
    """Never anything else than events that can be read, or ArgumentInvalid."""
    refused: Code | None = None
    try:
        sent = take(payload, message_format, SENDER)
    except HubError as error:
        refused, sent = error.code, Sent((), None)
    assert refused in (None, Code.ARGUMENT_INVALID)
    for number in range(len(sent.events)):
        read_back(sent, number)
