"""What a job of the writer does to the index: a rule of the domain run over what is there, and its outcome written."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isthmus.backends.blobs.schema import (
    EXTENT_COLUMNS,
    STAGED_COLUMNS,
    Counter,
    extent_of,
    packed,
    unpacked,
)
from isthmus.base.clock import ticks
from isthmus.base.ids import HubId
from isthmus.neighbours.blob.blob import Blob, Container, Extent, Stamp
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.ports import BlobRule, ContainerRule
from isthmus.neighbours.blob.rules import Outcome, Waiting

Released = set[int]
"""Files that nothing refers to any more, once the transaction is durable."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a job came to."""

    blob: Blob | None
    released: Released


class PresentBlob:
    """What is there of a blob, read when a rule asks for it."""

    def __init__(self, connection: sqlite3.Connection, container: int, name: str, stamp: Stamp) -> None:
        self._connection = connection
        self._container = container
        self._name = name
        self.stamp = stamp
        self.blob = find_blob(connection, container, name)

    def committed(self) -> Sequence[Extent]:
        return extents_of(self._connection, self.blob.number) if self.blob is not None else []

    def staged(self) -> Mapping[bytes, Extent]:
        return {extent.block_id: extent for extent in staged_of(self._connection, self._container, self._name)}

    def waiting(self) -> Waiting:
        statement = "SELECT count(*), max(length(block_id)) FROM staged WHERE container = ? AND name = ?"
        count, id_bytes = self._connection.execute(statement, (self._container, self._name)).fetchone()
        return Waiting(count, id_bytes or 0)


def change_blob(
    connection: sqlite3.Connection, account: HubId, container_name: str, name: str, rule: BlobRule, now_ms: int
) -> Changed:
    """Runs a rule on a blob and writes its outcome; raises what the rule raises, and StorageError ContainerNotFound."""
    container = require_container(connection, account, container_name)
    present = PresentBlob(connection, container.number, name, next_stamp(connection, now_ms))
    outcome = rule(present)
    released = _write_extents(connection, present.blob, outcome)
    if outcome.unstage:
        kept = {extent.file for extent in outcome.extents or ()}
        released |= _unstage(connection, container.number, name) - kept
    if outcome.staged is not None:
        released |= _stage(connection, container.number, name, outcome.staged, now_ms)
    _write_blob(connection, container.number, present.blob, outcome.blob)
    return Changed(outcome.blob, released)


def change_container(
    connection: sqlite3.Connection, account: HubId, name: str, rule: ContainerRule, now_ms: int
) -> tuple[Container | None, Released]:
    """Runs a rule on a container; one that goes takes its blobs with it."""
    before = find_container(connection, account, name)
    after = rule(before, next_stamp(connection, now_ms))
    if after is not None:
        checksum, body = packed(after)
        row = (after.number, account, name, checksum, body)
        connection.execute("INSERT OR REPLACE INTO container VALUES (?, ?, ?, ?, ?)", row)
        return after, set()
    return None, drop_container(connection, before.number) if before is not None else set()


def drop_container(connection: sqlite3.Connection, number: int) -> Released:
    """Removes a container with all that is in it."""
    inside = "SELECT number FROM blob WHERE container = ?"
    released = _files(connection, f"SELECT DISTINCT file FROM extent WHERE blob IN ({inside})", number)
    released |= _files(connection, "SELECT DISTINCT file FROM staged WHERE container = ?", number)
    connection.execute(f"DELETE FROM extent WHERE blob IN ({inside})", (number,))
    for table in ("blob", "staged"):
        connection.execute(f"DELETE FROM {table} WHERE container = ?", (number,))
    connection.execute("DELETE FROM container WHERE number = ?", (number,))
    return released


def drop_stale(connection: sqlite3.Connection, before_ms: int) -> Released:
    """Removes blocks that wait for a list since before a moment."""
    released = _files(connection, "SELECT DISTINCT file FROM staged WHERE staged_ms < ?", before_ms)
    connection.execute("DELETE FROM staged WHERE staged_ms < ?", (before_ms,))
    return released


def require_container(connection: sqlite3.Connection, account: HubId, name: str) -> Container:
    """The container; raises StorageError ContainerNotFound."""
    container = find_container(connection, account, name)
    if container is None:
        raise StorageError(StorageCode.CONTAINER_NOT_FOUND)
    return container


def find_container(connection: sqlite3.Connection, account: HubId, name: str) -> Container | None:
    """A container, or None."""
    statement = "SELECT checksum, body FROM container WHERE account = ? AND name = ?"
    row = connection.execute(statement, (account, name)).fetchone()
    return unpacked(row[0], row[1], Container) if row else None


def find_blob(connection: sqlite3.Connection, container: int, name: str) -> Blob | None:
    """A blob, or None."""
    statement = "SELECT checksum, body FROM blob WHERE container = ? AND name = ?"
    row = connection.execute(statement, (container, name)).fetchone()
    return unpacked(row[0], row[1], Blob) if row else None


def extents_of(connection: sqlite3.Connection, blob: int) -> list[Extent]:
    """What a blob is made of, in order."""
    statement = f"SELECT {EXTENT_COLUMNS} FROM extent WHERE blob = ? ORDER BY start"
    return [extent_of(row) for row in connection.execute(statement, (blob,))]


def staged_of(connection: sqlite3.Connection, container: int, name: str) -> list[Extent]:
    """Blocks that wait for a list, in the order of their ids."""
    statement = f"SELECT {STAGED_COLUMNS} FROM staged WHERE container = ? AND name = ? ORDER BY block_id"
    return [extent_of(row) for row in connection.execute(statement, (container, name))]


def next_stamp(connection: sqlite3.Connection, now_ms: int) -> Stamp:
    """A stamp that no change had before: an etag rises with the clock, and when that stands still by one."""
    counter = Counter(*connection.execute("SELECT etag, number FROM counter").fetchone())
    stamp = Stamp(max(counter.etag + 1, ticks(now_ms)), counter.number + 1, now_ms)
    connection.execute("UPDATE counter SET etag = ?, number = ?", (stamp.etag, stamp.number))
    return stamp


def _write_blob(connection: sqlite3.Connection, container: int, before: Blob | None, after: Blob | None) -> None:
    if before is not None and (after is None or after.number != before.number):
        connection.execute("DELETE FROM blob WHERE number = ?", (before.number,))
    if after is not None and after != before:
        checksum, body = packed(after)
        row = (after.number, container, after.name, checksum, body)
        connection.execute("INSERT OR REPLACE INTO blob VALUES (?, ?, ?, ?, ?)", row)


def _write_extents(connection: sqlite3.Connection, before: Blob | None, outcome: Outcome) -> Released:
    released: Released = set()
    if outcome.extents is not None:
        if before is not None:
            released = _files(connection, "SELECT DISTINCT file FROM extent WHERE blob = ?", before.number)
            connection.execute("DELETE FROM extent WHERE blob = ?", (before.number,))
        released -= {extent.file for extent in outcome.extents}
        if outcome.blob is not None:
            _insert(connection, outcome.blob.number, outcome.extents)
    if outcome.added is not None and outcome.blob is not None:
        _insert(connection, outcome.blob.number, (outcome.added,))
    return released


def _insert(connection: sqlite3.Connection, blob: int, extents: Iterable[Extent]) -> None:
    connection.executemany(
        "INSERT INTO extent (blob, start, length, file, offset, block_id, checksums) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((blob, each.start, each.length, each.file, each.offset, each.block_id, each.checksums) for each in extents),
    )


def _stage(connection: sqlite3.Connection, container: int, name: str, block: Extent, now_ms: int) -> Released:
    key = (container, name, block.block_id)
    where = "WHERE container = ? AND name = ? AND block_id = ?"
    released = _files(connection, f"SELECT file FROM staged {where}", *key)
    connection.execute(f"DELETE FROM staged {where}", key)
    row = (*key, block.length, block.file, block.offset, block.checksums, now_ms)
    connection.execute("INSERT INTO staged VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    return released


def _unstage(connection: sqlite3.Connection, container: int, name: str) -> Released:
    released = _files(connection, "SELECT file FROM staged WHERE container = ? AND name = ?", container, name)
    connection.execute("DELETE FROM staged WHERE container = ? AND name = ?", (container, name))
    return released


def _files(connection: sqlite3.Connection, statement: str, *arguments: int | str | bytes) -> Released:
    return {int(file) for (file,) in connection.execute(statement, arguments)}


def prove(connection: sqlite3.Connection) -> None:
    """Changes nothing that means anything, so that a commit has something to write."""
    connection.execute("UPDATE counter SET number = number + 1")
