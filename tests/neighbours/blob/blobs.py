"""Blobs and what is there of them, for tests of the rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from isthmus.base.clock import Clock
from isthmus.base.ids import HubId
from isthmus.neighbours.blob.blob import Blob, BlobKind, Container, Extent, Stamp
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.listing import ContainerPage, Page
from isthmus.neighbours.blob.ports import ContainerRule
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


class ContainersInMemory:
    """A `BlobStore` as far as containers go."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._count = 0
        self._all: dict[tuple[HubId, str], Container] = {}

    async def container(self, account: HubId, name: str) -> Container | None:
        return self._all.get((account, name))

    async def containers(self, account: HubId, page: Page) -> ContainerPage:
        names = sorted(name for owner, name in self._all if owner == account and name >= page.marker)
        kept, beyond = names[: page.limit], names[page.limit :]
        return ContainerPage(tuple(self._all[account, name] for name in kept), beyond[0] if beyond else "")

    async def change_container(self, account: HubId, name: str, rule: ContainerRule) -> Container | None:
        self._count += 1
        after = rule(self._all.get((account, name)), Stamp(self._count, self._count, self._clock.utc_ms()))
        self._all.pop((account, name), None)
        if after is not None:
            self._all[account, name] = after
        return after
