"""Segments: their names, and the header that lets each stand alone when the ones before it are gone."""

import contextlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType
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

HEADER_BYTES_LIKELY = 4096
"""What is read of a header first: room for 150 partitions."""

INDEX_SUFFIX = ".index"

NOTHING_SKIPPED: Mapping[Partition, int] = MappingProxyType({})

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
    """The beginning of a segment; `carry` is None when its header is damaged.

    `used` is where partitions really were, where `carry` has skipped numbers that lost records may have had. `follows`
    is where what comes before ends: where this segment begins, unless positions were skipped (`seam.py`).
    """

    carry: Carry | None
    data_start: int
    used: Mapping[Partition, int]
    follows: int

    @property
    def is_one(self) -> bool:
        """False for a file that holds neither a header nor a record of its place: a copy, or all of it is damaged."""
        return self.carry is not None or self.data_start > 0

    def reached(self) -> dict[Partition, Tail]:
        """The tails of partitions as the events before this segment left them; none when its header is damaged."""
        tails = self.carry.tails if self.carry is not None else {}
        return {
            partition: tail._replace(next_sequence=self.used.get(partition, tail.next_sequence))
            for partition, tail in tails.items()
        }


def segment_name(base: int) -> str:
    """The file of the segment that begins at a position."""
    return f"{base:020d}.segment"


def index_name(base: int) -> str:
    """The file of that segment's index."""
    return f"{base:020d}{INDEX_SUFFIX}"


def segment_bases(names: Iterable[str]) -> list[int]:
    """Where the files among `names` that are called segments begin, in order."""
    return sorted(int(match[1]) for match in map(_SEGMENT_NAME.fullmatch, names) if match)


def list_segments(files: Files, known: Container[int] = ()) -> list[int]:
    """Where the segments of a folder begin, in order; those of `known` are not looked at.

    A file in which nothing is of its place is left out: then what its neighbours hold is read to its end, and what it
    should have held is missing between them. Raises `NewerFormat` or `OSError`.
    """
    return [base for base in segment_bases(files.names()) if base in known or _is_there(files, base)]


def open_segment(files: Files, base: int) -> Opened:
    """Reads a segment's header; where it is damaged, the first intact record tells where records begin.

    `data_start` is 0 when there is no such record either. Raises `NewerFormat` or `OSError`.
    """
    handle = files.open_read(segment_name(base))
    try:
        header = _read_header(files, handle)
        if header.base == base:
            return Opened(header.carry, header.data_start, header.used, header.follows)
        return Opened(None, _find_data_start(files, handle, base), NOTHING_SKIPPED, base)
    except Damaged:
        return Opened(None, _find_data_start(files, handle, base), NOTHING_SKIPPED, base)
    finally:
        files.close(handle)


class SegmentHeader(NamedTuple):
    """What a segment's file begins with; see `Opened`."""

    base: int
    carry: Carry
    data_start: int
    used: Mapping[Partition, int]
    follows: int


class _StoredHeader(msgspec.Struct, array_like=True):
    base: int
    created_ms: int
    tails: list[tuple[int, int, int, int, int]]
    outbox: list[tuple[int, int]]
    unseen_sequence: int
    used: list[tuple[int, int, int]] = []
    skipped: int = 0
    """Positions between the end of what comes before and `base`."""


def encode_header(
    base: int, created_ms: int, carry: Carry, used: Mapping[Partition, int] = NOTHING_SKIPPED, *, skipped: int = 0
) -> bytes:
    """What a segment's file begins with; its length is the segment's `data_start`."""
    tails = [(*partition, *tail) for partition, tail in carry.tails.items()]
    stored = _StoredHeader(base, created_ms, tails, list(carry.outbox.items()), carry.unseen_sequence)
    stored.used = [(*partition, following) for partition, following in used.items()]
    stored.skipped = skipped
    return frame(SEGMENT_MAGIC, SEGMENT_VERSION, msgspec.msgpack.encode(stored))


def decode_header(data: bytes) -> SegmentHeader:
    """What a segment's file begins with; raises `Damaged` or `NewerFormat`."""
    body, data_start = unframe(SEGMENT_MAGIC, SEGMENT_VERSION, data)
    try:
        stored = msgspec.msgpack.decode(body, type=_StoredHeader)
    except msgspec.DecodeError as error:
        raise Damaged(str(error)) from error
    tails = {Partition(stream, number): Tail(*tail) for stream, number, *tail in stored.tails}
    used = {Partition(stream, number): following for stream, number, following in stored.used}
    carry = Carry(tails, dict(stored.outbox), stored.unseen_sequence)
    return SegmentHeader(stored.base, carry, data_start, used, stored.base - stored.skipped)


def limits_of(files: Files, bases: Sequence[int], end: int) -> list[int]:
    """Where each of the segments that begin at `bases` ends: the last one at `end`, the others before the next one.

    Raises `NewerFormat` or `OSError`.
    """
    return [*(open_segment(files, base).follows for base in bases[1:]), end] if bases else []


def _is_there(files: Files, base: int) -> bool:
    try:
        return open_segment(files, base).is_one
    except FileNotFoundError:  # retired by the writing process a moment ago
        return False


def _read_header(files: Files, handle: int) -> SegmentHeader:
    """Most headers are short: only a long one, or a damaged one, is read as if it were as long as may be."""
    with contextlib.suppress(Damaged):
        return decode_header(files.read(handle, HEADER_BYTES_LIKELY, 0))
    return decode_header(files.read(handle, HEADER_BYTES_MAX, 0))


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
