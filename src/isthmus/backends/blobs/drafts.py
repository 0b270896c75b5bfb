"""Content while it is written and while it is read, on threads of the store's."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

from isthmus.backends.blobs.files import ContentFiles, ExtentWriter, pieces_of, read_piece
from isthmus.neighbours.blob.blob import Blob, Extent
from isthmus.neighbours.blob.ranges import ByteRange

T = TypeVar("T")


class OnDisk(Protocol):
    """Runs work on a thread."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]: ...


Judged = Callable[[OSError | None], None]
"""Hears on the event loop that content could not be written, or that it is durable."""


class AppendPlaces:
    """Where in a file the next appended content goes: behind what is there and what others are writing now."""

    def __init__(self) -> None:
        self._ends: dict[int, tuple[int, int]] = {}

    @contextmanager
    def reserved(self, file: int, size: int, length: int) -> Iterator[int]:
        """A place for `length` bytes of a file, nobody else's while this lasts; `size` is the file's at this moment."""
        offset = max(size, self._ends[file][0]) if file in self._ends else size
        writers = self._ends[file][1] if file in self._ends else 0
        self._ends[file] = (offset + length, writers + 1)
        try:
            yield offset
        finally:
            end, writers = self._ends.pop(file)
            if writers > 1:
                self._ends[file] = (end, writers - 1)


class FileDraft:
    """Implements `Draft` on a content file, which is made with the first byte when it is new."""

    def __init__(
        self,
        files: ContentFiles,
        number: int,
        on_disk: OnDisk,
        judged: Judged,
        *,
        new: bool,
        md5: bool,
        offset: int = 0,
    ) -> None:
        self._files = files
        self.number = number
        self._on_disk = on_disk
        self._judged = judged
        self._new = new
        self._offset = offset
        self._wants_md5 = md5
        self._handle: int | None = None
        self._made = False
        self._writing = ExtentWriter(-1, offset, md5=md5)

    @property
    def created(self) -> bool:
        """True when there is a file that was not there before."""
        return self._made

    @property
    def md5(self) -> bytes:
        return self._writing.md5

    async def write(self, data: bytes) -> None:
        if data:
            await self._judge(lambda: self._write(data))

    async def finish(self) -> Extent | None:
        if self._handle is None:
            return None
        handle = self._handle
        await self._judge(lambda: self._files.sync(self.number, handle, new=self._new))
        self._judged(None)
        return self._writing.finish(self.number)

    async def close(self) -> None:
        """Gives the file's handle back."""
        handle, self._handle = self._handle, None
        if handle is not None:
            await self._on_disk(lambda: os.close(handle))

    async def _judge(self, work: Callable[[], None]) -> None:
        try:
            await self._on_disk(work)
        except OSError as error:
            self._judged(error)
            raise

    def _write(self, data: bytes) -> None:
        if self._handle is None:
            self._handle = self._files.create(self.number) if self._new else self._files.open_write(self.number)
            self._made = self._new
            self._writing = ExtentWriter(self._handle, self._offset, md5=self._wants_md5)
        self._writing.write(data)


class StoredContent:
    """Implements `Content` on content files."""

    def __init__(
        self, blob: Blob, part: ByteRange, extents: Sequence[Extent], files: ContentFiles, on_disk: OnDisk
    ) -> None:
        """`extents` are those that the part touches."""
        self._blob = blob
        self._part = part
        self._extents = extents
        self._files = files
        self._on_disk = on_disk

    @property
    def blob(self) -> Blob:
        return self._blob

    @property
    def part(self) -> ByteRange:
        return self._part

    async def read(self) -> AsyncGenerator[bytes, None]:
        opened, handle = -1, -1
        try:
            for piece in pieces_of(self._extents, self._part.start, self._part.end):
                if piece.extent.file != opened:
                    handle = await self._reopen(handle, piece.extent.file)
                    opened = piece.extent.file
                yield await self._on_disk(partial(read_piece, handle, piece))
        finally:
            if handle >= 0:
                os.close(handle)

    async def _reopen(self, handle: int, file: int) -> int:
        if handle >= 0:
            os.close(handle)
        return await self._on_disk(lambda: self._files.open_read(file))
