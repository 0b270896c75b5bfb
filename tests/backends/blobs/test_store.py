"""The blob store keeps its promises: what it answered is there after a restart, and nothing else is left."""

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from isthmus.backends.blobs import FileBlobStore
from isthmus.backends.blobs import writer as writer_module
from isthmus.backends.blobs.store import CONTENT_FOLDER, INDEX_FILE
from isthmus.base.clock import SystemClock
from isthmus.base.ids import HubId, RandomIds
from isthmus.base.state import StateClosed
from isthmus.neighbours.blob import rules
from isthmus.neighbours.blob.blob import CHUNK_BYTES, Blob, BlobKind, BlockSource, Container, Extent
from isthmus.neighbours.blob.block_list import ListedBlock
from isthmus.neighbours.blob.conditions import NO_CONDITIONS
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.listing import Page, Prefix
from isthmus.neighbours.blob.ports import DamagedContentError
from isthmus.neighbours.blob.ranges import ByteRange

ACCOUNT = HubId(7)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileBlobStore]:
    opened = await open_at(tmp_path)
    yield opened
    await opened.close()


async def test_a_blob_reads_back_after_a_restart(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3 * CHUNK_BYTES + 17)
    first = await open_at(tmp_path)
    await put(first, "a/b.bin", content)
    await first.close()
    second = await open_at(tmp_path)
    assert await read(second, "a/b.bin") == content
    await second.close()


async def test_ranges_cross_chunks_and_extents(store: FileBlobStore) -> None:
    content = random.Random(2).randbytes(5 * CHUNK_BYTES)
    cut = 2 * CHUNK_BYTES + 5
    await stage(store, "x", b"1", content[:cut])
    await stage(store, "x", b"2", content[cut:])
    await commit(store, "x", b"1", b"2")
    for start, end in ((0, 1), (cut - 1, cut + 1), (CHUNK_BYTES, 4 * CHUNK_BYTES), (0, len(content))):
        assert await read(store, "x", ByteRange(start, end)) == content[start:end]


async def test_blocks_that_are_not_listed_leave_no_file(store: FileBlobStore, tmp_path: Path) -> None:
    await stage(store, "x", b"1", b"kept")
    await stage(store, "x", b"2", b"dropped")
    await commit(store, "x", b"1")
    assert await read(store, "x") == b"kept"
    assert len(files(tmp_path)) == 1


async def test_an_unknown_block_changes_nothing(store: FileBlobStore) -> None:
    await stage(store, "x", b"1", b"kept")
    with pytest.raises(StorageError) as refused:
        await commit(store, "x", b"1", b"2")
    assert refused.value.storage_code is StorageCode.INVALID_BLOCK_LIST
    await commit(store, "x", b"1")
    assert await read(store, "x") == b"kept"


async def test_appends_land_one_after_another(store: FileBlobStore, tmp_path: Path) -> None:
    await put(store, "log", b"", BlobKind.APPEND)
    for number in range(20):
        await append(store, "log", f"{number:03}".encode())
    assert await read(store, "log") == b"".join(f"{number:03}".encode() for number in range(20))
    assert len(files(tmp_path)) == 1


async def test_appends_at_once_neither_mix_nor_vanish(store: FileBlobStore) -> None:
    await put(store, "log", b"", BlobKind.APPEND)
    await append(store, "log", b"begin")
    pieces = [bytes([65 + number]) * 1000 for number in range(20)]
    await asyncio.gather(*(append(store, "log", piece) for piece in pieces))
    found = (await read(store, "log"))[5:]
    assert sorted(found[place : place + 1000] for place in range(0, len(found), 1000)) == sorted(pieces)


async def test_what_no_rule_took_is_removed(store: FileBlobStore, tmp_path: Path) -> None:
    async with store.draft(md5=False) as draft:
        await draft.write(b"nobody's")
    assert not files(tmp_path)


async def test_leftovers_of_a_crash_go_at_the_next_start(tmp_path: Path) -> None:
    first = await open_at(tmp_path)
    await put(first, "kept", b"kept")
    await first.close()
    (tmp_path / CONTENT_FOLDER / "05" / "5").write_bytes(b"left behind")
    second = await open_at(tmp_path)
    assert second._sweeping is not None
    await second._sweeping
    assert len(files(tmp_path)) == 1
    assert await read(second, "kept") == b"kept"
    await second.close()


async def test_a_reader_keeps_what_is_overwritten(store: FileBlobStore, tmp_path: Path) -> None:
    await put(store, "x", b"old")
    async with store.content(ACCOUNT, "c", "x", lambda blob: ByteRange(0, blob.size)) as content:
        await put(store, "x", b"new")
        assert content is not None
        assert b"".join([piece async for piece in content.read()]) == b"old"
    assert await read(store, "x") == b"new"
    assert len(files(tmp_path)) == 1


async def test_a_damaged_chunk_is_not_served(store: FileBlobStore, tmp_path: Path) -> None:
    await put(store, "x", bytes(2 * CHUNK_BYTES))
    [file] = files(tmp_path)
    with file.open("r+b") as opened:
        opened.seek(CHUNK_BYTES + 3)
        opened.write(b"!")
    assert await read(store, "x", ByteRange(0, CHUNK_BYTES)) == bytes(CHUNK_BYTES)
    with pytest.raises(DamagedContentError):
        await read(store, "x", ByteRange(0, CHUNK_BYTES + 1))


async def test_a_damaged_row_is_not_served(store: FileBlobStore, tmp_path: Path) -> None:
    await put(store, "x", b"content")
    index = sqlite3.connect(tmp_path / INDEX_FILE)
    index.execute("UPDATE blob SET body = CAST(replace(body, 'x', 'y') AS BLOB)")
    index.commit()
    index.close()
    with pytest.raises(DamagedContentError):
        await store.blob(ACCOUNT, "c", "x")


async def test_pages_and_prefixes_together_give_every_name_once(store: FileBlobStore) -> None:
    names = ["a", "b/1", "b/2", "b/3/x", "c", "d/1", "d!", "é/1", "é2"]
    for name in names:
        await put(store, name, b"")
    assert await listed(store, Page(limit=2)) == sorted(names)
    assert await listed(store, Page(limit=1, delimiter="/")) == ["a", "b/", "c", "d!", "d/", "é/", "é2"]
    assert await listed(store, Page(prefix="b/", delimiter="/")) == ["b/1", "b/2", "b/3/"]


async def test_a_container_takes_its_blobs_with_it(store: FileBlobStore, tmp_path: Path) -> None:
    await put(store, "x", b"content")
    await stage(store, "y", b"1", b"waiting")
    await store.change_container(ACCOUNT, "c", lambda present, stamp: None)
    assert not files(tmp_path)
    with pytest.raises(StorageError) as refused:
        await store.blob(ACCOUNT, "c", "x")
    assert refused.value.storage_code is StorageCode.CONTAINER_NOT_FOUND


async def test_accounts_that_are_not_retained_go(store: FileBlobStore, tmp_path: Path) -> None:
    await put(store, "x", b"content")
    secret = await store.secret(ACCOUNT)
    assert await store.secret(ACCOUNT) == secret
    await store.retain([ACCOUNT])
    assert await read(store, "x") == b"content"
    await store.retain([])
    assert not files(tmp_path)
    assert await store.secret(ACCOUNT) != secret


async def test_etags_rise_with_every_change(store: FileBlobStore) -> None:
    etags = [(await put(store, "x", b"1")).etag, (await put(store, "x", b"1")).etag]
    changed = await store.change_blob(ACCOUNT, "c", "x", lambda present: rules.describe(present, NO_CONDITIONS))
    assert changed is not None
    assert etags[0] < etags[1] < changed.etag


async def test_content_that_cannot_be_synced_is_nobodys(
    store: FileBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, "x", b"old")
    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="disk"):
            await put(store, "x", b"new")
    assert await read(store, "x") == b"old"
    assert len(files(tmp_path)) == 1
    await put(store, "x", b"new")
    assert await read(store, "x") == b"new"


async def test_after_a_failed_sync_an_append_blob_goes_on_in_another_file(
    store: FileBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, "log", b"", BlobKind.APPEND)
    await append(store, "log", b"one")
    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="disk"):
            await append(store, "log", b"lost")
    await append(store, "log", b"two")
    await append(store, "log", b"three")
    assert await read(store, "log") == b"onetwothree"
    assert len(files(tmp_path)) == 2


async def test_a_commit_that_fails_tells_nobody_that_it_succeeded(store: FileBlobStore, tmp_path: Path) -> None:
    await put(store, "x", b"old")
    index = sqlite3.connect(tmp_path / INDEX_FILE)
    index.execute("CREATE TRIGGER full BEFORE INSERT ON extent BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    index.commit()
    with pytest.raises(StateClosed, match="disk full"):
        await put(store, "x", b"new")
    assert store.failure
    index.execute("DROP TRIGGER full")
    index.commit()
    index.close()
    assert await read(store, "x") == b"old"
    await put(store, "x", b"new")
    assert (await read(store, "x"), store.failure, len(files(tmp_path))) == (b"new", "", 1)


async def test_too_many_changes_at_once_are_refused(store: FileBlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "JOBS_WAITING_MAX", 2)
    outcomes = await asyncio.gather(*(describe(store, f"n{number}") for number in range(3)), return_exceptions=True)
    said = [isinstance(each, StorageError) and each.storage_code for each in outcomes]
    assert said == [StorageCode.BLOB_NOT_FOUND, StorageCode.BLOB_NOT_FOUND, StorageCode.SERVER_BUSY]
    await put(store, "later", b"1")


async def test_a_rule_that_refuses_leaves_its_group_alone(store: FileBlobStore) -> None:
    def refuse(present: object) -> rules.Outcome:
        raise StorageError(StorageCode.CONDITION_NOT_MET)

    refused = store.change_blob(ACCOUNT, "c", "x", refuse)
    written, failed = await asyncio.gather(put(store, "y", b"1"), refused, return_exceptions=True)
    assert isinstance(failed, StorageError)
    assert not isinstance(written, BaseException)
    assert await read(store, "y") == b"1"


async def test_a_cancelled_writer_leaves_nothing(store: FileBlobStore, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def write() -> None:
        async with store.draft(md5=False) as draft:
            while True:
                await draft.write(bytes(CHUNK_BYTES))
                begun.set()

    writing = asyncio.create_task(write())
    await begun.wait()
    assert files(tmp_path)
    writing.cancel()
    await asyncio.wait([writing])
    assert not files(tmp_path)


async def test_only_extents_of_the_range_are_looked_at(store: FileBlobStore) -> None:
    await put(store, "log", b"", BlobKind.APPEND)
    for number in range(10):
        await append(store, "log", bytes([number]) * 10)
    for start, end in ((0, 1), (9, 11), (35, 36), (95, 100), (0, 100), (40, 40)):
        expected = b"".join(bytes([number]) * 10 for number in range(10))[start:end]
        assert await read(store, "log", ByteRange(start, end)) == expected


async def describe(store: FileBlobStore, name: str) -> Blob | None:
    return await store.change_blob(ACCOUNT, "c", name, lambda present: rules.describe(present, NO_CONDITIONS))


def fail(handle: int) -> None:
    raise OSError("the disk is gone")


async def open_at(folder: Path) -> FileBlobStore:
    store = await FileBlobStore.open(folder, SystemClock(), RandomIds())
    if await store.container(ACCOUNT, "c") is None:
        await make_container(store)
    return store


async def make_container(store: FileBlobStore) -> None:
    await store.change_container(
        ACCOUNT, "c", lambda _, stamp: Container(stamp.number, ACCOUNT, "c", stamp.etag, stamp.utc_ms)
    )


async def put(store: FileBlobStore, name: str, data: bytes, kind: BlobKind = BlobKind.BLOCK) -> Blob:
    async with store.draft(md5=False) as draft:
        await draft.write(data)
        rule = partial(rules.put, name=name, kind=kind, content=await draft.finish(), wish=rules.Wish())
        blob = await store.change_blob(ACCOUNT, "c", name, rule)
    assert blob is not None
    return blob


async def stage(store: FileBlobStore, name: str, block_id: bytes, data: bytes) -> None:
    async with store.draft(md5=False) as draft:
        await draft.write(data)
        block = replace(some(await draft.finish()), block_id=block_id)
        await store.change_blob(ACCOUNT, "c", name, lambda present: rules.stage(present, block))


def some(extent: Extent | None) -> Extent:
    assert extent is not None
    return extent


async def commit(store: FileBlobStore, name: str, *block_ids: bytes) -> None:
    wanted = [ListedBlock(block_id, BlockSource.LATEST) for block_id in block_ids]
    await store.change_blob(ACCOUNT, "c", name, lambda present: rules.commit(present, name, wanted, rules.Wish()))


async def append(store: FileBlobStore, name: str, data: bytes) -> None:
    blob = await store.blob(ACCOUNT, "c", name)
    assert blob is not None
    async with store.append_draft(blob, len(data), md5=False) as draft:
        await draft.write(data)
        extent = some(await draft.finish())
        await store.change_blob(
            ACCOUNT, "c", name, lambda present: rules.append(present, blob.number, extent, NO_CONDITIONS)
        )


async def read(store: FileBlobStore, name: str, wanted: ByteRange | None = None) -> bytes:
    async with store.content(ACCOUNT, "c", name, lambda blob: wanted or ByteRange(0, blob.size)) as content:
        assert content is not None
        async with aclosing(content.read()) as pieces:
            return b"".join([piece async for piece in pieces])


async def listed(store: FileBlobStore, page: Page) -> list[str]:
    names: list[str] = []
    while True:
        found = await store.blobs(ACCOUNT, "c", page)
        names += [f"{entry.name}" if isinstance(entry, Prefix) else entry.name for entry in found.entries]
        if not found.next_name:
            return names
        page = replace(page, marker=found.next_name)


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / CONTENT_FOLDER).rglob("*") if path.is_file()]
