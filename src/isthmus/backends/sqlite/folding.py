"""Watches that what SQLite has written ahead gets into its file, which it does by itself and tells nobody of.

After a commit that leaves 1,000 pages or more in the write-ahead log, SQLite copies them into the file and begins the
log anew ("PRAGMA wal_autocheckpoint"). When the file cannot be written it goes on without a word: commits succeed, and
the log grows until the disk is full. So a log that has grown is asked for.
"""

import os
import sqlite3
from pathlib import Path

LOOK_BYTES = 8 * 1024 * 1024
"""By how much the write-ahead log grows before it is looked why: twice what SQLite lets it be of itself.

A backup lets it grow too, and a look costs it as much as each of its commits then costs anyway.
"""


class Folding:
    """Of one file; used on the thread that writes it."""

    def __init__(self, path: Path) -> None:
        self._log = f"{path}-wal"
        self._look_at = LOOK_BYTES
        self._trouble = ""

    def trouble(self, connection: sqlite3.Connection) -> str:
        """Asked after each commit: why the log cannot be brought into the file, empty as long as it can."""
        size = self._log_bytes()
        if size < self._look_at and not self._trouble:
            return ""
        self._look_at = size + LOOK_BYTES
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            self._trouble = f"what was written ahead cannot be brought into the file: {error}"
        else:
            self._trouble = ""
        return self._trouble

    def _log_bytes(self) -> int:
        try:
            return os.stat(self._log).st_size
        except OSError:
            return 0
