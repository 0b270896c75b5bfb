"""ENOSPC and EIO at every step of the log's life: nothing acknowledged is lost, and it goes on when the disk does.

A step is a call that changes the disk. `Failing` makes the n-th step fail, alone, with the next one, or with all that
follow until the disk is mended. A failed write may have written half. A failed sync drops what it should have made
durable for good, as the kernel does: a second one on the same file succeeds and changes nothing.
"""

import errno
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from isthmus.telemetry.files import FolderFiles
from isthmus.telemetry.log import Health, LogConfig, SegmentLog
from isthmus.telemetry.verify import verify_log
from telemetry.fakes import P0, P1, Disk, SetClock, Unsynced, die, payloads, read_whole, store

SMALL = LogConfig(segment_bytes=400, retention_bytes=10**6, tail_cache_bytes=0)
ROUNDS = 5
FOR_EVER = 10**9


class Failing(Disk, Unsynced):
    """A disk whose steps `first` to `first + times` fail, counted from `arm` on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.steps = 0
        self.failed = 0
        self._first = FOR_EVER
        self._times = 0
        self._error = errno.EIO
        self._dropped: dict[int, int] = {}

    def arm(self, first: int, times: int, error: int) -> None:
        self.steps, self._first, self._times, self._error = 0, first, times, error

    def mend(self) -> None:
        super().mend()
        self._first = FOR_EVER

    def write(self, handle: int, buffers: Sequence[bytes]) -> None:
        if self._is_next_to_fail():
            data = b"".join(buffers)
            FolderFiles.write(self, handle, [data[: len(data) // 2]])
        super().write(handle, buffers)

    def sync(self, handle: int) -> None:
        stat = os.fstat(handle)
        try:
            super().sync(handle)
        except OSError:
            self._dropped.setdefault(stat.st_ino, self._synced.get(stat.st_ino, 0))
            raise
        self._synced[stat.st_ino] = min(self._synced[stat.st_ino], self._dropped.get(stat.st_ino, FOR_EVER))

    def open_write(self, name: str) -> int:
        self._reach("open")
        return super().open_write(name)

    def remove(self, name: str) -> None:
        self._forget(name)
        super().remove(name)

    def rename(self, old: str, new: str) -> None:
        self._forget(new)
        super().rename(old, new)

    def _forget(self, name: str) -> None:
        """Another file may get its number."""
        if name in self.names():
            self._dropped.pop((self.folder / name).stat().st_ino, None)

    def _is_next_to_fail(self) -> bool:
        return self._first <= self.steps < self._first + self._times

    def _reach(self, verb: str) -> None:
        fails = self._is_next_to_fail()
        self.steps += 1
        super()._reach(verb)
        if fails:
            self.failed += 1
            raise OSError(self._error, os.strerror(self._error))


class Life:
    """A log over several segments with retention, and what of it was acknowledged."""

    def __init__(self, log: SegmentLog) -> None:
        self.log = log
        self.acknowledged: list[bytes] = []
        self.health: list[Health] = []
        log.on_health(self.health.append)

    async def round(self, name: str) -> bool:
        """Two batches of two partitions; True when all of it was acknowledged."""
        before = len(self.acknowledged)
        for number in range(2):
            mine = [b"%s %d %d" % (name.encode(), number, each) for each in range(2)]
            waiter = await store(self.log, mine)
            await store(self.log, [b"of another partition"], P1)
            assert waiter.acknowledged in ([], [0, 1])
            assert bool(waiter.failures) != bool(waiter.acknowledged)
            self.acknowledged += mine if waiter.acknowledged else []
        return len(self.acknowledged) == before + 4


async def steps_of_a_life(folder: Path) -> int:
    disk = Failing(folder)
    disk.arm(FOR_EVER, 0, 0)
    life = Life(SegmentLog.open(folder, SetClock(), files=disk, config=SMALL))
    for number in range(ROUNDS):
        await life.round(f"round {number}")
    await life.log.close()
    return disk.steps


@pytest.fixture
async def steps(tmp_path: Path) -> range:
    return range(await steps_of_a_life(tmp_path / "counted"))


CASES = list(itertools.product((errno.ENOSPC, errno.EIO), (1, 2, 5, FOR_EVER), ("closed", "cut off")))
DAILY = {(errno.EIO, 1, "cut off"), (errno.ENOSPC, FOR_EVER, "closed")}


@pytest.mark.parametrize(
    ("error", "times", "ending"),
    [pytest.param(*case, marks=() if case in DAILY else pytest.mark.long) for case in CASES],
)
async def test_a_step_that_fails(tmp_path: Path, steps: range, times: int, error: int, ending: str) -> None:
    assert len(steps) > 50
    for step in steps:
        folder = tmp_path / f"step {step}"
        disk = Failing(folder)
        disk.arm(step, times, error)
        log = await _opened(disk)
        life = Life(log)
        for number in range(ROUNDS):
            await life.round(f"round {number}")
        assert disk.failed > 0 or times == FOR_EVER
        disk.mend()
        assert await life.round("mended"), "it goes on by itself"
        assert log.health.ok
        assert [each.ok for each in life.health] == [bool(number % 2) for number in range(len(life.health))]
        assert payloads(read_whole(log)) == life.acknowledged
        if ending == "closed":
            await log.close()
        else:
            await die(log, disk)
        assert verify_log(folder).is_whole
        again = SegmentLog.open(folder, SetClock(), config=SMALL)
        assert again.recovery.damages == ()
        assert payloads(read_whole(again)) == life.acknowledged
        assert [record.sequence for record in read_whole(again)] == list(range(len(life.acknowledged)))
        await again.close()


async def _opened(disk: Failing) -> SegmentLog:
    """Opens the log; a start may fail with what the disk said, and succeeds when that is mended."""
    try:
        return SegmentLog.open(disk.folder, SetClock(), files=disk, config=SMALL)
    except OSError:
        disk.mend()
        return SegmentLog.open(disk.folder, SetClock(), files=disk, config=SMALL)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
async def test_a_step_of_a_start_that_fails(tmp_path: Path, error: int) -> None:
    """A start repairs a torn end and an index; what it cannot do it does not do half."""
    original = Failing(tmp_path / "original")
    life = Life(SegmentLog.open(original.folder, SetClock(), files=original, config=SMALL))
    for number in range(3):
        await life.round(f"round {number}")
    original.die_at("sync")
    await store(life.log, [b"torn"])
    await die(life.log, original, keep=30)
    for path in original.folder.glob("*.index"):
        path.write_bytes(b"")
    originals = {path.name: path.read_bytes() for path in original.folder.iterdir()}
    failed, step = True, 0
    while failed:
        disk = Failing(_laid(tmp_path / f"step {step}", originals))
        disk.arm(step, 1, error)
        log = await _opened(disk)
        failed = disk.failed > 0
        assert payloads(read_whole(log)) == life.acknowledged
        await store(log, [b"new"])
        assert payloads(read_whole(log)) == [*life.acknowledged, b"new"]
        await log.close()
        step += 1
    assert step > 5


async def test_a_log_that_nobody_writes_to_is_tried_again(tmp_path: Path) -> None:
    disk, clock = Failing(tmp_path), SetClock()
    log = SegmentLog.open(tmp_path, clock, files=disk)
    await store(log, [b"a"])
    disk.arm(0, FOR_EVER, errno.ENOSPC)
    assert (await store(log, [b"b"])).failures
    assert log.health.reason == "the log cannot be written: No space left on device"
    life = Life(log)
    log.tick(clock.utc_ms())
    await store(log, [b"c"])
    assert not log.health.ok
    disk.mend()
    log.tick(clock.utc_ms())
    await log.close()
    assert [each.ok for each in life.health] == [True]
    again = SegmentLog.open(tmp_path, clock)
    assert payloads(read_whole(again, P0)) == [b"a"]
    await again.close()


def _laid(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
