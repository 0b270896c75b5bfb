"""A log read as a whole: what is lost is told by partition and number, and nothing that is there is called lost."""

import shutil
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.files import FolderFiles
from isthmus.telemetry.head import HEAD_NAME
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.segment import index_name, segment_bases, segment_name
from isthmus.telemetry.verify import LogReport, verify_log
from telemetry.fakes import P0, P1, SetClock, read_whole, store

SMALL = LogConfig(segment_bytes=900)


async def filled(folder: Path, commits: int = 30) -> dict[Partition, list[int]]:
    """A log of several segments and two partitions; the sequence numbers of each."""
    log = SegmentLog.open(folder, SetClock(), config=SMALL)
    for number in range(commits):
        await store(log, [b"payload %d" % number] * 2, P0 if number % 3 else P1)
    held = {partition: [record.sequence for record in read_whole(log, partition)] for partition in (P0, P1)}
    await log.close()
    return held


def lost(report: LogReport) -> dict[Partition, set[int]]:
    """The sequence numbers that a report says are lost."""
    found: dict[Partition, set[int]] = {P0: set(), P1: set()}
    for damage in report.damages:
        for each in damage.lost:
            found[each.partition] |= set(range(each.first_sequence, each.last_sequence + 1))
    return found


async def test_a_whole_log_is_whole(tmp_path: Path) -> None:
    held = await filled(tmp_path)
    report = verify_log(tmp_path)
    assert (report.is_whole, report.damages, report.bad_indexes) == (True, (), ())
    assert report.records == sum(len(numbers) for numbers in held.values())
    assert report.segments > 3


async def test_a_log_that_is_being_written_is_judged_up_to_its_last_commit(tmp_path: Path) -> None:
    log = SegmentLog.open(tmp_path, SetClock(), config=SMALL)
    for number in range(9):
        await store(log, [b"%d" % number])
        report = verify_log(tmp_path)
        assert (report.is_whole, report.records) == (True, number + 1)
    await log.close()


async def test_a_segment_that_is_gone_is_told_with_its_events(tmp_path: Path) -> None:
    held = await filled(tmp_path)
    gone = segment_bases(FolderFiles(tmp_path).names())[1]
    (tmp_path / segment_name(gone)).unlink()
    report = verify_log(tmp_path)
    told = lost(report)
    assert all(told[partition] and told[partition] < set(numbers) for partition, numbers in held.items())
    assert gone in range(report.damages[0].start, report.damages[0].end + 1)


async def test_a_segment_in_anothers_place_is_no_segment(tmp_path: Path) -> None:
    await filled(tmp_path)
    bases = segment_bases(FolderFiles(tmp_path).names())
    shutil.copyfile(tmp_path / segment_name(bases[1]), tmp_path / segment_name(bases[2]))
    report = verify_log(tmp_path)
    assert [(damage.start, damage.end) for damage in report.damages][-1][1] == bases[3]


async def test_a_bad_index_costs_time_only(tmp_path: Path) -> None:
    await filled(tmp_path)
    name = index_name(segment_bases(FolderFiles(tmp_path).names())[0])
    (tmp_path / name).write_bytes(b"no index")
    report = verify_log(tmp_path)
    assert report.is_whole
    assert report.bad_indexes == (name,)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_nothing_is_changed(tmp_path: Path) -> None:
    await filled(tmp_path)
    before = contents(tmp_path)
    verify_log(tmp_path)
    assert contents(tmp_path) == before


def test_where_there_is_no_log_there_is_nothing_to_judge(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no log in"):
        verify_log(tmp_path / "nothing")


async def test_without_its_mark_a_log_is_read_to_its_end(tmp_path: Path) -> None:
    held = await filled(tmp_path)
    for mark in (b"", bytes(10), b"damaged" * 600):
        (tmp_path / HEAD_NAME).write_bytes(mark)
        report = verify_log(tmp_path)
        assert (report.is_whole, report.records) == (True, sum(map(len, held.values())))
