"""What this helper has added, written down before it is added, so that a crash leaves nothing for ever.

One helper at a time has a record: the file is locked, and the next one waits for the lock. Addresses do not outlive the
machine's start: a record of an earlier one is forgotten, for the same address may be somebody else's by now.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path

import msgspec

from isthmus.namespaces.orders import Spot

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Differs after each start of the machine (random(4))."""

OPENED = os.O_CLOEXEC | os.O_NOFOLLOW
"""A file of ours is never a link to somebody else's."""

RECORD_BYTES_MAX = 4 * 1024 * 1024
"""Far above what claims allow; a longer file is none of ours."""


def _check_folder(folder: Path) -> None:
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(errno.EPERM, f"others may write in {folder}; the record needs a folder of root's own")


class Added(msgspec.Struct, frozen=True):
    """Which interface of which network (its cookie) was given an address."""

    index: int
    cookie: int


class _Entry(msgspec.Struct):
    spot: Spot
    added: Added


class _Content(msgspec.Struct):
    boot: str = ""
    entries: tuple[_Entry, ...] = ()


class Record:
    """The spots where an address was added."""

    def __init__(self, path: Path, *, wait: bool) -> None:
        """Waits for whoever has the record, if told so; raises OSError, also when others may write beside it."""
        self._path = path
        _check_folder(path.parent)
        self._lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | OPENED, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            os.close(self._lock)
            raise OSError(error.errno, "another helper has it") from error
        self._boot = BOOT_ID.read_text().strip()
        self._added = self._read()

    @property
    def spots(self) -> tuple[Spot, ...]:
        """Where something was added."""
        return tuple(self._added)

    def added(self, spot: Spot) -> Added | None:
        """What was given the address; None when nothing was added there."""
        return self._added.get(spot)

    def note(self, spot: Spot, added: Added) -> None:
        """Writes down what is going to be added; raises OSError, and then it must not be."""
        self._write(self._added | {spot: added})

    def strike(self, spot: Spot) -> None:
        """Forgets what was taken back; raises OSError."""
        if spot in self._added:
            self._write({each: added for each, added in self._added.items() if each != spot})

    def close(self) -> None:
        """Lets the next helper have it; removes the file when there is nothing in it."""
        if not self._added:
            self._path.unlink(missing_ok=True)
        os.close(self._lock)

    def _read(self) -> dict[Spot, Added]:
        try:
            with self._path.open("rb") as file:
                content = msgspec.json.decode(file.read(RECORD_BYTES_MAX), type=_Content)
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}
        if content.boot != self._boot:
            return {}
        return {entry.spot: entry.added for entry in content.entries}

    def _write(self, added: dict[Spot, Added]) -> None:
        entries = tuple(_Entry(spot, each) for spot, each in added.items())
        draft = self._path.with_name(self._path.name + ".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | OPENED, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(_Content(self._boot, entries)))
        draft.replace(self._path)
        self._added = added
