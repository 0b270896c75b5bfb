"""Content files: written once in extents, synced, read with their checksums verified, removed when nobody reads.

Theory of operation. A file is named by a number that is never used again: the count of this store's starts and a count
within it. A new file takes one extent; the file of an append blob takes many, at places that are reserved before they
are written, so that writers need not wait for each other. What nobody's index entry refers to is not there: a process
that dies between the sync of a file and the commit of the index leaves a file, or a stretch of one, that the next
start removes or never reads.

A file is removed when the index has let go of it and everybody who might have looked at the index before that has
finished reading: readers take tickets in order, and a file waits for those whose tickets are older than its release.
"""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from isthmus.neighbours.blob.blob import CHUNK_BYTES, Extent
from isthmus.neighbours.blob.ports import DamagedContentError

BUCKETS = 64
"""Folders over which files are spread, made at the first start, so that making a file never makes a folder."""

START_SHIFT = 40
"""Bits of a file's number that count files within a start."""

CHECKSUM_BYTES = 4

READ_BYTES = 4 * CHUNK_BYTES
"""Bytes read from disk at once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an extent to be read: `start` to `end` within it."""

    extent: Extent
    start: int
    end: int


class ContentFiles:
    """The folder of content files; what touches the disk is called on threads, the rest on the event loop."""

    def __init__(self, folder: Path, start: int) -> None:
        """`start` is how many times the store was opened, this time included."""
        self._folder = folder
        self._start = start
        self._count = 0
        self._tickets: dict[int, None] = {}
        self._ticket = 0
        self._released: list[tuple[int, int]] = []

    def prepare(self) -> None:
        """Makes the folders (0700) where they are missing."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for bucket in range(BUCKETS):
            self._bucket(bucket).mkdir(mode=0o700, exist_ok=True)
        for folder in (self._folder, self._folder.parent):
            _sync_folder(folder)

    def next_number(self) -> int:
        """The number of a new file."""
        self._count += 1
        return (self._start << START_SHIFT) | self._count

    def create(self, number: int) -> int:
        """Makes a file and returns a handle to write; its name is durable after `sync`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(self._path(number), flags, 0o600)

    def open_write(self, number: int) -> int:
        """Opens a file to write into it; raises FileNotFoundError."""
        return os.open(self._path(number), os.O_WRONLY | os.O_CLOEXEC)

    def size(self, number: int) -> int:
        """Bytes of a file; raises FileNotFoundError."""
        return self._path(number).stat().st_size

    def sync(self, number: int, handle: int, *, new: bool) -> None:
        """Makes what was written durable, and a new file's name."""
        os.fdatasync(handle)
        if new:
            _sync_folder(self._bucket(number % BUCKETS))

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While it lasts, no file goes that the index referred to at its beginning."""
        self._ticket += 1
        ticket = self._ticket
        self._tickets[ticket] = None
        try:
            yield
        finally:
            del self._tickets[ticket]

    def release(self, numbers: Iterable[int]) -> None:
        """Notes files that the index does not refer to any more."""
        self._released += [(self._ticket, number) for number in numbers]

    def removable(self) -> list[int]:
        """Takes the released files that nobody can be reading."""
        oldest = next(iter(self._tickets), self._ticket + 1)
        free = [number for ticket, number in self._released if ticket < oldest]
        self._released = [each for each in self._released if each[0] >= oldest]
        return free

    def remove(self, numbers: Iterable[int]) -> None:
        """Removes files; those that are not there are no error."""
        for number in numbers:
            self._path(number).unlink(missing_ok=True)

    def orphans(self, known: set[int]) -> list[int]:
        """Files of earlier starts that are not among the known ones."""
        return [
            number
            for bucket in range(BUCKETS)
            for number in _numbers(os.listdir(self._bucket(bucket)))
            if number >> START_SHIFT < self._start and number not in known
        ]

    def open_read(self, number: int) -> int:
        """Opens a file to read; raises DamagedContentError when it is not there."""
        try:
            return os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise DamagedContentError(f"the content file {number:x} is not there") from error

    def _path(self, number: int) -> Path:
        return self._folder / content_name(number)

    def _bucket(self, bucket: int) -> Path:
        return self._folder / _bucket_name(bucket)


def content_name(number: int) -> str:
    """Where a content file lies in the folder of all."""
    return f"{_bucket_name(number % BUCKETS)}/{number:x}"


def _bucket_name(bucket: int) -> str:
    return f"{bucket:02x}"


class ExtentWriter:
    """Writes one extent and keeps its checksums; on one thread at a time."""

    def __init__(self, handle: int, offset: int, *, md5: bool) -> None:
        self._handle = handle
        self._offset = offset
        self._checksums = bytearray()
        self._chunk = 0
        self._chunk_length = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self.length = 0

    def write(self, data: bytes) -> None:
        """Appends bytes to the extent."""
        self._put(data)
        if self._md5 is not None:
            self._md5.update(data)
        rest = memoryview(data)
        while rest:
            part = rest[: CHUNK_BYTES - self._chunk_length]
            self._chunk = zlib.crc32(part, self._chunk)
            self._chunk_length += len(part)
            if self._chunk_length == CHUNK_BYTES:
                self._end_chunk()
            rest = rest[len(part) :]
        self.length += len(data)

    def finish(self, number: int) -> Extent:
        """What was written."""
        if self._chunk_length:
            self._end_chunk()
        return Extent(number, self._offset, self.length, bytes(self._checksums))

    @property
    def md5(self) -> bytes:
        """Of all that was written; empty when it was not asked for."""
        return self._md5.digest() if self._md5 is not None else b""

    def _put(self, data: bytes) -> None:
        rest, place = memoryview(data), self._offset + self.length
        while rest:
            written = os.pwrite(self._handle, rest, place)
            rest, place = rest[written:], place + written

    def _end_chunk(self) -> None:
        self._checksums += self._chunk.to_bytes(CHECKSUM_BYTES, "little")
        self._chunk = self._chunk_length = 0


def read_piece(handle: int, piece: Piece) -> bytes:
    """The bytes of a piece, at most `READ_BYTES` and a chunk; raises DamagedContentError."""
    extent = piece.extent
    first, last = piece.start // CHUNK_BYTES, (piece.end - 1) // CHUNK_BYTES
    begin, end = first * CHUNK_BYTES, min((last + 1) * CHUNK_BYTES, extent.length)
    data = memoryview(_read_all(handle, extent.offset + begin, end - begin))
    for chunk in range(first, last + 1):
        have = zlib.crc32(data[chunk * CHUNK_BYTES - begin :][:CHUNK_BYTES])
        want = extent.checksums[chunk * CHECKSUM_BYTES : (chunk + 1) * CHECKSUM_BYTES]
        if have.to_bytes(CHECKSUM_BYTES, "little") != want:
            raise DamagedContentError(f"chunk {chunk} at {extent.offset} of content file {extent.file:x} is damaged")
    return bytes(data[piece.start - begin : piece.end - begin])


def pieces_of(extents: Iterable[Extent], start: int, end: int) -> Iterator[Piece]:
    """The pieces of a blob's range `start` to `end`, in order, none of them over `READ_BYTES`."""
    for extent in extents:
        at, stop = max(start, extent.start) - extent.start, min(end, extent.end) - extent.start
        while at < stop:
            until = min(stop, (at // CHUNK_BYTES) * CHUNK_BYTES + READ_BYTES)
            yield Piece(extent, at, until)
            at = until


def _read_all(handle: int, offset: int, size: int) -> bytes:
    data = os.pread(handle, size, offset)
    while len(data) < size:
        more = os.pread(handle, size - len(data), offset + len(data))
        if not more:
            raise DamagedContentError(f"a content file ends at {offset + len(data)}, before {offset + size}")
        data += more
    return data


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _numbers(names: Iterable[str]) -> Iterator[int]:
    for name in names:
        with contextlib.suppress(ValueError):
            yield int(name, 16)
