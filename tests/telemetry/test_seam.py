"""A log that was put back to an earlier moment gives no number anew, and says exactly what it holds."""

import itertools
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.telemetry.files import FolderFiles
from isthmus.telemetry.head import HEAD_NAME, stored_mark
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import Partition, Record
from isthmus.telemetry.reader import LogReader
from isthmus.telemetry.record import RECORD_BYTES_MIN
from isthmus.telemetry.seam import BYTES_PER_MS_MAX, SLACK_MS, seam_of
from isthmus.telemetry.segment import list_segments, segment_name
from isthmus.telemetry.tails import TAILS_NAME
from isthmus.telemetry.verify import verify_log
from telemetry.fakes import P0, P1, START_MS, SetClock, payloads, read_whole, store

SMALL = LogConfig(segment_bytes=900, tail_cache_bytes=0)
PARTITIONS = (P0, P1, Partition(2, 0))
HOUR_MS = 3_600_000

Batches = list[tuple[int, int]]
BATCHES = st.lists(st.tuples(st.integers(0, len(PARTITIONS) - 1), st.integers(1, 4)), max_size=12)


async def write(log: SegmentLog, name: str, batches: Batches) -> None:
    for number, (place, count) in enumerate(batches):
        await store(log, [b"%s %d" % (name.encode(), number)] * count, PARTITIONS[place])


def restored(source: Path, target: Path, *, cut_ms: int, now_ms: int) -> Path:
    """A copy of a folder that goes on as a restored one does; without what a backup leaves out."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(TAILS_NAME, "*.lock"))
    files = FolderFiles(target)
    seam = seam_of(files, stored_mark(files), elapsed_ms=now_ms - cut_ms, now_ms=now_ms)
    for name, content in seam.files:
        files.write_whole(name, content)
    return target


def held(log: SegmentLog) -> dict[Partition, list[Record]]:
    return {partition: read_whole(log, partition) for partition in PARTITIONS}


def given_by(records: dict[Partition, list[Record]]) -> tuple[set[tuple[Partition, int]], set[int]]:
    """Sequence numbers, and offsets of the whole log."""
    every = list(itertools.chain.from_iterable(records.values()))
    return {(each.partition, each.sequence) for each in every}, {each.offset for each in every}


@settings(max_examples=25, deadline=None)
@given(before=BATCHES, lost=BATCHES, lost_too=BATCHES, after=BATCHES)
async def test_no_number_is_given_twice_and_every_checkpoint_reads_on(
    before: Batches, lost: Batches, lost_too: Batches, after: Batches
) -> None:
    """Two futures of one moment are lost, one of them of a restored log; the third is what a reader gets."""
    with TemporaryDirectory() as name:
        folder, clock = Path(name), SetClock()
        log = SegmentLog.open(folder / "first", clock, config=SMALL)
        await write(log, "before", before)
        await log.close()
        shutil.copytree(folder / "first", folder / "backup")
        kept = payloads_of(await _further(folder / "first", clock, []))

        first = await _further(folder / "first", clock, lost)
        clock.now_ms += HOUR_MS
        second = await _further(
            restored(folder / "backup", folder / "second", cut_ms=START_MS, now_ms=clock.now_ms), clock, lost_too
        )
        clock.now_ms += HOUR_MS
        third_folder = restored(folder / "backup", folder / "third", cut_ms=START_MS, now_ms=clock.now_ms)
        assert verify_log(third_folder).is_whole
        third = await _further(third_folder, clock, after)

        numbers, offsets = given_by(third)
        old, _ = given_by(await _further(folder / "backup", clock, []))
        for future in (first, second):
            lost_numbers, lost_offsets = given_by(future)
            assert numbers & lost_numbers == old
            assert len(offsets & lost_offsets) == len(old)
        assert verify_log(third_folder).is_whole
        _check_checkpoints(third_folder, kept, third, [first, second])
        again = SegmentLog.open(third_folder, clock, config=SMALL)
        assert again.recovery.damages == ()
        for future in (first, second, third):
            for record in itertools.chain.from_iterable(future.values()):
                expected = [each for each in third[record.partition] if each.offset >= record.offset]
                assert (
                    read_whole(again, record.partition, again.seek_offset(record.partition, record.offset)) == expected
                )
                by_number = again.seek_sequence(record.partition, record.sequence)
                assert read_whole(again, record.partition, by_number) == expected
        await again.close()


async def _further(folder: Path, clock: SetClock, batches: Batches) -> dict[Partition, list[Record]]:
    log = SegmentLog.open(folder, clock, config=SMALL)
    assert log.recovery.damages == ()
    await write(log, folder.name, batches)
    records = held(log)
    await log.close()
    return records


def payloads_of(records: dict[Partition, list[Record]]) -> dict[Partition, list[bytes]]:
    return {partition: payloads(found) for partition, found in records.items()}


def _check_checkpoints(
    folder: Path,
    kept: dict[Partition, list[bytes]],
    third: dict[Partition, list[Record]],
    futures: list[dict[Partition, list[Record]]],
) -> None:
    """Another process sees the same: who has read a lost event reads all new ones, and none of the old."""
    reader = LogReader(folder)
    for future, partition in itertools.product(futures, PARTITIONS):
        for record in future[partition][len(kept[partition]) :]:
            found, cursor = [], record.offset + 1
            while some := reader.read(partition, cursor, 100, 1_000_000)[0]:
                found += some
                cursor = some[-1].offset + 1
            assert found == third[partition][len(kept[partition]) :]
    reader.close()


async def test_what_a_quiet_partition_reached_is_told_and_not_what_it_skips(tmp_path: Path) -> None:
    """Whoever takes the distance of a checkpoint from the last number for a backlog is not alarmed."""
    clock = SetClock()
    log = SegmentLog.open(tmp_path / "log", clock, config=SMALL)
    await store(log, [b"a"] * 3, P0)
    await log.close()
    folder = restored(tmp_path / "log", tmp_path / "back", cut_ms=START_MS, now_ms=START_MS + HOUR_MS)
    skipped = (HOUR_MS + SLACK_MS) * BYTES_PER_MS_MAX // RECORD_BYTES_MIN
    for number in range(4):
        log = SegmentLog.open(folder, clock, config=SMALL)
        info = log.info(P0)
        assert (info.begin_sequence, info.last_sequence, info.next_sequence) == (0, 2, 3 + skipped + 1)
        assert log.info(PARTITIONS[2]).last_sequence == -1
        await write(log, "other", [(1, 4)] * 6)
        assert log.info(P1).last_sequence == skipped + 1 + 24 * (number + 1) - 1
        await log.close()
    assert verify_log(folder).is_whole
    log = SegmentLog.open(folder, clock, config=SMALL)
    await store(log, [b"b"], P0)
    assert (log.info(P0).last_sequence, log.info(P0).next_sequence) == (3 + skipped + 1, 3 + skipped + 2)
    assert log.info(P1).begin_sequence == skipped + 1
    await log.close()


async def test_what_is_behind_a_position_is_counted_without_what_is_skipped(tmp_path: Path) -> None:
    clock = SetClock()
    log = SegmentLog.open(tmp_path / "log", clock, config=SMALL)
    await store(log, [b"a"] * 10, P0)
    end = log.end
    await log.close()
    folder = restored(tmp_path / "log", tmp_path / "back", cut_ms=START_MS, now_ms=START_MS)
    log = SegmentLog.open(folder, clock, config=SMALL)
    assert end <= log.bytes_behind(0) < end + 200
    assert 0 < log.bytes_behind(end) < 200
    assert (log.bytes_behind(log.end), log.end > end + SLACK_MS * BYTES_PER_MS_MAX) == (0, True)
    await log.close()


async def test_a_log_that_held_nothing_skips_too(tmp_path: Path) -> None:
    clock = SetClock()
    await SegmentLog.open(tmp_path / "log", clock).close()
    folder = restored(tmp_path / "log", tmp_path / "back", cut_ms=START_MS, now_ms=START_MS)
    log = SegmentLog.open(folder, clock, config=SMALL)
    assert log.recovery.is_clean
    await store(log, [b"a"], P0)
    (record,) = read_whole(log)
    assert record.offset > SLACK_MS * BYTES_PER_MS_MAX
    assert record.sequence > SLACK_MS * BYTES_PER_MS_MAX // RECORD_BYTES_MIN
    await log.close()
    assert verify_log(folder).is_whole


async def test_a_damaged_seam_is_told_and_gives_nothing_anew(tmp_path: Path) -> None:
    """Where its header is damaged nobody knows that nothing lay between; what the log holds is served all the same."""
    clock = SetClock()
    log = SegmentLog.open(tmp_path / "log", clock, config=SMALL)
    await store(log, [b"a"] * 3, P0)
    end = log.end
    await log.close()
    folder = restored(tmp_path / "log", tmp_path / "back", cut_ms=START_MS, now_ms=START_MS)
    seam = folder / segment_name(list_segments(FolderFiles(folder))[-1])
    whole = seam.read_bytes()
    for at in range(0, len(whole), 7):
        broken = tmp_path / f"flip {at}"
        shutil.copytree(folder, broken)
        (broken / seam.name).write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert not verify_log(broken).is_whole
        log = SegmentLog.open(broken, clock, config=SMALL)
        assert log.recovery.damages
        assert payloads(read_whole(log)) == [b"a"] * 3
        await store(log, [b"b"], P0)
        new = read_whole(log)[-1]
        assert new.offset > end + SLACK_MS * BYTES_PER_MS_MAX
        assert new.sequence > SLACK_MS * BYTES_PER_MS_MAX // RECORD_BYTES_MIN
        await log.close()


@pytest.mark.parametrize("elapsed_ms", [-HOUR_MS, 0, 400 * 86_400_000])
async def test_a_clock_that_is_behind_skips_a_day_all_the_same(tmp_path: Path, elapsed_ms: int) -> None:
    await SegmentLog.open(tmp_path, SetClock()).close()
    files = FolderFiles(tmp_path)
    seam = seam_of(files, stored_mark(files), elapsed_ms=elapsed_ms, now_ms=START_MS)
    assert seam.goes_on == (max(0, elapsed_ms) + SLACK_MS) * BYTES_PER_MS_MAX
    assert [name for name, _ in seam.files] == [segment_name(seam.goes_on), HEAD_NAME]
