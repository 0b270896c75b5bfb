"""Where in a segment the events of each partition are: a sparse index of the built-in endpoint's view.

For each partition the events of a segment are cut into blocks of at most `BLOCK_BYTES`; the index holds where a block
begins and ends, and sequence number and time of its first event. A block holds at least one event of its partition, and
may hold records of others in between. The index of a sealed segment lies beside it, checksummed; it is rebuilt from the
segment when it is missing or damaged.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from isthmus.telemetry.frame import Damaged, frame, unframe
from isthmus.telemetry.ports import Partition

BLOCK_BYTES = 256 * 1024
"""Distance of index entries: what a reader reads at most to find an event, and 1/256 of a default segment."""

INDEX_MAGIC = b"ISTHINDX"
INDEX_VERSION = 1


class Blocks:
    """Blocks of one partition in one segment, as parallel columns."""

    __slots__ = ("ends", "positions", "sequences", "times")

    def __init__(self) -> None:
        self.positions = array("q")
        self.ends = array("q")
        self.sequences = array("q")
        self.times = array("q")

    def extend(self, sequence: int, enqueued_ms: int, positions: Sequence[int], end: int) -> None:
        """Takes events with sequence numbers from `sequence` on at `positions`; the last one ends at `end`."""
        done = self._fill_last(positions, end)
        while done < len(positions):
            start = positions[done]
            after = bisect_left(positions, start + BLOCK_BYTES, done + 1)
            self.positions.append(start)
            self.ends.append(positions[after] if after < len(positions) else end)
            self.sequences.append(sequence + done)
            self.times.append(enqueued_ms)
            done = after

    def _fill_last(self, positions: Sequence[int], end: int) -> int:
        if not self.positions:
            return 0
        taken = bisect_left(positions, self.positions[-1] + BLOCK_BYTES)
        if taken:
            self.ends[-1] = positions[taken] if taken < len(positions) else end
        return taken

    def columns(self) -> tuple["array[int]", ...]:
        """The columns in stored order."""
        return (self.positions, self.ends, self.sequences, self.times)


class Span:
    """First and last event of one partition in one segment; `end` is where the last one ends."""

    __slots__ = ("end", "first_sequence", "last_ms", "last_position", "last_sequence")

    def __init__(self, first_sequence: int, last_sequence: int, last_position: int, last_ms: int, end: int) -> None:
        self.first_sequence = first_sequence
        self.last_sequence = last_sequence
        self.last_position = last_position
        self.last_ms = last_ms
        self.end = end


class SegmentIndex:
    """What is known of a segment: its place, the times of its records, spans and, when loaded, blocks.

    `base` is the position of its first record, which lies `data_start` bytes into the file; `end` is the position
    behind its last. `oldest_ms` and `newest_ms` are times of records of any kind, 0 when there is none.
    """

    __slots__ = ("base", "blocks", "data_start", "end", "newest_ms", "oldest_ms", "spans")

    def __init__(self, base: int, data_start: int) -> None:
        self.base = base
        self.data_start = data_start
        self.end = base
        self.oldest_ms = 0
        self.newest_ms = 0
        self.spans: dict[Partition, Span] = {}
        self.blocks: dict[Partition, Blocks] | None = {}

    def extend(self, partition: Partition, sequence: int, enqueued_ms: int, positions: Sequence[int], end: int) -> None:
        """Takes events of one commit and one partition; see `Blocks.extend`."""
        assert self.blocks is not None
        last = sequence + len(positions) - 1
        span = self.spans.get(partition)
        if span is None:
            span = self.spans[partition] = Span(sequence, last, positions[-1], enqueued_ms, end)
            self.blocks[partition] = Blocks()
        else:
            span.last_sequence, span.last_position = last, positions[-1]
            span.last_ms, span.end = enqueued_ms, end
        self.blocks[partition].extend(sequence, enqueued_ms, positions, end)

    def reach(self, end: int, enqueued_ms: int) -> None:
        """Moves the end behind records that were written at `enqueued_ms`."""
        self.end = end
        self.oldest_ms = self.oldest_ms or enqueued_ms
        self.newest_ms = max(self.newest_ms, enqueued_ms)


class _StoredSpan(msgspec.Struct, array_like=True):
    stream: int
    number: int
    first_sequence: int
    last_sequence: int
    last_position: int
    last_ms: int
    end: int
    blocks: bytes


class _StoredIndex(msgspec.Struct, array_like=True):
    base: int
    data_start: int
    end: int
    oldest_ms: int
    newest_ms: int
    spans: list[_StoredSpan]


def encode_index(index: SegmentIndex) -> bytes:
    """The index as its file holds it; its blocks must be loaded."""
    assert index.blocks is not None
    spans = [
        _StoredSpan(
            partition.stream,
            partition.number,
            span.first_sequence,
            span.last_sequence,
            span.last_position,
            span.last_ms,
            span.end,
            _pack(index.blocks[partition]),
        )
        for partition, span in index.spans.items()
    ]
    stored = _StoredIndex(index.base, index.data_start, index.end, index.oldest_ms, index.newest_ms, spans)
    return frame(INDEX_MAGIC, INDEX_VERSION, msgspec.msgpack.encode(stored))


def decode_index(data: bytes) -> SegmentIndex:
    """The index of an index file; raises `Damaged`."""
    body, _ = unframe(INDEX_MAGIC, INDEX_VERSION, data)
    try:
        stored = msgspec.msgpack.decode(body, type=_StoredIndex)
        return _restore(stored)
    except (msgspec.DecodeError, struct.error) as error:
        raise Damaged(str(error)) from error


def _restore(stored: _StoredIndex) -> SegmentIndex:
    index = SegmentIndex(stored.base, stored.data_start)
    index.end, index.oldest_ms, index.newest_ms = stored.end, stored.oldest_ms, stored.newest_ms
    index.blocks = {}
    for item in stored.spans:
        partition = Partition(item.stream, item.number)
        index.spans[partition] = Span(
            item.first_sequence, item.last_sequence, item.last_position, item.last_ms, item.end
        )
        index.blocks[partition] = _unpack(item.blocks)
    return index


def _pack(blocks: Blocks) -> bytes:
    return b"".join(struct.pack(f"<{len(column)}q", *column) for column in blocks.columns())


def _unpack(data: bytes) -> Blocks:
    blocks = Blocks()
    size = len(data) // 4
    for number, column in enumerate(blocks.columns()):
        column.extend(struct.unpack(f"<{size // 8}q", data[number * size : (number + 1) * size]))
    return blocks
