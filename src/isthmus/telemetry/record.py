"""The form of a record on disk, and how records are found again among damaged bytes.

All integers are little-endian. A record is

    magic 4 | CRC-32 4 | length 4 | version 1 | flags 1 | partition 2 | hub 4 | stream 4 | endpoints 2 | 0 2
    | sequence 8 | position 8 | enqueued 8 | ingress 8 | outbox 8 | envelope length 4 | payload length 4
    | endpoint ids 4 each | envelope | payload

The checksum covers everything behind itself. `length` counts the whole record. `position` is the record's own place in
the log, so that bytes of another place never pass for a record of this one: a device cannot plant a record in a payload
without knowing where it will be stored. `sequence` is -1 for records that do not name the built-in endpoint.
Enrichments, door and principal stand in the envelope. `hub` is the hub that owns the stream; a hub's own telemetry
stream has its number.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from isthmus.telemetry.ports import Partition, Record

MAGIC = b"\xc9ISR"
VERSION = 1

BATCH_END = 1
"""Flag of the last record of a commit: recovery keeps a commit whole or not at all."""

RECORD_BYTES_MAX = 16 * 1024 * 1024
"""A whole record; sixteen times the largest event any endpoint takes, so that a damaged length is known as such."""

PIECE_BYTES = 256 * 1024
"""How much is read at once: large enough that a spinning disk is busy reading, small enough to hold in passing."""

PREFIX = struct.Struct("<4sI")
FIELDS = struct.Struct("<IBBHIIHHqQqqqII")
HEADER = struct.Struct("<4sIIBBHIIHHqQqqqII")
HEADER_BYTES = HEADER.size
RECORD_BYTES_MIN = HEADER_BYTES + 4
"""An event with nothing in it still names an endpoint."""


class Stretch(NamedTuple):
    """Consecutive events of one partition and time; `end` lies behind the last one."""

    partition: Partition
    sequence: int
    enqueued_ms: int
    positions: list[int]
    end: int


ReadAt = Callable[[int, int], bytes]
"""Reads (position, size); answers fewer bytes only at the end of what is there."""


class Header(NamedTuple):
    """The fixed part of a record."""

    magic: bytes
    checksum: int
    length: int
    version: int
    flags: int
    number: int
    hub: int
    stream: int
    endpoint_count: int
    reserved: int
    sequence: int
    position: int
    enqueued_ms: int
    ingress_ms: int
    outbox_id: int
    envelope_length: int
    payload_length: int

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.position + self.length


class Found(NamedTuple):
    """An intact record at `at` in `data`."""

    header: Header
    data: bytes
    at: int


class Gap(NamedTuple):
    """Bytes between `start` and `end` that hold no intact record."""

    start: int
    end: int


def pack_endpoints(endpoints: tuple[int, ...]) -> bytes:
    """Endpoint ids as stored."""
    return struct.pack(f"<{len(endpoints)}I", *endpoints)


def to_record(found: Found) -> Record:
    """The record as readers get it."""
    header, data, at = found
    endpoints = at + HEADER_BYTES
    envelope = endpoints + 4 * header.endpoint_count
    payload = envelope + header.envelope_length
    return Record(
        Partition(header.stream, header.number),
        header.sequence,
        header.position,
        header.enqueued_ms,
        header.ingress_ms,
        struct.unpack_from(f"<{header.endpoint_count}I", data, endpoints),
        header.outbox_id,
        data[envelope:payload],
        data[payload : at + header.length],
    )


def scan(read: ReadAt, start: int, end: int) -> Iterator[Found | Gap]:
    """Intact records from `start` to `end` in order, and the gaps between them.

    `start` is where a record should begin. No byte at or behind `end` is looked at. Memory is bounded by a piece or the
    largest record.
    """
    window = _Window(read, end)
    position = start
    while position < end:
        found = window.record(position)
        if found is not None:
            yield found
            position += found.header.length
            continue
        resume = window.next_record(position + 1)
        yield Gap(position, resume)
        position = resume


def record_at(read: ReadAt, position: int, end: int) -> Found | None:
    """The intact record that begins at `position` and does not pass `end`, or None; reads no more than that record."""
    data = read(position, min(HEADER_BYTES, end - position))
    if len(data) < HEADER_BYTES:
        return None
    header = Header._make(HEADER.unpack(data))
    if not _plausible(header, position) or header.end > end:
        return None
    return _intact(header, read(position, header.length), 0)


def stretches(items: Iterable[Found | Gap]) -> Iterator[Stretch | Gap]:
    """Events joined to stretches, and the gaps between; records that are no events are left out."""
    run: list[Header] = []
    for item in items:
        if isinstance(item, Found) and item.header.sequence < 0:
            continue
        if run and (isinstance(item, Gap) or not _continues(run[-1], item.header)):
            yield _stretch(run)
            run = []
        if isinstance(item, Gap):
            yield item
        else:
            run.append(item.header)
    if run:
        yield _stretch(run)


def _continues(last: Header, header: Header) -> bool:
    return (
        header.sequence == last.sequence + 1
        and header.number == last.number
        and header.stream == last.stream
        and header.enqueued_ms == last.enqueued_ms
    )


def _stretch(run: list[Header]) -> Stretch:
    first, last = run[0], run[-1]
    positions = [header.position for header in run]
    return Stretch(Partition(first.stream, first.number), first.sequence, first.enqueued_ms, positions, last.end)


class _Window:
    """A piece of the log in memory, moved forward as needed."""

    def __init__(self, read: ReadAt, end: int) -> None:
        self._read = read
        self._end = end
        self._data = b""
        self._start = 0

    def record(self, position: int) -> Found | None:
        """The intact record at `position`, or None."""
        if not self._reach(position, HEADER_BYTES):
            return None
        header = Header._make(HEADER.unpack_from(self._data, position - self._start))
        if not _plausible(header, position) or not self._reach(position, header.length):
            return None
        return _intact(header, self._data, position - self._start)

    def next_record(self, position: int) -> int:
        """Where the next intact record at or behind `position` begins; the end when there is none."""
        while self._reach(position, HEADER_BYTES):
            at = self._data.find(MAGIC, position - self._start)
            if at < 0:
                position = self._start + len(self._data) - len(MAGIC) + 1
                continue
            position = self._start + at
            if self.record(position) is not None:
                return position
            position += 1
        return self._end

    def _reach(self, position: int, size: int) -> bool:
        """Sees to it that the bytes are in the window; False when they are not all there."""
        if self._start <= position and position + size <= self._start + len(self._data):
            return True
        if position + size > self._end:
            return False
        self._data = self._read(position, min(max(size, PIECE_BYTES), self._end - position))
        self._start = position
        return size <= len(self._data)


def _plausible(header: Header, position: int) -> bool:
    """What can be said of a header before its record has been read."""
    return (
        header.magic == MAGIC
        and header.version == VERSION
        and header.position == position
        and header.length <= RECORD_BYTES_MAX
        and header.length == HEADER_BYTES + 4 * header.endpoint_count + header.envelope_length + header.payload_length
    )


def _intact(header: Header, data: bytes, at: int) -> Found | None:
    """The record at `at`, when all of it is there and its checksum holds."""
    body = memoryview(data)[at + PREFIX.size : at + header.length]
    if len(body) != header.length - PREFIX.size or zlib.crc32(body) != header.checksum:
        return None
    return Found(header, data, at)
