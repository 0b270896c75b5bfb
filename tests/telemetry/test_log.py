"""The segment log, from outside: order of commits and acknowledgements, numbers, failures, seeks, retention."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.log import BATCH_RECORDS_LARGE, BATCH_RECORDS_MAX, LogConfig, SegmentLog
from isthmus.telemetry.ports import EVENTS, Partition, PartitionInfo
from isthmus.telemetry.record import RECORD_BYTES_MAX
from telemetry.fakes import P0, P1, START_MS, Disk, SetClock, Waiter, payloads, read_whole, store

STORAGE = 2
"""Some other endpoint."""


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def log(tmp_path: Path, disk: Disk, clock: SetClock) -> AsyncIterator[SegmentLog]:
    log = SegmentLog.open(tmp_path, clock, files=disk)
    yield log
    await log.close()


async def test_acknowledgement_follows_the_sync(log: SegmentLog, disk: Disk) -> None:
    await store(log, [b"first"])
    disk.calls.clear()
    seen: list[list[str]] = []

    class Watching(Waiter):
        def committed(self, cookies: list[int]) -> None:
            seen.append(list(disk.calls))
            Waiter.committed(self, cookies)

    waiter = Watching()
    log.append(P0, (EVENTS,), b"", b"second", 0, waiter, 7)
    assert seen == []
    await waiter.heard(1)
    assert seen == [["write", "sync"]]


async def test_a_batch_is_one_write_and_one_sync(log: SegmentLog, disk: Disk) -> None:
    await store(log, [b"first"])
    disk.calls.clear()
    await store(log, [b"x"] * 50)
    assert disk.calls == ["write", "sync"]


async def test_each_waiter_hears_once_per_commit_in_order_of_appends(log: SegmentLog) -> None:
    one, other = Waiter(), Waiter()
    for cookie in range(6):
        log.append((P0, P1)[cookie % 2], (EVENTS,), b"", b"", 0, (one, one, other)[cookie % 3], cookie)
    await one.heard(4)
    await other.heard(2)
    assert one.commits == [[0, 1, 3, 4]]
    assert other.commits == [[2, 5]]


async def test_a_commit_lays_partitions_side_by_side_and_keeps_their_order(log: SegmentLog) -> None:
    waiter = Waiter()
    for cookie in range(8):
        log.append((P0, P1)[cookie % 2], (EVENTS,), b"", str(cookie).encode(), 0, waiter, cookie)
    await waiter.heard(8)
    first, second = read_whole(log, P0), read_whole(log, P1)
    assert payloads(first) == [b"0", b"2", b"4", b"6"]
    assert payloads(second) == [b"1", b"3", b"5", b"7"]
    assert max(record.offset for record in first) < min(record.offset for record in second)


async def test_who_hears_of_a_commit_can_read_it(log: SegmentLog) -> None:
    found: list[int] = []

    class Reading(Waiter):
        def committed(self, cookies: list[int]) -> None:
            found.append(len(log.read(P0, 0, 10, 1000)[0]))
            Waiter.committed(self, cookies)

    waiter = Reading()
    log.append(P0, (EVENTS,), b"", b"x", 0, waiter, 0)
    await waiter.heard(1)
    assert found == [1]


async def test_a_record_is_read_as_it_was_appended(log: SegmentLog) -> None:
    waiter = Waiter()
    log.append(P1, (EVENTS, 9), b"envelope", b"payload", START_MS - 3, waiter, 0, outbox_id=12)
    await waiter.heard(1)
    (record,), _ = log.read(P1, 0, 10, 1000)
    assert (record.partition, record.sequence, record.endpoints, record.outbox_id) == (P1, 0, (EVENTS, 9), 12)
    assert (record.envelope, record.payload) == (b"envelope", b"payload")
    assert (record.ingress_ms, record.enqueued_ms) == (START_MS - 3, START_MS)


@pytest.mark.parametrize("cache", [0, 1_000_000], ids=["from disk", "from memory"])
async def test_memory_and_disk_tell_the_same(tmp_path: Path, clock: SetClock, cache: int) -> None:
    log = SegmentLog.open(tmp_path, clock, config=LogConfig(tail_cache_bytes=cache))
    await store(log, [b"a", b"b"])
    await store(log, [b"c"], endpoints=(EVENTS, STORAGE))
    records, cursor = log.read(P0, 0, 10, 1000)
    assert [(record.sequence, record.payload, record.endpoints) for record in records] == [
        (0, b"a", (EVENTS,)),
        (1, b"b", (EVENTS,)),
        (2, b"c", (EVENTS, STORAGE)),
    ]
    assert log.read(P0, records[1].offset, 1, 1000)[0] == records[1:2]
    assert log.read(P0, cursor, 10, 1000) == ([], cursor)
    await log.close()


async def test_sequence_numbers_have_no_gaps_over_restarts(tmp_path: Path, clock: SetClock) -> None:
    for count in (3, 1, 4):
        log = SegmentLog.open(tmp_path, clock)
        await store(log, [b"x"] * count)
        await store(log, [b"y"], P1)
        await log.close()
    log = SegmentLog.open(tmp_path, clock)
    assert [record.sequence for record in read_whole(log)] == list(range(8))
    assert [record.sequence for record in read_whole(log, P1)] == list(range(3))
    assert log.recovery.is_clean
    await log.close()


async def test_records_for_other_endpoints_have_no_number_and_are_not_in_the_view(log: SegmentLog) -> None:
    await store(log, [b"a"])
    await store(log, [b"hidden"], endpoints=(STORAGE,))
    await store(log, [b"nowhere"], endpoints=())
    await store(log, [b"b"])
    assert [(record.sequence, record.payload) for record in read_whole(log)] == [(0, b"a"), (1, b"b")]
    assert log.info(P0).last_sequence == 1


async def test_enqueued_times_never_fall(log: SegmentLog, clock: SetClock) -> None:
    await store(log, [b"a"])
    clock.now_ms -= 60_000
    await store(log, [b"b"])
    await store(log, [b"c"], P1)
    assert [record.enqueued_ms for record in read_whole(log)] == [START_MS, START_MS]
    assert [record.enqueued_ms for record in read_whole(log, P1)] == [START_MS - 60_000]


@pytest.mark.parametrize("verb", ["sync", "write"])
async def test_a_failed_batch_is_written_again_to_a_new_segment(
    tmp_path: Path, log: SegmentLog, disk: Disk, verb: str
) -> None:
    await store(log, [b"a"])
    disk.fail(verb)
    waiter = await store(log, [b"b", b"c"])
    await store(log, [b"d"])
    assert (waiter.acknowledged, log.health.ok, log.counters.retried) == ([0, 1], True, 1)
    await log.close()
    again = SegmentLog.open(tmp_path, SetClock())
    assert again.recovery.segments == 2
    assert [(record.sequence, record.payload) for record in read_whole(again)] == list(
        enumerate([b"a", b"b", b"c", b"d"])
    )
    await again.close()


async def test_what_a_failed_sync_left_is_not_read_when_it_could_not_be_cut(
    tmp_path: Path, log: SegmentLog, disk: Disk
) -> None:
    await store(log, [b"a"])
    disk.fail("sync")
    disk.fail("truncate")
    await store(log, [b"b"])
    await log.close()
    again = SegmentLog.open(tmp_path, SetClock(), config=LogConfig(tail_cache_bytes=0))
    assert [(record.sequence, record.payload) for record in read_whole(again)] == [(0, b"a"), (1, b"b")]
    await again.close()


async def test_a_batch_that_fails_twice_is_refused_and_the_next_one_is_tried(
    tmp_path: Path, log: SegmentLog, disk: Disk
) -> None:
    await store(log, [b"a"])
    disk.fail("sync", times=2)
    refused = await store(log, [b"b", b"c"])
    assert refused.failures == [([0, 1], "the log cannot be written: sync failed on purpose")]
    assert log.health.reason == "the log cannot be written: sync failed on purpose"
    assert log.backlog_bytes == 0
    await store(log, [b"d"])
    assert log.health.ok
    assert payloads(read_whole(log)) == [b"a", b"d"]
    await log.close()
    again = SegmentLog.open(tmp_path, SetClock())
    assert [(record.sequence, record.payload) for record in read_whole(again)] == [(0, b"a"), (1, b"d")]
    await again.close()


async def test_everything_appended_before_a_failure_is_told_fails_with_it(log: SegmentLog, disk: Disk) -> None:
    await store(log, [b"a"])
    disk.fail("sync", times=2)
    waiter = Waiter()
    for cookie in range(BATCH_RECORDS_LARGE + BATCH_RECORDS_MAX + 10):
        log.append(P0, (EVENTS,), b"", b"x", 0, waiter, cookie)
    await waiter.heard(BATCH_RECORDS_LARGE + BATCH_RECORDS_MAX + 10)
    assert waiter.acknowledged == []
    assert [cookies for cookies, _ in waiter.failures] == [list(range(BATCH_RECORDS_LARGE + BATCH_RECORDS_MAX + 10))]
    assert (log.backlog_bytes, log.info(P0).last_sequence) == (0, 0)


async def test_a_record_that_cannot_be_stored_fails_its_batch_only(log: SegmentLog) -> None:
    waiter = Waiter()
    log.append(P0, (EVENTS,), b"", b"x", 2**80, waiter, 0)
    await waiter.heard(1)
    assert waiter.failures[0][1].startswith("a record cannot be stored")
    await store(log, [b"b"])
    assert [record.sequence for record in read_whole(log)] == [0]


async def test_a_record_beyond_the_largest_is_the_callers_mistake(log: SegmentLog) -> None:
    with pytest.raises(ValueError, match="bytes"):
        log.append(P0, (EVENTS,), b"", bytes(RECORD_BYTES_MAX), 0, Waiter(), 0)
    assert log.backlog_bytes == 0


async def test_events_that_share_a_fate_are_in_one_commit_however_many(log: SegmentLog) -> None:
    waiter, together = Waiter(), Waiter()
    for cookie in range(BATCH_RECORDS_LARGE - 1):
        log.append(P1, (EVENTS,), b"", b"alone", 0, waiter, cookie)
    events = [(b"envelope", b"%d" % number) for number in range(BATCH_RECORDS_LARGE + 5)]
    log.append_all(P0, (EVENTS,), events, 3, together, 8)
    log.append_all(P0, (EVENTS,), [], 3, together, 9)
    await together.heard(len(events))
    assert together.commits == [[8] * len(events)]
    records, _ = log.read(P0, 0, len(events) + 1, 1 << 20)
    assert [(each.envelope, each.payload, each.ingress_ms) for each in records] == [(*each, 3) for each in events]
    await waiter.heard(BATCH_RECORDS_LARGE - 1)


async def test_events_of_which_one_is_too_large_are_not_appended(log: SegmentLog) -> None:
    with pytest.raises(ValueError, match="is the most"):
        log.append_all(P0, (EVENTS,), [(b"", b"small"), (b"", bytes(RECORD_BYTES_MAX))], 0, Waiter(), 0)
    assert log.backlog_bytes == 0


async def test_batches_stay_within_their_bound_under_load(log: SegmentLog) -> None:
    count = BATCH_RECORDS_LARGE + 2 * BATCH_RECORDS_MAX + 1
    await store(log, [b"x"] * count)
    assert (log.counters.records, log.counters.commits) == (count, 4)
    assert [record.sequence for record in read_whole(log)] == list(range(count))


async def test_closing_commits_what_was_taken_and_refuses_what_comes_later(tmp_path: Path, log: SegmentLog) -> None:
    waiter = Waiter()
    log.append(P0, (EVENTS,), b"", b"x", 0, waiter, 0)
    await log.close()
    assert waiter.acknowledged == [0]
    late = list(range(1, BATCH_RECORDS_LARGE * 2))
    for cookie in late:
        log.append(P0, (EVENTS,), b"", b"late", 0, waiter, cookie)
    await waiter.heard(1 + len(late))
    assert waiter.failures == [(late, "the log is closed")]


async def test_growth_wakes_once_per_commit_and_partition(log: SegmentLog) -> None:
    woken: list[str] = []
    undo = log.on_growth(P0, lambda: woken.append("p0"))
    log.on_growth(P1, lambda: woken.append("p1"))
    await store(log, [b"a", b"b"])
    await store(log, [b"c"], P1)
    await store(log, [b"hidden"], endpoints=(STORAGE,))
    undo()
    undo()
    await store(log, [b"d"])
    assert woken == ["p0", "p1"]


async def test_one_listeners_fault_is_not_anothers(log: SegmentLog) -> None:
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["message"]))

    def fault() -> None:
        raise RuntimeError("on purpose")

    log.on_growth(P0, fault)
    woken: list[int] = []
    log.on_growth(P0, lambda: woken.append(1))
    await store(log, [b"a"])
    assert (faults, woken) == (["a listener of the log failed"], [1])


async def test_an_empty_partition_says_so(log: SegmentLog) -> None:
    assert log.info(P0) == PartitionInfo(0, -1, -1, 0, 0)
    assert log.info(P0).is_empty
    assert log.seek_end(P0) == log.seek_sequence(P0, 0) == log.seek_time(P0, 0) == 0
    assert log.read(P0, 0, 10, 1000) == ([], 0)


async def test_info_tells_of_first_and_last_event(log: SegmentLog, clock: SetClock) -> None:
    await store(log, [b"a", b"b"])
    clock.now_ms += 10
    await store(log, [b"c"])
    last = read_whole(log)[-1]
    assert log.info(P0) == PartitionInfo(0, 2, last.offset, START_MS + 10, 3)


async def test_seeks_find_the_first_event_that_fits(tmp_path: Path, clock: SetClock) -> None:
    log = SegmentLog.open(tmp_path, clock, config=LogConfig(segment_bytes=300))
    for number in range(12):
        await store(log, [str(number).encode()])
        await store(log, [b"other"], P1)
        clock.now_ms += 10
    events = read_whole(log)
    end = log.seek_end(P0)
    assert payloads(read_whole(log, cursor=log.seek_sequence(P0, 7))) == [b"7", b"8", b"9", b"10", b"11"]
    assert log.seek_sequence(P0, -5) == events[0].offset
    assert log.seek_sequence(P0, 12) == end
    assert log.seek_time(P0, START_MS + 30) == log.seek_time(P0, START_MS + 21) == events[3].offset
    assert log.seek_time(P0, 0) == events[0].offset
    assert log.seek_time(P0, START_MS + 111) == end
    assert payloads(read_whole(log, cursor=log.seek_offset(P0, events[9].offset + 1))) == [b"10", b"11"]
    assert payloads(read_whole(log, cursor=log.seek_offset(P0, events[9].offset))) == [b"9", b"10", b"11"]
    assert log.seek_offset(P0, 10**15) == end
    assert log.seek_offset(P0, -1) == 0
    await log.close()


@pytest.mark.parametrize("cache", [0, 1_000_000], ids=["from disk", "from memory"])
async def test_reads_keep_their_bounds_but_return_one_record_at_least(
    tmp_path: Path, clock: SetClock, cache: int
) -> None:
    log = SegmentLog.open(tmp_path, clock, config=LogConfig(tail_cache_bytes=cache))
    await store(log, [b"x" * 100] * 5)
    assert len(log.read(P0, 0, 3, 10_000)[0]) == 3
    assert len(log.read(P0, 0, 10, 2 * 108)[0]) == 2
    assert len(log.read(P0, 0, 10, 1)[0]) == 1
    await log.close()


async def test_the_last_outbox_id_is_known_by_stream_and_after_a_restart(tmp_path: Path, clock: SetClock) -> None:
    log = SegmentLog.open(tmp_path, clock)
    waiter = Waiter()
    log.append(P0, (EVENTS,), b"", b"", 0, waiter, 0, outbox_id=5)
    log.append(P1, (STORAGE,), b"", b"", 0, waiter, 1, outbox_id=7)
    log.append(P0, (EVENTS,), b"", b"", 0, waiter, 2)
    log.append(Partition(2, 0), (EVENTS,), b"", b"", 0, waiter, 3, outbox_id=6)
    await waiter.heard(4)
    for _ in range(2):
        assert [log.last_outbox_id(stream) for stream in (1, 2, 3)] == [7, 6, 0]
        await log.close()
        log = SegmentLog.open(tmp_path, clock)
    await log.close()


async def test_a_folder_has_one_writer(tmp_path: Path, log: SegmentLog) -> None:
    with pytest.raises(ConfigurationError, match="Another process"):
        SegmentLog.open(tmp_path, SetClock())


async def test_retention_by_size_removes_whole_segments_and_moves_the_beginning(
    tmp_path: Path, disk: Disk, clock: SetClock
) -> None:
    log = SegmentLog.open(tmp_path, clock, config=LogConfig(segment_bytes=1000, retention_bytes=3000))
    for number in range(60):
        await store(log, [str(number).encode()])
    log.tick(clock.now_ms)
    assert log.stored_bytes <= 3000
    begin = log.info(P0).begin_sequence
    assert 0 < begin < 60
    assert [record.sequence for record in read_whole(log)] == list(range(begin, 60))
    assert log.seek_sequence(P0, 0) == read_whole(log)[0].offset
    await log.close()
    assert sum(name.endswith(".segment") for name in disk.names()) < 6
    again = SegmentLog.open(tmp_path, clock)
    assert again.info(P0).begin_sequence == begin
    await again.close()


async def test_retention_by_time_seals_an_old_segment_first(tmp_path: Path, clock: SetClock) -> None:
    config = LogConfig(retention_ms=5_000, segment_age_ms=1_000)
    log = SegmentLog.open(tmp_path, clock, config=config)
    await store(log, [b"a", b"b"])
    clock.now_ms += 2_000
    log.tick(clock.now_ms)
    await store(log, [b"c"], P1)
    clock.now_ms += 4_000
    log.tick(clock.now_ms)
    assert read_whole(log) == []
    assert log.info(P0) == PartitionInfo(2, 1, log.info(P0).last_offset, START_MS, 2)
    assert log.info(P0).is_empty
    assert payloads(read_whole(log, P1)) == [b"c"]
    await log.close()
    again = SegmentLog.open(tmp_path, clock, config=config)
    assert again.info(P0).is_empty
    await store(again, [b"d"])
    assert [record.sequence for record in read_whole(again)] == [2]
    await again.close()
