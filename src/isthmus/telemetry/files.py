"""The log's hands on its folder: few verbs, each with a stated durability, so that tests can fail or crash each one."""

import contextlib
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

BUFFERS_PER_WRITE_MAX = 1024
"""`IOV_MAX` of Linux; POSIX promises 16, and no system in use has less than this."""

NEW_SUFFIX = ".new"
"""Ends the name of a file that is not whole yet; leftovers are removed at the next start."""


class Files(Protocol):
    """Files of one folder, by name. All raise `OSError`; handles are plain descriptors."""

    def names(self) -> list[str]:
        """Names of all files, in no order."""

    def size(self, name: str) -> int:
        """Bytes of a file."""

    def read_whole(self, name: str) -> bytes:
        """All bytes of a small file."""

    def write_whole(self, name: str, data: bytes) -> None:
        """Replaces a small file: after a crash the old or the new content is there, whole."""

    def create(self, name: str, data: bytes) -> int:
        """A new file that begins with `data`, open for `write`; file and name are durable when this returns.

        Replaces a file of that name.
        """

    def open_write(self, name: str) -> int:
        """Opens a file to write at its end."""

    def open_read(self, name: str) -> int:
        """Opens a file for `read`."""

    def write(self, handle: int, buffers: Sequence[bytes]) -> None:
        """Appends all bytes; nothing is durable before `sync`."""

    def sync(self, handle: int) -> None:
        """Makes everything written durable (fdatasync). After an error nothing is known: never try it again."""

    def truncate(self, handle: int, size: int) -> None:
        """Cuts the file."""

    def read(self, handle: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""

    def remove(self, name: str) -> None:
        """Removes a file; one that is not there is no error."""

    def close(self, handle: int) -> None:
        """Gives the handle back."""

    def map(self, name: str, *, writable: bool) -> mmap.mmap:
        """Maps a whole file that other processes map too."""


class FolderFiles:
    """Files of a folder of the machine; `0600`, as the log holds what devices say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        return os.listdir(self.folder)

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def read_whole(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write_whole(self, name: str, data: bytes) -> None:
        self.close(self._put(name, data))

    def create(self, name: str, data: bytes) -> int:
        handle = self._put(name, data)
        try:
            self.sync_folder()
        except OSError:
            self.close(handle)
            raise
        return handle

    def open_write(self, name: str) -> int:
        return os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def open_read(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)

    def write(self, handle: int, buffers: Sequence[bytes]) -> None:
        for first in range(0, len(buffers), BUFFERS_PER_WRITE_MAX):
            some = buffers[first : first + BUFFERS_PER_WRITE_MAX]
            written = os.writev(handle, some)
            if written != sum(map(len, some)):
                _write_rest(handle, memoryview(b"".join(some))[written:])

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        data = os.pread(handle, size, offset)
        while 0 < len(data) < size:
            more = os.pread(handle, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def close(self, handle: int) -> None:
        os.close(handle)

    def map(self, name: str, *, writable: bool) -> mmap.mmap:
        handle = os.open(self.folder / name, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            return mmap.mmap(handle, 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        finally:
            os.close(handle)

    def rename(self, old: str, new: str) -> None:
        """Gives a file its final name; durable after `sync_folder`."""
        os.rename(self.folder / old, self.folder / new)

    def sync_folder(self) -> None:
        """Makes names durable."""
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _put(self, name: str, data: bytes) -> int:
        unfinished = name + NEW_SUFFIX
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(self.folder / unfinished, flags, 0o600)
        try:
            self.write(handle, [data])
            self.sync(handle)
            self.rename(unfinished, name)
        except OSError:
            self.close(handle)
            with contextlib.suppress(OSError):
                self.remove(unfinished)
            raise
        return handle


def _write_rest(handle: int, rest: memoryview) -> None:
    while rest:
        rest = rest[os.write(handle, rest) :]
