"""A disk below SQLite that fails on purpose, and that knows what of each file a power cut would leave.

SQLite reaches its files through a VFS, a table of functions. `failing_disk` registers one that is the system's own save
that opening, writing, syncing, cutting, removing and sharing memory are counted, and fail where they are told to. Each
file has a second content beside its real one: what is durable. A write gets there with the next sync that succeeds; a
sync that fails drops for good what it should have made durable, as the kernel does, so that a second one on the same
file succeeds and changes nothing ("fsyncgate"). The real file has it all the same, as the page cache does.
"""

import ctypes
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, string_at
from errno import EIO, ENOSPC
from pathlib import Path
from typing import Any

FOR_EVER = 10**9
FULL = 13
CANNOT_OPEN = 14
IO_WRITE, IO_SYNC, IO_TRUNCATE, IO_DELETE, IO_SHARED = (10 | number << 8 for number in (3, 4, 6, 10, 19))
MAY_CREATE = 0x4
SHARED_FILE = "-shm"
"""What the end of the name is of files that are memory: nothing in them has to outlive a process."""

_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_Share = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, c_void_p)


class _Vfs(Structure):
    """`sqlite3_vfs`, as far as it is looked into; the rest follows in the same bytes."""


_Vfs._fields_ = [
    ("version", c_int),
    ("file_bytes", c_int),
    ("path_max", c_int),
    ("next", c_void_p),
    ("name", c_char_p),
    ("data", c_void_p),
    ("open", _Open),
    ("delete", _Delete),
    ("rest", c_void_p * 12),
]


class _Methods(Structure):
    """`sqlite3_io_methods`."""

    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", _Write),
        ("truncate", _Truncate),
        ("sync", _Sync),
        ("others", c_void_p * 7),
        ("share", _Share),
        ("rest", c_void_p * 5),
    )


class _File(Structure):
    """`sqlite3_file`."""

    _fields_ = (("methods", POINTER(_Methods)),)


class SqliteDisk:
    """Counts steps, and makes those from `first` on fail, `times` of them; see `failing_disk`."""

    def __init__(self) -> None:
        self.steps = 0
        self.failed = 0
        self._first = FOR_EVER
        self._times = 0
        self.error = EIO
        self._only = ""
        self._durable: dict[Path, bytearray] = {}
        self._pending: dict[Path, list[tuple[int, bytes | None]]] = {}
        self._unnamed: set[Path] = set()

    def arm(self, first: int, times: int, error: int, *, only: str = "") -> None:
        """Begins to count anew; `error` is ENOSPC or EIO, `only` the name of the one file whose steps count."""
        self._only = only
        self.steps = self.failed = 0
        self._first, self._times, self.error = first, times, error

    def mend(self) -> None:
        """Lets everything succeed."""
        self._first = FOR_EVER

    def cut_power(self, root: Path, folder: Path) -> None:
        """Puts into a new folder what would be left of the files below `root`."""
        for path, content in self._durable.items():
            if path.is_relative_to(root) and path not in self._unnamed and not path.name.endswith(SHARED_FILE):
                left = folder / path.relative_to(root)
                left.parent.mkdir(parents=True, exist_ok=True)
                left.write_bytes(content)

    def step(self, code: int, path: Path) -> int:
        """Counts; SQLite's code of a failure, or 0."""
        if self._only and path.name != self._only:
            return 0
        number, self.steps = self.steps, self.steps + 1
        if not self._first <= number < self._first + self._times:
            return 0
        self.failed += 1
        return FULL if self.error == ENOSPC and code == IO_WRITE else code

    def opened(self, path: Path) -> None:
        """What a file holds when it is opened the first time is durable, and so is its name."""
        if path not in self._durable:
            self._durable[path] = bytearray(path.read_bytes())
            self._pending[path] = []

    def made(self, path: Path) -> None:
        """A new file, whose name gets durable with its folder."""
        self.opened(path)
        self._unnamed.add(path)

    def named(self, folder: Path) -> None:
        """The names in a folder are durable."""
        self._unnamed = {path for path in self._unnamed if path.parent != folder}

    def wrote(self, path: Path, offset: int, data: bytes | None) -> None:
        """Bytes in the cache; None cuts the file there."""
        self._pending[path].append((offset, data))

    def synced(self, path: Path) -> None:
        """What was written is durable."""
        content = self._durable[path]
        for offset, data in self._pending[path]:
            if data is None:
                del content[offset:]
                continue
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        self._pending[path].clear()

    def dropped(self, path: Path) -> None:
        """What was written never gets durable."""
        self._pending[path].clear()

    def removed(self, path: Path) -> None:
        """The file is gone."""
        self._durable.pop(path, None)
        self._pending.pop(path, None)


class _Layer:
    """The functions of the VFS."""

    def __init__(self, disk: SqliteDisk, system: _Vfs) -> None:
        self._disk = disk
        self._system = system
        self._paths: dict[int, Path] = {}
        self._originals: dict[int, _Methods] = {}
        self._tables: dict[int, _Methods] = {}
        self.vfs = _Vfs()
        ctypes.memmove(byref(self.vfs), byref(system), ctypes.sizeof(_Vfs))
        self.vfs.name = b"isthmus-failing"
        self.vfs.open, self.vfs.delete = _Open(self._open), _Delete(self._delete)
        self._write_, self._truncate_, self._sync_ = _Write(self._write), _Truncate(self._truncate), _Sync(self._sync)
        self._share_ = _Share(self._share)

    def _open(self, vfs: int, name: int | None, file: int, flags: int, told: int | None) -> int:
        path = Path(os.fsdecode(string_at(name))) if name else None
        if path is not None and flags & MAY_CREATE and not path.exists() and self._disk.step(CANNOT_OPEN, path):
            return CANNOT_OPEN
        code = int(self._system.open(vfs, name, file, flags, told))
        if not code and path is not None:
            self._disk.opened(path)
            self._paths[file] = path
            self._wrap(file)
        return code

    def _wrap(self, file: int) -> None:
        opened = _File.from_address(file)
        address = ctypes.addressof(opened.methods.contents)
        if address not in self._tables:
            table = self._tables[address] = _Methods()
            ctypes.memmove(byref(table), address, ctypes.sizeof(_Methods))
            table.write, table.truncate, table.sync = self._write_, self._truncate_, self._sync_
            table.share = self._share_
        self._originals[file] = _Methods.from_address(address)
        opened.methods = ctypes.pointer(self._tables[address])

    def _delete(self, vfs: int, name: bytes, sync: int) -> int:
        path = Path(os.fsdecode(name))
        if path.exists() and self._disk.step(IO_DELETE, path):
            return IO_DELETE
        code = int(self._system.delete(vfs, name, sync))
        if not code:
            self._disk.removed(path)
        return code

    def _write(self, file: int, data: int, size: int, offset: int) -> int:
        path, original = self._paths[file], self._originals[file]
        failure = self._disk.step(IO_WRITE, path)
        written = size // 2 if failure else size
        code = int(original.write(file, data, written, offset))
        self._disk.wrote(path, offset, string_at(data, written))
        return failure or code

    def _truncate(self, file: int, size: int) -> int:
        failure = self._disk.step(IO_TRUNCATE, self._paths[file])
        if failure:
            return failure
        code = int(self._originals[file].truncate(file, size))
        self._disk.wrote(self._paths[file], size, None)
        return code

    def _sync(self, file: int, flags: int) -> int:
        path = self._paths[file]
        failure = self._disk.step(IO_SYNC, path)
        if failure:
            self._disk.dropped(path)
            return failure
        code = int(self._originals[file].sync(file, flags))
        self._disk.synced(path)
        return code

    def _share(self, file: int, region: int, size: int, extend: int, memory: int) -> int:
        if extend and self._disk.step(IO_SHARED, self._paths[file]):
            return IO_SHARED
        return int(self._originals[file].share(file, region, size, extend, memory))


_kept: list[Any] = []
"""What a connection that somebody forgot to close may still call."""


@contextmanager
def failing_disk() -> Iterator[SqliteDisk]:
    """While it lasts, whatever connects to an SQLite file has this disk; LookupError where SQLite is not reached."""
    library = _library()
    system = library.sqlite3_vfs_find(None)
    layer = _Layer(SqliteDisk(), _Vfs.from_address(system))
    _kept.append(layer)
    library.sqlite3_vfs_register(byref(layer.vfs), 1)
    try:
        yield layer._disk
    finally:
        library.sqlite3_vfs_register(system, 1)
        library.sqlite3_vfs_unregister(byref(layer.vfs))


def _library() -> ctypes.CDLL:
    """The SQLite that Python itself has loaded."""
    sqlite3.connect(":memory:").close()
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            path = line.partition("/")[2]
            if "libsqlite3" in path:
                library = ctypes.CDLL(f"/{path}")
                library.sqlite3_vfs_find.restype = c_void_p
                library.sqlite3_vfs_find.argtypes = [c_char_p]
                library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
                library.sqlite3_vfs_unregister.argtypes = [c_void_p]
                return library
    raise LookupError("this Python has SQLite built in, where no other disk can be given to it")
