"""Reading the log from a process that does not write it: sinks, exports, support tools.

The committed mark says how far the log is durable; nothing behind it is ever looked at. Sealed segments come with their
indexes. The active one has none yet, so it is indexed here, piece by piece, as the mark moves. Nothing is ever written.
Damage that recovery skips is skipped and reported here too.
"""

from collections.abc import Container, Iterator
from pathlib import Path

from isthmus.telemetry.archive import Archive, index_events
from isthmus.telemetry.damage import Damage, Damages, OnDamage
from isthmus.telemetry.files import Files, FolderFiles
from isthmus.telemetry.frame import Damaged, NewerFormat
from isthmus.telemetry.head import Head, Mark
from isthmus.telemetry.index import SegmentIndex, decode_index
from isthmus.telemetry.ports import Partition, Record
from isthmus.telemetry.record import Found, Gap, Header, scan, to_record
from isthmus.telemetry.segment import index_name, limits_of, list_segments, open_segment

SCAN_BYTES_MAX = 1024 * 1024
"""Of the log, looked at in one call where most may be passed over: some milliseconds of whoever waits."""

NOTHING = Mark(0, 0)
"""The mark of a log that holds nothing yet."""


class LogReader:
    """Committed records of a log folder. Not thread-safe. Raises `OSError` when the folder cannot be read."""

    def __init__(
        self,
        folder: Path,
        *,
        files: Files | None = None,
        on_damage: OnDamage = lambda damage: None,
        indexed: bool = True,
    ) -> None:
        """Maps the mark; raises FileNotFoundError when no log was ever opened there.

        Without an index only `read_all` can be used, and each record is looked at once.
        """
        self._indexed = indexed
        self._files = files or FolderFiles(folder)
        self._head = Head.open(self._files, writable=False)
        self._archive = Archive(self._files, Damages(on_damage))
        self._mark = NOTHING

    @property
    def committed(self) -> int:
        """Where the log ends now; grows with each commit."""
        return (self._head.read() or NOTHING).committed

    def read(self, partition: Partition, cursor: int, max_records: int, max_bytes: int) -> tuple[list[Record], int]:
        """Committed events of the built-in endpoint's view; cursors and bounds as in `Log.read`."""
        end = self._refresh()
        records, following = self._archive.read(partition, cursor, max_records, max_bytes)
        return records, max(cursor, end) if following is None else following

    def read_all(
        self, cursor: int, max_records: int, *, max_bytes: int = SCAN_BYTES_MAX, streams: Container[int] | None = None
    ) -> tuple[list[Record], int]:
        """Committed records of all streams, whatever endpoints they name, in log order, and the cursor behind them.

        A cursor is 0 or was returned by this call. One before retention reads from the first retained record. With
        `streams` only records of these are returned, and of them only those that name another endpoint than the
        built-in one; then, too, no more than some `max_bytes` of the log are looked at, so that there may be more
        though none was returned: the cursor tells.
        """
        end = self._refresh()
        records: list[Record] = []
        for segment in self._archive.segments:
            start, stop = max(cursor, segment.base), min(segment.end, end)
            if start >= stop:
                continue
            cursor = stop
            for item in self._scan(segment, start, stop):
                if not isinstance(item, Found):
                    self._archive.damages.add(Damage(item.start, item.end, (), acknowledged=True))
                    continue
                position = item.header.position
                if len(records) == max_records or (streams is not None and position - start >= max_bytes):
                    return records, position
                if streams is None or _leaves(item.header, streams):
                    records.append(to_record(item))
            if records or streams is not None:
                break
        return records, cursor

    def since(self, utc_ms: int) -> int:
        """A cursor of `read_all` before which every record is older than a moment.

        Whole segments are passed over, so that some records behind it may be older, too.
        """
        end = self._refresh()
        wanted = (segment.base for segment in self._archive.segments if not 0 < segment.newest_ms < utc_ms)
        return next(wanted, end)

    def close(self) -> None:
        """Gives files and mapping back."""
        self._archive.close()
        self._head.close()

    def _refresh(self) -> int:
        """Takes notice of what was committed, sealed and retired since the last call."""
        mark = self._head.read() or NOTHING
        if mark != self._mark:
            self._follow(mark)
            self._mark = mark
        return mark.committed

    def _follow(self, mark: Mark) -> None:
        segments = self._archive.segments
        if not segments or segments[-1].base != mark.active_base:
            self._list(mark)
        if self._archive.segments:
            self._extend(self._archive.segments[-1], mark.committed)

    def _list(self, mark: Mark) -> None:
        known = {segment.base: segment for segment in self._archive.segments}
        bases = [base for base in list_segments(self._files, known) if base < mark.committed]
        for gone in known.keys() - set(bases):
            self._archive.drop(gone)
        limits = limits_of(self._files, bases, mark.committed)
        opened = (self._segment(base, limit, known.get(base)) for base, limit in zip(bases, limits, strict=True))
        self._archive.segments = [segment for segment in opened if segment is not None]
        for sealed in self._archive.segments[:-1]:
            sealed.blocks = None

    def _scan(self, segment: SegmentIndex, start: int, stop: int) -> Iterator[Found | Gap]:
        try:
            read = self._archive.reader(segment)
        except FileNotFoundError:  # retired a moment ago
            return
        yield from scan(read, start, stop)

    def _segment(self, base: int, limit: int, known: SegmentIndex | None) -> SegmentIndex | None:
        """A segment indexed up to its limit; None when it was retired a moment ago."""
        try:
            found = known or (self._sealed(base, limit) if self._indexed else None)
            segment = found or SegmentIndex(base, open_segment(self._files, base).data_start)
            self._extend(segment, limit)
        except FileNotFoundError:
            return None
        return segment

    def _sealed(self, base: int, limit: int) -> SegmentIndex | None:
        try:
            index = decode_index(self._files.read_whole(index_name(base)))
        except (FileNotFoundError, Damaged, NewerFormat):
            return None
        return index if index.end == limit else None

    def _extend(self, segment: SegmentIndex, end: int) -> None:
        if segment.end < end and self._indexed:
            index_events(segment, self._archive.reader(segment), end)
        segment.end = max(segment.end, end)


def _leaves(header: Header, streams: Container[int]) -> bool:
    """True for a record of these streams that names another endpoint than the built-in one."""
    return header.stream in streams and header.endpoint_count > (header.sequence >= 0)
