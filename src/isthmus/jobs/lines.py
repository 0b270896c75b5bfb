"""Cuts the pieces of a blob into lines, and tells where each ends."""

from collections.abc import AsyncIterator, Iterator

from isthmus.jobs.line import BYTE_ORDER_MARK, LINE_BYTES_MAX


class LineCutter:
    """Takes pieces and gives lines without their ends, each with the offset behind it.

    Of a line that is longer than `LINE_BYTES_MAX` only so much is kept, and one byte, so that it is told to be longer.
    """

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._begin = bytearray()
        self._length = 0

    def take(self, piece: bytes) -> Iterator[tuple[bytes, int]]:
        """The lines that end in this piece."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._keep(piece, start, end)
            self._offset += end + 1 - start
            yield self._line(), self._offset
            start = end + 1
        self._keep(piece, start, len(piece))
        self._offset += len(piece) - start

    def rest(self) -> Iterator[tuple[bytes, int]]:
        """The last line, where it has no end."""
        if self._length:
            yield self._line(), self._offset

    def _keep(self, piece: bytes, start: int, end: int) -> None:
        room = LINE_BYTES_MAX + 1 - len(self._begin)
        self._begin += piece[start : min(end, start + room)]
        self._length += end - start

    def _line(self) -> bytes:
        line = bytes(self._begin).removesuffix(b"\r")
        self._begin.clear()
        self._length = 0
        return line


async def lines_of(pieces: AsyncIterator[bytes], offset: int) -> AsyncIterator[tuple[bytes, int]]:
    """Lines with content, each with the offset behind it; a byte order mark at the beginning is none of it."""
    cutter = LineCutter(offset)
    is_first = offset == 0
    async for piece in pieces:
        for line, end in cutter.take(piece):
            text = line.removeprefix(BYTE_ORDER_MARK) if is_first else line
            is_first = False
            if text.strip():
                yield text, end
    for line, end in cutter.rest():
        text = line.removeprefix(BYTE_ORDER_MARK) if is_first else line
        if text.strip():
            yield text, end
