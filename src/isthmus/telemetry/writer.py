"""The writing half of the log: makes a batch durable. Runs on one thread.

Positions are logical: a batch that must be written again, because a write or sync failed, has the same bytes in the new
segment, which begins where the last durable record ended. A sync is never tried again on the same file: after an error
the kernel may have dropped the pages, and a second sync would report success. The segment that failed is cut at its
last durable record as well as the disk allows; should the cut fail, recovery knows from the next segment's beginning
where it ends.
"""

import contextlib
import struct
from dataclasses import dataclass

from isthmus.base.clock import Clock
from isthmus.telemetry.batch import Batch, Item, Run
from isthmus.telemetry.cut import Cut
from isthmus.telemetry.files import Files
from isthmus.telemetry.frame import NewerFormat
from isthmus.telemetry.head import Head, Mark
from isthmus.telemetry.index import SegmentIndex
from isthmus.telemetry.recovery import Recovered
from isthmus.telemetry.segment import encode_header, open_segment, segment_name
from isthmus.telemetry.tails import Tails


@dataclass(frozen=True, slots=True)
class Begun:
    """A segment that a commit began."""

    base: int
    data_start: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What became of a batch that ended at `end`.

    `error` is empty when it is durable. `trouble` tells of a first try that failed, whatever became of the second.
    """

    runs: list[Run]
    outbox: dict[int, int]
    end: int
    newest_ms: int
    begun: Begun | None
    seconds: float
    error: str
    trouble: str


class Writer:
    """Owns the active segment and what is known at its end; tells the committed mark."""

    def __init__(
        self, files: Files, clock: Clock, head: Head, tails: Tails, recovered: Recovered, segment_bytes: int
    ) -> None:
        self._files = files
        self._clock = clock
        self._head = head
        self._tails = tails
        self._carry = recovered.carry
        self._used = dict(recovered.used)
        self._end = recovered.end
        self._segment_bytes = segment_bytes
        self._base = recovered.end
        self._data_start = 0
        self._handle: int | None = None
        self._begun: Begun | None = None

    def resume(self, segment: SegmentIndex) -> None:
        """Goes on in a segment that is there already and ends at the log's end."""
        self._handle = self._files.open_write(segment_name(segment.base))
        self._base, self._data_start = segment.base, segment.data_start

    def tell(self) -> None:
        """Moves the committed mark to the end of what is durable."""
        self._tails.reach(self._end)
        self._head.write(Mark(self._end, self._base))

    def commit(self, items: list[Item], *, roll: bool) -> Commit:
        """Makes a batch durable, in a new segment when asked or when this one is full.

        Never raises: whatever goes wrong, the batch is either durable or its `Commit` has an `error`.
        """
        started = self._clock.monotonic()
        self._begun = None
        error = trouble = ""
        try:
            batch = Batch(items, self._end, self._clock.utc_ms(), self._carry)
        except (struct.error, TypeError, OverflowError) as failure:
            return Commit([], {}, self._end, 0, None, 0.0, f"a record cannot be stored: {failure}", "")
        try:
            trouble = self._write_twice(batch, roll=roll)
        except OSError as failure:
            error = trouble = _describe(failure)
        else:
            batch.settle()
            self._end = batch.end
            for run in batch.runs:
                self._tails.move(run.partition, self._carry.tails[run.partition], run.sequence)
                self._used.pop(run.partition, None)
            self.tell()
        seconds = self._clock.monotonic() - started
        begun = None if error else self._begun
        return Commit(batch.runs, batch.outbox, batch.end, batch.newest_ms, begun, seconds, error, trouble)

    def begin_at(self, base: int) -> None:
        """Tells that the log begins with the segment at `base` from now on, before those below it are removed."""
        with contextlib.suppress(OSError, NewerFormat):
            reached = open_segment(self._files, base).reached()
            self._tails.begin_at(base, {partition: tail.next_sequence for partition, tail in reached.items()})

    def cut(self) -> Cut:
        """Everything that is durable now."""
        return Cut(self._end, self._carry.copy())

    def close(self) -> None:
        """Gives the active segment back."""
        if self._handle is not None:
            self._files.close(self._handle)
            self._handle = None

    def _write_twice(self, batch: Batch, *, roll: bool) -> str:
        """Writes; after a failure once more into a new segment. Answers what went wrong the first time."""
        try:
            self._write(batch, roll=roll)
        except OSError as failure:
            self._abandon()
            try:
                self._write(batch, roll=False)
            except OSError:
                self._abandon()
                raise
            return _describe(failure)
        return ""

    def _write(self, batch: Batch, *, roll: bool) -> None:
        if roll or self._handle is None or self._end - self._base >= self._segment_bytes:
            self._begin()
        assert self._handle is not None
        if batch.end > batch.start:
            self._files.write(self._handle, batch.buffers())
            self._files.sync(self._handle)

    def _begin(self) -> None:
        header = encode_header(self._end, self._clock.utc_ms(), self._carry, self._used)
        handle = self._files.create(segment_name(self._end), header)
        self.close()
        self._handle, self._base, self._data_start = handle, self._end, len(header)
        self._begun = Begun(self._base, self._data_start)

    def _abandon(self) -> None:
        """Seals a segment whose disk has failed us at the last durable record; the next write begins a new one."""
        if self._handle is None:
            return
        with contextlib.suppress(OSError):
            self._files.truncate(self._handle, self._data_start + self._end - self._base)
        with contextlib.suppress(OSError):
            self.close()
        self._handle = None


def _describe(failure: OSError) -> str:
    return f"the log cannot be written: {failure.strerror or failure}"
