"""Bringing a backup back: every byte is proved first, and a folder is a data folder only when all of it is durable.

Theory of operation. The manifest names each file with its length and its SHA-256. All are read before the first is
written, so that a damaged backup changes nothing; each is read once more while it is copied, and must be the same. From
the first file to the last sync a mark lies in the folder, for which no server starts on it (`data_folder.held`); a
restore that dies leaves the mark, one that fails takes away what it has written.

What the log gave after the cut it must not give again: before the mark goes, its files get one more, in which it goes
on (`telemetry/seam.py`). How long ago the cut was is told by this machine's clock, which must not be behind it.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from isthmus.backends import data_folder
from isthmus.backends.backup.disk import BackupDisk
from isthmus.backends.backup.manifest import (
    MANIFEST_BYTES_MAX,
    MANIFEST_NAME,
    BackupFile,
    Manifest,
    NotWholeError,
    decode_manifest,
)
from isthmus.base.clock import iso_utc
from isthmus.base.errors import ConfigurationError
from isthmus.telemetry.files import FolderFiles
from isthmus.telemetry.head import stored_mark
from isthmus.telemetry.seam import SLACK_MS, seam_of

KEPT = frozenset({data_folder.LOCK_FILE, "lost+found"})
"""What may lie in a folder that takes a backup: the lock of whoever restores, and what a new file system has."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What the backup says of itself, and the offset from which on the log goes on."""

    manifest: Manifest
    goes_on: int


def restore_backup(source: Path, data: Path, disk: BackupDisk, *, log: str, now_ms: int) -> Restored:
    """Makes a data folder of a backup; `log` is the log's folder in it.

    Raises ConfigurationError when the backup is damaged or incomplete, naming the file, when the folder is in use or
    not empty, and when it is earlier now than the backup is old; OSError when it cannot be written.
    """
    _require_empty(data)
    try:
        manifest = read_backup(source, disk)
        if now_ms < manifest.cut_ms - SLACK_MS:
            raise ConfigurationError(
                f"The backup in {source} is of {iso_utc(manifest.cut_ms)} and it is {iso_utc(now_ms)}: set the clock."
            )
        with data_folder.held(data):
            _require_empty(data, locked=True)
            return Restored(manifest, _write_or_clear(_Writing(source, data, manifest, disk, log, now_ms)))
    except NotWholeError as error:
        raise ConfigurationError(f"The backup in {source} is damaged: {error}.") from error


def read_backup(source: Path, disk: BackupDisk) -> Manifest:
    """The manifest of a backup in which every file is as it says; raises NotWholeError, ConfigurationError, OSError."""
    manifest = _read_manifest(source)
    for each in manifest.files:
        try:
            _require_same(each, *disk.digest(source / each.path))
        except FileNotFoundError as error:
            raise NotWholeError(f"{each.path} is missing") from error
    return manifest


def _read_manifest(source: Path) -> Manifest:
    path = source / MANIFEST_NAME
    try:
        if path.stat().st_size > MANIFEST_BYTES_MAX:
            raise NotWholeError(f"{MANIFEST_NAME} is larger than any manifest")
        return decode_manifest(path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"There is no whole backup in {source}: it has no {MANIFEST_NAME}, which is written last."
        ) from error


@dataclass(frozen=True, slots=True)
class _Writing:
    source: Path
    data: Path
    manifest: Manifest
    disk: BackupDisk
    log: str
    now_ms: int

    def run(self) -> int:
        """Answers where the log goes on."""
        data, disk = self.data, self.disk
        mark = data / data_folder.UNFINISHED_RESTORE
        disk.write(mark, b"")
        folders = {data}
        for each in self.manifest.files:
            target = data / each.path
            disk.make_folder(target.parent)
            folders.update(data / parent for parent in Path(each.path).parents)
            _require_same(each, *disk.copy(self.source / each.path, target))
        for folder in sorted({*folders, data.parent}):
            disk.sync_folder(folder)
        goes_on = self._go_on()
        disk.remove(mark)
        disk.sync_folder(data)
        return goes_on

    def _go_on(self) -> int:
        folder = self.data / self.log
        files = FolderFiles(folder)
        elapsed_ms = self.now_ms - self.manifest.cut_ms
        seam = seam_of(files, stored_mark(files), elapsed_ms=elapsed_ms, now_ms=self.now_ms)
        for name, content in seam.files:
            self.disk.write(folder / name, content)
        return seam.goes_on


def _write_or_clear(writing: _Writing) -> int:
    try:
        return writing.run()
    except Exception:
        with contextlib.suppress(OSError):
            _clear(writing.data, writing.disk)
        raise


def _require_same(wanted: BackupFile, size: int, digest: str) -> None:
    if size != wanted.bytes:
        raise NotWholeError(f"{wanted.path} has {size} bytes and not {wanted.bytes}")
    if digest != wanted.sha256:
        raise NotWholeError(f"{wanted.path} does not match its checksum")


def _require_empty(data: Path, *, locked: bool = False) -> None:
    """Raises ConfigurationError where there is something; nothing of it is touched, not even for a lock."""
    try:
        found = {each.name for each in data.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{data} cannot be used as the data folder: {error.strerror}.") from error
    if found <= KEPT:
        return
    if data_folder.LOCK_FILE in found and not locked:
        with data_folder.held(data):
            pass
    raise ConfigurationError(f"{data} is not empty: a backup is restored into a folder of its own.")


def _clear(data: Path, disk: BackupDisk) -> None:
    """Takes away what was written; the mark last."""
    for each in sorted(data.iterdir(), key=lambda entry: entry.name == data_folder.UNFINISHED_RESTORE):
        if each.name not in KEPT:
            disk.remove(each)
    disk.sync_folder(data)
