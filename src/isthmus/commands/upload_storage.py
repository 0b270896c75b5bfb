"""The port to the storage that devices put files into; whoever implements it speaks to the account."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from isthmus.base.ids import HubId
from isthmus.resources.file_upload import StorageEndpoint


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """One blob of the container of a hub."""

    hub: HubId
    endpoint: StorageEndpoint
    blob: str


@dataclass(frozen=True, slots=True)
class BlobStamp:
    """Which writing of a blob it is; `etag` with its quotes."""

    modified_ms: int
    etag: str


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """What a blob that is there is like; `size` in bytes."""

    size: int
    stamp: BlobStamp


@dataclass(frozen=True, slots=True)
class BlobDescription:
    """What a blob is to be like besides its bytes; empty for what nobody said."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """`Content-Type`, `Content-Encoding`, `Content-Language`, `Content-Disposition`, `Cache-Control`."""

    md5: bytes = b""
    """Digest of the whole blob, which is kept with it and not compared with anything."""

    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlockList:
    """The blocks that a blob is made of, by their ids in order; `if_absent`: only where there is no such blob."""

    block_ids: Sequence[str]
    description: BlobDescription
    if_absent: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes on their way into a block: `size` of them; `md5` is compared by the storage where it is given."""

    block_id: str
    size: int
    body: AsyncIterator[bytes]
    md5: bytes = b""


class StorageFault(StrEnum):
    """What the storage, or the way to it, said no to."""

    TRANSIENT = "transient"
    IDENTITY = "identity"
    ROLE = "role"
    NETWORK = "network"
    NAME = "name"
    NOT_FOUND = "not-found"
    AUTHENTICATION = "authentication"
    OUTBOUND = "outbound"
    REQUEST = "request"
    """The storage will never take it as it is: a digest that is wrong, a block that is not there, a condition."""


class StorageRefused(Exception):  # noqa: N818 - an answer
    """The storage said no; `reason` is its answer in its own words, without secrets.

    `status` and `code` are those of the storage's answer, 0 and empty when there was none.
    """

    def __init__(self, fault: StorageFault, reason: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason
        self.status = status
        self.code = code


class UploadStorage(Protocol):
    """The accounts of all hubs; every call raises `StorageRefused`."""

    async def sign(self, target: UploadTarget, expires_ms: int) -> str:
        """A shared access signature to read and write the blob until then, as a query without a question mark.

        By a user delegation key with an identity, by the account's key otherwise. The container is made when it is
        not there.
        """

    async def find(self, target: UploadTarget) -> BlobFacts | None:
        """The blob, None when there is none."""

    async def put_block(self, target: UploadTarget, block: Block) -> None:
        """Passes a block on as it arrives; what is cancelled leaves no block."""

    async def commit_blocks(self, target: UploadTarget, blocks: BlockList) -> BlobStamp:
        """Makes the blob of blocks, the latest of each id."""

    async def close(self) -> None:
        """Gives connections back."""


class NoStorage:
    """Where nothing leads to any account."""

    async def sign(self, target: UploadTarget, expires_ms: int) -> str:
        raise _nowhere()

    async def find(self, target: UploadTarget) -> BlobFacts | None:
        raise _nowhere()

    async def put_block(self, target: UploadTarget, block: Block) -> None:
        raise _nowhere()

    async def commit_blocks(self, target: UploadTarget, blocks: BlockList) -> BlobStamp:
        raise _nowhere()

    async def close(self) -> None:
        """Holds nothing."""


def _nowhere() -> StorageRefused:
    return StorageRefused(StorageFault.TRANSIENT, "no way leads to storage here")
