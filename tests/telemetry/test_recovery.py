"""Opening a log after crashes and damage: nothing acknowledged is lost unsaid, nothing damaged is served."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.damage import Damage, Lost
from isthmus.telemetry.files import FolderFiles
from isthmus.telemetry.frame import frame
from isthmus.telemetry.head import HEAD_NAME, Head, Mark
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import EVENTS
from isthmus.telemetry.record import RECORD_BYTES_MIN, Found, scan
from isthmus.telemetry.recovery import Recovered, recover
from isthmus.telemetry.segment import SEGMENT_MAGIC, index_name, open_segment, segment_bases, segment_name
from telemetry.fakes import P0, P1, Disk, SetClock, Waiter, cold, die, payloads, read_whole, store


async def test_every_cut_of_an_unfinished_commit_leaves_the_commit_before(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    disk = await _with_unsynced_batch(folder)
    durable, written = disk.synced_size(segment_name(0)), disk.size(segment_name(0))
    assert written > durable
    for size in range(durable, written + 1):
        copy = FolderFiles(tmp_path / f"cut{size}")
        shutil.copytree(folder, copy.folder)
        os.truncate(copy.folder / segment_name(0), size)
        recovered = _recover(copy)
        expected = [b"a", b"b"] if size < written else [b"a", b"b", b"c", b"d", b"e"]
        assert list(_payloads(copy, recovered)) == expected
        assert recovered.report.torn_bytes == (size - durable if size < written else 0)
        assert recovered.report.damages == ()
        assert copy.size(segment_name(0)) == (durable if size < written else written)
        shutil.rmtree(copy.folder)


async def test_what_is_found_is_synced_before_it_is_served(tmp_path: Path) -> None:
    """A killed process leaves records in the page cache that no sync of ours has covered yet."""
    await _with_unsynced_batch(tmp_path)
    disk = Disk(tmp_path)
    log = SegmentLog.open(tmp_path, SetClock(), files=disk)
    assert disk.calls[-1] == "sync"
    assert payloads(read_whole(log)) == [b"a", b"b", b"c", b"d", b"e"]
    await log.close()


async def test_numbers_go_on_where_the_torn_commit_began(tmp_path: Path) -> None:
    disk = await _with_unsynced_batch(tmp_path)
    disk.lose_unsynced(keep=90)
    log = SegmentLog.open(tmp_path, SetClock())
    assert (log.recovery.torn_bytes, log.recovery.damages) == (90, ())
    await store(log, [b"new"])
    assert [(record.sequence, record.payload) for record in read_whole(log)] == [(0, b"a"), (1, b"b"), (2, b"new")]
    await log.close()


async def test_no_flipped_bit_is_served_or_silent(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    originals = await _three_commits(folder)
    data = (folder / segment_name(0)).read_bytes()
    data_start = open_segment(FolderFiles(folder), 0).data_start
    for at in range(data_start, len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        (folder / segment_name(0)).write_bytes(flipped)
        files = FolderFiles(folder)
        recovered = _recover(files)
        found = {record.header.position: record for record in _records(files, recovered)}
        assert {position: found[position].header.sequence for position in found}.items() <= originals.items()
        (missing,) = originals.keys() - found.keys()
        (damage,) = recovered.report.damages
        assert (damage.start, damage.acknowledged) == (missing, True)
        assert missing < damage.end <= len(data) - data_start
        assert not recovered.appendable


async def test_damage_inside_names_the_events_that_are_lost(tmp_path: Path) -> None:
    originals = await _three_commits(tmp_path)
    _damage(tmp_path, 0, position=_position(originals, 3))
    log = SegmentLog.open(tmp_path, SetClock())
    (damage,) = log.recovery.damages
    assert damage == Damage(_position(originals, 3), _position(originals, 4), (Lost(P0, 3, 3),), acknowledged=True)
    assert [record.sequence for record in read_whole(log)] == [0, 1, 2, 4, 5]
    await store(log, [b"new"])
    assert read_whole(log)[-1].sequence == 6
    await log.close()
    again = SegmentLog.open(tmp_path, SetClock())
    assert (again.recovery.segments, again.recovery.damages) == (2, ())
    await again.close()


async def test_a_damaged_end_that_was_acknowledged_is_kept_and_its_numbers_are_never_used_again(tmp_path: Path) -> None:
    originals = await _three_commits(tmp_path)
    last = _position(originals, 5)
    _damage(tmp_path, 0, position=last)
    size = (tmp_path / segment_name(0)).stat().st_size
    log = SegmentLog.open(tmp_path, SetClock())
    (damage,) = log.recovery.damages
    assert (damage.start, damage.acknowledged, log.recovery.torn_bytes) == (last, True, 0)
    assert (tmp_path / segment_name(0)).stat().st_size == size
    await store(log, [b"new"])
    await store(log, [b"elsewhere"], P1)
    new = read_whole(log)[-1]
    assert new.sequence > 5
    assert new.offset >= damage.end
    assert read_whole(log, P1)[0].sequence > 0
    await log.close()


async def test_a_log_cut_below_the_mark_is_damage(tmp_path: Path) -> None:
    originals = await _three_commits(tmp_path)
    data_start = open_segment(FolderFiles(tmp_path), 0).data_start
    os.truncate(tmp_path / segment_name(0), data_start + _position(originals, 4))
    log = SegmentLog.open(tmp_path, SetClock())
    (damage,) = log.recovery.damages
    assert (damage.start, damage.acknowledged) == (_position(originals, 4), True)
    await store(log, [b"new"])
    assert [record.sequence for record in read_whole(log)][:4] == [0, 1, 2, 3]
    assert read_whole(log)[-1].sequence > 5
    await log.close()


async def test_a_log_whose_segments_are_gone_skips_what_they_may_have_held(tmp_path: Path) -> None:
    await _three_commits(tmp_path)
    (tmp_path / segment_name(0)).unlink()
    log = SegmentLog.open(tmp_path, SetClock())
    (damage,) = log.recovery.damages
    assert (damage.start, damage.acknowledged) == (0, True)
    await store(log, [b"new"])
    assert read_whole(log)[0].sequence >= 6
    assert read_whole(log)[0].offset >= damage.end
    await log.close()


@pytest.mark.parametrize("spoil", ["missing", "damaged", "of another end"])
async def test_an_index_that_is_not_to_be_believed_is_rebuilt(tmp_path: Path, spoil: str) -> None:
    bases = await _many_segments(tmp_path)
    path = tmp_path / index_name(bases[1])
    if spoil == "missing":
        path.unlink()
    elif spoil == "damaged":
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    else:
        shutil.copy(tmp_path / index_name(bases[0]), path)
    log = SegmentLog.open(tmp_path, SetClock(), config=cold())
    assert log.recovery.rebuilt == (index_name(bases[1]),)
    assert [record.sequence for record in read_whole(log)] == list(range(20))
    await log.close()
    again = SegmentLog.open(tmp_path, SetClock())
    assert again.recovery.rebuilt == ()
    await again.close()


async def test_damage_in_a_sealed_segment_is_found_by_its_reader(tmp_path: Path) -> None:
    bases = await _many_segments(tmp_path)
    (first, *_), _ = SegmentLogReading(tmp_path).events(bases[1])
    _damage(tmp_path, bases[1], position=first.header.position)
    heard: list[Damage] = []
    log = SegmentLog.open(tmp_path, SetClock(), config=cold(), on_damage=heard.append)
    assert log.recovery.is_clean
    for _ in range(2):
        sequences = [record.sequence for record in read_whole(log)]
        assert sequences == [number for number in range(20) if number != first.header.sequence]
    lost = Lost(P0, first.header.sequence, first.header.sequence)
    assert heard == [Damage(first.header.position, first.header.end, (lost,), acknowledged=True)]
    assert log.seek_sequence(P0, first.header.sequence) == first.header.end
    await log.close()


async def test_a_sealed_segment_rebuilt_with_damage_says_what_was_lost_at_its_end(tmp_path: Path) -> None:
    bases = await _many_segments(tmp_path)
    events, _ = SegmentLogReading(tmp_path).events(bases[1])
    last = events[-1].header
    _damage(tmp_path, bases[1], position=last.position)
    (tmp_path / index_name(bases[1])).unlink()
    log = SegmentLog.open(tmp_path, SetClock())
    assert log.recovery.damages == (
        Damage(last.position, last.end, (Lost(P0, last.sequence, last.sequence),), acknowledged=True),
    )
    await log.close()


@pytest.mark.parametrize("segments", [1, 5])
async def test_a_damaged_segment_header_costs_nothing(tmp_path: Path, segments: int) -> None:
    count = await _commits(tmp_path, segments)
    last = segment_bases(FolderFiles(tmp_path).names())[-1]
    path = tmp_path / segment_name(last)
    path.write_bytes(b"\xff" * 30 + path.read_bytes()[30:])
    log = SegmentLog.open(tmp_path, SetClock())
    assert log.recovery.damages == (Damage(last, last, (), acknowledged=True),)
    assert [record.sequence for record in read_whole(log)] == list(range(count))
    await store(log, [b"new"])
    assert read_whole(log)[-1].sequence == count
    assert log.last_outbox_id(1) == count
    await log.close()


async def test_leftovers_are_removed(tmp_path: Path) -> None:
    await _three_commits(tmp_path)
    for name in ("00000000000000000900.segment.new", "00000000000000000900.index"):
        (tmp_path / name).write_bytes(b"half")
    log = SegmentLog.open(tmp_path, SetClock())
    assert not [name for name in FolderFiles(tmp_path).names() if "900" in name]
    await log.close()


async def test_a_log_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / segment_name(0)).write_bytes(frame(SEGMENT_MAGIC, 99, b"whatever comes"))
    with pytest.raises(ConfigurationError, match="later release"):
        SegmentLog.open(tmp_path, SetClock())
    assert (tmp_path / segment_name(0)).read_bytes() == frame(SEGMENT_MAGIC, 99, b"whatever comes")


async def test_a_damaged_mark_is_no_mark(tmp_path: Path) -> None:
    await _three_commits(tmp_path)
    path = tmp_path / HEAD_NAME
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    log = SegmentLog.open(tmp_path, SetClock())
    assert [record.sequence for record in read_whole(log)] == list(range(6))
    assert log.recovery.is_clean
    await log.close()


@pytest.mark.parametrize("verb", ["write", "sync", "rename", "sync_folder"])
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("keep", [0, 50, 10_000])
async def test_dying_anywhere_keeps_what_was_acknowledged(tmp_path: Path, verb: str, after: int, keep: int) -> None:
    disk = Disk(tmp_path)
    log = SegmentLog.open(tmp_path, SetClock(), files=disk, config=LogConfig(segment_bytes=300))
    sent = [await store(log, [b"first"])]
    disk.die_at(verb, after)
    acknowledged = [b"first"]
    for number in range(8):
        waiter = await store(log, [b"x%d" % number, b"y%d" % number])
        acknowledged += [b"x%d" % number, b"y%d" % number] if waiter.acknowledged else []
        sent.append(waiter)
    await die(log, disk, keep)
    again = SegmentLog.open(tmp_path, SetClock())
    found = payloads(read_whole(again))
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) - len(acknowledged) in (0, 2)
    assert again.recovery.damages == ()
    assert [record.sequence for record in read_whole(again)] == list(range(len(found)))
    await again.close()


class SegmentLogReading:
    """Looks into the files of a closed log."""

    def __init__(self, folder: Path) -> None:
        self._files = FolderFiles(folder)

    def events(self, base: int) -> tuple[list[Found], int]:
        """Records of a segment, and the bytes before them in its file."""
        data_start = open_segment(self._files, base).data_start
        data = self._files.read_whole(segment_name(base))[data_start:]
        read = _reading(data, base)
        return [item for item in scan(read, base, base + len(data)) if isinstance(item, Found)], data_start


def _reading(data: bytes, base: int) -> Callable[[int, int], bytes]:
    return lambda position, size: data[position - base : position - base + size]


def _recover(files: FolderFiles) -> Recovered:
    head = Head.open(files, writable=False)
    try:
        return recover(files, head.read())
    finally:
        head.close()


def _records(files: FolderFiles, recovered: Recovered) -> Iterator[Found]:
    (segment,) = recovered.segments
    data = files.read_whole(segment_name(segment.base))[segment.data_start :]
    for item in scan(_reading(data, segment.base), segment.base, segment.end):
        if isinstance(item, Found):
            yield item


def _payloads(files: FolderFiles, recovered: Recovered) -> Iterator[bytes]:
    for found in _records(files, recovered):
        yield found.data[found.at + found.header.length - found.header.payload_length : found.at + found.header.length]


def _damage(folder: Path, base: int, position: int) -> None:
    path = folder / segment_name(base)
    at = open_segment(FolderFiles(folder), base).data_start + position - base + RECORD_BYTES_MIN
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def _position(originals: dict[int, int], sequence: int) -> int:
    return next(position for position, number in originals.items() if number == sequence)


async def _with_unsynced_batch(folder: Path) -> Disk:
    """A log that died between the write and the sync of its second commit."""
    disk = Disk(folder)
    log = SegmentLog.open(folder, SetClock(), files=disk)
    await store(log, [b"a", b"b"])
    disk.die_at("sync")
    refused = await store(log, [b"c", b"d", b"e"])
    assert refused.acknowledged == []
    await log.close()
    return disk


async def _three_commits(folder: Path) -> dict[int, int]:
    """Six events in three commits; their sequence numbers by position."""
    log = SegmentLog.open(folder, SetClock())
    for number in range(3):
        await store(log, [b"first %d" % number, b"second %d" % number])
    originals = {record.offset: record.sequence for record in read_whole(log)}
    await log.close()
    return originals


async def _commits(folder: Path, segments: int) -> int:
    log = SegmentLog.open(folder, SetClock(), config=LogConfig(segment_bytes=350))
    count = 0
    while len(segment_bases(FolderFiles(folder).names())) < segments or count < 2:
        count += 1
        waiter = Waiter()
        log.append(P0, (EVENTS,), b"envelope", b"payload", 0, waiter, 0, outbox_id=count)
        await waiter.heard(1)
    await log.close()
    return count


async def _many_segments(folder: Path) -> list[int]:
    """Twenty events, one a commit, in segments of four."""
    log = SegmentLog.open(folder, SetClock(), config=LogConfig(segment_bytes=350))
    for number in range(20):
        await store(log, [b"payload %02d" % number])
    await log.close()
    return segment_bases(FolderFiles(folder).names())


def test_a_mark_that_is_being_written_is_looked_at_again(tmp_path: Path) -> None:
    head = Head.open(FolderFiles(tmp_path), writable=True)
    assert head.read() is None
    head.write(Mark(5, 3))
    reader = Head.open(FolderFiles(tmp_path), writable=False)
    assert reader.read() == Mark(5, 3)
    head.write(Mark(700, 3))
    assert reader.read() == Mark(700, 3)
    head.close()
    reader.close()
