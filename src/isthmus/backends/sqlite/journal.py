"""The journal as rows of the state file, sealed by the hash chain and bounded in number.

Numbers have no gaps, so the distance between the two ends kept in `meta` is the number of entries: `head` is the last
one written, `base` the last one pruned. The head is written in the same transaction as the entries it seals.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from isthmus.backends.chain import GENESIS, JOURNAL_PRUNE_ENTRIES, ChainEnd, first_broken, following
from isthmus.backends.sqlite.schema import connect, open_reader
from isthmus.base.errors import ConfigurationError
from isthmus.base.state import JournalEntry, JournalFilter, JournalRow

_HEAD = "journal head"
_BASE = "journal base"
_COLUMNS = "entry_id, utc_ms, hub, device, address, tracking_id, verdict, body, chain"


def read_journal(path: Path, wanted: JournalFilter) -> list[JournalEntry]:
    """Decisions of a state file that no server has open, newest first; raises `ConfigurationError`."""
    with closing(_open_existing(path)) as connection:
        return read(connection, wanted)


def verify_journal(path: Path) -> int | None:
    """Number of the first entry that breaks the chain, also when entries are missing at the end; None when sound."""
    with closing(_open_existing(path)) as connection:
        connection.execute("BEGIN")
        head = _end(connection, _HEAD)
        broken = first_broken(_end(connection, _BASE), _oldest_first(connection))
        if broken is not None:
            return broken
        last = connection.execute("SELECT entry_id, chain FROM journal ORDER BY entry_id DESC LIMIT 1").fetchone()
        end = ChainEnd(*last) if last else _end(connection, _BASE)
        return None if end == head else end.entry_id + 1


def append(connection: sqlite3.Connection, rows: Sequence[JournalRow], entries_max: int) -> None:
    """Adds rows inside the open transaction, and prunes the oldest above `entries_max`."""
    end = _end(connection, _HEAD)
    for row in rows:
        entry = following(end, row)
        connection.execute(f"INSERT INTO journal ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _values(entry))
        end = ChainEnd(entry.entry_id, entry.chain)
    _set_end(connection, _HEAD, end)
    _prune(connection, end, entries_max)


def read(connection: sqlite3.Connection, wanted: JournalFilter) -> list[JournalEntry]:
    """Entries that match, newest first."""
    where, values = _conditions(wanted)
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM journal WHERE {where} ORDER BY entry_id DESC LIMIT ?", (*values, wanted.limit)
    )
    return [JournalEntry(*row) for row in rows]


def _prune(connection: sqlite3.Connection, head: ChainEnd, entries_max: int) -> None:
    """Waits for a chunk to come together: then one range is removed, and the base moves to its last entry."""
    base = _end(connection, _BASE)
    chunk = min(JOURNAL_PRUNE_ENTRIES, max(entries_max // 10, 1))
    if head.entry_id - base.entry_id < entries_max + chunk:
        return
    upto = head.entry_id - entries_max
    row = connection.execute("SELECT entry_id, chain FROM journal WHERE entry_id = ?", (upto,)).fetchone()
    connection.execute("DELETE FROM journal WHERE entry_id <= ?", (upto,))
    _set_end(connection, _BASE, ChainEnd(*row))


def _conditions(wanted: JournalFilter) -> tuple[str, list[str | int]]:
    where = "utc_ms >= ?"
    values: list[str | int] = [wanted.since_ms]
    texts = {
        "hub": wanted.hub,
        "device": wanted.device,
        "address": wanted.address,
        "tracking_id": wanted.tracking_id,
        "verdict": wanted.verdict,
    }
    for column, text in texts.items():
        if text:
            # The partial indexes serve only statements that repeat their condition.
            where += f" AND {column} = ? AND {column} <> ''"
            values.append(text)
    return where, values


def _values(entry: JournalEntry) -> tuple[int | str | bytes, ...]:
    texts = (entry.hub, entry.device, entry.address, entry.tracking_id, entry.verdict)
    return (entry.entry_id, entry.utc_ms, *texts, entry.body, entry.chain)


def _oldest_first(connection: sqlite3.Connection) -> Iterator[JournalEntry]:
    for row in connection.execute(f"SELECT {_COLUMNS} FROM journal ORDER BY entry_id"):
        yield JournalEntry(*row)


def _end(connection: sqlite3.Connection, name: str) -> ChainEnd:
    row = connection.execute("SELECT number, value FROM meta WHERE name = ?", (name,)).fetchone()
    return ChainEnd(*row) if row else GENESIS


def _set_end(connection: sqlite3.Connection, name: str, end: ChainEnd) -> None:
    connection.execute(
        """INSERT INTO meta (name, number, value) VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET number = excluded.number, value = excluded.value""",
        (name, end.entry_id, end.chain),
    )


def _open_existing(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise ConfigurationError(f"{path} does not exist: no hub has been started with this data folder")
    try:
        connection = open_reader(path, connect)
        connection.execute("SELECT 1 FROM journal LIMIT 1")
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(f"{path} cannot be read as the state of a hub: {error}") from error
    return connection
