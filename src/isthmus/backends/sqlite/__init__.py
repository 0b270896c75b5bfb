"""The state port on SQLite: one file, WAL, synced before a commit is answered."""

from isthmus.backends.sqlite.journal import read_journal, verify_journal
from isthmus.backends.sqlite.state import SqliteState
from isthmus.backends.sqlite.writer import Health

__all__ = ["Health", "SqliteState", "read_journal", "verify_journal"]
