"""Device queries as SQL over the joined view: what `filter_sql` tells in SQL, and what is judged beside it.

Theory of operation. Each document that a condition looks at is verified by `sound(...)`, a function of ours inside the
statement that gives its plain text, so that a damaged twin fails the query and is not just left out, and a sealed
identity is compared by what it says. What SQL cannot tell is judged by `judged(...)`, which has the filter's own
meaning, over the same texts. Ids are bound to the documents' names, by which the key finds them. A query that has to
look at everybody is cut into steps of `STEP` identities, between which others have their turn: it holds neither a
reading connection nor its thread for longer than that.
"""

import sqlite3
from collections.abc import Container
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from isthmus.backends.comparing import prefix_end
from isthmus.backends.device_view import IDENTITY, PRESENCE, TWIN, homes_of, joined
from isthmus.backends.sqlite.documents import verified
from isthmus.backends.sqlite.filter_sql import ALIASES, Compiled, Sql, compile_filter, document_text
from isthmus.base.filters import EVERYTHING, Filter, holds
from isthmus.base.ids import HubId
from isthmus.base.sealing import Sealer
from isthmus.base.state import Damaged, Key, Stored

STEP = 2_000
"""Identities that one step looks at, some tens of milliseconds."""

_JOINS = MappingProxyType(
    {
        TWIN: "CROSS JOIN documents AS t ON t.kind = ? AND t.hub = i.hub AND t.name = i.name",
        PRESENCE: "LEFT JOIN documents AS p ON p.kind = ? AND p.hub = i.hub AND p.name = i.name",
    }
)
_COLUMNS = ", ".join(f"{ALIASES[kind]}.{column}" for kind in ALIASES for column in ("revision", "checksum", "body"))
_STEP_END = "SELECT name FROM documents WHERE kind = ? AND hub = ? AND name > ? ORDER BY name LIMIT 1 OFFSET ?"


@dataclass(frozen=True, slots=True)
class DevicesPlan:
    """What is asked of a hub's devices or modules, compiled once for all steps."""

    hub: HubId
    where: Compiled
    modules: bool
    in_steps: bool


def plan_devices(hub: HubId, where: Filter, *, modules: bool) -> DevicesPlan:
    """The plan of a query; one that names its devices, or wants any, needs no steps."""
    compiled = compile_filter(where, modules=modules)
    return DevicesPlan(hub, compiled, modules, compiled.device_ids is None and where != EVERYTHING)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step found; `upto` is the last identity it looked at, None when that was the last of all."""

    found: list[tuple[Stored, Stored, Stored | None]]
    upto: str | None


class DevicesQuery:
    """Runs queries on one connection, which gets the two functions they need."""

    def __init__(self, connection: sqlite3.Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._sealer = sealer
        self._damaged: Damaged | None = None
        self._rest: Filter = EVERYTHING
        self._rest_homes: tuple[str, ...] = ()
        connection.create_function("sound", 6, self._sound, deterministic=True)
        connection.create_function("judged", -1, self._judged)

    def run(self, plan: DevicesPlan, *, after: str, limit: int) -> Step:
        """(identity, twin, presence) in the order of names; raises `Damaged`."""
        upto = self._step_end(plan, after)
        source = self._source(plan, after=after, upto=upto, wanted=(TWIN, PRESENCE))
        rows = self._rows(f"SELECT i.name, {_COLUMNS} {source.text} ORDER BY i.name LIMIT ?", (*source.values, limit))
        return Step([self._triple(plan.hub, *row) for row in rows], upto)

    def count(self, plan: DevicesPlan, *, after: str) -> tuple[int, str | None]:
        """How many one step finds, and the last identity it looked at; raises `Damaged`."""
        upto = self._step_end(plan, after)
        source = self._source(plan, after=after, upto=upto, wanted=plan.where.homes)
        [(number,)] = self._rows(f"SELECT count(*) {source.text}", source.values)
        return int(number), upto

    def _step_end(self, plan: DevicesPlan, after: str) -> str | None:
        if not plan.in_steps:
            return None
        row = self._connection.execute(_STEP_END, (IDENTITY, plan.hub, after, STEP - 1)).fetchone()
        return None if row is None else str(row[0])

    def _source(self, plan: DevicesPlan, *, after: str, upto: str | None, wanted: Container[str]) -> Sql:
        """The rows for which the filter holds, as FROM and WHERE, and the values to bind.

        Documents that are not `wanted` cost nothing: every identity has a twin.
        """
        joins = [kind for kind in _JOINS if kind in wanted]
        terms = [
            Sql("i.kind = ? AND i.hub = ? AND i.name > ?", (IDENTITY, plan.hub, after)),
            Sql(f"instr(i.name, '/') {'>' if plan.modules else '='} 0"),
            *([] if upto is None else [Sql("i.name <= ?", (upto,))]),
            *_named(plan),
            *plan.where.told,
            *self._rest_term(plan),
        ]
        ranges = _devices_of(plan.where.device_ids) if plan.modules and plan.where.device_ids else Sql("")
        text = f"FROM {ranges.text}documents AS i {' '.join(_JOINS[kind] for kind in joins)}"
        values = (*ranges.values, *joins, *(value for term in terms for value in term.values))
        return Sql(f"{text} WHERE {' AND '.join(term.text for term in terms)}", values)

    def _rest_term(self, plan: DevicesPlan) -> list[Sql]:
        """What is to be judged beside SQL, by the very next statement."""
        if plan.where.rest is None:
            return []
        self._rest = plan.where.rest
        self._rest_homes = tuple(kind for kind in ALIASES if kind in plan.where.homes & homes_of(self._rest))
        return [Sql(f"judged({', '.join(('i.name', *map(document_text, self._rest_homes)))})")]

    def _judged(self, name: str, *texts: str) -> bool:
        device_id, _, module_id = name.partition("/")
        view = {"deviceId": device_id, "moduleId": module_id}
        return holds(self._rest, view | joined(dict(zip(self._rest_homes, texts, strict=True))))

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
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


def _devices_of(ids: tuple[str, ...]) -> Sql:
    """Ranges of names, one for the modules of each device; to be joined before the documents."""
    values = tuple(bound for each in ids for bound in (f"{each}/", prefix_end(f"{each}/")))
    return Sql(f"(VALUES {', '.join(['(?, ?)'] * len(ids))}) AS d CROSS JOIN ", values)


def _named(plan: DevicesPlan) -> list[Sql]:
    """Names by which the key finds the documents: nobody else's are looked at."""
    ids = plan.where.device_ids
    if ids is None:
        return []
    if not ids:
        return [Sql("0")]
    if plan.modules:
        return [Sql("i.name >= d.column1 AND i.name < d.column2")]
    return [Sql(f"i.name IN ({', '.join('?' * len(ids))})", ids)]
