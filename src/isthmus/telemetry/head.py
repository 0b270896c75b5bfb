"""The committed mark: how far the log is durable, told to other processes through a mapped file.

The writer overwrites it after each sync; it is never ahead of what is durable, and may lie behind after a power cut. A
reader that meets it half written sees a wrong checksum and looks again.
"""

import mmap
import struct
import zlib
from typing import NamedTuple

from isthmus.telemetry.files import Files

HEAD_NAME = "head"
HEAD_FILE_BYTES = 4096
"""One page: the unit that is mapped."""

LOOKS_MAX = 1000
"""How often a reader looks again; the writer takes less than a microsecond."""

_MARK = struct.Struct("<8sQQ")
_CHECKSUM = struct.Struct("<I")
_MAGIC = b"ISTHHEAD"


class Mark(NamedTuple):
    """Everything before `committed` is durable; the segment that begins at `active_base` is being written."""

    committed: int
    active_base: int


class Head:
    """The mapped mark; one process writes, any number read."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped

    @classmethod
    def open(cls, files: Files, *, writable: bool) -> "Head":
        """Maps the mark, and makes an empty one when there is none and it is to be written."""
        if writable and (HEAD_NAME not in files.names() or files.size(HEAD_NAME) != HEAD_FILE_BYTES):
            files.write_whole(HEAD_NAME, bytes(HEAD_FILE_BYTES))
        return cls(files.map(HEAD_NAME, writable=writable))

    def read(self) -> Mark | None:
        """The mark; None when none was ever written, or it is damaged."""
        for _ in range(LOOKS_MAX):
            data = self._mapped[: _MARK.size + _CHECKSUM.size]
            if len(data) < _MARK.size + _CHECKSUM.size or not any(data):
                return None
            magic, committed, active_base = _MARK.unpack_from(data)
            if magic == _MAGIC and _CHECKSUM.unpack_from(data, _MARK.size)[0] == zlib.crc32(data[: _MARK.size]):
                return Mark(committed, active_base)
        return None

    def write(self, mark: Mark) -> None:
        """Moves the mark."""
        self._mapped[: _MARK.size + _CHECKSUM.size] = _encode(mark)

    def close(self) -> None:
        """Gives the mapping back."""
        self._mapped.close()


def stored_mark(files: Files) -> Mark | None:
    """The mark of a folder, as `Head.read`; raises FileNotFoundError, and ValueError for an empty file."""
    head = Head.open(files, writable=False)
    try:
        return head.read()
    finally:
        head.close()


def head_file(mark: Mark) -> bytes:
    """The content of the file that tells a mark."""
    return _encode(mark).ljust(HEAD_FILE_BYTES, b"\0")


def _encode(mark: Mark) -> bytes:
    data = _MARK.pack(_MAGIC, mark.committed, mark.active_base)
    return data + _CHECKSUM.pack(zlib.crc32(data))
