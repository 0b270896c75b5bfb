"""What the Blob service needs from outside: a store of containers, blobs and their content."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from isthmus.base.ids import HubId
from isthmus.neighbours.blob.blob import Blob, Container, Extent, Stamp
from isthmus.neighbours.blob.listing import BlobPage, ContainerPage, Page
from isthmus.neighbours.blob.ranges import ByteRange
from isthmus.neighbours.blob.rules import Outcome, Present

ContainerRule = Callable[[Container | None, Stamp], Container | None]
BlobRule = Callable[[Present], Outcome]
PartRule = Callable[[Blob], ByteRange]


class DamagedContentError(Exception):
    """Stored bytes do not match their checksum, or are not there; they are never served."""


class Draft(Protocol):
    """Content that is being written; nothing refers to it before a rule does."""

    async def write(self, data: bytes) -> None:
        """Takes more bytes; returns when they are written, so that a sender is never faster than the disk."""

    async def finish(self) -> Extent | None:
        """What was written, durable; None when that was nothing."""

    @property
    def md5(self) -> bytes:
        """Of what was written; empty when it was not asked for."""


class Content(Protocol):
    """A blob as it was at one moment, to be read whatever happens to it meanwhile."""

    @property
    def blob(self) -> Blob: ...

    @property
    def part(self) -> ByteRange:
        """What of it can be read."""

    def read(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the part in pieces; raises DamagedContentError before it gives a damaged one."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """What a block blob is made of, and what waits for a list."""

    blob: Blob | None
    committed: tuple[Extent, ...]
    staged: tuple[Extent, ...]


class BlobStore(Protocol):
    """Containers and blobs of all accounts. What changes is durable when a call returns.

    A rule runs inside the transaction, on a thread of the store's; what it raises is raised here, and nothing has
    changed. Cancelling a wait does not undo a change.
    """

    async def secret(self, account: HubId) -> bytes:
        """What the account's user delegation keys are derived from; made at the first call, and never told."""

    async def container(self, account: HubId, name: str) -> Container | None:
        """A container, or None."""

    async def containers(self, account: HubId, page: Page) -> ContainerPage:
        """A page of an account's containers, in the order of their names."""

    async def change_container(self, account: HubId, name: str, rule: ContainerRule) -> Container | None:
        """Makes, changes or removes a container; with it go its blobs."""

    async def blob(self, account: HubId, container: str, name: str) -> Blob | None:
        """A blob, or None; raises StorageError ContainerNotFound."""

    async def blobs(self, account: HubId, container: str, page: Page) -> BlobPage:
        """A page of a container's blobs, in the order of their names; raises StorageError ContainerNotFound."""

    async def blocks(self, account: HubId, container: str, name: str) -> Blocks:
        """The blocks of a blob; raises StorageError ContainerNotFound."""

    async def change_blob(self, account: HubId, container: str, name: str, rule: BlobRule) -> Blob | None:
        """Makes, changes or removes a blob or a block; raises StorageError ContainerNotFound."""

    def content(
        self, account: HubId, container: str, name: str, part: PartRule
    ) -> AbstractAsyncContextManager[Content | None]:
        """A part of a blob's content while it is read, None where there is no blob.

        `part` is asked on a thread; what it raises is raised here, and StorageError ContainerNotFound.
        """

    def draft(self, *, md5: bool) -> AbstractAsyncContextManager[Draft]:
        """New content; what no rule took is removed at the end."""

    def append_draft(self, blob: Blob, length: int, *, md5: bool) -> AbstractAsyncContextManager[Draft]:
        """Content of `length` bytes for an append blob's end; others may write beside it."""

    async def drop_account(self, account: HubId) -> None:
        """Removes everything of an account."""

    async def retain(self, accounts: Collection[HubId]) -> None:
        """Removes everything of accounts that are not named."""
