"""ENOSPC and EIO at every step of the blob store's life: what was answered is there, and it goes on when the disk does.

A step is a call that changes the disk, of the index below SQLite (`support.sqlite_disk`) or of the content: making a
file, writing, syncing a file or its folder, removing. As in `backends.test_sqlite_faults` the n-th one fails, alone or
with those that follow, and what was answered is looked for in the process, after a restart, and after a power cut.
"""

import asyncio
import itertools
import os
import sqlite3
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from errno import EIO, ENOSPC
from pathlib import Path

import pytest

from backends.blobs.test_store import ACCOUNT, append, commit, files, make_container, open_at, put, read, stage
from isthmus.backends.blobs import FileBlobStore
from isthmus.backends.blobs.store import CONTENT_FOLDER
from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigurationError
from isthmus.base.ids import RandomIds
from isthmus.base.state import StateClosed
from isthmus.neighbours.blob.blob import BlobKind
from support.sqlite_disk import CANNOT_OPEN, FOR_EVER, IO_DELETE, IO_SYNC, IO_WRITE, SqliteDisk, failing_disk

ROUNDS = 3
FILLING = b"x" * 5_000
REFUSALS = (OSError, StateClosed, sqlite3.OperationalError)


class ContentDisk:
    """The calls by which content gets to the disk, on a disk that fails."""

    def __init__(self, root: Path, disk: SqliteDisk, patch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._disk = disk
        self._open, self._pwrite, self._unlink = os.open, os.pwrite, os.unlink
        self._sync = {"fsync": os.fsync, "fdatasync": os.fdatasync}
        patch.setattr(os, "open", self.open)
        patch.setattr(os, "pwrite", self.pwrite)
        patch.setattr(os, "unlink", self.unlink)
        patch.setattr(os, "fsync", lambda handle: self.sync("fsync", handle))
        patch.setattr(os, "fdatasync", lambda handle: self.sync("fdatasync", handle))

    def open(self, path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = Path(path)
        is_made = self._is_content(place) and flags & os.O_CREAT
        if is_made:
            self._step(CANNOT_OPEN, place)
        handle = self._open(path, flags, mode, dir_fd=dir_fd)
        if is_made:
            self._disk.made(place)
        return handle

    def pwrite(self, handle: int, data: bytes | memoryview, offset: int) -> int:
        place, content = _place(handle), bytes(data)
        try:
            self._step(IO_WRITE, place)
        except OSError:
            half = content[: len(content) // 2]
            self._pwrite(handle, half, offset)
            self._disk.wrote(place, offset, half)
            raise
        self._disk.wrote(place, offset, content)
        return self._pwrite(handle, data, offset)

    def sync(self, verb: str, handle: int) -> None:
        place = _place(handle)
        is_content = self._is_content(place)
        try:
            if is_content:
                self._step(IO_SYNC, place)
        except OSError:
            if place.is_file():
                self._disk.dropped(place)
            raise
        self._sync[verb](handle)
        if is_content and place.is_file():
            self._disk.synced(place)
        else:
            self._disk.named(place)

    def unlink(self, path: str | Path, *, dir_fd: int | None = None) -> None:
        place = Path(path)
        if self._is_content(place) and place.exists():
            self._step(IO_DELETE, place)
            self._disk.removed(place)
        self._unlink(path, dir_fd=dir_fd)

    def _is_content(self, place: Path) -> bool:
        return place.is_relative_to(self._root) and CONTENT_FOLDER in place.parts

    def _step(self, code: int, place: Path) -> None:
        if self._disk.step(code, place):
            raise OSError(self._disk.error, os.strerror(self._disk.error))


def _place(handle: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{handle}").removesuffix(" (deleted)"))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteDisk]:
    try:
        with failing_disk() as disk, monkeypatch.context() as patch:
            ContentDisk(tmp_path, disk, patch)
            yield disk
    except LookupError as error:
        pytest.skip(str(error))


class Life:
    """A store, and what of it was answered."""

    def __init__(self, store: FileBlobStore) -> None:
        self.store = store
        self.answered: dict[str, bytes] = {}
        self.health: list[str] = []
        store.condition.on_change(self.health.append)

    async def round(self, number: int) -> bool:
        """A blob at once, one of blocks, and a piece of one that grows; True when all were answered."""
        body = b"%d " % number + FILLING
        store = self.store
        if "log" not in self.answered:
            await self._tried("log", b"", put(store, "log", b"", BlobKind.APPEND))
        return all(
            [
                await self._tried("whole", body, put(store, "whole", body)),
                await self._tried("blocks", body * 2, self._in_blocks(body)),
                "log" in self.answered
                and await self._tried("log", self.answered["log"] + body, append(store, "log", body)),
            ]
        )

    async def _in_blocks(self, body: bytes) -> None:
        for block in (b"a", b"b"):
            await stage(self.store, "blocks", block, body)
        await commit(self.store, "blocks", b"a", b"b")

    async def _tried(self, name: str, content: bytes, doing: Awaitable[object]) -> bool:
        try:
            await doing
        except REFUSALS:
            return False
        self.answered[name] = content
        return True


async def seen(store: FileBlobStore) -> dict[str, bytes]:
    return {
        name: await read(store, name) for name in ("whole", "blocks", "log") if await store.blob(ACCOUNT, "c", name)
    }


async def opened(folder: Path, disk: SqliteDisk) -> FileBlobStore:
    """A start may fail with what the disk said, and succeeds when that is mended."""
    try:
        store = await FileBlobStore.open(folder, SystemClock(), RandomIds())
    except (*REFUSALS, ConfigurationError):
        disk.mend()
    else:
        with suppress(*REFUSALS):
            await make_container(store)
            return store
        await store.close()
        disk.mend()
    return await open_at(folder)


async def lived(folder: Path, disk: SqliteDisk) -> Life:
    life = Life(await opened(folder, disk))
    for number in range(ROUNDS):
        await life.round(number)
        assert await seen(life.store) == life.answered
    return life


CASES = [(*case, 1) for case in itertools.product((ENOSPC, EIO), (1, 2, 5, FOR_EVER))]
DAILY = [(EIO, 1, 29), (ENOSPC, FOR_EVER, 37)]
"""With the stride between two steps: prime, so that they fall anywhere in what recurs."""


@pytest.mark.parametrize(
    ("error", "times", "stride"), [*DAILY, *(pytest.param(*case, marks=pytest.mark.long) for case in CASES)]
)
async def test_a_step_that_fails(tmp_path: Path, disk: SqliteDisk, error: int, times: int, stride: int) -> None:
    disk.arm(FOR_EVER, 0, EIO)
    await (await lived(tmp_path / "counted", disk)).store.close()
    assert disk.steps > 100
    for step in range(0, disk.steps, stride):
        disk.arm(step, times, error)
        life = await lived(tmp_path / f"step {step}", disk)
        disk.mend()
        assert await life.round(ROUNDS), "it goes on by itself"
        assert (await seen(life.store), life.store.failure) == (life.answered, "")
        assert [not each for each in life.health] == [bool(number % 2) for number in range(len(life.health))]
        disk.cut_power(tmp_path / f"step {step}", tmp_path / f"cut {step}")
        await life.store.close()
        for folder in (f"step {step}", f"cut {step}"):
            again = await open_at(tmp_path / folder)
            assert await seen(again) == life.answered
            await again.close()


@pytest.mark.parametrize("only", ["index.db-wal", ""])
async def test_a_store_that_nobody_writes_to_is_tried_again(tmp_path: Path, disk: SqliteDisk, only: str) -> None:
    life = Life(await open_at(tmp_path))
    assert await life.round(0)
    kept = len(files(tmp_path))
    disk.arm(0, FOR_EVER, ENOSPC, only=only)
    assert not await life.round(1)
    said = "database or disk is full" if only else "content cannot be written: No space left on device"
    assert said in life.store.failure
    tried = disk.failed
    await life.store.prove()
    assert (disk.failed > tried, len(life.health)) == (True, 1)
    disk.mend()
    await life.store.prove()
    assert life.health[1:] == [""]
    assert await seen(life.store) == life.answered
    with suppress(FileNotFoundError):
        assert len(files(tmp_path)) <= kept + 1
    await life.store.close()


async def test_content_that_cannot_be_removed_is_no_failure(tmp_path: Path, disk: SqliteDisk) -> None:
    """The change was durable, and the next start removes what was left."""
    store = await open_at(tmp_path)
    await put(store, "x", b"old")
    (left,) = files(tmp_path)
    disk.arm(0, FOR_EVER, EIO, only=left.name)
    await put(store, "x", b"new")
    assert (await read(store, "x"), left.exists(), disk.failed) == (b"new", True, 1)
    await store.close()
    disk.mend()
    again = await open_at(tmp_path)
    async with asyncio.timeout(30):
        while left.exists():  # noqa: ASYNC110 - a thread of the store's makes it so
            await asyncio.sleep(0.005)
    assert await read(again, "x") == b"new"
    await again.close()
