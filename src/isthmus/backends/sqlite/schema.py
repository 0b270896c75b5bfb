"""The state file: how it is opened, what stands in it, and how an older one is brought up to date.

`PRAGMA user_version` counts the migrations a file has seen. Each migration runs in a transaction of its own together
with the new count, so that a crash between two of them leaves a file that the next start carries on with. A file with
more migrations than this program knows was written by a newer one and is refused, never guessed at.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from isthmus.backends.sqlite.integrity import REMEDY, require_whole
from isthmus.base.errors import ConfigurationError

APPLICATION_ID = 0x49535448
"""`ISTH`, in the file's header, so that other tools can tell what it is."""

BUSY_SECONDS = 5.0
"""How long a statement waits for another process's lock, such as a backup's."""

PRIMARY_CODE = 0xFF
"""The byte of an extended result code that has the primary one."""

DISK_REMEDY = "make room on its disk, or see that it can be written"

_DISK_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

WAL_BYTES_KEPT = 64 * 1024 * 1024
"""The write-ahead log is cut back to this size after a checkpoint."""

Connect = Callable[[Path], sqlite3.Connection]
"""Opens a connection; tests give one that fails on purpose."""

Migration = tuple[str, ...]
"""Statements that bring a file from one version to the next."""

MIGRATIONS: tuple[Migration, ...] = (
    (
        """CREATE TABLE documents (
            kind TEXT NOT NULL, hub INTEGER NOT NULL, name TEXT NOT NULL,
            revision INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL,
            PRIMARY KEY (kind, hub, name))""",
        """CREATE TABLE outbox (
            row_id INTEGER PRIMARY KEY AUTOINCREMENT, hub INTEGER NOT NULL, body BLOB NOT NULL)""",
        """CREATE TABLE journal (
            entry_id INTEGER PRIMARY KEY, utc_ms INTEGER NOT NULL, hub TEXT NOT NULL, device TEXT NOT NULL,
            address TEXT NOT NULL, tracking_id TEXT NOT NULL, verdict TEXT NOT NULL, body BLOB NOT NULL,
            chain BLOB NOT NULL)""",
        "CREATE INDEX journal_tracking_id ON journal (tracking_id) WHERE tracking_id <> ''",
        "CREATE INDEX journal_device ON journal (device) WHERE device <> ''",
        "CREATE INDEX journal_address ON journal (address) WHERE address <> ''",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
    ),
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection without implicit transactions; used by one thread at a time, whichever that is."""
    return sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def prepare(path: Path, connecting: Connect = connect, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Makes the file (mode 0600) or brings it up to date; raises `ConfigurationError` when it cannot be used.

    A file that is known to be damaged is left as it is, its write-ahead log too.
    """
    try:
        require_whole(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened as the state of a hub: {error.strerror}.") from error
    _create(path)
    try:
        connection = open_writer(path, connecting)
        try:
            _upgrade(connection, path, migrations)
            # A commit whose sync failed may stand in the log all the same, and be read from memory only: what follows
            # it there would be lost with it. In the file it is written and synced anew.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: sqlite3.Error) -> ConfigurationError:
    """What SQLite says of a file that it does not open, and what to do: a disk that fails is not a damaged file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & PRIMARY_CODE
    remedy = DISK_REMEDY if code in _DISK_CODES else REMEDY
    return ConfigurationError(f"{path} cannot be opened as the state of a hub: {error}; {remedy}.")


def open_writer(path: Path, connecting: Connect = connect) -> sqlite3.Connection:
    """The writing connection: a commit returns only when its bytes are synced."""
    connection = connecting(path)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", f"journal_size_limit={WAL_BYTES_KEPT}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def open_reader(path: Path, connecting: Connect = connect) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = connecting(path)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _create(path: Path) -> None:
    """SQLite gives its side files the mode of the main one, and would make that one readable for others."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened as the state of a hub: {error.strerror}.") from error
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _upgrade(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise ConfigurationError(
            f"{path} has version {version} and this program knows {len(migrations)}: it was written by a newer"
            " release; start that one, or choose another data folder."
        )
    for number, migration in enumerate(migrations[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in migration:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
