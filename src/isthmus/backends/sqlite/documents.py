"""Documents as rows: written with a checksum over key, revision and body, verified whenever they are read.

Bodies are sealed, unless their kind is one of `OPEN_KINDS`; the checksum is over what is stored, so damage is told from
a wrong key, and found without one.
"""

import sqlite3
import zlib
from collections.abc import Sequence

from isthmus.backends.comparing import next_revisions, prefix_end
from isthmus.base.ids import HubId
from isthmus.base.sealing import Sealer, Unsealable
from isthmus.base.state import Change, Damaged, Delete, Key, Put, Stored

OPEN_KINDS = frozenset({"twin", "presence", "session", "queue", "meta", "delivery", "dead-letter", "device-job"})
"""What changes with every message, and holds what devices and services say but no key of anybody."""

_PUT = """INSERT INTO documents (kind, hub, name, revision, checksum, body) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (kind, hub, name) DO UPDATE SET
    revision = excluded.revision, checksum = excluded.checksum, body = excluded.body"""
_DELETE = "DELETE FROM documents WHERE kind = ? AND hub = ? AND name = ?"
_GET = "SELECT revision, checksum, body FROM documents WHERE kind = ? AND hub = ? AND name = ?"
_REVISION = "SELECT revision FROM documents WHERE kind = ? AND hub = ? AND name = ?"


def apply(connection: sqlite3.Connection, changes: Sequence[Change], sealer: Sealer) -> list[int]:
    """Compares and sets inside the open transaction.

    Everything that is the caller's fault (`Conflict`, `ValueError`) is raised before the first row is written.
    """

    def revision_of(key: Key) -> int:
        row = connection.execute(_REVISION, key).fetchone()
        return row[0] if row else 0

    revisions = next_revisions(changes, revision_of)
    for change, revision in zip(changes, revisions, strict=True):
        if isinstance(change, Put):
            put(connection, Stored(change.key, revision, bytes(change.body)), sealer)
        elif isinstance(change, Delete):
            connection.execute(_DELETE, change.key)
    return revisions


def put(connection: sqlite3.Connection, document: Stored, sealer: Sealer) -> None:
    """Writes the document with the revision it has, sealed where its kind is."""
    key, revision = document.key, document.revision
    body = document.body if key.kind in OPEN_KINDS else sealer.seal(place(key, revision), document.body)
    connection.execute(_PUT, (*key, revision, checksum(key, revision, body), body))


def get(connection: sqlite3.Connection, key: Key, sealer: Sealer) -> Stored | None:
    """The document, or None; raises `Damaged`."""
    row = connection.execute(_GET, key).fetchone()
    return verified(key, *row, sealer=sealer) if row else None


def scan(
    connection: sqlite3.Connection, kind: str, hub: HubId, sealer: Sealer, *, prefix: str, after: str, limit: int
) -> list[Stored]:
    """Documents in binary order of their names; raises `Damaged`."""
    where, values = _range(kind, hub, prefix, after)
    rows = connection.execute(
        f"SELECT name, revision, checksum, body FROM documents WHERE {where} ORDER BY name LIMIT ?", (*values, limit)
    )
    return [
        verified(Key(kind, hub, name), revision, check, body, sealer=sealer) for name, revision, check, body in rows
    ]


def count(connection: sqlite3.Connection, kind: str, hub: HubId, *, prefix: str) -> int:
    """How many documents `scan` finds without a limit."""
    where, values = _range(kind, hub, prefix, "")
    found: int = connection.execute(f"SELECT count(*) FROM documents WHERE {where}", values).fetchone()[0]
    return found


def verified(key: Key, revision: int, check: int, body: bytes, *, sealer: Sealer) -> Stored:
    """The document, its checksum compared and its body opened; raises `Damaged`."""
    if not isinstance(body, bytes) or not isinstance(revision, int) or check != checksum(key, revision, body):
        raise Damaged(key)
    if key.kind in OPEN_KINDS:
        return Stored(key, revision, body)
    try:
        return Stored(key, revision, sealer.open(place(key, revision), body))
    except Unsealable as error:
        raise Damaged(key, f"cannot be opened: {error}") from error


def place(key: Key, revision: int) -> bytes:
    """What a body is sealed for, and what its checksum begins with."""
    return f"{key.kind}\0{key.hub}\0{key.name}\0{revision}\0".encode()


def checksum(key: Key, revision: int, body: bytes) -> int:
    """CRC-32 over everything that names and makes a document, so that a row in another's place is found too."""
    return zlib.crc32(body, zlib.crc32(place(key, revision)))


def _range(kind: str, hub: HubId, prefix: str, after: str) -> tuple[str, list[str | int]]:
    where = "kind = ? AND hub = ?"
    values: list[str | int] = [kind, hub]
    end = prefix_end(prefix)
    for condition, bound in (("name >= ?", prefix), ("name < ?", end), ("name > ?", after)):
        if bound:
            where += f" AND {condition}"
            values.append(bound)
    return where, values
