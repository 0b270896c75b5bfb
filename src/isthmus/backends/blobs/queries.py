"""What is read from the index: pages of names, and what a blob is made of."""

import sqlite3
from collections.abc import Iterator

from isthmus.backends.blobs.changes import extents_of, find_blob, require_container, staged_of
from isthmus.backends.blobs.schema import EXTENT_COLUMNS, extent_of, unpacked
from isthmus.base.ids import HubId
from isthmus.neighbours.blob.blob import Blob, BlobKind, Container, Extent
from isthmus.neighbours.blob.listing import BlobPage, ContainerPage, Page, Prefix
from isthmus.neighbours.blob.ports import Blocks, PartRule
from isthmus.neighbours.blob.ranges import ByteRange

LAST = "\U0010ffff"
"""Comes after every character that a name has."""


def container_page(connection: sqlite3.Connection, account: HubId, page: Page) -> ContainerPage:
    """A page of an account's containers."""
    statement = """SELECT name, checksum, body FROM container
        WHERE account = ? AND name >= ? AND name <= ? ORDER BY name LIMIT ?"""
    first = max(page.prefix, page.marker)
    rows = connection.execute(statement, (account, first, page.prefix + LAST, page.limit + 1)).fetchall()
    entries = tuple(unpacked(checksum, body, Container) for _, checksum, body in rows[: page.limit])
    return ContainerPage(entries, rows[-1][0] if len(rows) > page.limit else "")


def blob_page(connection: sqlite3.Connection, account: HubId, container: str, page: Page) -> BlobPage:
    """A page of a container's blobs; raises StorageError ContainerNotFound."""
    number = require_container(connection, account, container).number
    entries: list[Blob | Prefix] = []
    for name, entry in _entries(connection, number, page):
        if len(entries) == page.limit:
            return BlobPage(tuple(entries), name)
        entries.append(entry)
    return BlobPage(tuple(entries))


def blocks_of(connection: sqlite3.Connection, account: HubId, container: str, name: str) -> Blocks:
    """The blocks of a blob; raises StorageError ContainerNotFound."""
    number = require_container(connection, account, container).number
    blob = find_blob(connection, number, name)
    made_of = extents_of(connection, blob.number) if blob is not None and blob.kind is BlobKind.BLOCK else []
    committed = tuple(extent for extent in made_of if extent.block_id)
    return Blocks(blob, committed, tuple(staged_of(connection, number, name)))


def made_of(
    connection: sqlite3.Connection, account: HubId, container: str, name: str, part: PartRule
) -> tuple[Blob, ByteRange, list[Extent]] | None:
    """A blob, the part of it that is wanted, and the extents that this touches; None where there is no blob."""
    blob = find_blob(connection, require_container(connection, account, container).number, name)
    if blob is None:
        return None
    wanted = part(blob)
    statement = f"""SELECT {EXTENT_COLUMNS} FROM extent WHERE blob = ? AND start < ?
        AND start >= (SELECT coalesce(max(start), 0) FROM extent WHERE blob = ? AND start <= ?) ORDER BY start"""
    rows = connection.execute(statement, (blob.number, wanted.end, blob.number, wanted.start))
    return blob, wanted, [extent_of(row) for row in rows]


def last_file(connection: sqlite3.Connection, blob: int) -> int | None:
    """The content file that a blob's last extent lies in."""
    row = connection.execute("SELECT file FROM extent WHERE blob = ? ORDER BY start DESC LIMIT 1", (blob,)).fetchone()
    return int(row[0]) if row else None


def known_files(connection: sqlite3.Connection) -> set[int]:
    """Every content file that something refers to."""
    return {int(file) for (file,) in connection.execute("SELECT file FROM extent UNION SELECT file FROM staged")}


def accounts(connection: sqlite3.Connection) -> set[int]:
    """Accounts that have something."""
    statement = "SELECT number FROM account UNION SELECT account FROM container"
    return {int(number) for (number,) in connection.execute(statement)}


def _entries(connection: sqlite3.Connection, container: int, page: Page) -> Iterator[tuple[str, Blob | Prefix]]:
    """Entries in order, each with the name at which a page that begins with it begins.

    With a delimiter the names that share a prefix are passed over by one step of the index.
    """
    first, beyond = max(page.prefix, page.marker), page.prefix + LAST
    while True:
        jump = ""
        for name, checksum, body in _rows(connection, container, first, beyond):
            shared = _shared(name, page)
            if not shared:
                yield name, unpacked(checksum, body, Blob)
                continue
            yield name, Prefix(shared)
            jump = shared + LAST
            break
        if not jump:
            return
        first = jump


def _rows(connection: sqlite3.Connection, container: int, first: str, beyond: str) -> Iterator[tuple[str, int, bytes]]:
    statement = """SELECT name, checksum, body FROM blob
        WHERE container = ? AND name >= ? AND name <= ? ORDER BY name"""
    yield from connection.execute(statement, (container, first, beyond))


def _shared(name: str, page: Page) -> str:
    """What the name shares with others up to and including the delimiter; empty when it is an entry by itself."""
    if not page.delimiter:
        return ""
    place = name.find(page.delimiter, len(page.prefix))
    return name[: place + len(page.delimiter)] if place >= 0 else ""
