"""What the log keeps open or in memory has a bound, and what goes over it is had again."""

from pathlib import Path

import pytest

from isthmus.telemetry import archive, damage
from isthmus.telemetry.damage import Damage, Damages
from isthmus.telemetry.files import FolderFiles
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.segment import list_segments
from telemetry.fakes import SetClock, payloads, read_whole, store

SMALL = LogConfig(segment_bytes=300, tail_cache_bytes=0)
PAYLOADS = [b"payload %d" % number for number in range(30)]


class Counting(FolderFiles):
    """Counts the files that are open to be read, and the indexes that were read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.opened: set[int] = set()
        self.most = 0
        self.indexes = 0

    def open_read(self, name: str) -> int:
        handle = super().open_read(name)
        self.opened.add(handle)
        self.most = max(self.most, len(self.opened))
        return handle

    def close(self, handle: int) -> None:
        self.opened.discard(handle)
        super().close(handle)

    def read_whole(self, name: str) -> bytes:
        self.indexes += name.endswith(".index")
        return super().read_whole(name)


async def written(folder: Path) -> None:
    log = SegmentLog.open(folder, SetClock(), config=SMALL)
    for payload in PAYLOADS:
        await store(log, [payload])
    await log.close()
    assert len(list_segments(FolderFiles(folder))) > 5


async def test_few_segments_are_open_and_few_indexes_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await written(tmp_path)
    monkeypatch.setattr(archive, "HANDLES_MAX", 2)
    monkeypatch.setattr(archive, "INDEXES_MAX", 2)
    files = Counting(tmp_path)
    log = SegmentLog.open(tmp_path, SetClock(), config=SMALL, files=files)
    files.most = files.indexes = 0
    assert payloads(read_whole(log)) == PAYLOADS
    once = files.indexes
    assert payloads(read_whole(log)) == PAYLOADS
    assert files.most == 2
    assert files.indexes == 2 * once, "an index that had to go is read again"
    await log.close()
    assert not files.opened


def test_old_damage_is_forgotten_for_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "REPORTS_REMEMBERED_MAX", 3)
    told: list[Damage] = []
    damages = Damages(told.append)
    found = [Damage(number, number + 1, (), acknowledged=True) for number in range(5)]
    for each in (*found, *found[2:]):
        damages.add(each)
    assert (list(damages), told) == (found[2:], found)
