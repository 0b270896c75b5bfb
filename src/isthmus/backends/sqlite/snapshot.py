"""An SQLite file as it was at one moment, read and copied while it is written."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from isthmus.backends.sqlite.schema import open_reader

PIECE_PAGES = 2048
"""Pages copied at a time (8 MiB), between which whoever waits for the disk or wants the copy to stop gets a turn."""


class Snapshot:
    """Sees nothing that is committed after `pin`; used by one thread at a time. All raise `OSError`.

    While it is pinned the write-ahead log cannot be cut back, and grows with what is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def pin(self) -> None:
        """Holds what is committed now."""
        with _as_os_errors():
            self._connection = open_reader(self._path)
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with _as_os_errors():
            return self._pinned().execute(statement).fetchall()

    def copy(self, target: Path, after_piece: Callable[[], None]) -> None:
        """Writes the file anew at `target`, an empty file; nothing of it is synced. May raise what `after_piece` does.

        A snapshot's pages stay as they are, so the copy never begins again however much is written meanwhile
        ("SQLite Online Backup API").
        """
        with _as_os_errors(), contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
            for pragma in ("journal_mode=OFF", "synchronous=OFF"):
                copy.execute(f"PRAGMA {pragma}").fetchall()
            self._pinned().backup(copy, pages=PIECE_PAGES, progress=lambda *_: after_piece())

    def close(self) -> None:
        """Lets go; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _pinned(self) -> sqlite3.Connection:
        assert self._connection is not None, "the snapshot is not pinned"
        return self._connection


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """A copy fails alike whether SQLite meets the full disk or the copying of another file does."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(None, str(error)) from error
