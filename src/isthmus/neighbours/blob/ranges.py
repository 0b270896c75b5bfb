"""Ranges of bytes ("Specifying the range header for Blob service operations")."""

import re
from dataclasses import dataclass

from isthmus.neighbours.blob.errors import StorageCode, StorageError

_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """From `start` to before `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def content_range(self, size: int) -> str:
        """The Content-Range header of this part of `size` bytes."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


def parse_range(text: str, size: int) -> ByteRange | None:
    """The part of a blob that a header asks for; None for none, or one in a form that the service ignores.

    Raises StorageError InvalidRange when it begins behind the blob's end.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        return None
    start, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if start >= size or last < start:
        raise StorageError(StorageCode.INVALID_RANGE)
    return ByteRange(start, min(last + 1, size))
