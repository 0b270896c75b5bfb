"""Reads a whole log, whether it is being written or not, and says what of it can no longer be read.

Every record up to the committed mark is checked by its checksum; nothing is written and nothing repaired. Damage is
told as a stretch of positions with the events that were lost in it, as recovery tells it at a start.
"""

from dataclasses import dataclass
from pathlib import Path

from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.check import SegmentCheck
from isthmus.telemetry.damage import Damage
from isthmus.telemetry.files import Files, FolderFiles
from isthmus.telemetry.frame import Damaged, NewerFormat
from isthmus.telemetry.head import HEAD_NAME, Mark, stored_mark
from isthmus.telemetry.index import decode_index
from isthmus.telemetry.recovery import all_missing, carry_at_the_beginning, missing_at_the_beginning
from isthmus.telemetry.segment import Carry, index_name, limits_of, list_segments, open_segment, segment_name
from isthmus.telemetry.tails import NOTHING_KNOWN, TAILS_NAME, read_known

RETRIES_MAX = 3
"""How often a segment that retention took away meanwhile makes the whole be read again."""


@dataclass(frozen=True, slots=True)
class LogReport:
    """What was read: positions from `begin` up to `end`, and what was found.

    `bad_indexes` are files that would be made anew at the next start, and cost time only.
    """

    segments: int
    records: int
    begin: int
    end: int
    damages: tuple[Damage, ...]
    bad_indexes: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """True when every record is there."""
        return not self.damages


def verify_log(folder: Path, files: Files | None = None) -> LogReport:
    """Reads the log of a folder; raises ConfigurationError when there is none, or it cannot be read."""
    files = files or FolderFiles(folder)
    try:
        for _ in range(RETRIES_MAX):
            try:
                return _Verification(files, _mark(files)).run()
            except _RetiredError:
                continue
        raise ConfigurationError(f"The log in {folder} loses segments faster than it can be read.")
    except NewerFormat as error:
        raise ConfigurationError(f"The log in {folder} was written by a later release ({error}).") from error
    except FileNotFoundError as error:
        raise ConfigurationError(f"There is no log in {folder}.") from error
    except OSError as error:
        raise ConfigurationError(f"The log in {folder} cannot be read: {error.strerror}.") from error


class _RetiredError(Exception):
    """A segment went while it was read."""


def _mark(files: Files) -> Mark:
    """The committed mark; where it is damaged, the end in the tails file stands for it, or that of the last segment."""
    names, bases = files.names(), list_segments(files)
    if not bases and not {HEAD_NAME, TAILS_NAME} & set(names):
        raise FileNotFoundError
    mark = stored_mark(files) if HEAD_NAME in names and files.size(HEAD_NAME) else None
    if mark is not None:
        return mark
    last = bases[-1] if bases else 0
    known = read_known(files).end
    if known is not None or not bases:
        return Mark(known or 0, last)
    start = open_segment(files, last).data_start
    return Mark(last + max(0, files.size(segment_name(last)) - start), last)


class _Verification:
    def __init__(self, files: Files, mark: Mark) -> None:
        self._files = files
        self._mark = mark
        self._records = 0
        self._known = NOTHING_KNOWN
        self._damages: list[Damage] = []
        self._bad_indexes: list[str] = []

    def run(self) -> LogReport:
        bases = [base for base in list_segments(self._files) if base < self._mark.committed]
        self._known = read_known(self._files)  # after the list, as retention moves the beginning before it removes
        if bases:
            self._damages += missing_at_the_beginning(self._files, bases[0], self._known)
        elif (self._known.begin or 0) < self._mark.committed:
            self._damages.append(all_missing(self._known, self._mark.committed))
        carry = carry_at_the_beginning(bases[0], self._known) if bases else None
        followings = [*bases[1:], None] if bases else []
        limits = limits_of(self._files, bases, self._mark.committed)
        for base, limit, following in zip(bases, limits, followings, strict=True):
            try:
                carry = self._segment(base, limit, following, carry)
            except FileNotFoundError as error:
                if segment_name(base) in self._files.names():
                    raise
                raise _RetiredError from error
        return LogReport(
            segments=len(bases),
            records=self._records,
            begin=bases[0] if bases else self._mark.committed,
            end=self._mark.committed,
            damages=tuple(self._damages),
            bad_indexes=tuple(self._bad_indexes),
        )

    def _segment(self, base: int, limit: int, following: int | None, before: Carry | None) -> Carry:
        """Reads one segment; `before` is what was known where it begins, by all that was read so far."""
        check = SegmentCheck(self._files, base, limit, before or Carry({}, {}, 0))
        try:
            check.step()
        finally:
            check.close()
        if following is None:
            reached = self._known.before(limit)
        else:
            reached = open_segment(self._files, following).reached()
            self._check_index(base, limit, check.survey.index.data_start)
        self._damages += check.damages(reached)
        self._records += check.survey.records
        return check.carry()

    def _check_index(self, base: int, limit: int, data_start: int) -> None:
        try:
            index = decode_index(self._files.read_whole(index_name(base)))
        except (FileNotFoundError, Damaged):
            self._bad_indexes.append(index_name(base))
            return
        if (index.base, index.end, index.data_start) != (base, limit, data_start):
            self._bad_indexes.append(index_name(base))
