"""The hands of a backup on the disk: few verbs, each with a stated durability, so that tests can fail or kill each."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PIECE_BYTES = 1024 * 1024
"""Read and written at a time; what whoever wants to stop waits for at most."""

SYNC_BYTES = 8 * PIECE_BYTES
"""Written before a sync: a disk that has much to write back at once lets the syncs of those who acknowledge wait."""

NEW_SUFFIX = ".new"
"""Ends the name of a file that is not whole yet."""


class StoppedError(Exception):
    """Whoever wanted a backup wants it no more."""


class BackupDisk:
    """Files by their paths; made 0600, folders 0700. All raise `OSError`; those that take long `StoppedError`.

    `stopped` is asked between pieces.
    """

    def __init__(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self._stopped = stopped

    def pause(self) -> None:
        """Raises `StoppedError` when it is time to stop."""
        if self._stopped():
            raise StoppedError("the backup was stopped")

    def make_folder(self, folder: Path) -> None:
        """Makes a folder and those above it where they are missing; durable after `sync_folder` of what holds it."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, path: Path) -> None:
        """Makes an empty file; raises FileExistsError."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def sync(self, path: Path) -> None:
        """Makes a file's content durable."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def sync_folder(self, folder: Path) -> None:
        """Makes the names in a folder durable."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def copy(self, source: Path, target: Path, size: int | None = None) -> tuple[int, str]:
        """A durable new file with the first `size` bytes of another, or all; answers their number and SHA-256.

        Raises OSError when there are fewer.
        """
        digest, done, unsynced = hashlib.sha256(), 0, 0
        with source.open("rb", buffering=0) as reading, _new(target) as writing:
            while size is None or done < size:
                self.pause()
                piece = reading.read(PIECE_BYTES if size is None else min(PIECE_BYTES, size - done))
                if not piece:
                    break
                _write_all(writing, piece)
                digest.update(piece)
                done, unsynced = done + len(piece), unsynced + len(piece)
                if unsynced >= SYNC_BYTES:
                    os.fdatasync(writing)
                    unsynced = 0
            os.fsync(writing)
        if size is not None and done < size:
            raise OSError(None, f"{source} ends after {done} bytes of {size}")
        return done, digest.hexdigest()

    def digest(self, path: Path) -> tuple[int, str]:
        """Number and SHA-256 of a file's bytes."""
        digest, done = hashlib.sha256(), 0
        with path.open("rb", buffering=0) as reading:
            while piece := reading.read(PIECE_BYTES):
                self.pause()
                digest.update(piece)
                done += len(piece)
        return done, digest.hexdigest()

    def write(self, path: Path, data: bytes) -> None:
        """Makes a small file, whole and durable or not there at all, its name included."""
        draft = path.with_name(path.name + NEW_SUFFIX)
        with _new(draft) as writing:
            _write_all(writing, data)
            os.fsync(writing)
        self.rename(draft, path)
        self.sync_folder(path.parent)

    def rename(self, old: Path, new: Path) -> None:
        """Gives a file its final name."""
        old.rename(new)

    def remove(self, path: Path) -> None:
        """Removes a file, or a folder with all that is in it; its absence is durable after `sync_folder`."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _new(path: Path) -> Iterator[int]:
    """A handle to write a file that was not there before."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
