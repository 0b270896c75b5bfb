"""Containers, blobs and what they are made of, as values; `rules` says how they change."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, StrEnum

from isthmus.base.ids import HubId

Metadata = tuple[tuple[str, str], ...]
"""Names as their client wrote them, and values, in the order of the names."""

CHUNK_BYTES = 65_536
"""Bytes of an extent that share a checksum: the least that is read from disk at once."""

DEFAULT_TYPE = "application/octet-stream"
"""The content type of a blob whose client said none."""


class BlobKind(StrEnum):
    """What a blob is made of; page blobs are not offered."""

    BLOCK = "BlockBlob"
    APPEND = "AppendBlob"


class BlockSource(Enum):
    """Where a block list looks for a block ("Put Block List")."""

    COMMITTED = "Committed"
    UNCOMMITTED = "Uncommitted"
    LATEST = "Latest"


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of a blob's bytes: where it lies in which content file, with a CRC-32 for each chunk.

    `start` is its place in the blob, 0 while it is staged; `block_id` is decoded, empty for what is no block.
    """

    file: int
    offset: int
    length: int
    checksums: bytes = field(repr=False)
    start: int = 0
    block_id: bytes = b""

    @property
    def end(self) -> int:
        """The place behind its last byte in the blob."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """The HTTP headers that a reader is given back; `md5` is what a client said or the service calculated."""

    content_type: str = DEFAULT_TYPE
    encoding: str = ""
    language: str = ""
    disposition: str = ""
    cache_control: str = ""
    md5: bytes = b""


PLAIN = ContentSettings()
"""What a client that says nothing gets."""


@dataclass(frozen=True, slots=True)
class Copied:
    """That a blob was copied from another one, and when."""

    copy_id: str
    source: str
    size: int
    completed_ms: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A committed blob without its content; `number` is its own, and no other's ever."""

    number: int
    name: str
    kind: BlobKind
    size: int
    etag: int
    created_ms: int
    modified_ms: int
    settings: ContentSettings = PLAIN
    metadata: Metadata = ()
    blocks: int = 0
    copied: Copied | None = None


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A stored access policy of a container: what SAS tokens that name it leave out; times as they were written."""

    policy_id: str
    start: str = ""
    expiry: str = ""
    permission: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container; `number` is its own, and no other's ever."""

    number: int
    account: HubId
    name: str
    etag: int
    modified_ms: int
    metadata: Metadata = ()
    policies: tuple[StoredPolicy, ...] = ()


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a change is marked with: the next etag, the next number, and the time."""

    etag: int
    number: int
    utc_ms: int


def etag_text(etag: int) -> str:
    """`"0x8D…"`, quotes included."""
    return f'"0x{etag:X}"'


def http_date(utc_ms: int) -> str:
    """`Tue, 01 Jan 2030 00:00:00 GMT` (RFC 9110 §5.6.7)."""
    moment = datetime.fromtimestamp(utc_ms // 1000, UTC)
    return f"{_DAYS[moment.weekday()]}, {moment:%d} {_MONTHS[moment.month - 1]} {moment:%Y %H:%M:%S} GMT"


def base64_text(data: bytes) -> str:
    """Base64 as headers carry it."""
    return base64.b64encode(data).decode()


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
