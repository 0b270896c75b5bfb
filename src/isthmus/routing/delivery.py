"""Deliveries to one endpoint: which records go next, when, and how far each partition has been served.

Theory of operation. The machine is pure: it is given records in log order, told what became of batches, and told the
time. It keeps a lane for each partition of the hub. A lane is idle, or has one batch under way, so that the order of a
partition is the order of the log. A batch comes back in one of four ways:

* delivered: its records are done;
* failed: those at its front that arrived all the same are done, the others wait in front, and the whole endpoint waits
  for a while (`backoff_ms`); as long as it fails, one lane at a time tries, each in turn, and the first success sets
  all of them free;
* a record in it will never be taken: what is before it is done, and it is buried, which means that it goes to the
  dead-letter log; its lane waits until that is durable;
* buried: done.

`give_up` says up to where records are to be buried instead of delivered, because the log cannot keep them any longer,
or nobody wants them to wait. A delivery that is under way is let come to its end first.

The cursor of a lane is the first record that is not done, or, when there is none, how far the endpoint has read. It is
what is kept: a start reads on at the lowest of the cursors and passes over what lies before each lane's own. So a
record is delivered at least once, and again only if it was delivered after the cursors were last kept. Not more is read
than `WAITING_BYTES_MAX` and `WAITING_RECORDS_MAX` let wait, and a chunk: the log keeps the rest.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import takewhile

from isthmus.base.clock import is_over
from isthmus.routing.health import DEAD_AFTER_MS, NOTHING_TRIED, EndpointHealth
from isthmus.routing.sink import FailureKind
from isthmus.telemetry.ports import Record

BATCH_RECORDS_MAX = 2_000
BATCH_BYTES_MAX = 2 * 1024 * 1024
"""One delivery: some tenths of a second at a sink's full speed, so that a failure repeats little."""

WAITING_RECORDS_MAX = 8_000
WAITING_BYTES_MAX = 4 * 1024 * 1024
"""Read and not yet done, for one endpoint: enough for the next batch to be there when one is delivered."""

BACKOFF_MS_MIN = 500
BACKOFF_MS_MAX = 10_000
"""Between two tries of a failing endpoint: a target that is set right is noticed within seconds, and one that is down
costs a request now and then."""


class Errand(Enum):
    """What is to be done with a batch."""

    DELIVER = auto()
    BURY = auto()


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of a partition that are under way; `reason` says why they are buried."""

    errand: Errand
    partition: int
    records: tuple[Record, ...]
    reason: str = ""
    code: str = ""


@dataclass(slots=True)
class _Lane:
    """Records of one partition that are not done, in order; the first `under_way` of them are in a batch."""

    records: deque[Record] = field(default_factory=deque)
    under_way: int = 0
    skip_before: int = 0
    refused: tuple[str, str] | None = None
    """Why the first record will never be taken."""


class Deliveries:
    """The lanes of one endpoint. Not thread-safe."""

    def __init__(
        self,
        number: int,
        cursors: Mapping[int, int],
        start: int,
        health: EndpointHealth = NOTHING_TRIED,
        dead_after_ms: int = DEAD_AFTER_MS,
    ) -> None:
        """`cursors` are those that were kept, by partition; a partition that has none is served from `start` on."""
        self._number = number
        self._dead_after_ms = dead_after_ms
        self._lanes = {partition: _Lane(skip_before=cursor) for partition, cursor in cursors.items()}
        self._start = start
        self._waiting_bytes = 0
        self._waiting_records = 0
        self._retry_ms = self._backoff_ms = 0
        self._give_up_before = 0
        self._give_up_reason = ""
        self.position = min(cursors.values(), default=start)
        """Where the endpoint reads on."""
        self.health = health

    @property
    def has_room(self) -> bool:
        """True while more may be read."""
        return self._waiting_bytes < WAITING_BYTES_MAX and self._waiting_records < WAITING_RECORDS_MAX

    @property
    def waiting(self) -> int:
        """Records that were read and are not done."""
        return self._waiting_records

    @property
    def is_failing(self) -> bool:
        """True from a failure to the next success."""
        return self.health.failures > 0

    def offer(self, records: Sequence[Record], position: int) -> None:
        """Takes what was read from `self.position` on, up to `position`: records of the endpoint's hub, in order."""
        for record in records:
            if record.offset >= self.position and self._number in record.endpoints:
                lane = self._lane(record.partition.number)
                if record.offset >= lane.skip_before:
                    lane.records.append(record)
                    self._waiting_bytes += _size(record)
                    self._waiting_records += 1
        self.position = max(self.position, position)

    def give_up(self, before: int, reason: str) -> None:
        """Has everything before a place in the log buried that is not done, read or not."""
        self._give_up_before = max(self._give_up_before, before)
        self._give_up_reason = reason

    def next_batches(self, now_ms: int) -> list[Batch]:
        """What is to be done now, each batch under way from here on."""
        batches = [batch for number, lane in self._lanes.items() if (batch := self._burial(number, lane)) is not None]
        for number, lane in self._lanes.items():
            if lane.records and not lane.under_way and self._may_try(now_ms):
                batches.append(self._take(Errand.DELIVER, number, lane, len(lane.records)))
        return batches

    def delivered(self, partition: int, now_ms: int) -> None:
        """All of the partition's batch has arrived."""
        lane = self._lanes[partition]
        self._done(lane, lane.under_way)
        self._free(lane)
        self._succeeded(now_ms)

    def failed(
        self, partition: int, kind: FailureKind, reason: str, code: str, now_ms: int, *, delivered: int = 0
    ) -> None:
        """The partition's batch has not arrived, but for its first records; all wait for a while."""
        lane = self._lanes[partition]
        self._done(lane, min(delivered, lane.under_way))
        self._free(lane)
        self._lanes[partition] = self._lanes.pop(partition)  # another one tries next
        self.health = self.health.failed(kind, reason, code, now_ms, self._dead_after_ms)
        self._backoff_ms = backoff_ms(self.health.failures)
        self._retry_ms = now_ms + self._backoff_ms

    def unacceptable(self, partition: int, index: int, reason: str, code: str, now_ms: int) -> None:
        """The record at `index` of the partition's batch will never be taken; those before it have arrived."""
        lane = self._lanes[partition]
        self._done(lane, min(index, lane.under_way - 1))
        self._free(lane)
        lane.refused = (reason, code)
        self._succeeded(now_ms)

    def buried(self, partition: int) -> None:
        """The partition's batch is durable in the dead-letter log."""
        lane = self._lanes[partition]
        self._done(lane, lane.under_way)
        self._free(lane)
        lane.refused = None

    def undone(self, partition: int) -> None:
        """Nothing has come of the partition's batch: it is done again."""
        self._free(self._lanes[partition])

    def retry_now(self) -> None:
        """Something was set right, perhaps: a failing endpoint is tried at once."""
        self._retry_ms = 0

    def cursors(self, partitions: int) -> dict[int, int]:
        """How far each partition is done."""
        return {number: self._cursor(self._lanes.get(number)) for number in range(partitions)}

    def due_ms(self) -> int | None:
        """When to ask for batches again if nothing else happens; None for never."""
        idle = any(lane.records and not lane.under_way for lane in self._lanes.values())
        return self._retry_ms if idle and self.is_failing and not self._is_trying() else None

    def _burial(self, number: int, lane: _Lane) -> Batch | None:
        if not lane.records or lane.under_way:
            return None
        if lane.refused is not None:
            return self._take(Errand.BURY, number, lane, 1, *lane.refused)
        given_up = sum(1 for _ in takewhile(lambda record: record.offset < self._give_up_before, lane.records))
        if given_up:
            return self._take(Errand.BURY, number, lane, given_up, self._given_up_because(), self.health.last_code)
        return None

    def _given_up_because(self) -> str:
        last = f"; the last error: {self.health.last_reason}" if self.health.last_reason else ""
        return f"{self._give_up_reason}{last}"

    def _take(self, errand: Errand, number: int, lane: _Lane, most: int, reason: str = "", code: str = "") -> Batch:
        """Puts the lane's first records under way: at least one, then as many as the bounds allow."""
        taken: list[Record] = []
        room = BATCH_BYTES_MAX
        for record in lane.records:
            room -= _size(record)
            if len(taken) == min(most, BATCH_RECORDS_MAX) or (taken and room < 0):
                break
            taken.append(record)
        lane.under_way = len(taken)
        return Batch(errand, number, tuple(taken), reason, code)

    def _may_try(self, now_ms: int) -> bool:
        if not self.is_failing:
            return True
        return is_over(self._retry_ms, now_ms, of_ms=self._backoff_ms) and not self._is_trying()

    def _is_trying(self) -> bool:
        return any(lane.under_way for lane in self._lanes.values())

    def _succeeded(self, now_ms: int) -> None:
        self.health = self.health.succeeded(now_ms)
        self._retry_ms = 0

    def _done(self, lane: _Lane, count: int) -> None:
        for _ in range(count):
            record = lane.records.popleft()
            self._waiting_bytes -= _size(record)
            self._waiting_records -= 1

    def _free(self, lane: _Lane) -> None:
        lane.under_way = 0

    def _lane(self, number: int) -> _Lane:
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = _Lane(skip_before=self._start)
        return lane

    def _cursor(self, lane: _Lane | None) -> int:
        if lane is None:
            return max(self.position, self._start)
        return lane.records[0].offset if lane.records else max(self.position, lane.skip_before)


def backoff_ms(failures: int) -> int:
    """How long an endpoint waits after so many failures in a row."""
    return min(BACKOFF_MS_MIN << min(failures - 1, 10), BACKOFF_MS_MAX)


def _size(record: Record) -> int:
    return len(record.envelope) + len(record.payload)
