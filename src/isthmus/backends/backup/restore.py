"""Bringing a backup back: every byte is proved first, and a folder is a data folder only when all of it is durable.

Theory of operation. The manifest names each file with its length and its SHA-256. All are read before the first is
written, so that a damaged backup changes nothing; each is read once more while it is copied, and must be the same. From
the first file to the last sync a mark lies in the folder, for which no server starts on it (`data_folder.held`); a
restore that dies leaves the mark, one that fails takes away what it has written.
"""

import contextlib
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
from isthmus.base.errors import ConfigurationError

KEPT = frozenset({data_folder.LOCK_FILE, "lost+found"})
"""What may lie in a folder that takes a backup: the lock of whoever restores, and what a new file system has."""


def restore_backup(source: Path, data: Path, disk: BackupDisk) -> Manifest:
    """Makes a data folder of a backup and answers what the backup says of itself.

    Raises ConfigurationError when the backup is damaged or incomplete, naming the file, and when the folder is in use
    or not empty; OSError when it cannot be written.
    """
    _require_empty(data)
    try:
        manifest = read_backup(source, disk)
        with data_folder.held(data):
            _require_empty(data, locked=True)
            _write_or_clear(source, data, manifest, disk)
    except NotWholeError as error:
        raise ConfigurationError(f"The backup in {source} is damaged: {error}.") from error
    return manifest


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


def _write_or_clear(source: Path, data: Path, manifest: Manifest, disk: BackupDisk) -> None:
    try:
        _write(source, data, manifest, disk)
    except Exception:
        with contextlib.suppress(OSError):
            _clear(data, disk)
        raise


def _write(source: Path, data: Path, manifest: Manifest, disk: BackupDisk) -> None:
    mark = data / data_folder.UNFINISHED_RESTORE
    disk.write(mark, b"")
    folders = {data}
    for each in manifest.files:
        target = data / each.path
        disk.make_folder(target.parent)
        folders.update(data / parent for parent in Path(each.path).parents)
        _require_same(each, *disk.copy(source / each.path, target))
    for folder in sorted({*folders, data.parent}):
        disk.sync_folder(folder)
    disk.remove(mark)
    disk.sync_folder(data)


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
