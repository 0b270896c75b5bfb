"""Blobs and what is there of them, for tests of the rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from isthmus.neighbours.blob.blob import Blob, BlobKind, Extent, Stamp
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.rules import Waiting

NOW_MS = 1_700_000_000_000
STAMP = Stamp(900, 90, NOW_MS)


@dataclass
class There:
    """What is there of a blob."""

    blob: Blob | None = None
    made_of: Sequence[Extent] = ()
    waits: Mapping[bytes, Extent] = field(default_factory=dict)
    stamp: Stamp = STAMP

    def committed(self) -> Sequence[Extent]:
        return self.made_of

    def staged(self) -> Mapping[bytes, Extent]:
        return self.waits

    def waiting(self) -> Waiting:
        return Waiting(len(self.waits), max(map(len, self.waits), default=0))


def blob(kind: BlobKind = BlobKind.BLOCK, size: int = 0, blocks: int = 0) -> Blob:
    return Blob(7, "x", kind, size, 100, NOW_MS - 5_000, NOW_MS - 5_000, blocks=blocks)


def extent(length: int, block_id: bytes = b"", file: int = 1) -> Extent:
    return Extent(file, 0, length, b"", block_id=block_id)


def refused_as(call: Callable[[], object]) -> StorageCode | None:
    """How a call is refused; None when it is not. Whatever else it raises is a fault."""
    try:
        call()
    except StorageError as error:
        return error.storage_code
    return None
