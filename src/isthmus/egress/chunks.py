"""The log as a worker reads it: pieces of it, read once for all endpoints that are at the same place.

Endpoints that keep up are all at the end of the log, where each commit is one small chunk; one that has fallen behind
reads for itself. So the log is read about once, however many endpoints there are, and memory holds `CHUNKS_MAX` chunks.
"""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

from isthmus.telemetry.ports import Record
from isthmus.telemetry.reader import LogReader

CHUNKS_MAX = 16
"""Chunks remembered: some commits, within which endpoints that keep up are apart."""

CHUNK_RECORDS_MAX = 512
CHUNK_BYTES_MAX = 1024 * 1024
"""Read at a time: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The records that leave a hub between two places in the log."""

    start: int
    end: int
    records: list[Record]


class Chunks:
    """Reads chunks and remembers the last ones. Not thread-safe."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._streams: frozenset[int] = frozenset()
        self._kept: deque[Chunk] = deque(maxlen=CHUNKS_MAX)

    def serve(self, streams: frozenset[int]) -> None:
        """Whose records are wanted."""
        if streams != self._streams:
            self._streams = streams
            self._kept.clear()

    def after(self, position: int) -> Chunk | None:
        """What follows a place, as much as is read at once; None at the log's end. Raises OSError."""
        for kept in self._kept:
            if kept.start <= position < kept.end:
                first = bisect_left(kept.records, position, key=lambda record: record.offset)
                return Chunk(position, kept.end, kept.records[first:])
        records, following = self._reader.read_all(
            position, CHUNK_RECORDS_MAX, max_bytes=CHUNK_BYTES_MAX, streams=self._streams
        )
        if following <= position:
            return None
        chunk = Chunk(position, following, records)
        self._kept.append(chunk)
        return chunk
