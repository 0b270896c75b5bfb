"""Brings the secrets of a state file under the key that seals now, before anybody reads it.

Piece by piece, each in a transaction of its own: a crash leaves a file that opens with the same keys, and the next
start carries on. At the end the file is rebuilt, because pages and the write-ahead log still hold what was there
before.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from isthmus.backends.sqlite.documents import OPEN_KINDS, put, verified
from isthmus.backends.sqlite.schema import Connect, connect, open_writer
from isthmus.base.ids import HubId
from isthmus.base.sealing import Sealer
from isthmus.base.state import Damaged, Key

DOCUMENTS_AT_ONCE = 1_000
"""In one transaction: some milliseconds, and a write-ahead log that stays small."""

_CLOSED = ", ".join(f"'{kind}'" for kind in sorted(OPEN_KINDS))
_NEXT = f"""SELECT kind, hub, name, revision, checksum, body FROM documents
    WHERE (kind, hub, name) > (?, ?, ?) AND kind NOT IN ({_CLOSED}) ORDER BY kind, hub, name LIMIT ?"""

Row = tuple[str, int, str, int, int, bytes]


def reseal(path: Path, sealer: Sealer, connecting: Connect = connect) -> int:
    """Seals what is plain or sealed by another key, and returns how many documents that were; needs room for a copy.

    A damaged document stays as it is, to be found by whoever asks for it.
    """
    with closing(open_writer(path, connecting)) as connection:
        changed, last = 0, ("", 0, "")
        while rows := connection.execute(_NEXT, (*last, DOCUMENTS_AT_ONCE)).fetchall():
            changed += _reseal(connection, [row for row in rows if not sealer.is_current(row[5])], sealer)
            last = rows[-1][:3]
        if changed:
            connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return changed


def _reseal(connection: sqlite3.Connection, rows: list[Row], sealer: Sealer) -> int:
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = sum(_put_again(connection, row, sealer) for row in rows)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return done


def _put_again(connection: sqlite3.Connection, row: Row, sealer: Sealer) -> bool:
    kind, hub, name, revision, check, body = row
    try:
        put(connection, verified(Key(kind, HubId(hub), name), revision, check, body, sealer=sealer), sealer)
    except Damaged:
        return False
    return True
