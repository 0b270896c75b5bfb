"""Conditional headers ("Specifying conditional headers for Blob service operations", RFC 9110 §13).

Dates have whole seconds. Reads that fail `If-None-Match` or `If-Modified-Since` are answered 304, everything else 412;
a creation with `If-None-Match: *` that finds a blob is answered 409.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from isthmus.base.etags import parse_if_match
from isthmus.neighbours.blob.blob import etag_text
from isthmus.neighbours.blob.errors import StorageCode, StorageError, header_error

ANY = "*"


class NotModifiedError(Exception):
    """A read would give what its client has already; answered 304."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a request asks of what is there; dates in seconds since the epoch."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: int | None = None
    if_unmodified_since: int | None = None

    def check_read(self, etag: int, modified_ms: int) -> None:
        """Raises NotModifiedError, or StorageError ConditionNotMet."""
        self._check_strong(etag, modified_ms)
        if self.if_none_match is not None:
            if self.if_none_match == ANY or _same(self.if_none_match, etag):
                raise NotModifiedError
        elif self.if_modified_since is not None and modified_ms // 1000 <= self.if_modified_since:
            raise NotModifiedError

    def check_write(self, etag: int | None, modified_ms: int = 0) -> None:
        """Raises StorageError ConditionNotMet, or BlobAlreadyExists; no etag is for nothing being there."""
        if etag is None:
            if self.if_match is not None:
                raise StorageError(StorageCode.CONDITION_NOT_MET)
            return
        self._check_strong(etag, modified_ms)
        if self.if_none_match == ANY:
            raise StorageError(StorageCode.BLOB_ALREADY_EXISTS)
        if self.if_none_match is not None and _same(self.if_none_match, etag):
            raise StorageError(StorageCode.CONDITION_NOT_MET)
        if self.if_modified_since is not None and modified_ms // 1000 <= self.if_modified_since:
            raise StorageError(StorageCode.CONDITION_NOT_MET)

    def _check_strong(self, etag: int, modified_ms: int) -> None:
        if self.if_match is not None and self.if_match != ANY and not _same(self.if_match, etag):
            raise StorageError(StorageCode.CONDITION_NOT_MET)
        if self.if_unmodified_since is not None and modified_ms // 1000 > self.if_unmodified_since:
            raise StorageError(StorageCode.CONDITION_NOT_MET)


NO_CONDITIONS = Conditions()
"""Whatever is there will do."""


def conditions_of(headers: Mapping[str, str], prefix: str = "") -> Conditions:
    """The conditions in headers, whose names are in small letters; raises StorageError InvalidHeaderValue.

    `prefix` is `x-ms-source-` for those of a copy's source.
    """
    return Conditions(
        if_match=parse_if_match(headers.get(f"{prefix}if-match")),
        if_none_match=parse_if_match(headers.get(f"{prefix}if-none-match")),
        if_modified_since=_seconds(headers, f"{prefix}if-modified-since"),
        if_unmodified_since=_seconds(headers, f"{prefix}if-unmodified-since"),
    )


def _same(text: str, etag: int) -> bool:
    return text.strip('"') == etag_text(etag).strip('"')


def _seconds(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name)
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (TypeError, ValueError, OverflowError, IndexError):
        raise header_error(name, text) from None
