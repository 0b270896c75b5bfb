"""The form of records, and finding them again among damaged bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.telemetry.batch import Batch, Item
from isthmus.telemetry.ports import EVENTS, Partition
from isthmus.telemetry.record import (
    HEADER,
    MAGIC,
    PIECE_BYTES,
    RECORD_BYTES_MAX,
    Found,
    Gap,
    ReadAt,
    record_at,
    scan,
    to_record,
)
from isthmus.telemetry.segment import Carry, Tail
from telemetry.fakes import P0, P1, START_MS, Waiter

BASE = 5_000


def test_a_header_looks_as_documented() -> None:
    """The layout is a promise to every later release: this test may grow, never change."""
    data = _encode([(P0, (EVENTS, 7), b"env", b"payload", 11, Waiter(), 0, 13)])
    assert data.hex() == (
        "c9495352"  # magic
        "1e351f3b"  # checksum
        "5e000000"  # length 94
        "01"  # version
        "01"  # last of its commit
        "0000"  # partition
        "01000000"  # hub
        "01000000"  # stream
        "0200"  # endpoints
        "0000"
        "0000000000000000"  # sequence
        "8813000000000000"  # position
        "00dc207497010000"  # enqueued
        "0b00000000000000"  # ingress
        "0d00000000000000"  # outbox id
        "03000000"  # envelope length
        "07000000"  # payload length
        "0100000007000000"  # endpoint ids
        "656e76"
        "7061796c6f6164"
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([P0, P1, Partition(2**32 - 1, 65_535)]),
            st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple),
            st.binary(max_size=40),
            st.binary(max_size=40),
            st.integers(-(2**63), 2**63 - 1),
            st.integers(0, 2**63 - 1),
        ),
        max_size=12,
    )
)
def test_what_was_encoded_is_found(
    given_items: list[tuple[Partition, tuple[int, ...], bytes, bytes, int, int]],
) -> None:
    items: list[Item] = [(*item[:5], Waiter(), 0, item[5]) for item in given_items]
    data = _encode(items)
    found = [item for item in _scan(data) if isinstance(item, Found)]
    records = [to_record(item) for item in found]
    stored = [(it.partition, it.endpoints, it.envelope, it.payload, it.ingress_ms, it.outbox_id) for it in records]
    assert sorted(stored) == sorted((*item[:5], item[7]) for item in items)
    for partition in {item[0] for item in items}:
        events = [record for record in records if record.partition == partition and EVENTS in record.endpoints]
        assert [event.sequence for event in events] == list(range(len(events)))
    assert [item.header.flags for item in found] == [0] * (len(found) - 1) + [1] * bool(found)


def test_numbers_and_times_go_on_where_the_carry_ends() -> None:
    carry = Carry({P0: Tail(41, START_MS + 50, 9)}, {1: 3}, 7)
    items: list[Item] = [(P0, (EVENTS,), b"", b"", 0, Waiter(), 0, 0), (P1, (EVENTS,), b"", b"", 0, Waiter(), 0, 2)]
    batch = Batch(items, BASE, START_MS, carry)
    assert [(run.partition, run.sequence, run.enqueued_ms) for run in batch.runs] == [
        (P0, 41, START_MS + 50),
        (P1, 7, START_MS),
    ]
    assert carry.tails[P0].next_sequence == 41
    batch.settle()
    assert (carry.tails[P0].next_sequence, carry.tails[P1].next_sequence, carry.outbox) == (42, 8, {1: 3})


def test_damage_is_passed_over_to_the_next_record() -> None:
    data = bytearray(_encode(_items(4)))
    length = len(data) // 4
    data[length + 80] ^= 1
    items = list(_scan(bytes(data)))
    assert items[1] == Gap(BASE + length, BASE + 2 * length)
    assert [item.header.sequence for item in items if isinstance(item, Found)] == [0, 2, 3]


def test_a_record_inside_a_payload_is_not_one_of_the_log() -> None:
    planted = _encode(_items(1))
    data = bytearray(_encode([(P0, (EVENTS,), b"", planted, 0, Waiter(), 0, 0), *_items(1)]))
    data[4] ^= 1
    gap, last = _scan(bytes(data))
    assert isinstance(gap, Gap)
    assert isinstance(last, Found)
    assert last.header.position == gap.end == BASE + len(data) - len(planted)


def test_a_payload_full_of_magic_does_not_stop_the_search() -> None:
    data = bytearray(_encode([(P0, (EVENTS,), b"", MAGIC * 200, 0, Waiter(), 0, 0), *_items(1)]))
    data[4] ^= 1
    assert [type(item) for item in _scan(bytes(data))] == [Gap, Found]


@pytest.mark.parametrize("noise", [b"\0", b"\xc9", MAGIC], ids=["zeros", "half a magic", "magic"])
def test_noise_longer_than_a_piece_is_one_gap(noise: bytes) -> None:
    rest = _encode(_items(1), BASE + (PIECE_BYTES + 1000) // len(noise) * len(noise))
    data = noise * ((PIECE_BYTES + 1000) // len(noise)) + rest
    gap, found = _scan(data)
    assert isinstance(found, Found)
    assert gap == Gap(BASE, found.header.position)


def test_records_larger_than_a_piece_are_found() -> None:
    data = _encode([(P0, (EVENTS,), b"", bytes(PIECE_BYTES * 2), 0, Waiter(), 0, 0), *_items(1)])
    assert [type(item) for item in _scan(data)] == [Found, Found]


def test_a_length_beyond_the_largest_asks_for_no_memory() -> None:
    asked: list[int] = []
    fields = list(HEADER.unpack_from(_encode(_items(1))))
    fields[2], fields[-1] = RECORD_BYTES_MAX + 1, RECORD_BYTES_MAX + 1 - HEADER.size - 4
    data = HEADER.pack(*fields) + bytes(100)

    def read(position: int, size: int) -> bytes:
        asked.append(size)
        return data[position - BASE :][:size]

    assert record_at(read, BASE, BASE + 2**40) is None
    assert max(asked) == HEADER.size


def _items(count: int) -> list[Item]:
    return [(P0, (EVENTS,), b"envelope", b"payload", 0, Waiter(), 0, 0) for _ in range(count)]


def _encode(items: list[Item], position: int = BASE) -> bytes:
    return b"".join(Batch(items, position, START_MS, Carry({}, {}, 0)).buffers())


def _scan(data: bytes) -> list[Found | Gap]:
    return list(scan(_reader(data), BASE, BASE + len(data)))


def _reader(data: bytes) -> ReadAt:
    return lambda position, size: data[position - BASE : position - BASE + size]
