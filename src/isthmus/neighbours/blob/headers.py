"""Headers of requests that say what a blob or container shall be, and those of answers that say what it is."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from isthmus.neighbours.blob.blob import (
    PLAIN,
    Blob,
    BlobKind,
    Container,
    ContentSettings,
    Metadata,
    base64_text,
    etag_text,
)
from isthmus.neighbours.blob.blob import http_date as date
from isthmus.neighbours.blob.errors import StorageCode, StorageError, header_error

METADATA_PREFIX = "x-ms-meta-"

METADATA_BYTES_MAX = 8_192
"""Names and values of one blob's or container's metadata."""

SETTING_CHARACTERS_MAX = 1_024
"""Of a content header."""

MD5_BYTES = 16

VERSION = "2026-02-06"
"""What is told to a client that names no version of its own."""

_VERSION = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]")
_METADATA_NAME = re.compile(r"[^\W\d]\w*", re.ASCII)


def checked_version(text: str) -> str:
    """The API version of a request: whatever has the shape of a date; raises StorageError InvalidHeaderValue."""
    if not _VERSION.fullmatch(text):
        raise header_error("x-ms-version", text)
    return text


def metadata_of(headers: Mapping[str, str]) -> Metadata:
    """The metadata among the headers, whose names keep their case; raises StorageError InvalidMetadata."""
    found = {
        name[len(METADATA_PREFIX) :]: value.strip()
        for name, value in headers.items()
        if name.lower().startswith(METADATA_PREFIX)
    }
    if not all(_METADATA_NAME.fullmatch(name) and value.isprintable() for name, value in found.items()):
        raise StorageError(StorageCode.INVALID_METADATA)
    if sum(len(name.encode()) + len(value.encode(errors="surrogateescape")) for name, value in found.items()) > (
        METADATA_BYTES_MAX
    ):
        raise StorageError(StorageCode.METADATA_TOO_LARGE)
    return tuple(sorted(found.items()))


def settings_of(headers: Mapping[str, str], *, with_content_headers: bool = False) -> ContentSettings:
    """The content headers that a request sets, by names in small letters; raises StorageError.

    `with_content_headers` when the plain `Content-Type` and the like speak for the blob where `x-ms-blob-…` is silent.
    """

    def said(name: str) -> str:
        value = headers.get(f"x-ms-blob-{name}", "")
        if not value and with_content_headers:
            value = headers.get(name, "")
        if len(value) > SETTING_CHARACTERS_MAX or not value.isprintable():
            raise header_error(f"x-ms-blob-{name}", value)
        return value

    return ContentSettings(
        content_type=said("content-type") or PLAIN.content_type,
        encoding=said("content-encoding"),
        language=said("content-language"),
        disposition=said("content-disposition"),
        cache_control=said("cache-control"),
        md5=md5_of(headers.get("x-ms-blob-content-md5", "")),
    )


def md5_of(text: str) -> bytes:
    """The bytes of an MD5 in a header, empty for none; raises StorageError InvalidMd5."""
    if not text:
        return b""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != MD5_BYTES:
        raise StorageError(StorageCode.INVALID_MD5)
    return decoded


def number_of(headers: Mapping[str, str], name: str) -> int | None:
    """A header that is a whole number, None for none; raises StorageError InvalidHeaderValue."""
    text = headers.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(2**63))):
        raise header_error(name, text)
    return int(text)


def blob_headers(blob: Blob) -> Iterator[tuple[str, str]]:
    """What a reader is told of a blob besides its content."""
    yield from written_headers(blob)
    yield "x-ms-creation-time", date(blob.created_ms)
    yield "x-ms-blob-type", blob.kind.value
    yield from _LEASE
    yield "x-ms-server-encrypted", "false"
    yield "Accept-Ranges", "bytes"
    yield from setting_headers(blob.settings)
    if blob.kind is BlobKind.APPEND:
        yield "x-ms-blob-committed-block-count", str(blob.blocks)
    else:
        yield "x-ms-access-tier", "Hot"
        yield "x-ms-access-tier-inferred", "true"
    if blob.copied is not None:
        yield "x-ms-copy-id", blob.copied.copy_id
        yield "x-ms-copy-source", blob.copied.source
        yield "x-ms-copy-status", "success"
        yield "x-ms-copy-progress", f"{blob.copied.size}/{blob.copied.size}"
        yield "x-ms-copy-completion-time", date(blob.copied.completed_ms)
    yield from metadata_headers(blob.metadata)


def setting_headers(settings: ContentSettings) -> Iterator[tuple[str, str]]:
    """The content headers that are set, without the MD5, whose name depends on what is read."""
    yield "Content-Type", settings.content_type
    for name, value in (
        ("Content-Encoding", settings.encoding),
        ("Content-Language", settings.language),
        ("Content-Disposition", settings.disposition),
        ("Cache-Control", settings.cache_control),
    ):
        if value:
            yield name, value


def container_headers(container: Container) -> Iterator[tuple[str, str]]:
    """What a reader is told of a container."""
    yield from written_headers(container)
    yield from _LEASE
    yield "x-ms-has-immutability-policy", "false"
    yield "x-ms-has-legal-hold", "false"
    yield from metadata_headers(container.metadata)


def written_headers(written: Blob | Container) -> Iterator[tuple[str, str]]:
    """ETag and Last-Modified, which every answer to a write carries."""
    yield "ETag", etag_text(written.etag)
    yield "Last-Modified", date(written.modified_ms)


def metadata_headers(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Metadata as headers."""
    return ((f"{METADATA_PREFIX}{name}", value) for name, value in metadata)


def md5_header(name: str, md5: bytes) -> dict[str, str]:
    """A header with an MD5; none for none."""
    return {name: base64_text(md5)} if md5 else {}


def iso_seconds(utc_ms: int) -> str:
    """`2030-01-01T00:00:00Z`, as keys and stored access policies are dated."""
    return f"{datetime.fromtimestamp(utc_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


_LEASE = (("x-ms-lease-status", "unlocked"), ("x-ms-lease-state", "available"))
