"""The scrub: it finds what `verify_log` finds, while the log goes on, and takes no more than its rate."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isthmus.base.clock import SystemClock
from isthmus.telemetry.damage import Damage, Lost
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.scrub import SLICE_BYTES, Scrub
from isthmus.telemetry.segment import open_segment, segment_bases, segment_name
from isthmus.telemetry.verify import verify_log
from telemetry.fakes import P0, P1, Disk, SetClock, die, read_whole, store

FAST = 1e12
SMALL = LogConfig(segment_bytes=600)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SegmentLog]:
    log = SegmentLog.open(tmp_path, SetClock(), config=SMALL)
    for number in range(20):
        await store(log, [b"payload %d" % number], P0 if number % 3 else P1)
    yield log
    await log.close()


def spoil(folder: Path, number: int) -> int:
    """Flips a bit of the first record's payload in a segment; says where the record begins."""
    base = segment_bases([path.name for path in folder.iterdir()])[number]
    path = folder / segment_name(base)
    data = bytearray(path.read_bytes())
    data[data.index(b"payload", data.index(b"\xc9ISR"))] ^= 1
    path.write_bytes(data)
    return base


@pytest.mark.parametrize("which", [0, 2, -1])
async def test_it_finds_what_verify_finds_and_tells_it_once(tmp_path: Path, log: SegmentLog, which: int) -> None:
    spoil(tmp_path, which)
    scrub = Scrub([log], SystemClock(), FAST)
    assert len(log.damages) == 0
    for _ in range(2):
        await scrub.once()
        assert tuple(log.damages) == verify_log(tmp_path).damages
    assert (len(log.damages), log.damages.lost_events, scrub.passes) == (1, 1, 2)


async def test_it_reads_all_of_a_whole_log_and_finds_nothing(log: SegmentLog) -> None:
    scrub = Scrub([log], SystemClock(), FAST)
    await scrub.once()
    assert scrub.bytes == log.seek_end(P0)
    assert len(log.damages) == 0


async def test_what_comes_meanwhile_is_no_damage(log: SegmentLog) -> None:
    scrub = Scrub([log], SystemClock(), FAST)
    passes = asyncio.create_task(scrub.once())
    while not passes.done():
        await store(log, [b"more"])
    assert len(log.damages) == 0


async def test_a_segment_that_goes_meanwhile_is_passed_over(tmp_path: Path, log: SegmentLog) -> None:
    gone = segment_bases(log.files.names())[1]
    (tmp_path / segment_name(gone)).unlink()
    scrub = Scrub([log], SystemClock(), FAST)
    await scrub.once()
    assert scrub.passes == 1
    assert len(log.damages) == 0


async def test_a_damaged_header_is_damage_without_a_loss(tmp_path: Path, log: SegmentLog) -> None:
    base = segment_bases(log.files.names())[1]
    path = tmp_path / segment_name(base)
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    await Scrub([log], SystemClock(), FAST).once()
    assert tuple(log.damages) == (Damage(base, base, (), acknowledged=True),)


async def test_damage_is_forgotten_with_its_segment(tmp_path: Path) -> None:
    clock = SetClock()
    log = SegmentLog.open(tmp_path, clock, config=LogConfig(segment_bytes=400, retention_bytes=900))
    for number in range(12):
        await store(log, [b"payload %d" % number])
    spoil(tmp_path, 0)
    await Scrub([log], SystemClock(), FAST).once()
    assert log.damages.lost_events == 1
    log.tick(clock.utc_ms())
    assert len(log.damages) == 0
    await log.close()


async def test_skipped_numbers_are_not_called_lost(tmp_path: Path) -> None:
    """After damage at its end a log goes on with numbers that nothing had; none of these is missing."""
    disk = Disk(tmp_path)
    log = SegmentLog.open(tmp_path, SetClock(), files=disk)
    for number in range(4):
        await store(log, [b"payload %d" % number])
    last = read_whole(log)[-1]
    await die(log, disk)
    data_start = open_segment(disk, 0).data_start
    path = tmp_path / segment_name(0)
    path.write_bytes(path.read_bytes()[: data_start + last.offset])
    again = SegmentLog.open(tmp_path, SetClock())
    scrub = Scrub([again], SystemClock(), FAST)
    for _ in range(2):
        await scrub.once()
        assert {lost for damage in again.damages for lost in damage.lost} == {Lost(P0, 3, 3)}
        await store(again, [b"new"])
    await again.close()


async def test_it_rests_after_each_slice_as_its_rate_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog.open(tmp_path, SetClock())
    for _ in range(4):
        await store(log, [bytes(SLICE_BYTES)])
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr("isthmus.telemetry.scrub.asyncio.sleep", rest)
    await Scrub([log], SystemClock(), SLICE_BYTES).once()
    assert sum(rests) == pytest.approx(log.seek_end(P0) / SLICE_BYTES)
    assert max(rests) < 1.5
    await log.close()
