"""The state port, the same over every backend."""

import asyncio
import json

import pytest

from isthmus.access.chain import JOURNAL_BODY_BYTES_MAX, JOURNAL_TEXT_MAX, anchor_of
from isthmus.access.verify import verify
from isthmus.backends.comparing import DOCUMENT_BYTES_MAX
from isthmus.base.filters import EVERYTHING, All, equals
from isthmus.base.ids import HubId
from isthmus.base.state import (
    MUST_NOT_EXIST,
    ChainEnd,
    Change,
    Check,
    Conflict,
    Delete,
    JournalFilter,
    JournalRow,
    Key,
    OutboxEvent,
    Put,
    State,
    StateClosed,
)
from isthmus.query.search import compile_search

HUB = HubId(1)
OTHER_HUB = HubId(2)


async def test_what_was_put_is_got(state: State) -> None:
    assert await state.commit([Put(key("a"), b'{"x":1}')]) == [1]
    stored = await state.get(key("a"))
    assert stored is not None
    assert (stored.key, stored.revision, stored.body) == (key("a"), 1, b'{"x":1}')


async def test_what_is_not_there_is_none(state: State) -> None:
    assert await state.get(key("a")) is None


async def test_revisions_rise_with_each_put_and_a_delete_gives_0(state: State) -> None:
    revisions = [await state.commit([change]) for change in (put("a"), put("a"), Delete(key("a")), put("a"))]
    assert revisions == [[1], [2], [0], [1]]


@pytest.mark.parametrize(
    "change",
    [
        Put(Key("thing", HUB, "there"), b"{}", MUST_NOT_EXIST),
        Put(Key("thing", HUB, "there"), b"{}", 2),
        Put(Key("thing", HUB, "absent"), b"{}", 1),
        Delete(Key("thing", HUB, "there"), 2),
        Delete(Key("thing", HUB, "absent"), 1),
        Delete(Key("thing", HUB, "there"), MUST_NOT_EXIST),
        Check(Key("thing", HUB, "there"), 2),
        Check(Key("thing", HUB, "there"), MUST_NOT_EXIST),
        Check(Key("thing", HUB, "absent"), 1),
    ],
)
async def test_an_expectation_that_does_not_hold_is_a_conflict(state: State, change: Change) -> None:
    await state.commit([put("there")])
    with pytest.raises(Conflict) as caught:
        await state.commit([put("first"), change])
    assert caught.value.index == 1


@pytest.mark.parametrize(
    "change",
    [
        Put(Key("thing", HUB, "absent"), b"{}", MUST_NOT_EXIST),
        Put(Key("thing", HUB, "there"), b"{}", 1),
        Put(Key("thing", HUB, "there"), b"{}"),
        Delete(Key("thing", HUB, "there"), 1),
        Delete(Key("thing", HUB, "absent")),
        Delete(Key("thing", HUB, "absent"), MUST_NOT_EXIST),
    ],
)
async def test_an_expectation_that_holds_lets_the_change_pass(state: State, change: Change) -> None:
    await state.commit([put("there")])
    await state.commit([change])
    assert (await state.get(change.key) is not None) is isinstance(change, Put)


async def test_a_check_that_holds_changes_nothing(state: State) -> None:
    await state.commit([put("there")])
    assert await state.commit([Check(key("there"), 1), Check(key("absent"), MUST_NOT_EXIST), put("new")]) == [0, 0, 1]
    stored = await state.get(key("there"))
    assert stored is not None
    assert stored.revision == 1


async def test_a_conflict_leaves_nothing_of_its_commit(state: State) -> None:
    await state.commit([put("kept", b"1")])
    changes: list[Change] = [put("new"), Delete(key("kept")), Put(key("kept"), b"2", 7)]
    with pytest.raises(Conflict):
        await state.commit(changes, [OutboxEvent(HUB, b"event")])
    assert await names(state) == ["kept"]
    assert await state.outbox(after=0, limit=10) == []


async def test_changes_of_one_commit_see_those_before_them(state: State) -> None:
    changes: list[Change] = [
        Put(key("a"), b"1", 0),
        Put(key("a"), b"2", 1),
        Delete(key("a"), 2),
        Put(key("a"), b"3", 0),
    ]
    assert await state.commit(changes) == [1, 2, 0, 1]
    stored = await state.get(key("a"))
    assert stored is not None
    assert stored.body == b"3"


async def test_an_oversized_document_is_refused_and_hurts_nobody_else(state: State) -> None:
    big, small = await asyncio.gather(
        state.commit([put("before"), put("big", bytes(DOCUMENT_BYTES_MAX + 1))]),
        state.commit([put("small")]),
        return_exceptions=True,
    )
    assert isinstance(big, ValueError)
    assert small == [1]
    assert await names(state) == ["small"]


async def test_a_commit_of_nothing_is_answered(state: State) -> None:
    assert await state.commit([]) == []


async def test_kinds_and_hubs_do_not_mix(state: State) -> None:
    keys = [Key("thing", HUB, "a"), Key("thing", OTHER_HUB, "a"), Key("other", HUB, "a")]
    await state.commit([Put(one, one.kind.encode()) for one in keys])
    await state.commit([Delete(keys[0])])
    assert [await state.get(one) is None for one in keys] == [True, False, False]
    assert await state.scan("thing", HUB) == []


async def test_scan_goes_by_binary_order(state: State) -> None:
    given = ["b", "a", "A", "a/x", "a0", "ä", "z", "a\n1", "~", "\ue000", "\U00010000", "10", "9"]
    await state.commit([put(name) for name in given])
    assert await names(state) == sorted(given, key=str.encode)


@pytest.mark.parametrize(
    ("prefix", "after", "limit", "found"),
    [
        ("", "", 1000, ["a", "ab", "ab/1", "ab/2", "ac", "b"]),
        ("ab", "", 1000, ["ab", "ab/1", "ab/2"]),
        ("ab/", "", 1000, ["ab/1", "ab/2"]),
        ("ab/", "ab/1", 1000, ["ab/2"]),
        ("ab/", "a", 1000, ["ab/1", "ab/2"]),
        ("", "ab/2", 1000, ["ac", "b"]),
        ("", "aaa", 2, ["ab", "ab/1"]),
        ("ab", "b", 1000, []),
        ("zz", "", 1000, []),
    ],
)
async def test_scan_by_prefix_after_and_limit(
    state: State, prefix: str, after: str, limit: int, found: list[str]
) -> None:
    await state.commit([put(name) for name in ("b", "ac", "ab/2", "ab", "a", "ab/1")])
    scanned = await state.scan("thing", HUB, prefix=prefix, after=after, limit=limit)
    assert [stored.key.name for stored in scanned] == found


@pytest.mark.parametrize("prefix", ["\U0010ffff", "a\U0010ffff", "\ud7ff"])
async def test_a_prefix_at_the_end_of_unicode(state: State, prefix: str) -> None:
    await state.commit([put(name) for name in (prefix, prefix + "x", "a", "b", "\ue000")])
    scanned = await state.scan("thing", HUB, prefix=prefix)
    assert [stored.key.name for stored in scanned] == [prefix, prefix + "x"]
    assert await state.count("thing", HUB, prefix=prefix) == 2


async def test_count_by_prefix(state: State) -> None:
    await state.commit([put(name) for name in ("a", "ab", "b")])
    assert [await state.count("thing", HUB, prefix=prefix) for prefix in ("", "a", "c")] == [3, 2, 0]


async def test_tasks_that_count_with_retries_lose_nothing(state: State) -> None:
    async def increment() -> None:
        while True:
            stored = await state.get(key("counter"))
            value, revision = (int(stored.body), stored.revision) if stored else (0, MUST_NOT_EXIST)
            try:
                await state.commit([Put(key("counter"), str(value + 1).encode(), revision)])
            except Conflict:
                continue
            return

    await asyncio.gather(*(increment() for _ in range(40)))
    stored = await state.get(key("counter"))
    assert stored is not None
    assert (stored.body, stored.revision) == (b"40", 40)


async def test_a_cancelled_commit_runs_to_its_end(state: State) -> None:
    task = asyncio.create_task(state.commit([put("a")], [OutboxEvent(HUB, b"event")]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await state.commit([put("later")])
    assert await names(state) == ["a", "later"]


async def test_outbox_rows_are_numbered_in_commit_order_from_1(state: State) -> None:
    await state.commit([], [OutboxEvent(HUB, b"a"), OutboxEvent(OTHER_HUB, b"b")])
    await state.commit([], [OutboxEvent(HUB, b"c")])
    rows = await state.outbox(after=0, limit=10)
    assert [(row.row_id, row.hub, row.body) for row in rows] == [(1, HUB, b"a"), (2, OTHER_HUB, b"b"), (3, HUB, b"c")]


async def test_outbox_is_read_from_a_place_on_and_in_pieces(state: State) -> None:
    await state.commit([], [OutboxEvent(HUB, bytes([number])) for number in range(5)])
    assert [row.row_id for row in await state.outbox(after=2, limit=2)] == [3, 4]


async def test_outbox_numbers_are_not_used_again(state: State) -> None:
    await state.commit([], [OutboxEvent(HUB, b"a"), OutboxEvent(HUB, b"b")])
    await state.outbox_done(2)
    assert await state.outbox(after=0, limit=10) == []
    await state.commit([], [OutboxEvent(HUB, b"c")])
    assert [row.row_id for row in await state.outbox(after=0, limit=10)] == [3]


async def test_outbox_done_keeps_later_rows(state: State) -> None:
    await state.commit([], [OutboxEvent(HUB, b"a"), OutboxEvent(HUB, b"b")])
    await state.outbox_done(1)
    assert [row.body for row in await state.outbox(after=0, limit=10)] == [b"b"]


async def test_the_relay_is_woken_by_commits_with_events_only(state: State) -> None:
    woken: list[str] = []
    state.on_outbox(lambda: woken.append("first"))
    state.on_outbox(lambda: woken.append("second"))
    await state.commit([put("a")])
    assert woken == []
    await state.commit([put("a")], [OutboxEvent(HUB, b"event")])
    assert woken == ["first", "second"]


async def test_a_journal_of_sound_links(state: State) -> None:
    for number in range(3):
        state.journal(row(utc_ms=number))
    await state.journal_flushed()
    entries = await state.journal_read(JournalFilter())
    assert [(entry.entry_id, entry.utc_ms) for entry in entries] == [(3, 2), (2, 1), (1, 0)]
    assert verify(await state.journal_ends(), reversed(entries), []).is_whole


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (JournalFilter(), [4, 3, 2, 1]),
        (JournalFilter(limit=2), [4, 3]),
        (JournalFilter(hub="h1"), [3, 2, 1]),
        (JournalFilter(device="d1"), [4, 1]),
        (JournalFilter(hub="h1", device="d1"), [1]),
        (JournalFilter(address="10.0.0.1"), [2]),
        (JournalFilter(tracking_id="t3"), [3]),
        (JournalFilter(verdict="refused"), [4, 3, 2]),
        (JournalFilter(since_ms=30), [4, 3]),
        (JournalFilter(since_ms=20, until_ms=40), [3, 2]),
        (JournalFilter(entry_id=2), [2]),
        (JournalFilter(principal="owner"), [4]),
        (JournalFilter(before_id=3), [2, 1]),
        (JournalFilter(tracking_id="unknown"), []),
    ],
)
async def test_journal_filters(state: State, wanted: JournalFilter, found: list[int]) -> None:
    state.journal(row(utc_ms=10, hub="h1", device="d1", verdict="admitted"))
    state.journal(row(utc_ms=20, hub="h1", device="d2", address="10.0.0.1"))
    state.journal(row(utc_ms=30, hub="h1", tracking_id="t3"))
    state.journal(row(utc_ms=40, hub="h2", device="d1", body=b'{"verdict":"refused","principal":"owner"}'))
    await state.journal_flushed()
    assert [entry.entry_id for entry in await state.journal_read(wanted)] == found


async def test_the_journal_is_pruned_from_the_front_and_says_so(state: State) -> None:
    for number in range(1, 5):
        state.journal(row(utc_ms=number))
    await state.journal_flushed()
    assert await state.journal_prune(3, "owner", 5) == 3
    told, last = await state.journal_read(JournalFilter())
    assert (told.entry_id, told.verdict, last.entry_id) == (5, "pruned", 4)
    ends = await state.journal_ends()
    assert (ends.base.entry_id, ends.head, ends.entries) == (3, ChainEnd(5, told.chain), 2)
    assert anchor_of(told) == ends.base
    assert not state.journal_full


async def test_what_strangers_put_into_the_journal_is_cut_to_size(state: State) -> None:
    state.journal(row(device="d" * 100_000, address="\udcff", body=bytes(JOURNAL_BODY_BYTES_MAX + 1)))
    await state.journal_flushed()
    (entry,) = await state.journal_read(JournalFilter())
    assert (len(entry.device), entry.address) == (JOURNAL_TEXT_MAX, "?")
    assert json.loads(entry.body) == {"cut": JOURNAL_BODY_BYTES_MAX + 1}


async def test_a_closed_state_says_so(state: State) -> None:
    await state.commit([put("a")])
    await state.close()
    await state.close()
    state.journal(row())
    for call in (
        state.get(key("a")),
        state.scan("thing", HUB),
        state.count("thing", HUB),
        state.query_devices(HUB, EVERYTHING, modules=False, after="", limit=10),
        state.count_devices(HUB, EVERYTHING, modules=False),
        state.commit([put("b")]),
        state.outbox(after=0, limit=1),
        state.outbox_done(1),
        state.journal_flushed(),
        state.journal_read(JournalFilter()),
        state.journal_ends(),
        state.journal_prune(1, "", 0),
    ):
        with pytest.raises(StateClosed):
            await call


async def test_what_was_given_before_close_is_finished(state: State) -> None:
    commit = asyncio.create_task(state.commit([put("a")]))
    await asyncio.sleep(0)
    await state.close()
    assert await commit == [1]


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("deviceId", "d1", ["d1"]),
        ("deviceId", "nobody", []),
        ("deviceId", 1, []),
        ("status", "enabled", ["d1", "d3"]),
        ("capabilities.iotEdge", True, ["d2"]),
        ("capabilities.iotEdge", 1, []),
        ("tags.floor", 3, ["d1"]),
        ("tags.floor", 3.0, ["d1"]),
        ("tags.floor", "3", ["d2"]),
        ("tags.floor", True, ["d3"]),
        ("tags.floor", False, []),
        ("tags.note", None, ["d1"]),
        ("tags.weight", 1.5, ["d1"]),
        ("tags.huge", 2**70, ["d3"]),
        ("tags.huge", 2**63, []),
        ("tags.place", "hall", []),
        ("tags.place.room", "hall", ["d1"]),
        ("tags.list.0", "x", []),
        ("properties.desired.rate", 5, ["d1"]),
        ("properties.reported.rate", 5, ["d2"]),
        ('tags.a"b', 1, ["d1"]),
        ("tags.back\\slash", 1, ["d1"]),
        ("tags.it's", 1, ["d1"]),
        ("tags.größe", "ß", ["d1"]),
        ("tags[0]", 1, []),
        ("connectionState", "Connected", ["d1"]),
        ("connectionState", "Disconnected", ["d2", "d3"]),
        ("lastActivityTime", "0001-01-01T00:00:00Z", ["d3"]),
        ("tags.nowhere", "x", []),
        ("tags.name", "'; DROP TABLE documents; --", ["d2"]),
    ],
)
async def test_devices_by_one_condition(
    state: State, path: str, value: str | int | float | bool | None, found: list[str]
) -> None:
    await plant(state)
    condition = equals(tuple(path.split(".")), value)
    triples = await state.query_devices(HUB, condition, modules=False, after="", limit=100)
    assert [identity.key.name for identity, _, _ in triples] == found
    assert await state.count_devices(HUB, condition, modules=False) == len(found)


async def test_devices_are_counted_like_they_are_found(state: State) -> None:
    assert await state.count_devices(HUB, EVERYTHING, modules=False) == 0
    await plant(state)
    assert await state.count_devices(HUB, EVERYTHING, modules=False) == 3
    assert await state.count_devices(HUB, EVERYTHING, modules=True) == 1


async def test_devices_by_several_conditions(state: State) -> None:
    await plant(state)
    asked = (
        equals(("status",), "enabled"),
        equals(("connectionState",), "Connected"),
        equals(("tags", "floor"), 3),
    )
    triples = await state.query_devices(HUB, All(asked), modules=False, after="", limit=100)
    assert [identity.key.name for identity, _, _ in triples] == ["d1"]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("tags.floor != 3", ["d2", "d3"]),
        ("NOT tags.floor = 3", ["d2", "d3"]),
        ("tags.weight != 2", ["d1"]),
        ("tags.floor >= 3", ["d1"]),
        ("tags.floor > '2'", ["d2"]),
        ("tags.floor", ["d3"]),
        ("tags.floor IN [3, '3', null]", ["d1", "d2"]),
        ("tags.floor NIN [3] AND NOT IS_DEFINED(tags.name)", ["d3"]),
        ("properties.desired.rate = 5 OR properties.reported.rate = 5", ["d1", "d2"]),
        ("tags.weight * 2 = tags.floor", ["d1"]),
        ("tags.list[0] = 'x' AND tags.list != 'x'", []),
        ("deviceId IN ['d3', 'd1', 'd9'] AND status = 'enabled'", ["d1", "d3"]),
        ("STARTSWITH(tags.place.room, 'ha') AND CONTAINS(deviceId, '1')", ["d1"]),
        ('tags.[[a"b]] = 1 OR tags.huge > 1e21', ["d1", "d3"]),
        ("lastActivityTime > '2026-01-01T12' OR connectionState != 'Disconnected'", ["d1", "d2"]),
    ],
)
async def test_devices_by_what_a_query_says(state: State, condition: str, found: list[str]) -> None:
    await plant(state)
    where = compile_search(f"SELECT * FROM devices WHERE {condition}").where
    triples = await state.query_devices(HUB, where, modules=False, after="", limit=100)
    assert [identity.key.name for identity, _, _ in triples] == found
    assert await state.count_devices(HUB, where, modules=False) == len(found)


async def test_query_gives_the_three_documents(state: State) -> None:
    await plant(state)
    triples = await state.query_devices(HUB, EVERYTHING, modules=False, after="", limit=100)
    assert [
        (identity.key.kind, twin.key.kind, presence.key.kind if presence else "")
        for identity, twin, presence in triples
    ] == [("identity", "twin", "presence"), ("identity", "twin", "presence"), ("identity", "twin", "")]
    assert json.loads(triples[0][1].body)["tags"]["floor"] == 3


async def test_query_pages_by_name(state: State) -> None:
    await plant(state)
    first = await state.query_devices(HUB, EVERYTHING, modules=False, after="", limit=2)
    rest = await state.query_devices(HUB, EVERYTHING, modules=False, after=first[-1][0].key.name, limit=2)
    assert [[identity.key.name for identity, _, _ in page] for page in (first, rest)] == [["d1", "d2"], ["d3"]]


async def test_modules_are_asked_for_apart(state: State) -> None:
    await plant(state)
    triples = await state.query_devices(HUB, equals(("moduleId",), "m"), modules=True, after="", limit=100)
    assert [identity.key.name for identity, _, _ in triples] == ["d1/m"]


async def test_query_sees_the_twin_that_was_just_written(state: State) -> None:
    await plant(state)
    for floor in range(20):
        await state.commit([twin("d1", {"floor": floor})])
        triples = await state.query_devices(HUB, equals(("tags", "floor"), floor), modules=False, after="", limit=100)
        assert "d1" in [identity.key.name for identity, _, _ in triples]


def key(name: str) -> Key:
    return Key("thing", HUB, name)


def put(name: str, body: bytes = b"{}") -> Put:
    return Put(key(name), body)


async def names(state: State) -> list[str]:
    return [stored.key.name for stored in await state.scan("thing", HUB)]


def row(
    *,
    utc_ms: int = 0,
    hub: str = "",
    device: str = "",
    address: str = "",
    tracking_id: str = "",
    verdict: str = "refused",
    body: bytes = b"{}",
) -> JournalRow:
    return JournalRow(utc_ms, hub, device, address, tracking_id, verdict, body)


async def plant(state: State) -> None:
    """Three devices, a module, and a namesake in another hub."""
    d1_tags = {
        "floor": 3, "note": None, "weight": 1.5, "place": {"room": "hall"}, "list": ["x"],
        'a"b': 1, "back\\slash": 1, "it's": 1, "größe": "ß",
    }  # fmt: skip
    await state.commit(
        [
            identity("d1", status="enabled", capabilities={"iotEdge": False}),
            twin("d1", d1_tags, desired={"rate": 5}),
            presence("d1", "Connected", "2026-01-01T00:00:00Z"),
            identity("d2", status="disabled", capabilities={"iotEdge": True}),
            twin("d2", {"floor": "3", "name": "'; DROP TABLE documents; --"}, reported={"rate": 5}),
            presence("d2", "Disconnected", "2026-01-02T00:00:00Z"),
            identity("d3", status="enabled", capabilities={"iotEdge": False}),
            twin("d3", {"floor": True, "huge": 2**70}),
            identity("d1/m", moduleId="m"),
            twin("d1/m", {}),
            Put(Key("identity", OTHER_HUB, "d1"), b'{"deviceId":"d1"}'),
            Put(Key("twin", OTHER_HUB, "d1"), b'{"tags":{},"properties":{}}'),
        ]
    )


def identity(name: str, **members: object) -> Put:
    return Put(Key("identity", HUB, name), json.dumps({"deviceId": name.split("/")[0], **members}).encode())


def twin(name: str, tags: object, desired: object = None, reported: object = None) -> Put:
    body = {"tags": tags, "properties": {"desired": desired or {}, "reported": reported or {}}}
    return Put(Key("twin", HUB, name), json.dumps(body, ensure_ascii=False).encode())


def presence(name: str, connection_state: str, last_activity: str) -> Put:
    body = {"connectionState": connection_state, "lastActivityTime": last_activity}
    return Put(Key("presence", HUB, name), json.dumps(body).encode())
