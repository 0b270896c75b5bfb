"""Backups hold one moment of all stores, byte for byte, and what fails or dies on the way passes for none."""

import asyncio
import errno
import itertools
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from isthmus.app.backups import Backups, DiskOf, restore
from isthmus.app.stores import Stores, open_stores
from isthmus.backends.backup import BackupDisk
from isthmus.backends.backup.manifest import MANIFEST_NAME, NotWholeError, decode_manifest
from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigurationError, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import Key, OutboxEvent, Put
from isthmus.config import Config
from isthmus.neighbours.blob import rules
from isthmus.neighbours.blob.blob import BlobKind, Container
from isthmus.neighbours.blob.ranges import ByteRange
from isthmus.routing.appends import Appends
from isthmus.telemetry.ports import EVENTS, Partition

HUB = HubId(1)
PLACE = Partition(1, 0)
BLOB_BYTES = 100_000
CUTS = 12


class Killed(BaseException):
    """Nobody runs after it."""


class Faulty(BackupDisk):
    """Fails or dies at a verb, counted from 0."""

    def __init__(self, at: int, *, dies: bool = False) -> None:
        super().__init__()
        self._left = at
        self._dies = dies

    def create(self, path: Path) -> None:
        self._reach()
        super().create(path)

    def sync(self, path: Path) -> None:
        self._reach()
        super().sync(path)

    def sync_folder(self, folder: Path) -> None:
        self._reach()
        super().sync_folder(folder)

    def copy(self, source: Path, target: Path, size: int | None = None) -> tuple[int, str]:
        self._reach()
        return super().copy(source, target, size)

    def digest(self, path: Path) -> tuple[int, str]:
        self._reach()
        return super().digest(path)

    def write(self, path: Path, data: bytes) -> None:
        self._reach()
        super().write(path, data)

    def rename(self, old: Path, new: Path) -> None:
        self._reach()
        super().rename(old, new)

    def _reach(self) -> None:
        self._left -= 1
        if self._left == -1:
            raise Killed if self._dies else OSError(errno.ENOSPC, "full")


class Held(BackupDisk):
    """Begins to copy when it is let: the cut was made before."""

    def __init__(self, let: threading.Event, stopped: Callable[[], bool]) -> None:
        super().__init__(stopped)
        self._let = let

    def create(self, path: Path) -> None:
        assert self._let.wait(30)
        super().create(path)


async def test_a_backup_comes_back_whole(tmp_path: Path) -> None:
    async with filled(tmp_path / "data") as stores:
        made = await Backups(stores, tmp_path / "data").make(str(tmp_path / "backup"))
    told = restore(tmp_path / "backup", tmp_path / "back")
    assert (tmp_path / "back/tls/ca.pem").read_text() == "authority"
    assert "sealing.key" in os.listdir(tmp_path / "data")
    assert not list((tmp_path / "backup").rglob("sealing.key"))
    assert "sealing.key" not in os.listdir(tmp_path / "back")
    assert told["sealingKey"] == made["sealingKey"] != ""
    assert not list((tmp_path / "backup").rglob("*.lock"))
    same = ("recoveryPoint", "state", "log", "deadLetters", "files", "bytes")
    assert [told[name] for name in same] == [made[name] for name in same]
    async with open_stores(Config(data=str(tmp_path / "back"))) as stores:
        assert await contents(stores) == ({"first"}, ["first"], random.Random(1).randbytes(BLOB_BYTES))
        assert stores.log.recovery.is_clean


async def test_what_comes_after_the_cut_is_not_in_it(tmp_path: Path) -> None:
    let = threading.Event()
    async with filled(tmp_path / "data") as stores:
        backups = Backups(stores, tmp_path / "data", lambda stopped: Held(let, stopped))
        async with pinned(backups, tmp_path / "backup", stores) as making:
            await write(stores, "second")
            stores.log.tick(stores.clock.utc_ms() + 10 * 86_400_000)
            await write(stores, "third")
            stores.log.tick(stores.clock.utc_ms() + 40 * 86_400_000)
            let.set()
            await making
    restore(tmp_path / "backup", tmp_path / "back")
    async with open_stores(Config(data=str(tmp_path / "back"))) as stores:
        documents, messages, _ = await contents(stores)
        assert (documents, messages) == ({"first"}, ["first"])
        assert stores.log.recovery.is_clean
        await write(stores, "fourth")
        assert (await contents(stores))[1] == ["first", "fourth"]


async def test_a_restored_log_gives_no_number_again(tmp_path: Path) -> None:
    async with filled(tmp_path / "data") as stores:
        await Backups(stores, tmp_path / "data").make(str(tmp_path / "backup"))
        await write(stores, "lost")
        lost = stores.log.info(PLACE)
    for name in ("back", "back again"):
        told = restore(tmp_path / "backup", tmp_path / name)
        async with open_stores(Config(data=str(tmp_path / name))) as stores:
            assert stores.log.info(PLACE).last_sequence == 0
            await write(stores, name)
            new = stores.log.info(PLACE)
            begin = told["goesOnAtOffset"]
            assert isinstance(begin, int)
            assert new.last_offset >= begin > lost.last_offset
            assert new.last_sequence > lost.last_sequence
            place = stores.log.seek_offset(PLACE, lost.last_offset + 1)
            assert [record.payload.decode() for record in stores.log.read(PLACE, place, 10, 1_000)[0]] == [name]
            lost = new


async def test_a_restore_needs_a_clock_that_is_not_behind_the_backup(
    tmp_path: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemClock, "utc_ms", lambda clock: 1_000)
    assert "set the clock" in refusal_of(backup, tmp_path / "back")
    assert not (tmp_path / "back").exists()


async def test_every_event_is_in_the_log_or_still_to_be_relayed(tmp_path: Path) -> None:
    async with open_stores(Config(data=str(tmp_path / "data"))) as stores:
        busy = [asyncio.create_task(change_for_ever(stores)), asyncio.create_task(relay_for_ever(stores))]
        for number in range(CUTS):
            await asyncio.sleep(0)
            await Backups(stores, tmp_path / "data").make(str(tmp_path / f"backup-{number}"))
        for each in busy:
            each.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
    for number in range(CUTS):
        told = restore(tmp_path / f"backup-{number}", tmp_path / f"back-{number}")
        async with open_stores(Config(data=str(tmp_path / f"back-{number}"))) as stores:
            state, last = told["state"], stores.log.last_outbox_id(HUB)
            assert isinstance(state, dict)
            waiting = [row.row_id for row in await stores.state.outbox(after=last, limit=10_000)]
            assert waiting == list(range(last + 1, state["outboxId"] + 1))
            stored = await stores.state.get(Key("twin", HUB, "device"))
            assert int(stored.body if stored else 0) == state["outboxId"]


async def test_a_failure_at_any_step_leaves_nothing(tmp_path: Path) -> None:
    destination = tmp_path / "backup"
    async with filled(tmp_path / "data") as stores:
        for at in itertools.count():
            backups = Backups(stores, tmp_path / "data", always(Faulty(at)))
            if not (said := await failure(backups.make(str(destination)))):
                break
            assert "full" in said
            assert "backup" not in os.listdir(tmp_path)
    assert at > 20
    assert not refusal_of(destination, tmp_path / "back")


async def test_a_backup_that_dies_at_any_step_is_none(tmp_path: Path) -> None:
    async with filled(tmp_path / "data") as stores:
        for at in itertools.count():
            backups = Backups(stores, tmp_path / "data", always(Faulty(at, dies=True)))
            if not await failure(backups.make(str(tmp_path / f"backup-{at}"))):
                break
    refused = [refusal_of(tmp_path / f"backup-{number}", tmp_path / "back") for number in range(at)]
    assert all("no whole backup" in said for said in refused[:-1])
    assert refused[-1] == "", "the manifest had its name, which was not synced yet"


async def test_a_restore_that_fails_leaves_an_empty_folder(tmp_path: Path, backup: Path) -> None:
    data = tmp_path / "back"
    for at in itertools.count():
        if not (said := refusal_of(backup, data, Faulty(at))):
            break
        assert "full" in said
        assert not {each.name for each in data.glob("*")} - {"server.lock"}
    async with open_stores(Config(data=str(data))) as stores:
        assert (await contents(stores))[0] == {"first"}


async def test_no_server_starts_on_a_restore_that_died(tmp_path: Path, backup: Path) -> None:
    starts: list[bool] = []
    for at in itertools.count():
        data = tmp_path / f"back-{at}"
        if not refusal_of(backup, data, Faulty(at, dies=True)):
            break
        if list(data.glob("state.db")):
            starts.append(not await failure(started(data)))
            assert starts[-1] or "did not end" in refusal_of(backup, data)
    assert starts[:-1] == [False] * (len(starts) - 1)
    assert starts[-1], "everything was durable but that the mark was taken away"
    assert len(starts) > 10


def test_damage_is_refused_by_the_name_of_the_file(tmp_path: Path, backup: Path) -> None:
    files = [each for each in sorted(backup.rglob("*")) if each.is_file() and each.name != MANIFEST_NAME]
    assert len(files) > 5
    damages: tuple[Callable[[Path], None], ...] = (flip, cut_short, lengthen, Path.unlink)
    for file, damage in itertools.product(files, damages):
        before = file.read_bytes()
        if not before:
            continue
        damage(file)
        said = refusal_of(backup, tmp_path / "back")
        assert f"{file.relative_to(backup)} " in said
        assert not (tmp_path / "back").exists()
        file.write_bytes(before)


def test_a_manifest_is_believed_only_when_it_is_whole(backup: Path) -> None:
    data = (backup / MANIFEST_NAME).read_bytes()
    for at in range(len(data)):
        with pytest.raises(NotWholeError):
            decode_manifest(data[:at])
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(NotWholeError):
            decode_manifest(bytes(changed))


def test_a_folder_that_is_not_empty_takes_no_backup(tmp_path: Path, backup: Path) -> None:
    (tmp_path / "back").mkdir()
    (tmp_path / "back/mine").write_text("keep this")
    assert "not empty" in refusal_of(backup, tmp_path / "back")
    assert os.listdir(tmp_path / "back") == ["mine"]


async def test_two_backups_at_once_are_refused(tmp_path: Path) -> None:
    let = threading.Event()
    async with filled(tmp_path / "data") as stores:
        backups = Backups(stores, tmp_path / "data", lambda stopped: Held(let, stopped))
        async with pinned(backups, tmp_path / "backup", stores) as making:
            with pytest.raises(HubError, match="already"):
                await backups.make(str(tmp_path / "other"))
            let.set()
            await making
    assert not (tmp_path / "other").exists()


async def test_whoever_hangs_up_leaves_nothing(tmp_path: Path) -> None:
    let = threading.Event()
    async with filled(tmp_path / "data") as stores:
        backups = Backups(stores, tmp_path / "data", lambda stopped: Held(let, stopped))
        async with pinned(backups, tmp_path / "backup", stores) as making:
            making.cancel()
            let.set()
            with pytest.raises(asyncio.CancelledError):
                await making
        assert not (tmp_path / "backup").exists()
        await write(stores, "second")


async def test_a_backup_in_the_data_folder_is_refused(tmp_path: Path) -> None:
    async with filled(tmp_path / "data") as stores:
        with pytest.raises(HubError, match="elsewhere"):
            await Backups(stores, tmp_path / "data").make(str(tmp_path / "data/backup"))


async def test_an_ephemeral_server_has_nothing_to_back_up(tmp_path: Path) -> None:
    async with open_stores(Config(data=str(tmp_path / "data"), ephemeral=True)) as stores:
        with pytest.raises(HubError, match="ephemeral"):
            await Backups(stores, tmp_path / "data").make(str(tmp_path / "backup"))


@pytest.fixture
async def backup(tmp_path: Path) -> Path:
    """A backup of a filled data folder."""
    async with filled(tmp_path / "origin") as stores:
        await Backups(stores, tmp_path / "origin").make(str(tmp_path / "backup"))
    return tmp_path / "backup"


@asynccontextmanager
async def filled(data: Path) -> AsyncIterator[Stores]:
    """Stores with a document, a message, a blob, and files of the server beside them."""
    (data / "tls").mkdir(parents=True)
    (data / "tls/ca.pem").write_text("authority")
    async with open_stores(Config(data=str(data))) as stores:
        await write(stores, "first")
        await stores.blobs.change_container(
            HUB, "box", lambda _, stamp: Container(stamp.number, HUB, "box", stamp.etag, stamp.utc_ms)
        )
        async with stores.blobs.draft(md5=False) as draft:
            await draft.write(random.Random(1).randbytes(BLOB_BYTES))
            rule = partial(rules.put, name="blob", kind=BlobKind.BLOCK, content=await draft.finish(), wish=rules.Wish())
            await stores.blobs.change_blob(HUB, "box", "blob", rule)
        yield stores


@asynccontextmanager
async def pinned(backups: Backups, destination: Path, stores: Stores) -> AsyncIterator["asyncio.Task[object]"]:
    """A backup under way, its cut made."""
    making: asyncio.Task[object] = asyncio.create_task(backups.make(str(destination)))
    while not await asyncio.to_thread(destination.exists) and not making.done():
        await stores.state.journal_flushed()
    yield making


async def write(stores: Stores, name: str) -> None:
    """A document and a message, both acknowledged."""
    await stores.state.commit([Put(Key("twin", HUB, name), b"{}")])
    await message(stores, name)


async def message(stores: Stores, payload: str, outbox_id: int = 0) -> None:
    group = Appends()
    group.appended = 1
    stores.log.append(PLACE, (EVENTS,), b"envelope", payload.encode(), 1, group, 0, outbox_id)
    await group.settled()
    assert not group.reason


async def contents(stores: Stores) -> tuple[set[str], list[str], bytes]:
    """Names of documents, payloads of messages, the blob."""
    documents = {stored.key.name for stored in await stores.state.scan("twin", HUB)}
    records, cursor = stores.log.read(PLACE, 0, 1_000, 2**20)
    while more := stores.log.read(PLACE, cursor, 1_000, 2**20)[0]:
        records, cursor = [*records, *more], more[-1].offset + 1
    async with stores.blobs.content(HUB, "box", "blob", lambda blob: ByteRange(0, blob.size)) as content:
        assert content is not None
        async with aclosing(content.read()) as pieces:
            data = b"".join([piece async for piece in pieces])
    return documents, [record.payload.decode() for record in records], data


async def change_for_ever(stores: Stores) -> None:
    """A twin whose number is that of the last event about it."""
    for number in itertools.count(1):
        put = Put(Key("twin", HUB, "device"), str(number).encode())
        await stores.state.commit([put], [OutboxEvent(HUB, str(number).encode())])


async def relay_for_ever(stores: Stores) -> None:
    """As `OutboxRelay` does it."""
    while True:
        rows = await stores.state.outbox(after=0, limit=100)
        for row in rows:
            if row.row_id > stores.log.last_outbox_id(HUB):
                await message(stores, row.body.decode(), row.row_id)
        if rows:
            await stores.state.outbox_done(rows[-1].row_id)


async def started(data: Path) -> None:
    """Starts on a data folder and ends."""
    async with open_stores(Config(data=str(data))):
        pass


def always(disk: BackupDisk) -> DiskOf:
    return lambda _: disk


async def failure(attempt: Awaitable[object]) -> str:
    """Why something was not done; empty when it was."""
    try:
        await attempt
    except (HubError, ConfigurationError, Killed) as error:
        return str(error) or type(error).__name__
    return ""


def refusal_of(source: Path, data: Path, disk: BackupDisk | None = None) -> str:
    """Why a backup does not come back; empty when it does."""
    try:
        restore(source, data, disk or BackupDisk())
    except (ConfigurationError, Killed) as error:
        return str(error) or type(error).__name__
    return ""


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
