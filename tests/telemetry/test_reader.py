"""The log as another process reads it, and what retention keeps for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import EVENTS, Partition
from isthmus.telemetry.reader import LogReader
from telemetry.fakes import START_MS, SetClock, Waiter

SEGMENT_BYTES = 4_096
KEPT = LogConfig(retention_ms=3_600_000, retention_bytes=SEGMENT_BYTES, segment_bytes=SEGMENT_BYTES)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SegmentLog]:
    log = SegmentLog.open(tmp_path, SetClock(), config=KEPT)
    yield log
    await log.close()


async def write(log: SegmentLog, stream: int, endpoints: tuple[int, ...], payload: bytes) -> None:
    waiter = Waiter()
    log.append(Partition(stream, 0), endpoints, b"", payload, START_MS, waiter, 0)
    await waiter.heard(1)


@pytest.mark.parametrize("indexed", [True, False])
async def test_of_some_streams_only_what_leaves_the_hub_is_read(log: SegmentLog, tmp_path: Path, indexed: bool) -> None:
    for stream in (1, 2):
        for endpoints in ((EVENTS,), (EVENTS, 2), (2,), (), (2, 3)):
            await write(log, stream, endpoints, b"%d" % stream)
    reader = LogReader(tmp_path, indexed=indexed)
    records, end = reader.read_all(0, 100, streams={1})
    assert [(each.payload, each.endpoints) for each in records] == [(b"1", (1, 2)), (b"1", (2,)), (b"1", (2, 3))]
    assert end == reader.committed
    assert reader.read_all(end, 100, streams={1}) == ([], end)


async def test_what_is_looked_at_in_one_call_is_bounded_and_the_cursor_goes_on(log: SegmentLog, tmp_path: Path) -> None:
    for place in range(40):
        await write(log, 2 if place % 10 else 1, (2,), b"%02d" % place + bytes(300))
    reader = LogReader(tmp_path, indexed=False)
    cursor, found, calls = 0, [], 0
    while cursor < reader.committed:
        records, following = reader.read_all(cursor, 100, max_bytes=1_000, streams={1})
        assert following > cursor
        cursor, calls = following, calls + 1
        found += [each.payload[:2] for each in records]
    assert found == [b"00", b"10", b"20", b"30"]
    assert calls > 10


async def test_retention_keeps_what_somebody_has_yet_to_read_and_says_how_far_it_would_go(log: SegmentLog) -> None:
    for place in range(40):
        await write(log, 1, (2,), b"%02d" % place + bytes(300))
    stored = log.stored_bytes
    let_go = log.tick(START_MS, keep_from=0)
    assert let_go > SEGMENT_BYTES
    assert log.stored_bytes == stored
    assert log.tick(START_MS, keep_from=let_go - 1) == let_go
    assert log.counters.retired_segments > 0
    kept = log.stored_bytes
    log.tick(START_MS, keep_from=let_go)
    assert log.stored_bytes < kept


async def test_every_commit_is_told_of(log: SegmentLog) -> None:
    heard: list[None] = []
    log.on_commit(lambda: heard.append(None))
    await write(log, 1, (), b"nobody's")
    await write(log, 1, (EVENTS,), b"readers'")
    assert len(heard) == 2
