"""Fuzz targets of what is asked: the query language of devices, route conditions, and what enriches messages.

Invariant: a text compiles, or is refused by the language's own error with the place; what has compiled judges any
message without an exception, as a condition that is undefined for it at the worst.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from fuzz.target import Check, Target, pure
from isthmus.backends.device_view import NEVER_CONNECTED
from isthmus.backends.sqlite import documents
from isthmus.backends.sqlite.devices_query import DevicesQuery, plan_devices
from isthmus.backends.sqlite.schema import MIGRATIONS
from isthmus.base.errors import HubError
from isthmus.base.filters import holds
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.sealing import UNSEALED
from isthmus.base.state import Key, Put
from isthmus.devices.fleet import project
from isthmus.jobs.selection import parse_selection
from isthmus.query.conditions.compiler import compile_condition
from isthmus.query.conditions.lexer import ConditionError
from isthmus.query.grouping import Tally
from isthmus.query.job_search import job_search
from isthmus.query.parser import parse
from isthmus.query.search import Search, compile_search
from isthmus.resources.enrichments import checked_enrichments
from isthmus.resources.hub import Hub
from isthmus.resources.routes import checked_routes
from isthmus.routing.stamps import Stamps
from isthmus.servers.gateway.http_message import Call

ROW: dict[str, object] = {
    "deviceId": "dev1",
    "jobId": "job1",
    "status": "completed",
    "outcome": {"deviceMethodResponse": {"status": 200, "payload": [1, None, {"a": 1e308}]}},
}
TWIN: dict[str, object] = {
    "deviceId": "dev1",
    "status": "enabled",
    "statusReason": None,
    "parentScopes": ["scope"],
    "capabilities": {"iotEdge": False},
    "version": 7,
    "etagNumber": 7,
    "desiredVersion": 3,
    "tags": {"hall": 2, "site": {"name": "Gera", "ids": [1, 2.5, "x", None, True]}},
    "properties": {"desired": {"interval": 5, "huge": 2**63}, "reported": {"t": -0.0, "v": 3}},
}
SEEN = TWIN | msgspec.json.decode(NEVER_CONNECTED)
"""What conditions see of it: it never connected."""

BODY: dict[str, object] = {"t": 21.5, "n": None, "b": True, "s": "1e999", "list": [1, [2, {"x": "y"}]], "o": {}}
HUB = Hub(HubId(1), "hub", "hub.isthmus.test", 4, 0)


@dataclass(frozen=True)
class Message:
    """A message with values of every kind."""

    asked: bool = True

    def body(self) -> Mapping[str, object] | None:
        return BODY if self.asked else None

    def twin(self) -> Mapping[str, object] | None:
        return TWIN if self.asked else None

    def application_property(self, name: str) -> str | None:
        return {"level": "5", "nan": "nan", "big": "9" * 400, "empty": "", "text": "it's"}.get(name)

    def system_property(self, name: str) -> str | None:
        return {"contenttype": "application/json", "messageid": "1"}.get(name)


MESSAGES = (Message(), Message(asked=False))


class Store:
    """One device in SQLite, by which is told whether a filter means there what it says."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._query = DevicesQuery(connection, UNSEALED)
        for statement in MIGRATIONS[0]:
            connection.execute(statement)
        puts = [Put(Key(kind, HUB.number, "dev1"), msgspec.json.encode(TWIN)) for kind in ("identity", "twin")]
        documents.apply(connection, puts, UNSEALED)

    def finds(self, search: Search) -> bool:
        step = self._query.run(plan_devices(HUB.number, search.where, modules=search.modules), after="", limit=10)
        return bool(step.found)


@contextmanager
def stored() -> Iterator[Check]:
    """Queries of a service, whatever they ask of, and conditions of jobs."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        yield partial(check_query, Store(connection))
    finally:
        connection.close()


def check_query(store: Store, data: bytes) -> None:
    text = data.decode(errors="replace")
    with suppress(HubError):
        holds(job_search(parse(text)).where, ROW)
    with suppress(HubError):
        parse_selection(text)
    with suppress(HubError):
        search = compile_search(text)
        assert store.finds(search) is (not search.modules and holds(search.where, SEEN))
        project(TWIN, search.columns)
        if search.grouping is not None:
            tally = Tally(search.grouping)
            tally.add(TWIN)
            msgspec.json.encode([row.row for row in tally.rows()])


def check_condition(data: bytes) -> None:
    """A route's condition."""
    text = data.decode(errors="replace")
    for twin_changes in (False, True):
        with suppress(ConditionError):
            condition = compile_condition(text, twin_changes=twin_changes)
            for message in MESSAGES:
                assert condition.holds(message) in (True, False, None)


def check_routing(data: bytes) -> None:
    """Routes and enrichments of an ARM body, and what the enrichments stamp."""
    with suppress(HubError):
        body = Call(HUB, DeviceRef(HubId(1), ""), {}, {}, data).json()
        members = body if isinstance(body, dict) else {}
        checked_routes(members.get("routes"), "properties.routing.routes")
        enrichments = checked_enrichments(members.get("enrichments"), "properties.routing.enrichments")
        names = {name.lower() for each in enrichments for name in each.endpoint_names}
        if names <= {"events"}:
            Stamps(replace(HUB, enrichments=enrichments)).encoded((0,), TWIN)
            msgspec.json.encode(enrichments)


TARGETS = (
    Target("query", stored),
    pure("condition", check_condition),
    pure("routing", check_routing),
)
