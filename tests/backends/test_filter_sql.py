"""Filters as SQL: whatever is asked, and of whatever documents, it is what the filter means."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.backends.device_view import NEVER_CONNECTED
from isthmus.backends.memory.state import MemoryState
from isthmus.backends.sqlite import devices_query, documents
from isthmus.backends.sqlite.devices_query import DevicesQuery, plan_devices
from isthmus.backends.sqlite.filter_sql import compile_filter
from isthmus.backends.sqlite.schema import MIGRATIONS
from isthmus.base.filters import (
    All,
    Among,
    AnyOf,
    Applied,
    Comparison,
    Computed,
    Constant,
    Defined,
    Field,
    Filter,
    Given,
    Not,
    Order,
    Path,
    Sign,
    equals,
    holds,
)
from isthmus.base.ids import HubId
from isthmus.base.sealing import UNSEALED
from isthmus.base.state import Key, Put
from isthmus.query.functions import FUNCTIONS
from isthmus.query.search import compile_search

HUB = HubId(1)
ODD_KEYS = ("a", "b", 'q"', "back\\slash", "größe", "it's", "a.b", "[0]", "$x")

primitives = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from((0.5, -1.5, 2.0, 1e300, 2**53, 2**62)),
    st.sampled_from(("", "a", "ab", "b", "ä", "5", "true", "null", "\U0001f512", "'; DROP TABLE documents; --")),
)
constants = st.builds(Constant, st.one_of(primitives, st.sampled_from((2**70, -(2**63)))))
json_values = st.recursive(
    primitives,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(ODD_KEYS), inner, max_size=3)),
    max_leaves=6,
)
steps = st.one_of(st.sampled_from(ODD_KEYS), st.integers(0, 2))
paths: st.SearchStrategy[Path] = st.one_of(
    st.sampled_from((("deviceId",), ("moduleId",), ("status",), ("connectionState",), ("version",))),
    st.lists(steps, max_size=2).map(lambda below: ("tags", *below)),
)
field_values = st.builds(Field, paths)


def functions(name: str, *arguments: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    return st.tuples(*arguments).map(lambda given: Applied(name, FUNCTIONS[name].apply, given))


values: st.SearchStrategy[Filter] = st.one_of(
    constants,
    field_values,
    st.builds(Given, field_values),
    st.builds(Computed, st.sampled_from(Sign), field_values, constants),
    functions("LOWER", field_values),
)
comparisons: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Comparison, st.sampled_from(Order), field_values, constants),
    st.builds(Comparison, st.sampled_from(Order), values, values),
    st.builds(Among, field_values, st.lists(constants, max_size=4).map(tuple)),
    st.builds(Among, field_values, st.lists(values, max_size=3).map(tuple)),
    st.builds(Defined, values),
    functions("STARTSWITH", field_values, constants),
    functions("ARRAY_CONTAINS", field_values, values),
    values,
)
filters: st.SearchStrategy[Filter] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, max_size=4).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=4).map(tuple)),
    ),
    max_leaves=8,
)


class Stores:
    """The same devices in both stores."""

    def __init__(self) -> None:
        self.memory = MemoryState()
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in MIGRATIONS[0]:
            self.connection.execute(statement)
        self.query = DevicesQuery(self.connection, UNSEALED)
        self.views: dict[str, dict[str, object]] = {}

    def add(self, name: str, tags: object, *, status: str = "enabled", connected: bool | None = None) -> None:
        device_id, _, module_id = name.partition("/")
        identity = {"deviceId": device_id, "moduleId": module_id, "status": status}
        twin = {"tags": tags, "properties": {}, "version": len(name)}
        presence = None if connected is None else {"connectionState": "Connected" if connected else "Disconnected"}
        bodies = {"identity": identity, "twin": twin, **({} if presence is None else {"presence": presence})}
        puts = [Put(Key(kind, HUB, name), msgspec.json.encode(body)) for kind, body in bodies.items()]
        asyncio.run(self.memory.commit(puts))
        documents.apply(self.connection, puts, UNSEALED)
        self.views[name] = {**identity, **twin, **(presence or msgspec.json.decode(NEVER_CONNECTED))}

    def check(self, where: Filter, *, modules: bool = False) -> list[str]:
        """What both find, which is what the filter means."""
        meant = [name for name in sorted(self.views) if ("/" in name) is modules and holds(where, self.views[name])]
        reading = self.memory.query_devices(HUB, where, modules=modules, after="", limit=100)
        assert [identity.key.name for identity, _, _ in asyncio.run(reading)] == meant
        assert self.found(where, modules=modules) == meant
        assert self.counted(where, modules=modules) == len(meant)
        return meant

    def found(self, where: Filter, *, modules: bool, limit: int = 100) -> list[str]:
        plan, found = plan_devices(HUB, where, modules=modules), list[str]()
        after: str | None = ""
        while after is not None and len(found) < limit:
            step = self.query.run(plan, after=after, limit=limit - len(found))
            found += [identity.key.name for identity, _, _ in step.found]
            after = step.upto
        return found

    def counted(self, where: Filter, *, modules: bool) -> int:
        plan, total = plan_devices(HUB, where, modules=modules), 0
        after: str | None = ""
        while after is not None:
            number, after = self.query.count(plan, after=after)
            total += number
        return total


@settings(max_examples=150)
@given(st.lists(json_values, min_size=1, max_size=5), st.lists(filters, min_size=1, max_size=6))
def test_sql_and_memory_find_what_the_filter_means(tags: Sequence[object], asked: Sequence[Filter]) -> None:
    stores = Stores()
    for place, each in enumerate(tags):
        stores.add(
            f"d{place}", each, status=("enabled", "disabled")[place % 2], connected=(None, True, False)[place % 3]
        )
        if place % 2:
            stores.add(f"d{place}/m", each)
    for where in asked:
        stores.check(where)
        stores.check(where, modules=True)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """Steps are short, so that there are several."""
    monkeypatch.setattr(devices_query, "STEP", 3)
    stores = Stores()
    for number in range(10):
        stores.add(f"d{number}", {"n": number, "even": number % 2 == 0})
        stores.add(f"d{number}/m{number % 3}", {"n": number})
    yield stores
    stores.connection.close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("devices WHERE tags.n > 7", ["d8", "d9"]),
        ("devices WHERE tags.even", ["d0", "d2", "d4", "d6", "d8"]),
        ("devices WHERE tags.n * 2 = 8", ["d4"]),
        ("devices WHERE deviceId IN ['d7', 'd1', 'nobody'] AND tags.n > 1", ["d7"]),
        ("devices WHERE deviceId = 'd1' OR id = 'd3'", ["d1", "d3"]),
        ("devices WHERE deviceId = 'd1' AND deviceId = 'd2'", []),
        ("devices.modules WHERE deviceId IN ['d7', 'd1', 'nobody']", ["d1/m1", "d7/m1"]),
        ("devices.modules WHERE deviceId = 'd1' AND moduleId = 'm1'", ["d1/m1"]),
        ("devices.modules WHERE moduleId = 'm2' AND tags.n != 2", ["d5/m2", "d8/m2"]),
        ("devices.modules WHERE CONTAINS(moduleId, '2') AND tags.n < 3", ["d2/m2"]),
    ],
)
def test_a_query_of_many_steps_misses_nobody(stores: Stores, text: str, found: list[str]) -> None:
    search = compile_search(f"SELECT * FROM {text}")
    assert stores.check(search.where, modules=search.modules) == found


def test_a_page_ends_in_the_middle_of_a_step(stores: Stores) -> None:
    assert stores.found(compile_search("SELECT * FROM devices WHERE tags.even").where, modules=False, limit=2) == [
        "d0",
        "d2",
    ]


@pytest.mark.parametrize(
    "condition",
    [
        " OR ".join(f"tags.n>{number}" for number in range(250)),
        " AND ".join(f"tags.n!={number}" for number in range(10, 260)),
        "NOT " * 90 + "tags.n = 1",
        "(" * 40 + "tags.n=1" + " OR tags.n=2 AND tags.even)" * 40,
        f"tags.n IN [{','.join(map(str, range(5, 1800)))}]",
        "deviceId IN [" + ",".join(f"'d{number}'" for number in range(1000)) + "]",
        "tags." + "n." * 3900 + "n = 1 OR tags.n = 1",
        "+".join(["tags.n"] * 99) + " > 98",
        "CONCAT(" * 90 + "deviceId" + ", 'x')" * 90 + " > 'd5'",
    ],
    ids=lambda condition: condition[:20],
)
def test_conditions_at_their_limits_can_be_asked(stores: Stores, condition: str) -> None:
    search = compile_search(f"SELECT * FROM devices WHERE {condition}")
    assert stores.check(search.where)


@pytest.mark.parametrize(
    "text",
    [
        "devices WHERE deviceId = 'd1'",
        "devices WHERE deviceId IN ['d7', 'd1']",
        "devices.modules WHERE deviceId = 'd1'",
        "devices.modules WHERE deviceId IN ['d7', 'd1']",
    ],
)
def test_devices_that_are_named_are_found_by_the_key(stores: Stores, text: str) -> None:
    search = compile_search(f"SELECT * FROM {text}")
    told: list[str] = []
    stores.connection.set_trace_callback(told.append)
    stores.found(search.where, modules=search.modules)
    (statement,) = told
    plan = [str(row[3]) for row in stores.connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert any("SEARCH i" in step and "name" in step.rpartition("hub=?")[2] for step in plan), plan


def told_of(where: Filter) -> tuple[int, bool]:
    """How many terms are told in SQL, and whether some are left."""
    compiled = compile_filter(where, modules=False)
    return len(compiled.told), compiled.rest is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tags.a = 1", (1, False)),
        ("tags.a = 1 AND NOT (tags.b IN ['x', null] OR IS_DEFINED(tags.c))", (2, False)),
        ("STARTSWITH(tags.a, 'x') AND tags.b >= 'y'", (2, False)),
        ("statusReason = 'broken'", (1, False)),
        ("tags.a = tags.b AND tags.c = 1", (1, True)),
        ("tags.a + 1 = 2", (0, True)),
        ("tags.a = 9223372036854775808", (1, False)),
        ('tags.[[a"b]] = 1', (0, True)),
    ],
)
def test_what_sql_says_alike_is_told_in_sql(text: str, told: tuple[int, bool]) -> None:
    assert told_of(compile_search(f"SELECT * FROM devices WHERE {text}").where) == told


def test_numbers_and_places_that_sql_cannot_hold_are_judged_beside_it() -> None:
    for where in (equals(("tags", "a"), 2**70), equals(("tags", 2**40), 1), equals(("tags", ""), 1)):
        assert told_of(where) == (0, True)
