"""What a scan of one whole segment finds: an index, the state it leaves behind, and damage with what was lost in it."""

from collections.abc import Mapping

from isthmus.telemetry.damage import Damage, Lost
from isthmus.telemetry.index import SegmentIndex
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.record import BATCH_END, RECORD_BYTES_MIN, Found, Gap, Header, ReadAt, Stretch, scan, stretches
from isthmus.telemetry.segment import Carry, Tail


class Survey:
    """Takes the items of a scan in order. `carry` is what was known where the segment begins, and is moved on.

    Records of a commit are held back until its last one has been seen; `unfinished` are those that wait still. At most
    one commit is held.
    """

    def __init__(self, index: SegmentIndex, carry: Carry) -> None:
        self.index = index
        self.carry = carry
        self.unfinished: list[Found | Gap] = []
        self.gaps: list[Gap] = []
        self.records = 0
        self._lost: dict[Gap, list[Lost]] = {}

    def run(self, read: ReadAt, end: int) -> None:
        """Scans from the index's end up to `end`."""
        for item in scan(read, self.index.end, end):
            self.take(item)

    def take(self, item: Found | Gap) -> int:
        """Takes the next item of a scan; returns where it ends."""
        self.unfinished.append(item)
        if isinstance(item, Gap):
            return item.end
        if item.header.flags & BATCH_END:
            self.finish()
        return item.header.end

    def finish(self) -> None:
        """Counts what was held back."""
        for item in self.unfinished:
            if isinstance(item, Found):
                self._note(item.header)
        for joined in stretches(self.unfinished):
            if isinstance(joined, Gap):
                self.gaps.append(joined)
            else:
                self._take(joined)
        self.unfinished.clear()

    def miss(self, start: int, end: int) -> None:
        """Counts as a gap what the file ends too early for; it is one with a gap that it follows."""
        if start >= end:
            return
        if self.gaps and self.gaps[-1].end == start:
            start = self.gaps.pop().start
        self.gaps.append(Gap(start, end))

    def compare(self, after: Mapping[Partition, Tail]) -> None:
        """Takes what is known behind the segment: events that are missing before it were lost in a gap."""
        for partition, tail in after.items():
            gap = next((gap for gap in self.gaps if gap.start <= tail.last_offset < gap.end), None)
            self._expect(partition, tail.next_sequence, gap)

    def learn(self, reached: Mapping[Partition, Tail]) -> None:
        """As `compare`, and goes on from there: for the last segment, behind which nothing tells."""
        self.compare(reached)
        for partition, tail in reached.items():
            if tail.next_sequence > self.carry.tail(partition).next_sequence:
                self.carry.tails[partition] = tail

    def damages(self, mark: int) -> list[Damage]:
        """The gaps; those before `mark` were acknowledged once."""
        return [Damage(gap.start, gap.end, tuple(self._lost.get(gap, ())), gap.start < mark) for gap in self.gaps]

    def carry_past_gaps(self) -> Carry:
        """The state behind the segment, with the numbers skipped that records lost without a trace may have had."""
        tails = {
            partition: tail._replace(next_sequence=tail.next_sequence + self._records_behind(tail.last_offset))
            for partition, tail in self.carry.tails.items()
        }
        return Carry(tails, self.carry.outbox, self.carry.unseen_sequence + self._records_behind(-1))

    def _records_behind(self, position: int) -> int:
        """How many records, at most, were lost behind a position."""
        return sum((gap.end - gap.start) // RECORD_BYTES_MIN + 1 for gap in self.gaps if gap.end > position)

    def _note(self, header: Header) -> None:
        self.records += 1
        self.index.reach(header.end, header.enqueued_ms)
        if header.outbox_id > self.carry.outbox.get(header.stream, 0):
            self.carry.outbox[header.stream] = header.outbox_id

    def _take(self, stretch: Stretch) -> None:
        self.index.extend(*stretch)
        self._expect(stretch.partition, stretch.sequence)
        following = stretch.sequence + len(stretch.positions)
        self.carry.tails[stretch.partition] = Tail(following, stretch.enqueued_ms, stretch.positions[-1])

    def _expect(self, partition: Partition, sequence: int, gap: Gap | None = None) -> None:
        """Where an event is not the next one, those between were lost in `gap`, or else in the last one so far."""
        if not self.gaps:
            return
        expected = self.carry.tail(partition).next_sequence
        if expected < sequence:
            self._lost.setdefault(gap or self.gaps[-1], []).append(Lost(partition, expected, sequence - 1))
