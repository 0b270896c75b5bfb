"""Names of accounts, containers and blobs, and what a request's path names ("Naming and referencing containers").

A blob's name is only ever a key of the index and never a path on disk. Names with `.` and `..` as segments are refused
all the same: clients and proxies take them away on the way, so what one writes another would not find.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from isthmus.base.errors import Hop, Refusal
from isthmus.neighbours.blob.errors import StorageCode, StorageError

BLOB_NAME_CHARACTERS_MAX = 1_024
"""Of a blob's name, decoded."""

BLOB_NAME_SEGMENTS_MAX = 254
"""Of a blob's name, between slashes."""

ROOT = "$root"
"""The container that a path of one segment leads to."""

_CONTAINER = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_RESERVED = frozenset({ROOT, "$web"})
_SEPARATORS = re.compile(r"[/\\]")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a container and a blob in it; both empty for the account."""

    container: str = ""
    blob: str = ""


def is_container_name(text: str) -> bool:
    """True for 3 to 63 small letters, digits and single dashes, and for the two names with a dollar."""
    return text in _RESERVED or _CONTAINER.fullmatch(text) is not None


def target_of(raw_path: str, *, of_container: bool) -> Target:
    """What the path of a request names, percent-encoded as it came; `of_container` when a single segment is one.

    Raises StorageError InvalidUri, InvalidResourceName.
    """
    path = raw_path.removeprefix("/")
    if not path:
        return Target()
    first, slash, rest = path.partition("/")
    if not slash or not rest:
        if of_container:
            return Target(checked_container(_decoded(first)))
        return Target(ROOT, checked_blob(_decoded(first)))
    return Target(checked_container(_decoded(first)), checked_blob(_decoded(rest)))


def container_of(raw_path: str) -> str:
    """The container that a path begins with, empty for none; raises StorageError InvalidUri, InvalidResourceName."""
    first = raw_path.removeprefix("/").partition("/")[0]
    return checked_container(_decoded(first)) if first else ""


def checked_container(name: str) -> str:
    """The name when it may be a container's; raises StorageError InvalidResourceName."""
    if not is_container_name(name):
        raise _refused(f"container {name[:64]!r}", "3 to 63 small letters, digits and single dashes")
    return name


def checked_blob(name: str) -> str:
    """The name when it may be a blob's; raises StorageError InvalidUri, InvalidResourceName."""
    if not 0 < len(name) <= BLOB_NAME_CHARACTERS_MAX or name.count("/") >= BLOB_NAME_SEGMENTS_MAX:
        limit = f"{BLOB_NAME_CHARACTERS_MAX} characters, {BLOB_NAME_SEGMENTS_MAX} segments"
        raise StorageError(StorageCode.INVALID_URI, refusal=_refusal(f"a blob name of {len(name)} characters", limit))
    if any(segment in (".", "..") for segment in _SEPARATORS.split(name)):
        raise _refused(f"blob {name[:64]!r}", "a name without `.` and `..` between slashes")
    if "\x00" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise _refused(f"blob {name[:64]!r}", "a name of characters that can be written")
    return name


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise StorageError(StorageCode.INVALID_URI) from None


def _refused(value: str, remedy: str) -> StorageError:
    return StorageError(StorageCode.INVALID_RESOURCE_NAME, refusal=_refusal(value, remedy))


def _refusal(value: str, remedy: str) -> Refusal:
    return Refusal(Hop.CONTRACT, "storage.name", value, f"use {remedy}")
