"""The index file: its tables, how it is opened and brought up to date, and rows as values.

A blob's or container's row carries the CRC-32 of its body, which is verified whenever it is read. Content has checksums
of its own, among its extent's columns.
"""

import sqlite3
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from isthmus.backends.sqlite.schema import Migration, open_reader, open_writer, prepare
from isthmus.base.errors import ConfigurationError
from isthmus.neighbours.blob.blob import Blob, Container, Extent
from isthmus.neighbours.blob.ports import DamagedContentError

MIGRATIONS: tuple[Migration, ...] = (
    (
        "CREATE TABLE counter (one INTEGER PRIMARY KEY CHECK (one = 1), starts INTEGER, etag INTEGER, number INTEGER)",
        "INSERT INTO counter VALUES (1, 0, 0, 0)",
        "CREATE TABLE account (number INTEGER PRIMARY KEY, secret BLOB NOT NULL)",
        """CREATE TABLE container (
            number INTEGER PRIMARY KEY, account INTEGER NOT NULL, name TEXT NOT NULL, checksum INTEGER NOT NULL,
            body BLOB NOT NULL, UNIQUE (account, name))""",
        """CREATE TABLE blob (
            number INTEGER PRIMARY KEY, container INTEGER NOT NULL, name TEXT NOT NULL, checksum INTEGER NOT NULL,
            body BLOB NOT NULL, UNIQUE (container, name))""",
        """CREATE TABLE extent (
            blob INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, file INTEGER NOT NULL,
            offset INTEGER NOT NULL, block_id BLOB NOT NULL, checksums BLOB NOT NULL, UNIQUE (blob, start))""",
        """CREATE TABLE staged (
            container INTEGER NOT NULL, name TEXT NOT NULL, block_id BLOB NOT NULL, length INTEGER NOT NULL,
            file INTEGER NOT NULL, offset INTEGER NOT NULL, checksums BLOB NOT NULL, staged_ms INTEGER NOT NULL,
            UNIQUE (container, name, block_id))""",
    ),
)

EXTENT_COLUMNS = "file, offset, length, checksums, start, block_id"
STAGED_COLUMNS = "file, offset, length, checksums, 0, block_id"

Value = TypeVar("Value", Blob, Container)


@dataclass(slots=True)
class Counter:
    """What stamps are made of: the last etag and the last number that were given."""

    etag: int
    number: int


def prepare_index(path: Path) -> int:
    """Makes the file or brings it up to date, and counts this start; raises ConfigurationError."""
    prepare(path, migrations=MIGRATIONS)
    connection = open_writer(path)
    try:
        connection.execute("UPDATE counter SET starts = starts + 1")
        return int(connection.execute("SELECT starts FROM counter").fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(f"{path} cannot be opened as the index of blobs: {error}.") from error
    finally:
        connection.close()


def reader_of(path: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    return open_reader(path)


def writer_of(path: Path) -> sqlite3.Connection:
    """The writing connection: a commit returns only when its bytes are synced."""
    return open_writer(path)


def packed(value: Blob | Container) -> tuple[int, bytes]:
    """Checksum and body of a row."""
    body = msgspec.json.encode(value)
    return zlib.crc32(body), body


def unpacked(checksum: int, body: bytes, kind: type[Value]) -> Value:
    """The value of a row; raises DamagedContentError."""
    if zlib.crc32(body) != checksum:
        raise DamagedContentError(f"a row of a {kind.__name__.lower()} does not match its checksum")
    return msgspec.json.decode(body, type=kind)


def extent_of(row: tuple[int, int, int, bytes, int, bytes]) -> Extent:
    """A row of `EXTENT_COLUMNS` or `STAGED_COLUMNS`."""
    return Extent(*row)
