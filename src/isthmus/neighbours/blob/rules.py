"""How blobs and containers change: pure rules of what is there and what is asked, run inside a store's transaction.

A rule sees what is there (`Present`) and returns what shall be (`Outcome`), or raises StorageError; the store applies
it in the same transaction, so that conditions hold at the moment of the change ("Put Blob", "Put Block List", "Append
Block").
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from isthmus.neighbours.blob.blob import (
    PLAIN,
    Blob,
    BlobKind,
    BlockSource,
    Container,
    ContentSettings,
    Copied,
    Extent,
    Metadata,
    Stamp,
    StoredPolicy,
)
from isthmus.neighbours.blob.block_list import BLOCKS_MAX, UNCOMMITTED_BLOCKS_MAX, ListedBlock
from isthmus.neighbours.blob.conditions import NO_CONDITIONS, Conditions
from isthmus.neighbours.blob.errors import StorageCode, StorageError


class Present(Protocol):
    """What is there of a blob while it changes."""

    @property
    def blob(self) -> Blob | None:
        """The committed blob."""

    @property
    def stamp(self) -> Stamp:
        """What the change is marked with."""

    def committed(self) -> Sequence[Extent]:
        """The blob's extents, in order."""

    def staged(self) -> Mapping[bytes, Extent]:
        """Blocks that wait for a list, by their ids."""

    def waiting(self) -> "Waiting":
        """How many blocks wait for a list, without reading them all."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Blocks that wait for a list: how many, and the bytes of their ids; the same for all, 0 for none."""

    count: int
    id_bytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What shall be: `blob` is None for none; `extents` replace what it is made of, None keeps them.

    `added` is one more extent at its end, `staged` a block that waits from now on. Blocks that wait go with
    `unstage`.
    """

    blob: Blob | None
    extents: tuple[Extent, ...] | None = None
    added: Extent | None = None
    staged: Extent | None = None
    unstage: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What a writer asks for besides content; `may_overwrite` is off for one who may only create."""

    settings: ContentSettings = PLAIN
    metadata: Metadata = ()
    conditions: Conditions = NO_CONDITIONS
    may_overwrite: bool = True

    def check(self, blob: Blob | None) -> None:
        """Raises StorageError when what is there forbids the writing."""
        if blob is None:
            self.conditions.check_write(None)
            return
        self.conditions.check_write(blob.etag, blob.modified_ms)
        if not self.may_overwrite:
            raise StorageError(StorageCode.UNAUTHORIZED_OVERWRITE)


def put(present: Present, name: str, kind: BlobKind, content: Extent | None, wish: Wish) -> Outcome:
    """A new blob of one piece, or none, in the place of whatever there was."""
    wish.check(present.blob)
    stamp = present.stamp
    blob = Blob(
        number=stamp.number,
        name=name,
        kind=kind,
        size=content.length if content else 0,
        etag=stamp.etag,
        created_ms=stamp.utc_ms,
        modified_ms=stamp.utc_ms,
        settings=wish.settings,
        metadata=wish.metadata,
    )
    return Outcome(blob, extents=(content,) if content else (), unstage=True)


def copy(present: Present, source: Blob, content: Sequence[Extent], copied: Copied, wish: Wish, name: str) -> Outcome:
    """A blob like another one, with content of its own; metadata is the source's when none is wished."""
    wish.check(present.blob)
    stamp = present.stamp
    blob = replace(
        source,
        number=stamp.number,
        name=name,
        etag=stamp.etag,
        created_ms=stamp.utc_ms,
        modified_ms=stamp.utc_ms,
        metadata=wish.metadata or source.metadata,
        copied=replace(copied, completed_ms=stamp.utc_ms),
    )
    return Outcome(blob, extents=tuple(content), unstage=True)


def stage(present: Present, block: Extent) -> Outcome:
    """A block that waits for a list; one of the same id is replaced."""
    _require_kind(present.blob, BlobKind.BLOCK)
    waiting = present.waiting()
    if waiting.count and waiting.id_bytes != len(block.block_id):
        raise StorageError(StorageCode.INVALID_BLOB_OR_BLOCK)
    if waiting.count >= UNCOMMITTED_BLOCKS_MAX:
        raise StorageError(StorageCode.UNCOMMITTED_BLOCKS)
    return Outcome(present.blob, staged=block)


def commit(present: Present, name: str, listed: Sequence[ListedBlock], wish: Wish) -> Outcome:
    """A blob made of the listed blocks; those that wait and are not listed go."""
    wish.check(present.blob)
    _require_kind(present.blob, BlobKind.BLOCK)
    extents = tuple(_laid_out(_chosen(listed, present)))
    stamp, before = present.stamp, present.blob
    blob = Blob(
        number=stamp.number,
        name=name,
        kind=BlobKind.BLOCK,
        size=extents[-1].end if extents else 0,
        etag=stamp.etag,
        created_ms=before.created_ms if before else stamp.utc_ms,
        modified_ms=stamp.utc_ms,
        settings=wish.settings,
        metadata=wish.metadata,
        blocks=len(extents),
    )
    return Outcome(blob, extents=extents, unstage=True)


@dataclass(frozen=True, slots=True)
class AppendLimits:
    """Where an append must land, and how large the blob may become by it; None for wherever."""

    position: int | None = None
    size_max: int | None = None

    def check(self, blob: Blob, length: int) -> None:
        """Raises StorageError AppendPositionConditionNotMet, MaxBlobSizeConditionNotMet."""
        if self.position is not None and self.position != blob.size:
            raise StorageError(StorageCode.APPEND_POSITION)
        if self.size_max is not None and blob.size + length > self.size_max:
            raise StorageError(StorageCode.MAX_BLOB_SIZE)


ANYWHERE = AppendLimits()
"""An append that does not care where it lands."""


def append(
    present: Present, number: int, content: Extent, conditions: Conditions, limits: AppendLimits = ANYWHERE
) -> Outcome:
    """One more block at the end of the append blob `number`, which the content was written for."""
    blob = require_blob(present.blob)
    conditions.check_write(blob.etag, blob.modified_ms)
    _require_kind(blob, BlobKind.APPEND)
    limits.check(blob, content.length)
    if blob.number != number:
        raise StorageError(StorageCode.SERVER_BUSY)
    if blob.blocks >= BLOCKS_MAX:
        raise StorageError(StorageCode.BLOCK_COUNT)
    grown = replace(
        blob,
        size=blob.size + content.length,
        blocks=blob.blocks + 1,
        etag=present.stamp.etag,
        modified_ms=present.stamp.utc_ms,
    )
    return Outcome(grown, added=replace(content, start=blob.size))


def describe(
    present: Present,
    conditions: Conditions,
    *,
    settings: ContentSettings | None = None,
    metadata: Metadata | None = None,
) -> Outcome:
    """The same content with other settings or metadata; None leaves them."""
    blob = require_blob(present.blob)
    conditions.check_write(blob.etag, blob.modified_ms)
    described = replace(
        blob,
        settings=blob.settings if settings is None else settings,
        metadata=blob.metadata if metadata is None else metadata,
        etag=present.stamp.etag,
        modified_ms=present.stamp.utc_ms,
    )
    return Outcome(described)


def delete(present: Present, conditions: Conditions) -> Outcome:
    """No blob, and no blocks that wait for one."""
    blob = require_blob(present.blob)
    conditions.check_write(blob.etag, blob.modified_ms)
    return Outcome(None, extents=(), unstage=True)


def create_container(present: Container | None, draft: Container) -> Container:
    """A new container."""
    if present is not None:
        raise StorageError(StorageCode.CONTAINER_ALREADY_EXISTS)
    return draft


def describe_container(
    present: Container | None,
    stamp: Stamp,
    conditions: Conditions,
    *,
    metadata: Metadata | None = None,
    policies: tuple[StoredPolicy, ...] | None = None,
) -> Container:
    """A container with other metadata or stored access policies; None leaves them."""
    container = require_container(present)
    conditions.check_write(container.etag, container.modified_ms)
    return replace(
        container,
        etag=stamp.etag,
        modified_ms=stamp.utc_ms,
        metadata=container.metadata if metadata is None else metadata,
        policies=container.policies if policies is None else policies,
    )


def delete_container(present: Container | None, conditions: Conditions) -> None:
    """No container."""
    container = require_container(present)
    conditions.check_write(container.etag, container.modified_ms)


def require_blob(blob: Blob | None) -> Blob:
    """The blob; raises StorageError BlobNotFound."""
    if blob is None:
        raise StorageError(StorageCode.BLOB_NOT_FOUND)
    return blob


def require_container(container: Container | None) -> Container:
    """The container; raises StorageError ContainerNotFound."""
    if container is None:
        raise StorageError(StorageCode.CONTAINER_NOT_FOUND)
    return container


def _require_kind(blob: Blob | None, kind: BlobKind) -> None:
    if blob is not None and blob.kind is not kind:
        raise StorageError(StorageCode.INVALID_BLOB_TYPE)


def _chosen(listed: Sequence[ListedBlock], present: Present) -> Iterator[Extent]:
    staged = present.staged()
    wanted = {entry.source for entry in listed} - {BlockSource.UNCOMMITTED}
    committed = {extent.block_id: extent for extent in present.committed() if extent.block_id} if wanted else {}
    for entry in listed:
        found = staged.get(entry.block_id) if entry.source is not BlockSource.COMMITTED else None
        if found is None and entry.source is not BlockSource.UNCOMMITTED:
            found = committed.get(entry.block_id)
        if found is None:
            raise StorageError(StorageCode.INVALID_BLOCK_LIST)
        yield found


def _laid_out(extents: Iterator[Extent]) -> Iterator[Extent]:
    start = 0
    for extent in extents:
        yield replace(extent, start=start)
        start += extent.length
