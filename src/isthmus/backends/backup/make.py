"""Making a backup: what is copied of a cut, in which order, and what is left when that fails.

Theory of operation. A data folder has several stores, and promises that hold between them: a row leaves the outbox only
when its event is in the log; an endpoint's cursor passes a record only when its target has it, which may be a hosted
storage account, or the dead-letter log has it; a reader's checkpoint, which may be a blob, is never ahead of the log.
All of these are kept by who acknowledges what: first the log, then the state. So the cut is taken while the state
commits nothing, and in this order: the state, the index of blobs, the log, the dead letters (`cut_of`, which runs on
the thread of the state's writer, between two commits). Then the log holds every event whose row the state has not any
more, and no event that the state does not know of; its end is behind every cursor and checkpoint. It takes as long as
one commit of the log; after it everybody goes on, and the rest is copying files that nobody changes any more.

The manifest comes last, when all of it is durable. Whatever happens before leaves a folder without one, which is no
backup; of what merely fails nothing is left.
"""

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isthmus.backends.backup.disk import BackupDisk
from isthmus.backends.backup.manifest import (
    MANIFEST_NAME,
    VERSION,
    BackupFile,
    Manifest,
    StatePoint,
    encode_manifest,
    log_point,
)
from isthmus.backends.blobs.files import content_name
from isthmus.backends.blobs.store import CONTENT_FOLDER, INDEX_FILE
from isthmus.backends.sqlite.snapshot import Snapshot
from isthmus.base.clock import Clock
from isthmus.base.places import is_backed_up
from isthmus.telemetry.cut import Cut as LogCut
from isthmus.telemetry.cut import files_of, mark_of
from isthmus.telemetry.files import FolderFiles
from isthmus.telemetry.head import HEAD_NAME, head_file

LOG_CUT_SECONDS_MAX = 10.0
"""For a log to answer between two commits, while the state waits; more than a sick disk needs for one."""

_CONTENT = """SELECT file, max(offset + length) FROM
    (SELECT file, offset, length FROM extent UNION ALL SELECT file, offset, length FROM staged)
    GROUP BY file ORDER BY file"""
_OUTBOX = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox'"
_JOURNAL = "SELECT coalesce(max(entry_id), 0) FROM journal"


class CutLog(Protocol):
    """A log that can be cut; `SegmentLog`."""

    def cut(self) -> Future[LogCut]:
        """What is durable between two commits; from any thread."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One moment of all stores; the snapshots are still to be closed."""

    cut_ms: int
    blobs: Snapshot
    log: LogCut
    dead_letters: LogCut


@dataclass(frozen=True, slots=True)
class Folders:
    """What lies where in a data folder."""

    data: Path
    state: str
    log: str
    dead_letters: str
    blobs: str

    def is_store(self, path: str) -> bool:
        """True for what belongs to a store, which is copied by what the store says."""
        return path.startswith(self.state) or path.partition("/")[0] in (self.log, self.dead_letters, self.blobs)


def cut_of(blobs: Snapshot, log: CutLog, dead_letters: CutLog, clock: Clock) -> Cut:
    """Cuts what stands beside the state, while the state is held; raises OSError."""
    blobs.pin()
    try:
        cuts = [each.cut().result(LOG_CUT_SECONDS_MAX) for each in (log, dead_letters)]
    except TimeoutError as error:
        blobs.close()
        raise OSError(None, f"a log did not answer within {LOG_CUT_SECONDS_MAX:.0f} s") from error
    return Cut(clock.utc_ms(), blobs, *cuts)


def make_backup(
    folders: Folders, state: Snapshot, cut: Cut, destination: Path, disk: BackupDisk, *, made_by: str
) -> Manifest:
    """Copies a cut to `destination`, a new folder or an empty one; raises OSError, StoppedError, FileExistsError.

    The stores must be kept meanwhile. What was copied until a failure is removed again, as far as the disk allows.
    """
    if destination.exists() and any(destination.iterdir()):
        raise FileExistsError(None, f"{destination} is not empty: a backup needs a folder of its own")
    if destination.resolve().is_relative_to(folders.data.resolve()):
        raise FileExistsError(None, f"{destination} is in the data folder: a backup lies elsewhere")
    is_new = not destination.exists()
    try:
        return _Making(folders, state, cut, destination, disk).run(made_by)
    except Exception:
        with contextlib.suppress(OSError):
            for left in [destination] if is_new else list(destination.iterdir()):
                disk.remove(left)
        raise


class _Making:
    def __init__(self, folders: Folders, state: Snapshot, cut: Cut, destination: Path, disk: BackupDisk) -> None:
        self._folders = folders
        self._state = state
        self._cut = cut
        self._destination = destination
        self._disk = disk

    def run(self, made_by: str) -> Manifest:
        self._disk.make_folder(self._destination)
        files = tuple(self._copy_all())
        for folder in sorted({*self._folders_of(files), self._destination.parent}):
            self._disk.sync_folder(folder)
        cut = self._cut
        [(outbox_id,)], [(journal_entry,)] = self._state.rows(_OUTBOX), self._state.rows(_JOURNAL)
        manifest = Manifest(
            version=VERSION,
            made_by=made_by,
            cut_ms=cut.cut_ms,
            log=log_point(cut.log),
            dead_letters=log_point(cut.dead_letters),
            state=StatePoint(outbox_id, journal_entry),
            files=files,
        )
        self._disk.write(self._destination / MANIFEST_NAME, encode_manifest(manifest))
        return manifest

    def _copy_all(self) -> Iterator[BackupFile]:
        folders, cut = self._folders, self._cut
        yield self._database(folders.state, self._state)
        yield self._database(f"{folders.blobs}/{INDEX_FILE}", cut.blobs)
        for number, size in cut.blobs.rows(_CONTENT):
            yield self._file(f"{folders.blobs}/{CONTENT_FOLDER}/{content_name(number)}", size)
        yield from self._log(folders.log, cut.log)
        yield from self._log(folders.dead_letters, cut.dead_letters)
        for path in _others(folders):
            with contextlib.suppress(FileNotFoundError):  # a certificate may be replaced at any time
                yield self._file(path)

    def _database(self, path: str, snapshot: Snapshot) -> BackupFile:
        target = self._target(path)
        self._disk.create(target)
        snapshot.copy(target, lambda: self._piece_written(target))
        self._disk.sync(target)
        return BackupFile(path, *self._disk.digest(target))

    def _piece_written(self, target: Path) -> None:
        self._disk.pause()
        self._disk.sync(target)

    def _log(self, folder: str, cut: LogCut) -> Iterator[BackupFile]:
        files = FolderFiles(self._folders.data / folder)
        for name, size in files_of(files, cut):
            yield self._file(f"{folder}/{name}", size)
        head = self._target(f"{folder}/{HEAD_NAME}")
        self._disk.write(head, head_file(mark_of(files, cut)))
        yield BackupFile(f"{folder}/{HEAD_NAME}", *self._disk.digest(head))

    def _file(self, path: str, size: int | None = None) -> BackupFile:
        target = self._target(path)
        return BackupFile(path, *self._disk.copy(self._folders.data / path, target, size))

    def _target(self, path: str) -> Path:
        target = self._destination / path
        self._disk.make_folder(target.parent)
        return target

    def _folders_of(self, files: Iterable[BackupFile]) -> set[Path]:
        """Every folder of the backup."""
        found = {self._destination}
        for each in files:
            found.update(self._destination / parent for parent in Path(each.path).parents)
        return found


def _others(folders: Folders) -> list[str]:
    """Files that belong to no store: certificates and keys."""
    tops = [each for each in folders.data.iterdir() if not folders.is_store(each.name)]
    found = (file for top in tops for file in (top.rglob("*") if top.is_dir() else (top,)))
    paths = (file.relative_to(folders.data).as_posix() for file in found if file.is_file() and not file.is_symlink())
    return sorted(filter(is_backed_up, paths))
