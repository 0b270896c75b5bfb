"""Reading events from segments: seeks and cold reads over the sparse index, the same in every process.

A reader's cursor may point anywhere. Where an intact record begins at it, reading begins there; else at the beginning
of its block, so that no byte is ever taken for a record that is none. Every record read is verified. Damage is told
apart from other partitions' records by the gap it leaves in the sequence numbers, and reported, not served.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from isthmus.telemetry.damage import Damage, Damages, Lost
from isthmus.telemetry.files import Files
from isthmus.telemetry.frame import Damaged, NewerFormat
from isthmus.telemetry.index import Blocks, SegmentIndex, Span, decode_index
from isthmus.telemetry.ports import Partition, Record
from isthmus.telemetry.record import Found, Gap, ReadAt, Stretch, scan, stretches, to_record
from isthmus.telemetry.segment import index_name, segment_name

HANDLES_MAX = 16
"""Segments kept open for cold readers; the least recently read one is closed first."""

INDEXES_MAX = 16
"""Indexes of sealed segments kept in memory, up to 2 MiB each with 256 partitions; the least recently read one goes."""


class Place(NamedTuple):
    """A block of a partition in a segment."""

    segment: SegmentIndex
    blocks: Blocks
    number: int


class Archive:
    """Segments in order of their positions. Not thread-safe; owned by the thread that reads."""

    def __init__(self, files: Files, damages: Damages) -> None:
        """What readers find damaged goes to `damages`."""
        self.segments: list[SegmentIndex] = []
        self._files = files
        self.damages = damages
        self._handles: OrderedDict[int, int] = OrderedDict()
        self._indexes: OrderedDict[int, dict[Partition, Blocks]] = OrderedDict()

    def read(
        self, partition: Partition, cursor: int, max_records: int, max_bytes: int
    ) -> tuple[list[Record], int | None]:
        """Events from `cursor` on and the cursor behind them; None for the cursor when there are no more.

        Reads one block more than it must, at most: the caller's event loop waits for the disk meanwhile.
        """
        records: list[Record] = []
        for place in self._places(partition, lambda span: span.end <= cursor, _block_of_position(cursor)):
            for found in self._events(partition, place, cursor):
                size = found.header.envelope_length + found.header.payload_length
                if records and (len(records) >= max_records or max_bytes < size):
                    return records, found.header.position
                records.append(to_record(found))
                max_bytes -= size
            if records:
                return records, place.blocks.ends[place.number]
        return records, None

    def seek_sequence(self, partition: Partition, sequence: int) -> int | None:
        """Position of the first event whose sequence number is at least `sequence`; None when there is none."""
        places = self._places(
            partition,
            lambda span: span.last_sequence < sequence,
            lambda blocks: bisect_right(blocks.sequences, sequence) - 1,
        )
        return self._first(partition, places, lambda found: found.header.sequence >= sequence)

    def seek_time(self, partition: Partition, utc_ms: int) -> int | None:
        """Position of the first event enqueued at or after `utc_ms`; None when there is none."""
        places = self._places(
            partition, lambda span: span.last_ms < utc_ms, lambda blocks: bisect_left(blocks.times, utc_ms) - 1
        )
        return self._first(partition, places, lambda found: found.header.enqueued_ms >= utc_ms)

    def first_sequence(self, partition: Partition, begin: int) -> int | None:
        """Sequence number of the first event in the segments that end behind `begin`."""
        for segment in self.segments:
            span = segment.spans.get(partition)
            if span is not None and segment.end > begin:
                return span.first_sequence
        return None

    def reader(self, segment: SegmentIndex) -> ReadAt:
        """Reads a segment's bytes by log position; raises FileNotFoundError when its file is gone."""
        handle = self._handle(segment.base)
        shift = segment.data_start - segment.base
        return lambda position, size: self._files.read(handle, size, position + shift)

    def drop(self, base: int) -> None:
        """Forgets what is open or cached of the segment that begins at `base`."""
        self._indexes.pop(base, None)
        handle = self._handles.pop(base, None)
        if handle is not None:
            self._files.close(handle)

    def close(self) -> None:
        """Closes all files."""
        for base in list(self._handles):
            self.drop(base)

    def _first(self, partition: Partition, places: Iterator[Place], fits: Callable[[Found], bool]) -> int | None:
        for place in places:
            for found in self._events(partition, place, 0):
                if fits(found):
                    return found.header.position
        return None

    def _places(
        self, partition: Partition, is_past: Callable[[Span], bool], first_block: Callable[[Blocks], int]
    ) -> Iterator[Place]:
        """Blocks of a partition in order: of the first segment that is not past, from `first_block` on."""
        for segment in list(self.segments):
            span = segment.spans.get(partition)
            if span is None or is_past(span):
                continue
            blocks = self._blocks(segment, partition)
            if blocks is None:
                continue
            for number in range(max(first_block(blocks), 0), len(blocks.positions)):
                yield Place(segment, blocks, number)

    def _events(self, partition: Partition, place: Place, cursor: int) -> Iterator[Found]:
        """Events of a block at or behind `cursor`; losses are reported."""
        segment, blocks, number = place
        start, end = blocks.positions[number], blocks.ends[number]
        if end <= cursor:
            return
        try:
            read = self.reader(segment)
        except FileNotFoundError:  # retired by the writing process a moment ago
            return
        if start < cursor:
            for item in self._verified(partition, place, scan(read, cursor, end), None):
                if isinstance(item, Gap):
                    break
                yield item
                cursor = item.header.end
            else:
                return
        for item in self._verified(partition, place, scan(read, start, end), blocks.sequences[number]):
            if isinstance(item, Found) and item.header.position >= cursor:
                yield item

    def _verified(
        self, partition: Partition, place: Place, items: Iterator[Found | Gap], expected: int | None
    ) -> Iterator[Found | Gap]:
        """A block's events of one partition, losses reported; a gap when it is not known which event was `expected`."""
        gap: Gap | None = None
        for item in items:
            if isinstance(item, Gap):
                gap = item
                if expected is None:
                    yield gap
            elif _is_event(item, partition):
                sequence = item.header.sequence
                if gap is not None and expected is not None and expected < sequence:
                    self._report(partition, gap, expected, sequence - 1)
                expected, gap = sequence + 1, None
                yield item
        after = _sequence_after(partition, place)
        if gap is not None and expected is not None and expected < after:
            self._report(partition, gap, expected, after - 1)

    def _report(self, partition: Partition, gap: Gap, first: int, last: int) -> None:
        self.damages.add(Damage(gap.start, gap.end, (Lost(partition, first, last),), acknowledged=True))

    def _handle(self, base: int) -> int:
        handle = self._handles.get(base)
        if handle is None:
            if len(self._handles) >= HANDLES_MAX:
                self._files.close(self._handles.popitem(last=False)[1])
            handle = self._handles[base] = self._files.open_read(segment_name(base))
        self._handles.move_to_end(base)
        return handle

    def _blocks(self, segment: SegmentIndex, partition: Partition) -> Blocks | None:
        """Blocks of a partition; None when the segment has been retired by the writing process."""
        if segment.blocks is not None:
            return segment.blocks[partition]
        blocks = self._indexes.get(segment.base)
        if blocks is None:
            if len(self._indexes) >= INDEXES_MAX:
                self._indexes.popitem(last=False)
            loaded = self._load(segment)
            if loaded is None:
                return None
            blocks = self._indexes[segment.base] = loaded
        self._indexes.move_to_end(segment.base)
        return blocks[partition]

    def _load(self, segment: SegmentIndex) -> dict[Partition, Blocks] | None:
        try:
            index = decode_index(self._files.read_whole(index_name(segment.base)))
            if index.blocks is not None and index.end == segment.end and index.spans.keys() == segment.spans.keys():
                return index.blocks
        except (FileNotFoundError, Damaged, NewerFormat):
            pass
        try:
            rebuilt = SegmentIndex(segment.base, segment.data_start)
            index_events(rebuilt, self.reader(segment), segment.end)
        except FileNotFoundError:
            return None
        return rebuilt.blocks


def index_events(index: SegmentIndex, read: ReadAt, end: int) -> None:
    """Extends an index up to `end` from the records themselves; damage is passed over."""
    for item in stretches(scan(read, index.end, end)):
        if isinstance(item, Stretch):
            index.extend(*item)
    index.end = end


def _block_of_position(cursor: int) -> Callable[[Blocks], int]:
    return lambda blocks: bisect_right(blocks.positions, cursor) - 1


def _sequence_after(partition: Partition, place: Place) -> int:
    """Sequence number of the event that follows a block."""
    segment, blocks, number = place
    if number + 1 < len(blocks.sequences):
        return blocks.sequences[number + 1]
    return segment.spans[partition].last_sequence + 1


def _is_event(found: Found, partition: Partition) -> bool:
    header = found.header
    return header.number == partition.number and header.stream == partition.stream and header.sequence >= 0
