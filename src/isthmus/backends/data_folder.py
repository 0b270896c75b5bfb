"""The data folder: made for its owner alone, and one server's at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from isthmus.base.errors import ConfigurationError

LOCK_FILE = "server.lock"
"""Held by the server while it runs; it stays, because removing it would let two servers hold a lock each."""

UNFINISHED_RESTORE = "restore.unfinished"
"""Lies in a folder from the first file of a backup that comes back until the last one is durable."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Makes the folder (0700) where it is missing and holds it; the lock goes with the process, however that ends.

    Raises `ConfigurationError` when a server runs on it already, when it cannot be made or written, or when a restore
    has not come to its end there.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigurationError(f"{folder} cannot be used as the data folder: {reason}.") from error
    try:
        _lock(lock, folder)
        require_whole(folder)
        yield
    finally:
        os.close(lock)


def require_whole(folder: Path) -> None:
    """Raises `ConfigurationError` for what a restore has left that did not come to its end."""
    if (folder / UNFINISHED_RESTORE).exists():
        raise ConfigurationError(f"A restore into {folder} did not end: remove the folder and restore again.")


def _lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigurationError(f"A server runs on {folder} already: stop it, or choose another folder.") from error
