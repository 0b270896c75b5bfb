"""Opening a log folder after whatever happened to it.

Theory of operation. Every segment but the last is sealed: it ends where the next one begins, whatever its file holds
behind that (a commit whose sync failed was written again into the next segment). A sealed segment is believed when its
index file is intact and agrees; else it is scanned and its index rebuilt. The last segment is always scanned. What does
not parse at its end is a torn commit when the committed mark lies before it: nobody was told of it, and it is cut off,
together with the intact records of that same unfinished commit. Where the mark says that it was durable once, or where
intact records follow, it is damage: it stays where it is, is reported, and the log goes on in a new segment behind it.

Records lost in damage had sequence numbers. Where a later record of the partition is left, the gap is exact. Where none
is left, the tails file (`tails.py`) tells how far the partition had got; but it may tell too little after a power cut,
and so the partition goes on with a number that no lost record can have had, because a consumer may hold it as its
checkpoint: numbers are skipped rather than used twice. The header of the next segment says which were really used.

A file that is called a segment and holds nothing of its place is none (`list_segments`): a copy under another name
must not cut the segment before it short. It stays where it is. Segments that are missing leave a gap like any other;
the first ones are missed because the tails file says where the log begins.
"""

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.damage import Damage, Lost
from isthmus.telemetry.files import NEW_SUFFIX, Files
from isthmus.telemetry.frame import Damaged, NewerFormat
from isthmus.telemetry.head import Mark
from isthmus.telemetry.index import SegmentIndex, decode_index, encode_index
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.record import RECORD_BYTES_MIN, Gap
from isthmus.telemetry.segment import (
    INDEX_SUFFIX,
    Carry,
    Opened,
    Tail,
    index_name,
    list_segments,
    open_segment,
    segment_bases,
    segment_name,
)
from isthmus.telemetry.survey import Survey
from isthmus.telemetry.tails import NOTHING_KNOWN, Known


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What was found at opening, for the caller to log.

    `torn_at` and `torn_bytes` tell of an unacknowledged commit that was cut off; `rebuilt` names index files that were
    missing or damaged.
    """

    segments: int
    records_scanned: int
    torn_at: int
    torn_bytes: int
    damages: tuple[Damage, ...]
    rebuilt: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """True when there is nothing to tell."""
        return not (self.torn_bytes or self.damages or self.rebuilt)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A log ready to go on: `segments` in order; the last one takes more records when `appendable`.

    `used` is where partitions really were whose numbers `carry` skips; `known` is what the tails file is to tell.
    """

    segments: list[SegmentIndex]
    carry: Carry
    used: Mapping[Partition, int]
    appendable: bool
    end: int
    known: Known
    report: RecoveryReport


def recover(files: Files, mark: Mark | None, known: Known = NOTHING_KNOWN) -> Recovered:
    """Reads what a log folder holds, repairs what may be repaired, and says what was found.

    `known` is what the tails file tells. Raises `ConfigurationError` when the folder was written by a later version,
    `OSError` when it cannot be read.
    """
    try:
        return _Recovery(files, mark.committed if mark is not None else 0, known).run()
    except NewerFormat as error:
        raise ConfigurationError(
            f"The data folder's log was written by a later release ({error}): start that."
        ) from error


class _Recovery:
    def __init__(self, files: Files, mark: int, known: Known) -> None:
        self._files = files
        self._mark = max(mark, known.end or 0)
        self._known = known
        self._segments: list[SegmentIndex] = []
        self._damages: list[Damage] = []
        self._rebuilt: list[str] = []
        self._records = 0
        self._torn = Gap(0, 0)

    def run(self) -> Recovered:
        names = self._files.names()
        for name in names:
            if name.endswith(NEW_SUFFIX):
                self._files.remove(name)
        for orphan in {name for name in names if name.endswith(INDEX_SUFFIX)} - set(
            map(index_name, segment_bases(names))
        ):
            self._files.remove(orphan)
        bases = list_segments(self._files)
        if not bases:
            return self._empty()
        self._damages += missing_at_the_beginning(self._files, bases[0], self._known)
        for base, following in itertools.pairwise(bases):
            self._segments.append(self._sealed(base, open_segment(self._files, following)))
        return self._last(bases[-1])

    def _empty(self) -> Recovered:
        """A new log; or one whose segments are all gone, although the mark tells of some."""
        known = self._known
        begin = known.begin or 0
        if begin < self._mark:
            self._damages.append(all_missing(known, self._mark))
        carry = Carry(dict(known.tails), {}, self._mark // RECORD_BYTES_MIN)
        survey = Survey(SegmentIndex(begin, 0), carry)
        survey.miss(begin, self._mark)
        return self._recovered(survey, [], self._mark, begin, known.begins)

    def _recovered(
        self, survey: Survey, segments: list[SegmentIndex], end: int, begin: int, begins: Mapping[Partition, int]
    ) -> Recovered:
        """The log as the survey of its last segment leaves it."""
        reached = survey.carry
        carry = survey.carry_past_gaps() if survey.gaps else reached
        used = {
            partition: tail.next_sequence
            for partition, tail in reached.tails.items()
            if tail.next_sequence != carry.tail(partition).next_sequence
        }
        used |= self._used_before(segments, reached)
        if self._known.begin is not None:
            begin, begins = self._known.begin, self._known.begins
        tails = {
            partition: tail._replace(next_sequence=used.get(partition, tail.next_sequence))
            for partition, tail in reached.tails.items()
        }
        known = Known(begin, end, begins, tails)
        appendable = bool(segments) and not survey.gaps
        return Recovered(segments, carry.copy(), used, appendable, end, known, self._report())

    def _used_before(self, segments: list[SegmentIndex], reached: Carry) -> dict[Partition, int]:
        """Where partitions really were that have had no event since numbers were skipped before the last segment."""
        if not segments:
            return {}
        opened = open_segment(self._files, segments[-1].base)
        if opened.carry is None:
            return {}
        skipped = opened.carry.tails
        return {
            partition: following
            for partition, following in opened.used.items()
            if partition in skipped and skipped[partition].next_sequence == reached.tail(partition).next_sequence
        }

    def _sealed(self, base: int, following: Opened) -> SegmentIndex:
        limit = following.follows
        try:
            index = decode_index(self._files.read_whole(index_name(base)))
        except (FileNotFoundError, Damaged):
            return self._rebuild(base, following)
        whole = self._files.size(segment_name(base)) >= index.data_start + limit - base
        return index if whole and (index.base, index.end) == (base, limit) else self._rebuild(base, following)

    def _rebuild(self, base: int, following: Opened) -> SegmentIndex:
        limit = following.follows
        survey = self._survey(base, limit, self._carry_before(base))
        survey.finish()
        survey.index.end = limit
        survey.compare(following.reached())
        self._damages += survey.damages(limit)
        with contextlib.suppress(OSError):  # the next start rebuilds it again
            self._files.write_whole(index_name(base), encode_index(survey.index))
        self._rebuilt.append(index_name(base))
        return survey.index

    def _last(self, base: int) -> Recovered:
        """Decides what the end of the last segment is: whole, torn, or damaged."""
        survey = self._survey(base, None, self._carry_before(base))
        index, begins = survey.index, self._begins(base)
        stored = max(index.base, index.base + self._files.size(segment_name(base)) - index.data_start)
        end = max(stored, self._mark)
        if index.end >= self._mark:
            self._torn, end = Gap(index.end, stored), index.end
        else:
            survey.finish()
            survey.miss(stored, self._mark)
        if survey.gaps:
            survey.learn(self._known.before(end))
        index.end = end
        self._make_durable(index, cut=self._torn.end > self._torn.start)
        self._segments.append(index)
        self._damages += survey.damages(self._mark)
        return self._recovered(survey, self._segments, end, self._segments[0].base, begins)

    def _begins(self, last: int) -> dict[Partition, int]:
        """Where partitions were when the first segment began."""
        first = self._segments[0].base if self._segments else last
        return {partition: tail.next_sequence for partition, tail in open_segment(self._files, first).reached().items()}

    def _survey(self, base: int, limit: int | None, carry: Carry) -> Survey:
        """Scans a segment up to its limit, or to the end of its file."""
        opened = open_segment(self._files, base)
        name = segment_name(base)
        size = self._files.size(name)
        end = base + size - opened.data_start if limit is None else limit
        survey = Survey(SegmentIndex(base, opened.data_start), carry.copy())
        handle = self._files.open_read(name)
        try:
            shift = opened.data_start - base
            survey.run(lambda position, length: self._files.read(handle, length, position + shift), end)
        finally:
            self._files.close(handle)
        self._records += survey.records
        return survey

    def _carry_before(self, base: int) -> Carry:
        """What was known where a segment begins: by its header, or by the last intact one and all records since."""
        opened = open_segment(self._files, base)
        if opened.carry is not None:
            return opened.carry
        self._damages.append(Damage(base, base, (), acknowledged=True))
        since: list[SegmentIndex] = []
        carry = carry_at_the_beginning(self._segments[0].base if self._segments else base, self._known)
        for segment in reversed(self._segments):
            since.insert(0, segment)
            before = open_segment(self._files, segment.base).carry
            if before is not None:
                carry = before
                break
        for segment in since:
            survey = self._survey(segment.base, segment.end, carry)
            survey.finish()
            carry = survey.carry_past_gaps() if survey.gaps else survey.carry
        return carry

    def _make_durable(self, index: SegmentIndex, *, cut: bool) -> None:
        """What will be served must survive a power cut, also when a killed process left it in the page cache only."""
        handle = self._files.open_write(segment_name(index.base))
        try:
            if cut:
                self._files.truncate(handle, index.data_start + index.end - index.base)
            self._files.sync(handle)
        finally:
            self._files.close(handle)

    def _report(self) -> RecoveryReport:
        return RecoveryReport(
            segments=len(self._segments),
            records_scanned=self._records,
            torn_at=self._torn.start,
            torn_bytes=self._torn.end - self._torn.start,
            damages=tuple(self._damages),
            rebuilt=tuple(self._rebuilt),
        )


def missing_at_the_beginning(files: Files, first: int, known: Known) -> list[Damage]:
    """What is gone before the first segment, where the log is known to begin earlier."""
    if known.begin is None or known.begin >= first:
        return []
    lost = _between(known.begins, open_segment(files, first).reached())
    return [Damage(known.begin, first, lost, acknowledged=True)]


def all_missing(known: Known, end: int) -> Damage:
    """What is gone where no segment is left of a log that reached to `end`."""
    return Damage(known.begin or 0, end, _between(known.begins, known.tails), acknowledged=True)


def carry_at_the_beginning(first: int, known: Known) -> Carry:
    """What was known where the first segment begins, without its header."""
    tails = {partition: Tail(begin, 0, -1) for partition, begin in known.begins.items()}
    return Carry(tails if known.begin == first else {}, {}, 0)


def _between(begins: Mapping[Partition, int], reached: Mapping[Partition, Tail]) -> tuple[Lost, ...]:
    return tuple(
        Lost(partition, begins.get(partition, 0), tail.next_sequence - 1)
        for partition, tail in reached.items()
        if begins.get(partition, 0) < tail.next_sequence
    )
