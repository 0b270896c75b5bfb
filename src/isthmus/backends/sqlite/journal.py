"""The journal as rows of the state file, sealed by the hash chain and bounded in number.

Numbers have no gaps, so the distance between the two ends kept in `meta` is the number of entries: `head` is the last
one written, `base` the last one pruned. The head is written in the same transaction as the entries it seals.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from isthmus.access.chain import GENESIS, following, pruned_row, to_prune
from isthmus.backends.sqlite.schema import connect, open_reader
from isthmus.base.errors import ConfigurationError
from isthmus.base.state import ChainEnd, JournalEnds, JournalEntry, JournalFilter, JournalLimit, JournalRow, WhenFull

_HEAD = "journal head"
_BASE = "journal base"
_PRINCIPAL = "CASE WHEN json_valid(CAST(body AS TEXT)) THEN json_extract(CAST(body AS TEXT), '$.principal') END"
_COLUMNS = "entry_id, utc_ms, hub, device, address, tracking_id, verdict, body, chain"


@contextmanager
def journal_of(path: Path) -> Iterator[tuple[JournalEnds, Iterator[JournalEntry]]]:
    """Ends and entries, oldest first, of a state file as it is at one moment, whether a server runs on it or not.

    What is damaged is given as it is found. Raises `ConfigurationError` for what is no state file, also while the
    entries are read.
    """
    with closing(_open_existing(path)) as connection, _told(path):
        connection.text_factory = _found_text
        connection.execute("BEGIN")
        yield ends(connection), _oldest_first(connection, path)


def append(connection: sqlite3.Connection, rows: Sequence[JournalRow], limit: JournalLimit) -> None:
    """Adds rows inside the open transaction, and prunes the oldest above the limit where that is the policy."""
    end = _append(connection, _end(connection, _HEAD), rows)
    now = JournalEnds(_end(connection, _BASE), end)
    if limit.when_full is WhenFull.DROP_OLDEST and (upto := to_prune(now, limit.entries_max)):
        prune(connection, upto, principal="isthmus", utc_ms=rows[-1].utc_ms)


def prune(connection: sqlite3.Connection, upto: int, *, principal: str, utc_ms: int) -> int:
    """Removes one range from the front inside the open transaction, says so behind it, and returns how many went."""
    now = ends(connection)
    if not now.base.entry_id < upto <= now.head.entry_id:
        return 0
    row = connection.execute("SELECT entry_id, chain FROM journal WHERE entry_id = ?", (upto,)).fetchone()
    removed = ChainEnd(*row)
    told = pruned_row(removed, now.base.entry_id + 1, utc_ms=utc_ms, principal=principal)
    _append(connection, now.head, [told])
    connection.execute("DELETE FROM journal WHERE entry_id <= ?", (upto,))
    _set_end(connection, _BASE, removed)
    return upto - now.base.entry_id


def ends(connection: sqlite3.Connection) -> JournalEnds:
    """Where the journal begins and ends."""
    return JournalEnds(_end(connection, _BASE), _end(connection, _HEAD))


def read(connection: sqlite3.Connection, wanted: JournalFilter) -> list[JournalEntry]:
    """Entries that match, newest first."""
    where, values = _conditions(wanted)
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM journal WHERE {where} ORDER BY entry_id DESC LIMIT ?", (*values, wanted.limit)
    )
    return [JournalEntry(*row) for row in rows]


def _append(connection: sqlite3.Connection, end: ChainEnd, rows: Sequence[JournalRow]) -> ChainEnd:
    for row in rows:
        entry = following(end, row)
        connection.execute(f"INSERT INTO journal ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _values(entry))
        end = ChainEnd(entry.entry_id, entry.chain)
    _set_end(connection, _HEAD, end)
    return end


def _conditions(wanted: JournalFilter) -> tuple[str, list[str | int]]:
    where = "utc_ms >= ?"
    values: list[str | int] = [wanted.since_ms]
    if wanted.before_id:
        where += " AND entry_id < ?"
        values.append(wanted.before_id)
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
    if wanted.until_ms:
        where += " AND utc_ms < ?"
        values.append(wanted.until_ms)
    if wanted.entry_id:
        where += " AND entry_id = ?"
        values.append(wanted.entry_id)
    if wanted.principal:
        where += f" AND {_PRINCIPAL} = ?"
        values.append(wanted.principal)
    return where, values


def _values(entry: JournalEntry) -> tuple[int | str | bytes, ...]:
    texts = (entry.hub, entry.device, entry.address, entry.tracking_id, entry.verdict)
    return (entry.entry_id, entry.utc_ms, *texts, entry.body, entry.chain)


def _oldest_first(connection: sqlite3.Connection, path: Path) -> Iterator[JournalEntry]:
    with _told(path):
        for row in connection.execute(f"SELECT {_COLUMNS} FROM journal ORDER BY entry_id"):
            yield JournalEntry(*row)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(f"{path} cannot be read as the state of a hub: {error}.") from error


def _found_text(raw: bytes) -> str:
    """Text of a file that somebody may have damaged."""
    return raw.decode("utf-8", "surrogateescape")


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
        raise ConfigurationError(f"{path} does not exist: no hub has been started with this data folder.")
    with _told(path):
        connection = open_reader(path, connect)
        connection.execute("SELECT 1 FROM journal LIMIT 1")
        return connection
