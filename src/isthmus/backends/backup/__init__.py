"""Backups of a data folder: one consistent cut of state, logs and blobs, checked in every byte when it comes back."""

from isthmus.backends.backup.disk import BackupDisk, StoppedError
from isthmus.backends.backup.make import Cut, Folders, cut_of, make_backup
from isthmus.backends.backup.manifest import Manifest
from isthmus.backends.backup.restore import restore_backup

__all__ = [
    "BackupDisk",
    "Cut",
    "Folders",
    "Manifest",
    "StoppedError",
    "cut_of",
    "make_backup",
    "restore_backup",
]
