"""Device queries as SQL: conditions over the joined view become `json_extract` over the three documents of a device.

Values and paths are bound, never written into the statement. Each document that a condition looks at is verified by
`sound(...)`, a function of ours inside the statement that gives its plain text, so that a damaged twin fails the query
and is not just left out, and a sealed identity is compared by what it says.
SQLite's paths cannot name a key that JSON must escape (its quotes have no escape before 3.46); such conditions are
answered by `holds(...)`, the same rule that the memory backend uses.
"""

import re
import sqlite3
from collections.abc import Container, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from isthmus.backends.comparing import prefix_end
from isthmus.backends.device_view import IDENTITY, NEVER_CONNECTED, PRESENCE, TWIN, home_of
from isthmus.backends.sqlite.documents import verified
from isthmus.base.ids import HubId
from isthmus.base.sealing import Sealer
from isthmus.base.state import Damaged, Equals, Key, Stored

_ALIASES = {IDENTITY: "i", TWIN: "t", PRESENCE: "p"}
_JOINS = MappingProxyType(
    {
        TWIN: "CROSS JOIN documents AS t ON t.kind = ? AND t.hub = i.hub AND t.name = i.name",
        PRESENCE: "LEFT JOIN documents AS p ON p.kind = ? AND p.hub = i.hub AND p.name = i.name",
    }
)
_COLUMNS = ", ".join(f"{alias}.{column}" for alias in "itp" for column in ("revision", "checksum", "body"))
_NEEDS_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f]')
_DEVICE_ID = ("deviceId",)
_INTEGER_MAX = 2**63 - 1


class DevicesQuery:
    """Runs queries on one connection, which gets the two functions they need."""

    def __init__(self, connection: sqlite3.Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer
        self._damaged: Damaged | None = None
        connection.create_function("sound", 6, self._sound, deterministic=True)
        connection.create_function("holds", 2, _holds, deterministic=True)

    def run(
        self, hub: HubId, conditions: Sequence[Equals], *, modules: bool, after: str, limit: int
    ) -> list[tuple[Stored, Stored, Stored | None]]:
        """(identity, twin, presence) in the order of names; raises `Damaged`."""
        source, values = _source(hub, conditions, modules=modules, after=after, joined=(TWIN, PRESENCE))
        statement = f"SELECT i.name, {_COLUMNS} {source} ORDER BY i.name LIMIT ?"
        return [self._triple(hub, *row) for row in self._rows(statement, [*values, limit])]

    def count(self, hub: HubId, conditions: Sequence[Equals], *, modules: bool) -> int:
        """How many there are; raises `Damaged`."""
        asked = {home_of(condition.path) for condition in conditions}
        source, values = _source(hub, conditions, modules=modules, after="", joined=asked)
        [(number,)] = self._rows(f"SELECT count(*) {source}", values)
        return int(number)

    def _rows(self, statement: str, values: list[object]) -> list[tuple[Any, ...]]:
        self._damaged = None
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if self._damaged is not None:
                raise self._damaged from error
            raise

    def _sound(self, kind: str, hub: int, name: str, revision: int, check: int, body: bytes) -> str:
        key = Key(kind, HubId(hub), name)
        try:
            return verified(key, revision, check, body, sealer=self._sealer).body.decode()
        except Damaged as damaged:
            self._damaged = damaged
            raise

    def _triple(self, hub: HubId, name: str, *columns: int | bytes | None) -> tuple[Stored, Stored, Stored | None]:
        identity = self._document(Key(IDENTITY, hub, name), *columns[0:3])
        twin = self._document(Key(TWIN, hub, name), *columns[3:6])
        presence = self._document(Key(PRESENCE, hub, name), *columns[6:9]) if columns[6] is not None else None
        return identity, twin, presence

    def _document(
        self, key: Key, revision: int | bytes | None, check: int | bytes | None, body: int | bytes | None
    ) -> Stored:
        if not (isinstance(revision, int) and isinstance(check, int) and isinstance(body, bytes)):
            raise Damaged(key)
        return verified(key, revision, check, body, sealer=self._sealer)


def _source(
    hub: HubId, conditions: Sequence[Equals], *, modules: bool, after: str, joined: Container[str]
) -> tuple[str, list[object]]:
    """The rows of the joined view that fulfil the conditions, as FROM and WHERE, and the values to bind.

    Documents that are not `joined` cost nothing: every identity has a twin.
    """
    joins = [kind for kind in _JOINS if kind in joined]
    values: list[object] = [*joins, IDENTITY, hub, after]
    where = f"i.kind = ? AND i.hub = ? AND i.name > ? AND instr(i.name, '/') {'>' if modules else '='} 0"
    for condition in conditions:
        if condition.path == _DEVICE_ID and isinstance(condition.value, str):
            # The name says it, and the key finds it: nobody else's documents are looked at.
            where += " AND i.name >= ? AND i.name < ?" if modules else " AND i.name = ?"
            prefix = f"{condition.value}/"
            values += [prefix, prefix_end(prefix)] if modules else [condition.value]
        term, bound = _term(condition)
        where += f" AND {term}"
        values += bound
    return f"FROM documents AS i {' '.join(_JOINS[kind] for kind in joins)} WHERE {where}", values


def _term(condition: Equals) -> tuple[str, list[object]]:
    """The condition over the text of its document, and the values to bind."""
    text = _text(home_of(condition.path))
    if any(_NEEDS_ESCAPE.search(segment) for segment in condition.path) or _is_wide(condition.value):
        asked = msgspec.json.encode((condition.path, condition.value)).decode()
        return f"holds({text}, ?)", [asked]
    path = "$" + "".join(f'."{segment}"' for segment in condition.path)
    value = condition.value
    if value is None:
        return f"json_type({text}, ?) = 'null'", [path]
    if isinstance(value, bool):
        return f"json_type({text}, ?) = ?", [path, "true" if value else "false"]
    types = "('text')" if isinstance(value, str) else "('integer', 'real')"
    return f"(json_type({text}, ?) IN {types} AND json_extract({text}, ?) = ?)", [path, path, value]


def _text(kind: str) -> str:
    alias = _ALIASES[kind]
    columns = ", ".join(f"{alias}.{column}" for column in ("kind", "hub", "name", "revision", "checksum", "body"))
    if kind == PRESENCE:
        return f"CASE WHEN p.name IS NULL THEN '{NEVER_CONNECTED}' ELSE sound({columns}) END"
    return f"sound({columns})"


def _is_wide(value: str | int | float | bool | None) -> bool:
    return isinstance(value, int) and abs(value) > _INTEGER_MAX


def _holds(text: str, asked: str) -> bool:
    path, value = msgspec.json.decode(asked, type=tuple[tuple[str, ...], str | int | float | bool | None])
    return Equals(path, value).holds(msgspec.json.decode(text))
