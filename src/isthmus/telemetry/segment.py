"""Segments: their names, and the header that lets each stand alone when the ones before it are gone."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from isthmus.telemetry.files import Files
from isthmus.telemetry.frame import Damaged, frame, unframe
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.record import HEADER, HEADER_BYTES, MAGIC, RECORD_BYTES_MAX, Header, record_at

SEGMENT_MAGIC = b"ISTHSEGM"
SEGMENT_VERSION = 1

HEADER_BYTES_MAX = 1024 * 1024
"""A segment's header: 20 bytes for each partition that ever had an event, 2,048 of them at most (64 hubs of 32)."""

INDEX_SUFFIX = ".index"

_SEGMENT_NAME = re.compile(r"(\d{20})\.segment")


class Tail(NamedTuple):
    """Where a partition of the built-in endpoint's view goes on; `last_offset` is -1 before the first event."""

    next_sequence: int
    last_ms: int
    last_offset: int


class Carry(NamedTuple):
    """What the log knows at a position besides the records themselves.

    `outbox` is the highest outbox id by stream. `unseen_sequence` is where a partition begins that never had an event:
    0, unless records were lost of which nobody can say whose they were.
    """

    tails: dict[Partition, Tail]
    outbox: dict[int, int]
    unseen_sequence: int

    def copy(self) -> "Carry":
        """A copy that may be changed apart."""
        return Carry(dict(self.tails), dict(self.outbox), self.unseen_sequence)

    def tail(self, partition: Partition) -> Tail:
        """The tail of a partition, whether it ever had an event or not."""
        return self.tails.get(partition) or Tail(self.unseen_sequence, 0, -1)


class Opened(NamedTuple):
    """The beginning of a segment; `carry` is None when its header is damaged."""

    carry: Carry | None
    data_start: int


def segment_name(base: int) -> str:
    """The file of the segment that begins at a position."""
    return f"{base:020d}.segment"


def index_name(base: int) -> str:
    """The file of that segment's index."""
    return f"{base:020d}{INDEX_SUFFIX}"


def segment_bases(names: Iterable[str]) -> list[int]:
    """Where the segments among `names` begin, in order."""
    return sorted(int(match[1]) for match in map(_SEGMENT_NAME.fullmatch, names) if match)


def open_segment(files: Files, base: int) -> Opened:
    """Reads a segment's header; where it is damaged, the first intact record tells where records begin.

    `data_start` is 0 when there is no such record either. Raises `NewerFormat` or `OSError`.
    """
    handle = files.open_read(segment_name(base))
    try:
        return Opened(*decode_header(files.read(handle, HEADER_BYTES_MAX, 0)))
    except Damaged:
        return Opened(None, _find_data_start(files, handle, base))
    finally:
        files.close(handle)


class _StoredHeader(msgspec.Struct, array_like=True):
    base: int
    created_ms: int
    tails: list[tuple[int, int, int, int, int]]
    outbox: list[tuple[int, int]]
    unseen_sequence: int


def encode_header(base: int, created_ms: int, carry: Carry) -> bytes:
    """What a segment's file begins with; its length is the segment's `data_start`."""
    tails = [(*partition, *tail) for partition, tail in carry.tails.items()]
    stored = _StoredHeader(base, created_ms, tails, list(carry.outbox.items()), carry.unseen_sequence)
    return frame(SEGMENT_MAGIC, SEGMENT_VERSION, msgspec.msgpack.encode(stored))


def decode_header(data: bytes) -> tuple[Carry, int]:
    """What was known where the segment begins, and `data_start`; raises `Damaged` or `NewerFormat`."""
    body, data_start = unframe(SEGMENT_MAGIC, SEGMENT_VERSION, data)
    try:
        stored = msgspec.msgpack.decode(body, type=_StoredHeader)
    except msgspec.DecodeError as error:
        raise Damaged(str(error)) from error
    tails = {Partition(stream, number): Tail(*tail) for stream, number, *tail in stored.tails}
    return Carry(tails, dict(stored.outbox), stored.unseen_sequence), data_start


def _find_data_start(files: Files, handle: int, base: int) -> int:
    data = files.read(handle, HEADER_BYTES_MAX, 0)
    at = data.find(MAGIC)
    while 0 <= at <= len(data) - HEADER_BYTES:
        position = Header._make(HEADER.unpack_from(data, at)).position
        data_start = at - (position - base)
        if 0 < data_start <= at and _is_record(files, handle, position, at - position):
            return data_start
        at = data.find(MAGIC, at + 1)
    return 0


def _is_record(files: Files, handle: int, position: int, shift: int) -> bool:
    def read(start: int, size: int) -> bytes:
        return files.read(handle, size, start + shift)

    return record_at(read, position, position + RECORD_BYTES_MAX) is not None
