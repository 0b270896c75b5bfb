"""The state port on SQLite: one file, WAL, synced before a commit is answered."""

from isthmus.backends.sqlite.journal import journal_of
from isthmus.backends.sqlite.state import SqliteState
from isthmus.backends.sqlite.writer import Health

__all__ = ["Health", "SqliteState", "journal_of"]
