"""The newest events in memory, so that readers who keep up cost no disk.

Runs are kept as the commit left them, in the order of commits, and the oldest go first when the bytes are used up. All
partitions share one budget: the busiest one gets most of it.
"""

from bisect import bisect_left, bisect_right
from collections import deque

from isthmus.telemetry.batch import Run
from isthmus.telemetry.ports import Partition, Record

RUN_COST = 400
"""Bytes of memory a run costs besides its records, measured roughly."""

RECORD_COST = 250
"""Bytes of memory a record costs besides envelope and payload, measured roughly."""

TRIM_MIN = 64
"""Forgotten runs before a partition's list is shortened; it then shrinks by half at least."""


class TailCache:
    """Runs of events; `start` is the log's end when the cache is made: everything later passes through it."""

    def __init__(self, start: int, bytes_max: int) -> None:
        self._start = start
        self._bytes_max = bytes_max
        self._bytes = 0
        self._order: deque[tuple[Run, int]] = deque()
        self._shelves: dict[Partition, _Shelf] = {}

    def add(self, run: Run) -> None:
        """Takes a run; older ones make room for it."""
        cost = RUN_COST + sum(RECORD_COST + len(event[1]) + len(event[2]) for event in run.events)
        self._order.append((run, cost))
        shelf = self._shelves.get(run.partition)
        if shelf is None:
            shelf = self._shelves[run.partition] = _Shelf(self._start)
        shelf.runs.append(run)
        self._bytes += cost
        while self._bytes > self._bytes_max:
            self._forget_oldest()

    def covers(self, partition: Partition, cursor: int) -> bool:
        """True when every event at or behind `cursor` is here."""
        shelf = self._shelves.get(partition)
        return cursor >= (self._start if shelf is None else shelf.complete_from)

    def read(
        self, partition: Partition, cursor: int, max_records: int, max_bytes: int
    ) -> tuple[list[Record], int | None]:
        """Events from a covered cursor on and the cursor behind them; None for the cursor when there are no more."""
        records: list[Record] = []
        shelf = self._shelves.get(partition)
        if shelf is None:
            return records, None
        for index in range(shelf.index_behind(cursor), len(shelf.runs)):
            run = shelf.runs[index]
            for number in range(bisect_left(run.positions, cursor), len(run.events)):
                size = len(run.events[number][1]) + len(run.events[number][2])
                if records and (len(records) >= max_records or max_bytes < size):
                    return records, run.positions[number]
                records.append(_record(run, number))
                max_bytes -= size
        return records, None

    def forget_before(self, position: int) -> None:
        """Forgets events whose segment has been retired."""
        while self._order and self._order[0][0].end <= position:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        run, cost = self._order.popleft()
        self._shelves[run.partition].forget_oldest()
        self._bytes -= cost


class _Shelf:
    """Runs of one partition; those before `first` have been forgotten."""

    __slots__ = ("complete_from", "first", "runs")

    def __init__(self, complete_from: int) -> None:
        self.complete_from = complete_from
        self.first = 0
        self.runs: list[Run] = []

    def forget_oldest(self) -> None:
        self.complete_from = self.runs[self.first].end
        self.first += 1
        if self.first >= TRIM_MIN and self.first * 2 >= len(self.runs):
            del self.runs[: self.first]
            self.first = 0

    def index_behind(self, cursor: int) -> int:
        """Index of the first run that ends behind a cursor."""
        return bisect_right(self.runs, cursor, lo=self.first, key=_end)


def _end(run: Run) -> int:
    return run.end


def _record(run: Run, number: int) -> Record:
    endpoints, envelope, payload, ingress_ms, outbox_id = run.events[number]
    return Record(
        run.partition,
        run.sequence + number,
        run.positions[number],
        run.enqueued_ms,
        ingress_ms,
        endpoints,
        outbox_id,
        envelope,
        payload,
    )
