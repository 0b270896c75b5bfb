"""Lists of containers and blobs: what is asked for, and the XML of a page ("List Containers", "List Blobs").

A marker is the name that the next page begins with, in base64 so that clients take it for nothing else.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from isthmus.neighbours.blob.blob import Blob, BlobKind, Container, Metadata, base64_text, etag_text, http_date
from isthmus.neighbours.blob.errors import StorageCode, StorageError, query_error
from isthmus.neighbours.blob.xml import document, element, is_writable, parent, xml_text

PAGE_MAX = 5_000
"""Entries of a page; more than that is not given though it is asked for."""

_INCLUDED = frozenset(
    {
        "", "copy", "deleted", "deletedwithversions", "immutabilitypolicy", "legalhold", "metadata", "permissions",
        "snapshots", "system", "tags", "uncommittedblobs", "versions",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """What part of a list is wanted: names that begin with `prefix`, from `marker` on."""

    prefix: str = ""
    marker: str = ""
    delimiter: str = ""
    limit: int = PAGE_MAX
    include: frozenset[str] = frozenset()
    said_limit: bool = False


@dataclass(frozen=True, slots=True)
class Prefix:
    """Names that share what stands before the next delimiter, as one entry."""

    name: str


@dataclass(frozen=True, slots=True)
class BlobPage:
    """A page of a container's blobs; `next_name` begins the next one, empty for the last page."""

    entries: tuple[Blob | Prefix, ...]
    next_name: str = ""


@dataclass(frozen=True, slots=True)
class ContainerPage:
    """A page of an account's containers."""

    entries: tuple[Container, ...]
    next_name: str = ""


def page_of(query: Mapping[str, str]) -> Page:
    """What a request wants; raises StorageError InvalidQueryParameterValue, OutOfRangeInput."""
    said = query.get("maxresults", "")
    include = frozenset(part.strip().lower() for part in query.get("include", "").split(","))
    if not include <= _INCLUDED:
        raise query_error("include", query["include"], "Invalid query parameter value.")
    return Page(
        prefix=query.get("prefix", ""),
        marker=_decoded(query.get("marker", "")),
        delimiter=query.get("delimiter", ""),
        limit=_limit(said),
        include=include - {""},
        said_limit=bool(said),
    )


def blobs_document(endpoint: str, container: str, page: Page, found: BlobPage) -> bytes:
    """The answer of List Blobs."""
    attributes = f'ServiceEndpoint="{_attribute(endpoint)}" ContainerName="{_attribute(container)}"'
    entries = (
        parent("BlobPrefix", (_name(entry.name),)) if isinstance(entry, Prefix) else _blob(entry, page.include)
        for entry in found.entries
    )
    return document(_results(attributes, page, parent("Blobs", entries), found.next_name))


def containers_document(endpoint: str, page: Page, found: ContainerPage) -> bytes:
    """The answer of List Containers."""
    entries = (_container(entry, page.include) for entry in found.entries)
    attributes = f'ServiceEndpoint="{_attribute(endpoint)}"'
    return document(_results(attributes, page, parent("Containers", entries), found.next_name))


def _results(attributes: str, page: Page, entries: str, next_name: str) -> str:
    said = [
        element(name, text)
        for name, text in (
            ("Prefix", page.prefix),
            ("Marker", _encoded(page.marker)),
            ("MaxResults", str(page.limit) if page.said_limit else ""),
            ("Delimiter", page.delimiter),
        )
        if text
    ]
    inner = "".join((*said, entries, element("NextMarker", _encoded(next_name))))
    return f"<EnumerationResults {attributes}>{inner}</EnumerationResults>"


def _container(container: Container, include: frozenset[str]) -> str:
    properties = (
        element("Last-Modified", http_date(container.modified_ms)),
        element("Etag", etag_text(container.etag)),
        *_LEASE,
        element("HasImmutabilityPolicy", "false"),
        element("HasLegalHold", "false"),
    )
    inner = [element("Name", container.name), parent("Properties", properties)]
    if "metadata" in include:
        inner.append(_metadata(container.metadata))
    return parent("Container", inner)


def _blob(blob: Blob, include: frozenset[str]) -> str:
    inner = [_name(blob.name), parent("Properties", _properties(blob, include))]
    if "metadata" in include and blob.metadata:
        inner.append(_metadata(blob.metadata))
    return parent("Blob", inner)


def _properties(blob: Blob, include: frozenset[str]) -> Iterator[str]:
    settings = blob.settings
    yield element("Creation-Time", http_date(blob.created_ms))
    yield element("Last-Modified", http_date(blob.modified_ms))
    yield element("Etag", etag_text(blob.etag).strip('"'))
    yield element("Content-Length", str(blob.size))
    yield element("Content-Type", settings.content_type)
    yield element("Content-Encoding", settings.encoding)
    yield element("Content-Language", settings.language)
    yield element("Content-CRC64")
    yield element("Content-MD5", base64_text(settings.md5))
    yield element("Cache-Control", settings.cache_control)
    yield element("Content-Disposition", settings.disposition)
    yield element("BlobType", blob.kind.value)
    if blob.kind is BlobKind.BLOCK:
        yield element("AccessTier", "Hot")
        yield element("AccessTierInferred", "true")
    yield from _LEASE
    yield element("ServerEncrypted", "false")
    if "copy" in include and blob.copied is not None:
        yield element("CopyId", blob.copied.copy_id)
        yield element("CopySource", blob.copied.source)
        yield element("CopyStatus", "success")
        yield element("CopyProgress", f"{blob.copied.size}/{blob.copied.size}")
        yield element("CopyCompletionTime", http_date(blob.copied.completed_ms))


def _name(name: str) -> str:
    """A name that XML cannot have stands percent-encoded (since version 2021-02-12 of the service)."""
    return element("Name", name) if is_writable(name) else f'<Name Encoded="true">{quote(name)}</Name>'


def _metadata(metadata: Metadata) -> str:
    return parent("Metadata", (element(name, value) for name, value in metadata))


def _limit(text: str) -> int:
    if not text:
        return PAGE_MAX
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(2**31))):
        raise query_error("maxresults", text, "Invalid query parameter value.")
    if int(text) == 0:
        raise StorageError(StorageCode.OUT_OF_RANGE, details={"QueryParameterName": "maxresults"})
    return min(int(text), PAGE_MAX)


def _encoded(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode() if name else ""


def _decoded(marker: str) -> str:
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise StorageError(StorageCode.OUT_OF_RANGE, details={"QueryParameterName": "marker"}) from None


def _attribute(text: str) -> str:
    return xml_text(text).replace('"', "&quot;")


_LEASE = (element("LeaseStatus", "unlocked"), element("LeaseState", "available"))
