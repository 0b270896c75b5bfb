"""Deliveries to one endpoint: order, loss, cursors, back-off and memory, against any run of luck."""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from isthmus.routing.delivery import (
    BACKOFF_MS_MAX,
    BACKOFF_MS_MIN,
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    WAITING_BYTES_MAX,
    WAITING_RECORDS_MAX,
    Batch,
    Deliveries,
    Errand,
    backoff_ms,
)
from isthmus.routing.health import HealthStatus
from isthmus.routing.sink import FailureKind
from isthmus.telemetry.ports import Partition, Record

ENDPOINT = 2
PARTITIONS = 3
CHUNK = 5
DEAD_AFTER_MS = 60_000


def record(offset: int, partition: int, *, endpoints: tuple[int, ...] = (ENDPOINT,), payload: bytes = b"") -> Record:
    return Record(Partition(1, partition), -1, offset, offset, offset, endpoints, 0, b"", payload)


def machine(start: int = 0) -> Deliveries:
    return Deliveries(ENDPOINT, {}, start, dead_after_ms=DEAD_AFTER_MS)


def test_a_partition_has_one_batch_under_way_and_keeps_its_order() -> None:
    deliveries = machine()
    deliveries.offer([record(1, 0), record(2, 1), record(3, 0)], 10)
    batches = deliveries.next_batches(0)
    assert [(batch.partition, _offsets(batch)) for batch in batches] == [(0, [1, 3]), (1, [2])]
    deliveries.offer([record(11, 0)], 20)
    assert deliveries.next_batches(0) == []
    deliveries.delivered(0, 0)
    assert [_offsets(batch) for batch in deliveries.next_batches(0)] == [[11]]


def test_records_of_other_endpoints_only_move_the_cursors() -> None:
    deliveries = machine(5)
    deliveries.offer([record(6, 0, endpoints=(1,)), record(7, 1, endpoints=(3,))], 10)
    assert deliveries.next_batches(0) == []
    assert deliveries.cursors(2) == {0: 10, 1: 10}


def test_cursors_stay_at_what_is_not_delivered() -> None:
    deliveries = machine()
    deliveries.offer([record(1, 0), record(2, 1), record(3, 0)], 10)
    deliveries.next_batches(0)
    deliveries.delivered(1, 0)
    assert deliveries.cursors(3) == {0: 1, 1: 10, 2: 10}
    deliveries.failed(0, FailureKind.TRANSIENT, "busy", "", 0, delivered=1)
    assert deliveries.cursors(3)[0] == 3


def test_a_failing_endpoint_does_not_wait_for_a_clock_that_was_set_back() -> None:
    deliveries, an_hour = machine(), 3_600_000
    deliveries.offer([record(1, 0)], 10)
    deliveries.next_batches(an_hour)
    deliveries.failed(0, FailureKind.TRANSIENT, "busy", "", an_hour)
    assert deliveries.next_batches(an_hour) == []
    assert len(deliveries.next_batches(0)) == 1


def test_a_failing_endpoint_waits_longer_each_time_and_then_tries_with_one_lane() -> None:
    deliveries = machine()
    deliveries.offer([record(1, 0), record(2, 1)], 10)
    deliveries.next_batches(0)
    for partition in (0, 1):
        deliveries.failed(partition, FailureKind.TRANSIENT, "busy", "", 0)
    assert deliveries.due_ms() == BACKOFF_MS_MIN * 2
    assert deliveries.next_batches(BACKOFF_MS_MIN * 2 - 1) == []
    [trial] = deliveries.next_batches(BACKOFF_MS_MIN * 2)
    assert deliveries.due_ms() is None
    assert deliveries.next_batches(BACKOFF_MS_MAX) == []
    deliveries.delivered(trial.partition, BACKOFF_MS_MAX)
    assert len(deliveries.next_batches(BACKOFF_MS_MAX)) == 1


def test_lanes_of_a_failing_endpoint_try_in_turn() -> None:
    deliveries = machine()
    deliveries.offer([record(1, 0), record(2, 1), record(3, 2)], 10)
    tried = []
    for batch in deliveries.next_batches(0):
        deliveries.failed(batch.partition, FailureKind.TRANSIENT, "busy", "", 0)
    for attempt in range(1, 7):
        [trial] = deliveries.next_batches(attempt * BACKOFF_MS_MAX)
        tried.append(trial.partition)
        deliveries.failed(trial.partition, FailureKind.TRANSIENT, "busy", "", attempt * BACKOFF_MS_MAX)
    assert tried == [0, 1, 2, 0, 1, 2]


def test_the_back_off_doubles_up_to_its_bound() -> None:
    waits = [backoff_ms(failures) for failures in range(1, 40)]
    assert waits[:3] == [500, 1_000, 2_000]
    assert max(waits) == waits[-1] == BACKOFF_MS_MAX
    assert waits == sorted(waits)


def test_an_endpoint_that_takes_nothing_for_long_is_dead_until_it_takes_something() -> None:
    deliveries = machine()
    deliveries.offer([record(1, 0)], 10)
    for now_ms in (1, DEAD_AFTER_MS, DEAD_AFTER_MS + 1):
        deliveries.next_batches(now_ms)
        deliveries.failed(0, FailureKind.ROLE, "no role", "AuthorizationPermissionMismatch", now_ms)
        is_dead = now_ms == DEAD_AFTER_MS + 1
        assert deliveries.health.status is (HealthStatus.DEAD if is_dead else HealthStatus.UNHEALTHY)
        deliveries.retry_now()
    deliveries.next_batches(DEAD_AFTER_MS)
    deliveries.delivered(0, DEAD_AFTER_MS)
    assert deliveries.health.status is HealthStatus.HEALTHY
    assert deliveries.health.last_code == "AuthorizationPermissionMismatch"


def test_what_is_never_taken_is_buried_alone_and_in_its_place() -> None:
    deliveries = machine()
    deliveries.offer([record(1, 0), record(2, 0), record(3, 0)], 10)
    deliveries.next_batches(0)
    deliveries.unacceptable(0, 1, "too large", "InvalidMessage", 0)
    [burial] = deliveries.next_batches(0)
    assert (burial.errand, _offsets(burial), burial.reason) == (Errand.BURY, [2], "too large")
    assert deliveries.cursors(1) == {0: 2}
    deliveries.undone(0)
    assert deliveries.next_batches(0) == [burial]
    deliveries.buried(0)
    assert [_offsets(batch) for batch in deliveries.next_batches(0)] == [[3]]


def test_what_the_log_cannot_keep_is_buried_with_the_last_error() -> None:
    deliveries = machine()
    deliveries.offer([record(1, 0), record(2, 0)], 10)
    deliveries.next_batches(0)
    deliveries.failed(0, FailureKind.NETWORK, "refused", "AuthorizationFailure", 0)
    deliveries.give_up(15, "too far behind")
    [burial] = deliveries.next_batches(0)
    assert (burial.errand, _offsets(burial)) == (Errand.BURY, [1, 2])
    assert burial.reason == "too far behind; the last error: refused"
    assert burial.code == "AuthorizationFailure"
    deliveries.buried(0)
    deliveries.offer([record(12, 0), record(20, 0)], 30)
    assert [_offsets(batch) for batch in deliveries.next_batches(0)] == [[12]]


def test_batches_and_what_waits_are_bounded() -> None:
    deliveries = machine()
    payload = bytes(BATCH_BYTES_MAX // 2)
    offset = 0
    while deliveries.has_room:
        offset += 1
        deliveries.offer([record(offset, 0, payload=payload)], offset + 1)
    assert offset == 2 * WAITING_BYTES_MAX // BATCH_BYTES_MAX
    assert [len(batch.records) for batch in deliveries.next_batches(0)] == [2]
    small = machine()
    small.offer([record(each, 0) for each in range(1, WAITING_RECORDS_MAX + 1)], WAITING_RECORDS_MAX + 1)
    assert not small.has_room
    assert [len(batch.records) for batch in small.next_batches(0)] == [BATCH_RECORDS_MAX]


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    deliveries = machine()
    deliveries.offer([record(1, 0, payload=bytes(BATCH_BYTES_MAX + 1)), record(2, 0)], 10)
    assert [_offsets(batch) for batch in deliveries.next_batches(0)] == [[1]]


class AnyLuck(RuleBasedStateMachine):
    """A log that grows, a target that takes and refuses, a process that dies: nothing lost, nothing out of order."""

    @initialize(partitions=st.lists(st.integers(0, PARTITIONS - 1), max_size=40))
    def begin(self, partitions: list[int]) -> None:
        self.log = [record(10 * place + 1, partition) for place, partition in enumerate(partitions)]
        self.end = 10 * len(self.log) + 1
        self.now_ms = 0
        self.delivered: list[int] = []
        self.buried: list[int] = []
        self.kept: dict[int, int] = {}
        self.under_way: dict[int, Batch] = {}
        self.deliveries = machine()

    @rule()
    def read_on(self) -> None:
        found = [each for each in self.log if each.offset >= self.deliveries.position][:CHUNK]
        self.deliveries.offer(found, found[-1].offset + 1 if len(found) == CHUNK else self.end)

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def more_is_written(self, partition: int) -> None:
        self.log.append(record(self.end, partition))
        self.end += 10

    @rule()
    def set_off(self) -> None:
        was_failing, due_ms = self.deliveries.is_failing, self.deliveries.due_ms()
        for batch in self.deliveries.next_batches(self.now_ms):
            assert batch.partition not in self.under_way
            if batch.errand is Errand.DELIVER and was_failing:
                assert due_ms is not None
                assert self.now_ms >= due_ms
            self.under_way[batch.partition] = batch

    @rule(ms=st.integers(1, BACKOFF_MS_MAX))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), luck=st.sampled_from(("taken", "failed", "unacceptable", "undone")))
    def comes_back(self, data: st.DataObject, luck: str) -> None:
        partition = data.draw(st.sampled_from(sorted(self.under_way)))
        batch = self.under_way.pop(partition)
        if luck == "undone":
            self.deliveries.undone(partition)
        elif batch.errand is Errand.BURY:
            self.buried += _offsets(batch)
            self.deliveries.buried(partition)
        elif luck == "taken":
            self.delivered += _offsets(batch)
            self.deliveries.delivered(partition, self.now_ms)
        else:
            count = data.draw(st.integers(0, len(batch.records) - 1))
            self.delivered += _offsets(batch)[:count]
            if luck == "failed":
                kind = data.draw(st.sampled_from(FailureKind))
                self.deliveries.failed(partition, kind, "no", "", self.now_ms, delivered=count)
            else:
                self.deliveries.unacceptable(partition, count, "never", "", self.now_ms)

    @rule()
    def cursors_are_kept(self) -> None:
        self.kept = self.deliveries.cursors(PARTITIONS)

    @rule(arrived=st.booleans())
    def the_process_dies(self, arrived: bool) -> None:
        for batch in self.under_way.values():
            if arrived and batch.errand is Errand.DELIVER:
                self.delivered += _offsets(batch)
        self.under_way.clear()
        self.deliveries = Deliveries(ENDPOINT, self.kept, 0, self.deliveries.health, DEAD_AFTER_MS)

    @rule(share=st.floats(0, 1))
    def the_log_lets_go(self, share: float) -> None:
        self.deliveries.give_up(int(self.end * share), "behind")

    @invariant()
    def no_cursor_passes_what_is_not_done(self) -> None:
        done = set(self.delivered) | set(self.buried)
        cursors = self.deliveries.cursors(PARTITIONS)
        for each in self.log:
            assert each.offset in done or each.offset >= cursors[each.partition.number]

    @invariant()
    def each_partition_is_in_order(self) -> None:
        for partition in range(PARTITIONS):
            mine = {each.offset for each in self.log if each.partition.number == partition}
            first_times = list(dict.fromkeys(offset for offset in self.delivered if offset in mine))
            assert first_times == sorted(first_times)

    def teardown(self) -> None:
        """With luck again, everything arrives."""
        if not hasattr(self, "log"):
            return
        for batch in list(self.under_way.values()):
            self.under_way.pop(batch.partition)
            self.deliveries.undone(batch.partition)
        for _ in range(4 * len(self.log) + 4):
            self.now_ms += BACKOFF_MS_MAX
            self.read_on()
            for batch in self.deliveries.next_batches(self.now_ms):
                if batch.errand is Errand.BURY:
                    self.buried += _offsets(batch)
                    self.deliveries.buried(batch.partition)
                else:
                    self.delivered += _offsets(batch)
                    self.deliveries.delivered(batch.partition, self.now_ms)
        assert {each.offset for each in self.log} == set(self.delivered) | set(self.buried)
        assert self.deliveries.waiting == 0


AnyLuck.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyLuck = AnyLuck.TestCase


def _offsets(batch: Batch) -> Sequence[int]:
    return [each.offset for each in batch.records]
