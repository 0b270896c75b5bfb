"""Retention while the clock moves: nothing pinned is lost, nothing expired is served, and time never falls."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import EVENTS, Record
from isthmus.telemetry.reader import LogReader
from isthmus.telemetry.verify import verify_log
from telemetry.fakes import P0, P1, SetClock, payloads, read_whole, store

DAY_MS = 86_400_000
YEAR_MS = 365 * DAY_MS
WEEK = LogConfig(segment_bytes=600, retention_ms=7 * DAY_MS, segment_age_ms=DAY_MS, retention_bytes=10**6)
EVENTS_AND_ANOTHER = (EVENTS, 2)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=[0, 10**6], ids=["from disk", "from memory"])
async def log(tmp_path: Path, clock: SetClock, request: pytest.FixtureRequest) -> AsyncIterator[SegmentLog]:
    """Twelve events in several segments."""
    config = LogConfig(
        segment_bytes=WEEK.segment_bytes,
        retention_ms=WEEK.retention_ms,
        segment_age_ms=WEEK.segment_age_ms,
        retention_bytes=WEEK.retention_bytes,
        tail_cache_bytes=request.param,
    )
    log = SegmentLog.open(tmp_path, clock, config=config)
    await write(log, "old")
    yield log
    await log.close()


async def write(log: SegmentLog, name: str) -> list[bytes]:
    sent = [f"{name} {number}".encode() for number in range(12)]
    for each in sent:
        await store(log, [each], P0, EVENTS_AND_ANOTHER)
    return sent


async def age(log: SegmentLog, clock: SetClock, keep_from: int | None = None) -> int:
    """What happens within a minute: an old segment is sealed, and then what is old goes."""
    log.tick(clock.now_ms, keep_from)
    await store(log, [b"a sign of life"], P1)
    return log.tick(clock.now_ms, keep_from)


def delivered(folder: Path, cursor: int) -> list[Record]:
    """What a delivery that got as far as `cursor` has still to deliver, as its worker reads it."""
    reader = LogReader(folder, indexed=False)
    records, _ = reader.read_all(cursor, 1_000, max_bytes=10**9, streams={P0.stream})
    found = list(records)
    while records:
        records, cursor = reader.read_all(cursor, 1_000, max_bytes=10**9, streams={P0.stream})
        found += [each for each in records if each.offset > found[-1].offset]
    reader.close()
    return found


@pytest.mark.parametrize("jump_ms", [8 * DAY_MS, YEAR_MS])
async def test_a_clock_set_forward_makes_records_old(log: SegmentLog, clock: SetClock, jump_ms: int) -> None:
    late = log.seek_sequence(P0, 5)
    clock.now_ms += jump_ms
    await age(log, clock)
    new = await write(log, "new")
    assert payloads(read_whole(log)) == new
    assert payloads(read_whole(log, cursor=late)) == new, "a reader who was in the middle goes on with what is left"
    assert log.info(P0).begin_sequence == 12
    assert [record.sequence for record in read_whole(log)] == list(range(12, 24))


@pytest.mark.parametrize("jump_ms", [3_600_000, YEAR_MS])
async def test_a_clock_set_back_loses_nothing_and_time_stands_still(
    log: SegmentLog, clock: SetClock, jump_ms: int
) -> None:
    before = read_whole(log)
    clock.now_ms -= jump_ms
    await age(log, clock)
    new = await write(log, "new")
    records = read_whole(log)
    assert records[:12] == before
    assert payloads(records[12:]) == new
    assert {record.enqueued_ms for record in records} == {before[-1].enqueued_ms}
    assert log.seek_time(P0, before[-1].enqueued_ms) == before[0].offset


async def test_a_clock_that_was_ahead_for_a_while_costs_order_nothing(log: SegmentLog, clock: SetClock) -> None:
    clock.now_ms += YEAR_MS
    await write(log, "ahead")
    clock.now_ms -= YEAR_MS
    await write(log, "after")
    records = read_whole(log)
    assert [record.sequence for record in records] == list(range(36))
    times = [record.enqueued_ms for record in records]
    assert times == sorted(times)


@pytest.mark.parametrize("jump_ms", [8 * DAY_MS, YEAR_MS])
async def test_what_is_pinned_is_delivered_and_not_served(
    tmp_path: Path, log: SegmentLog, clock: SetClock, jump_ms: int
) -> None:
    """A routing endpoint is behind, by all of it: that stays, and readers of events see nothing of it."""
    old = payloads(read_whole(log))
    clock.now_ms += jump_ms
    assert await age(log, clock, keep_from=0) > 0
    assert log.pinned_bytes > 0
    assert payloads(delivered(tmp_path, 0)) == old
    assert read_whole(log) == []
    assert log.info(P0).is_empty
    for cursor in (log.seek_offset(P0, 0), log.seek_sequence(P0, 3), log.seek_time(P0, 0)):
        assert payloads(read_whole(log, cursor=cursor)) == []
    new = await write(log, "new")
    assert payloads(read_whole(log)) == new
    assert payloads(delivered(tmp_path, 0)) == old + new
    await age(log, clock)
    assert log.pinned_bytes == 0
    assert payloads(read_whole(log)) == new
    assert verify_log(tmp_path).is_whole


async def test_what_was_let_go_is_not_served_by_a_clock_that_goes_back(log: SegmentLog, clock: SetClock) -> None:
    clock.now_ms += YEAR_MS
    await age(log, clock, keep_from=0)
    clock.now_ms -= YEAR_MS
    await age(log, clock, keep_from=0)
    assert read_whole(log) == []


async def test_size_lets_go_whatever_the_clock_says(tmp_path: Path, clock: SetClock) -> None:
    small = LogConfig(segment_bytes=600, retention_bytes=2_000, tail_cache_bytes=0)
    log = SegmentLog.open(tmp_path, clock, config=small)
    clock.now_ms -= YEAR_MS
    sent = await write(log, "first") + await write(log, "second")
    log.tick(clock.now_ms, keep_from=0)
    served = payloads(read_whole(log))
    assert 0 < len(served) < len(sent)
    assert served == sent[-len(served) :]
    assert log.stored_bytes - log.pinned_bytes <= 2_000
    assert payloads(delivered(tmp_path, 0)) == sent
    await log.close()
