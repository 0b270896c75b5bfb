"""Opening a log folder after whatever happened to it.

Theory of operation. Every segment but the last is sealed: it ends where the next one begins, whatever its file holds
behind that (a commit whose sync failed was written again into the next segment). A sealed segment is believed when its
index file is intact and agrees; else it is scanned and its index rebuilt. The last segment is always scanned. What does
not parse at its end is a torn commit when the committed mark lies before it: nobody was told of it, and it is cut off,
together with the intact records of that same unfinished commit. Where the mark says that it was durable once, or where
intact records follow, it is damage: it stays where it is, is reported, and the log goes on in a new segment behind it.

Records lost in damage had sequence numbers. Where a later record of the partition is left, the gap is exact. Where none
is left, the partition goes on with a number that no lost record can have had, because a consumer may hold it as its
checkpoint: numbers are skipped rather than used twice.
"""

import contextlib
import itertools
from dataclasses import dataclass

from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.damage import Damage
from isthmus.telemetry.files import NEW_SUFFIX, Files
from isthmus.telemetry.frame import Damaged, NewerFormat
from isthmus.telemetry.head import Mark
from isthmus.telemetry.index import SegmentIndex, decode_index, encode_index
from isthmus.telemetry.record import RECORD_BYTES_MIN, Gap
from isthmus.telemetry.segment import INDEX_SUFFIX, Carry, index_name, open_segment, segment_bases, segment_name
from isthmus.telemetry.survey import Survey


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
    """A log ready to go on: `segments` in order; the last one takes more records when `appendable`."""

    segments: list[SegmentIndex]
    carry: Carry
    appendable: bool
    end: int
    report: RecoveryReport


def recover(files: Files, mark: Mark | None) -> Recovered:
    """Reads what a log folder holds, repairs what may be repaired, and says what was found.

    Raises `ConfigurationError` when the folder was written by a later version, `OSError` when it cannot be read.
    """
    try:
        return _Recovery(files, mark.committed if mark is not None else 0).run()
    except NewerFormat as error:
        raise ConfigurationError(
            f"The data folder's log was written by a later release ({error}): start that."
        ) from error


class _Recovery:
    def __init__(self, files: Files, mark: int) -> None:
        self._files = files
        self._mark = mark
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
        bases = segment_bases(names)
        for orphan in {name for name in names if name.endswith(INDEX_SUFFIX)} - set(map(index_name, bases)):
            self._files.remove(orphan)
        if not bases:
            return self._empty()
        for base, limit in itertools.pairwise(bases):
            self._segments.append(self._sealed(base, limit))
        return self._last(bases[-1])

    def _empty(self) -> Recovered:
        """A new log; or one whose segments are all gone, although the mark tells of some."""
        if self._mark:
            self._damages.append(Damage(0, self._mark, (), acknowledged=True))
        carry = Carry({}, {}, self._mark // RECORD_BYTES_MIN)
        return Recovered([], carry, False, self._mark, self._report())

    def _sealed(self, base: int, limit: int) -> SegmentIndex:
        try:
            index = decode_index(self._files.read_whole(index_name(base)))
        except (FileNotFoundError, Damaged):
            return self._rebuild(base, limit)
        whole = self._files.size(segment_name(base)) >= index.data_start + limit - base
        return index if whole and (index.base, index.end) == (base, limit) else self._rebuild(base, limit)

    def _rebuild(self, base: int, limit: int) -> SegmentIndex:
        survey = self._survey(base, limit, None)
        survey.finish()
        survey.index.end = limit
        after = open_segment(self._files, limit).carry
        if after is not None:
            survey.compare(after.tails)
        self._damages += survey.damages(limit)
        with contextlib.suppress(OSError):  # the next start rebuilds it again
            self._files.write_whole(index_name(base), encode_index(survey.index))
        self._rebuilt.append(index_name(base))
        return survey.index

    def _last(self, base: int) -> Recovered:
        """Decides what the end of the last segment is: whole, torn, or damaged."""
        survey = self._survey(base, None, self._carry_before(base))
        index = survey.index
        stored = max(index.base, index.base + self._files.size(segment_name(base)) - index.data_start)
        end = max(stored, self._mark)
        if index.end >= self._mark:
            self._torn, end = Gap(index.end, stored), index.end
        else:
            survey.finish()
            if stored < self._mark:
                survey.gaps.append(Gap(stored, self._mark))
        index.end = end
        self._make_durable(index, cut=self._torn.end > self._torn.start)
        self._segments.append(index)
        self._damages += survey.damages(self._mark)
        carry = survey.carry_past_gaps() if survey.gaps else survey.carry
        return Recovered(self._segments, carry, not survey.gaps, end, self._report())

    def _survey(self, base: int, limit: int | None, carry: Carry | None) -> Survey:
        """Scans a segment up to its limit, or to the end of its file."""
        opened = open_segment(self._files, base)
        name = segment_name(base)
        size = self._files.size(name)
        end = base + size - opened.data_start if limit is None else limit
        survey = Survey(SegmentIndex(base, opened.data_start), carry or opened.carry or Carry({}, {}, 0))
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
        carry = Carry({}, {}, 0)
        for segment in reversed(self._segments):
            since.insert(0, segment)
            before = open_segment(self._files, segment.base).carry
            if before is not None:
                carry = before
                break
        for segment in since:
            survey = self._survey(segment.base, segment.end, carry)
            survey.finish()
            carry = survey.carry
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
