"""The manifest of a backup: what belongs to it, byte for byte, and what moment it holds.

It is written last, when everything else is durable. So a folder without one is no backup, whatever else lies in it. Its
own bytes are covered by a checksum beside them.
"""

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

import msgspec

from isthmus.telemetry.cut import Cut
from isthmus.telemetry.segment import Tail

MANIFEST_NAME = "manifest.json"
MANIFEST_BYTES_MAX = 1024**3
"""Some five million files."""

VERSION = 1


class NotWholeError(Exception):
    """A backup that is damaged, incomplete, or none at all; the message names the file."""


class BackupFile(msgspec.Struct, frozen=True, rename="camel"):
    """A file by its path in the folder, with `/`."""

    path: str
    bytes: int
    sha256: str


class PartitionPoint(msgspec.Struct, frozen=True, rename="camel"):
    """The last event of a partition of the built-in endpoint, of a hosted event hub, or of dead letters."""

    stream: int
    partition: int
    last_sequence: int
    last_offset: int
    last_enqueued_ms: int


class LogPoint(msgspec.Struct, frozen=True, rename="camel"):
    """The end of a log, and of each of its partitions."""

    end: int
    partitions: tuple[PartitionPoint, ...]


class StatePoint(msgspec.Struct, frozen=True, rename="camel"):
    """The last event about a state change and the last record of the journal that were committed."""

    outbox_id: int
    journal_entry: int


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """`cut_ms` is the recovery point: what was acknowledged before is in the backup, nothing that came afterwards."""

    version: int
    made_by: str
    cut_ms: int
    log: LogPoint
    dead_letters: LogPoint
    state: StatePoint
    files: tuple[BackupFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(each.bytes for each in self.files)


class _Sealed(msgspec.Struct, frozen=True):
    sha256: str
    manifest: msgspec.Raw


def log_point(cut: Cut) -> LogPoint:
    """What a manifest says of a log."""
    points = (_point(stream, number, tail) for (stream, number), tail in sorted(cut.carry.tails.items()))
    return LogPoint(cut.end, tuple(points))


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of the file."""
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    return msgspec.json.encode(_Sealed(hashlib.sha256(body).hexdigest(), msgspec.Raw(body)))


def decode_manifest(data: bytes) -> Manifest:
    """The manifest of a file; raises `NotWholeError`."""
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        if hashlib.sha256(bytes(sealed.manifest)).hexdigest() != sealed.sha256:
            raise NotWholeError(f"{MANIFEST_NAME} does not match its own checksum")
        manifest = msgspec.json.decode(sealed.manifest, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotWholeError(f"{MANIFEST_NAME} cannot be read ({error})") from error
    if manifest.version != VERSION:
        raise NotWholeError(f"{MANIFEST_NAME} has version {manifest.version} and this release knows {VERSION}")
    _check_paths(each.path for each in manifest.files)
    return manifest


def _check_paths(paths: Iterable[str]) -> None:
    """A manifest that somebody has made up names no file outside of its folder."""
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path:
            raise NotWholeError(f"{MANIFEST_NAME} names {path!r}, which is no place in a data folder")


def _point(stream: int, number: int, tail: Tail) -> PartitionPoint:
    return PartitionPoint(stream, number, tail.next_sequence - 1, tail.last_offset, tail.last_ms)
