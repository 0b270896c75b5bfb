"""Brokered messages in AMQP and back: what passes, what the queue adds, and what lock tokens look like."""

import uuid
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.neighbours.bus_message import BusMessage, decode_message, edited, encode_message, refused
from isthmus.neighbours.bus_rules import Facts
from isthmus.queues import NO_LIMIT, LockedMessage, Standing
from isthmus.servers.gateway.bus_codec import facts_of, give, tag_of, take, take_one
from isthmus.servers.gateway.bus_contract import BusNode, parse_bus_address
from isthmus.wire.amqp import message
from isthmus.wire.amqp.message import BATCH_FORMAT, Header, Message, Properties, Section
from isthmus.wire.amqp.values import Int, Long, Symbol, Timestamp

TOKEN = "00112233-4455-6677-8899-aabbccddeeff"


def new_id() -> str:
    return "made"


def sent(ttl_ms: int | None = None, **annotations: object) -> bytes:
    pairs = {Symbol(name.replace("_", "-")): value for name, value in annotations.items()}
    return b"".join(
        (
            Header(ttl_ms=ttl_ms).encode(),
            message.annotations(Section.MESSAGE_ANNOTATIONS, pairs),  # type: ignore[arg-type]
            Properties(message_id="m1", subject="hot").encode(),
            message.application_properties({"line": Int(1), "text": "ü"}),
            message.data(b"body"),
        )
    )


def locked(kept: BusMessage, **changed: object) -> LockedMessage:
    made = LockedMessage(TOKEN, 5, 2, 1_000, NO_LIMIT, 61_000, encode_message(kept))
    return replace(made, **changed)  # type: ignore[arg-type]


def test_a_lock_token_is_a_guid_in_its_mixed_order() -> None:
    assert tag_of(TOKEN).hex() == "33221100554477668899aabbccddeeff"


@given(st.uuids())
def test_clients_read_the_token_back(token: uuid.UUID) -> None:
    assert uuid.UUID(bytes_le=tag_of(str(token))) == token


def test_what_a_sender_says_passes_and_what_the_queue_knows_is_added() -> None:
    incoming = take_one(sent(60_000, x_opt_partition_key="p", own="mine"), new_id)
    found = Message(give(locked(incoming.message, expires_ms=61_000)))
    assert found.header == Header(durable=True, ttl_ms=60_000, delivery_count=2)
    assert found.properties.message_id == "m1"
    assert found.application_properties == {"line": 1, "text": "ü"}
    assert found.data == [b"body"]
    assert found.annotations == {
        "x-opt-sequence-number": 5,
        "x-opt-enqueued-time": 1_000,
        "x-opt-enqueue-sequence-number": 5,
        "x-opt-message-state": 0,
        "x-opt-locked-until": 61_000,
        "x-opt-partition-key": "p",
        "own": "mine",
    }
    assert isinstance(found.annotations[Symbol("x-opt-sequence-number")], Long)
    assert isinstance(found.annotations[Symbol("x-opt-enqueued-time")], Timestamp)


def test_annotations_of_the_service_are_not_a_senders_to_set() -> None:
    incoming = take_one(sent(x_opt_sequence_number=Long(99), x_opt_locked_until=Timestamp(5)), new_id)
    found = Message(give(locked(incoming.message, locked_until_ms=0)))
    assert found.annotations[Symbol("x-opt-sequence-number")] == 5
    assert "x-opt-locked-until" not in found.annotations


def test_a_scheduled_message_tells_its_time_and_its_state() -> None:
    incoming = take_one(sent(x_opt_scheduled_enqueue_time=Timestamp(9_000)), new_id)
    assert incoming.scheduled_ms == 9_000
    waiting = locked(incoming.message, standing=Standing.SCHEDULED, scheduled_ms=9_000, locked_until_ms=0)
    found = Message(give(waiting)).annotations
    assert (found[Symbol("x-opt-message-state")], found[Symbol("x-opt-scheduled-enqueue-time")]) == (2, 9_000)


def test_a_batch_is_its_messages() -> None:
    batch = message.batch([sent(), sent(5)])
    assert [one.message.ttl_ms for one in take(batch, BATCH_FORMAT, new_id)] == [None, 5]


def test_a_message_without_an_id_is_given_one() -> None:
    incoming = take_one(message.data(b"x"), new_id)
    assert Message(incoming.message.sections).properties.message_id == "made"


@pytest.mark.parametrize("payload", [b"\x00", b"nothing", b"\x00\x53\x75\xa0\x05ab", b"\x00\x53\x73\x40"])
def test_what_is_no_message_is_refused(payload: bytes) -> None:
    with pytest.raises(HubError) as told:
        take_one(payload + b"\x00\x53\x99\x40", new_id)
    assert told.value.code is Code.ARGUMENT_INVALID


def mutated() -> st.SearchStrategy[bytes]:
    """A message with some bytes of it changed."""
    changes = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)

    def change(found: list[tuple[int, int]]) -> bytes:
        data = bytearray(sent(5, x_opt_partition_key="p", own="mine"))
        for place, value in found:
            data[place % len(data)] = value
        return bytes(data)

    return changes.map(change)


@given(st.binary(max_size=200) | mutated(), st.sampled_from([0, BATCH_FORMAT]))
@settings(max_examples=500)
def test_any_bytes_are_messages_or_refused(payload: bytes, message_format: int) -> None:
    try:
        taken = take(payload, message_format, new_id)
    except HubError:
        return
    for one in taken:
        changed = decode_message(refused("why", None, {"a": 1})(encode_message(one.message)))
        Message(give(locked(changed)))
        facts_of(changed)


def test_what_receivers_change_takes_the_place_of_what_was_sent() -> None:
    kept = take_one(sent(), new_id).message
    edit = edited({"line": 2, "big": 2**40, "flag": True})
    assert edit is not None
    once = decode_message(edit(encode_message(kept)))
    again = decode_message(refused("why", "because", {"text": "y"})(encode_message(once)))
    found = Message(give(locked(again))).application_properties
    assert found == {
        "line": 2,
        "text": "y",
        "big": 2**40,
        "flag": True,
        "DeadLetterReason": "why",
        "DeadLetterErrorDescription": "because",
    }
    assert isinstance(found["line"], Int)
    assert isinstance(found["big"], Long)


def test_what_filters_look_at() -> None:
    assert facts_of(take_one(sent(), new_id).message) == Facts(
        message_id="m1", label="hot", properties={"line": 1, "text": "ü"}
    )


@pytest.mark.parametrize(
    ("text", "node", "path", "dead_letters"),
    [
        ("$cbs", BusNode.CBS, "", False),
        ("orders", BusNode.ENTITY, "orders", False),
        ("amqps://ns.servicebus.x/orders", BusNode.ENTITY, "orders", False),
        ("a/b", BusNode.ENTITY, "a/b", False),
        ("orders/$DeadLetterQueue", BusNode.ENTITY, "orders", True),
        ("t/Subscriptions/s/$deadletterqueue", BusNode.ENTITY, "t/Subscriptions/s", True),
        ("orders/$management", BusNode.MANAGEMENT, "orders", False),
        ("orders/$DeadLetterQueue/$management", BusNode.MANAGEMENT, "orders", True),
        ("orders/$Transfer/$DeadLetterQueue", BusNode.TRANSFER, "orders", True),
    ],
)
def test_what_addresses_mean(text: str, node: BusNode, path: str, dead_letters: bool) -> None:
    found = parse_bus_address(text)
    assert (found.node, found.path, found.dead_letters) == (node, path, dead_letters)
