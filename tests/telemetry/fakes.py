"""A disk that loses what was not synced and fails on demand, a clock that is set, and a waiter that remembers."""

import asyncio
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.telemetry.files import FolderFiles
from isthmus.telemetry.head import HEAD_NAME
from isthmus.telemetry.log import LOCK_NAME, LogConfig, SegmentLog
from isthmus.telemetry.ports import EVENTS, Partition, Record

START_MS = 1_750_000_000_000
P0 = Partition(1, 0)
P1 = Partition(1, 1)


@dataclass(slots=True)
class SetClock:
    """Tells what it was set to."""

    now_ms: int = START_MS

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000


class Disk(FolderFiles):
    """Real files, with a memory of what is durable.

    `calls` names what reached the disk, in order. `fail` makes the next calls of a verb raise; `die_at` makes a call
    and all later ones raise, as if the process had been killed there. `lose_unsynced` then takes away what no sync
    covered.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder)
        self.calls: list[str] = []
        self.is_dead = False
        self._failing: dict[str, int] = {}
        self._deadly: dict[str, int] = {}
        self._synced: dict[int, int] = {}
        self._unsynced_names: set[str] = set()
        for name in self.names():
            stat = (folder / name).stat()
            self._synced[stat.st_ino] = stat.st_size

    def fail(self, verb: str, times: int = 1) -> None:
        self._failing[verb] = times

    def mend(self) -> None:
        """Failures that were asked for and did not happen yet will not."""
        self._failing.clear()

    def die_at(self, verb: str, after: int = 0) -> None:
        self._deadly[verb] = after

    def write(self, handle: int, buffers: Sequence[bytes]) -> None:
        self._reach("write")
        super().write(handle, buffers)

    def sync(self, handle: int) -> None:
        self._reach("sync")
        super().sync(handle)
        stat = os.fstat(handle)
        self._synced[stat.st_ino] = stat.st_size

    def truncate(self, handle: int, size: int) -> None:
        self._reach("truncate")
        super().truncate(handle, size)

    def rename(self, old: str, new: str) -> None:
        self._reach("rename")
        super().rename(old, new)
        self._unsynced_names.add(new)

    def sync_folder(self) -> None:
        self._reach("sync_folder")
        super().sync_folder()
        self._unsynced_names.clear()

    def remove(self, name: str) -> None:
        self._reach("remove")
        super().remove(name)

    def lose_unsynced(self, keep: int = 0) -> None:
        """What a power cut leaves, when `keep` bytes behind the durable ones happened to be written of each file."""
        for name in self.names():
            path = self.folder / name
            if name in self._unsynced_names:
                path.unlink()
            elif name not in (HEAD_NAME, LOCK_NAME):
                stat = path.stat()
                os.truncate(path, min(self._synced.get(stat.st_ino, 0) + keep, stat.st_size))

    def synced_size(self, name: str) -> int:
        """Bytes of a file that are durable."""
        return self._synced[(self.folder / name).stat().st_ino]

    def _reach(self, verb: str) -> None:
        self.calls.append(verb)
        if self._deadly.get(verb) == 0:
            self.is_dead = True
        elif verb in self._deadly:
            self._deadly[verb] -= 1
        if self.is_dead or self._failing.get(verb, 0) > 0:
            self._failing[verb] = self._failing.get(verb, 0) - 1
            raise OSError(errno.EIO, f"{verb} failed on purpose")


class Unsynced(FolderFiles):
    """No disk has to be waited for where none is cut off."""

    def sync(self, handle: int) -> None:
        pass

    def sync_folder(self) -> None:
        pass


@dataclass(slots=True)
class Waiter:
    """Remembers what it was told, and lets a test wait for it."""

    commits: list[list[int]] = field(default_factory=list)
    failures: list[tuple[list[int], str]] = field(default_factory=list)
    change: asyncio.Event = field(default_factory=asyncio.Event)

    def committed(self, cookies: list[int]) -> None:
        self.commits.append(cookies)
        self.change.set()

    def failed(self, cookies: list[int], reason: str) -> None:
        self.failures.append((cookies, reason))
        self.change.set()

    @property
    def acknowledged(self) -> list[int]:
        return [cookie for commit in self.commits for cookie in commit]

    @property
    def told(self) -> int:
        return len(self.acknowledged) + sum(len(cookies) for cookies, _ in self.failures)

    async def heard(self, count: int) -> None:
        """Returns when `count` appends have been told of."""
        while self.told < count:
            self.change.clear()
            await self.change.wait()


async def store(
    log: SegmentLog, payloads: Sequence[bytes], partition: Partition = P0, endpoints: tuple[int, ...] = (EVENTS,)
) -> Waiter:
    """Appends payloads as one batch and waits until they are told of."""
    waiter = Waiter()
    for cookie, payload in enumerate(payloads):
        log.append(partition, endpoints, b"envelope", payload, START_MS - 5, waiter, cookie)
    await waiter.heard(len(payloads))
    return waiter


async def die(log: SegmentLog, disk: Disk, keep: int = 0) -> None:
    """Ends a log as a power cut would."""
    disk.is_dead = True
    await log.close()
    disk.lose_unsynced(keep)


def read_whole(log: SegmentLog, partition: Partition = P0, cursor: int = 0) -> list[Record]:
    """All events from a cursor on."""
    records: list[Record] = []
    while True:
        some, cursor = log.read(partition, cursor, 100, 1_000_000)
        if not some:
            return records
        records += some


def payloads(records: Sequence[Record]) -> list[bytes]:
    return [record.payload for record in records]


def cold(config: LogConfig | None = None) -> LogConfig:
    """A configuration without memory: every read goes to the disk."""
    return LogConfig(segment_bytes=(config or LogConfig()).segment_bytes, tail_cache_bytes=0)
