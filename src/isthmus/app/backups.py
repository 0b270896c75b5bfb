"""Backups of a data folder, of a server that runs or of one that does not, and their way back."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

from isthmus.access.sealed_folder import read_record
from isthmus.app.stores import BLOBS_FOLDER, DEAD_LETTERS_FOLDER, LOG_FOLDER, STATE_FILE, Stores, open_stores
from isthmus.backends.backup import BackupDisk, Cut, Folders, Manifest, cut_of, make_backup, restore_backup
from isthmus.backends.backup.manifest import LogPoint
from isthmus.backends.sqlite import SqliteState
from isthmus.backends.sqlite.snapshot import Snapshot
from isthmus.base.clock import SystemClock, iso_utc
from isthmus.base.errors import Code, ConfigurationError, HubError
from isthmus.base.state import StateClosed
from isthmus.config import Config

Json = dict[str, object]

DiskOf = Callable[[Callable[[], bool]], BackupDisk]
"""Makes the hands of a backup, which ask from time to time whether to stop."""

WITHOUT_END = BackupDisk()
"""Is never told to stop."""


class Backups:
    """Implements `BackupMaker` over the stores of a server."""

    def __init__(self, stores: Stores, data: Path, disk_of: DiskOf = BackupDisk) -> None:
        self._stores = stores
        self._disk_of = disk_of
        self._folders = folders_of(data)
        self._busy = False

    async def make(self, destination: str) -> Json:
        if self._busy:
            raise HubError(Code.CONFLICT, "A backup is being made already")
        self._busy = True
        try:
            return await self._make(Path(destination))
        except (OSError, StateClosed) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            place = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            raise HubError(Code.INVALID_OPERATION, f"No backup was made: {said or error}{place}") from error
        finally:
            self._busy = False

    async def _make(self, destination: Path) -> Json:
        stores, state = self._stores, self._stores.state
        if not isinstance(state, SqliteState):
            raise HubError(Code.INVALID_OPERATION, "An ephemeral server keeps nothing that could be backed up")
        started = stores.clock.monotonic()
        async with AsyncExitStack() as stack:
            stack.enter_context(stores.log.kept())
            stack.enter_context(stores.dead_letters.kept())
            await stack.enter_async_context(stores.blobs.kept())
            blobs = stores.blobs.snapshot()
            stack.callback(blobs.close)
            snapshot, cut = await state.cut(lambda: cut_of(blobs, stores.log, stores.dead_letters, stores.clock))
            stack.callback(snapshot.close)
            manifest = await self._copy(snapshot, cut, destination)
        return report(manifest, destination, stores.clock.monotonic() - started)

    async def _copy(self, snapshot: Snapshot, cut: Cut, destination: Path) -> Manifest:
        """Copies on a thread; when the wait is cancelled the thread is told, and waited for."""
        stop = threading.Event()
        copying = asyncio.ensure_future(
            asyncio.to_thread(
                make_backup,
                self._folders,
                snapshot,
                cut,
                destination,
                self._disk_of(stop.is_set),
                made_by=version("isthmus"),
            )
        )
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([copying])
            raise


async def backup_stopped(data: Path, destination: str) -> Json:
    """Makes a backup of the folder of a server that does not run, repaired as a start would repair it.

    Raises ConfigurationError when a server runs on it after all, or when it cannot be used; HubError as `Backups.make`.
    """
    async with open_stores(Config(data=str(data))) as stores:
        return await Backups(stores, data).make(destination)


def restore(source: Path, data: Path, disk: BackupDisk = WITHOUT_END) -> Json:
    """Makes a data folder of a backup; raises `ConfigurationError`."""
    clock = SystemClock()
    started = clock.monotonic()
    try:
        restored = restore_backup(source, data, disk, log=LOG_FOLDER, now_ms=clock.utc_ms())
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise ConfigurationError(f"The backup could not be restored: {error.strerror or error}{place}.") from error
    told = report(restored.manifest, data, clock.monotonic() - started)
    return {**told, "goesOnAtOffset": restored.goes_on}


def folders_of(data: Path) -> Folders:
    """What lies where in a data folder."""
    return Folders(data, STATE_FILE, LOG_FOLDER, DEAD_LETTERS_FOLDER, BLOBS_FOLDER)


def report(manifest: Manifest, folder: Path, seconds: float) -> Json:
    """What a backup holds, for people and programs; `folder` is that of the backup, or the restored one."""
    sealed = read_record(folder)
    return {
        "folder": str(folder),
        "recoveryPoint": iso_utc(manifest.cut_ms),
        "madeBy": manifest.made_by,
        "state": {"outboxId": manifest.state.outbox_id, "journalEntry": manifest.state.journal_entry},
        "log": _log(manifest.log),
        "deadLetters": _log(manifest.dead_letters),
        "sealingKey": sealed.key_id if sealed is not None else "",
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "seconds": round(seconds, 3),
    }


def _log(point: LogPoint) -> Json:
    return {
        "end": point.end,
        "partitions": [
            {
                "stream": each.stream,
                "partition": each.partition,
                "lastSequenceNumber": each.last_sequence,
                "lastOffset": each.last_offset,
                "lastEnqueuedTime": iso_utc(each.last_enqueued_ms),
            }
            for each in point.partitions
        ],
    }
