"""Queries over the committed twins, page by page."""

from collections.abc import Iterator

import msgspec
import pytest

from devices.fakes import HUB, NOW_MS, World
from isthmus.base.errors import Code, HubError
from isthmus.devices.fleet import PAGE_MAX, TALLIED_AT_ONCE, Fleet, Page, Table, project
from isthmus.devices.twin import JsonObject
from isthmus.devices.views import twin_to_wire
from isthmus.query.search import Column


async def test_a_query_sees_what_was_just_written(world: World) -> None:
    device = await world.add("dev1")
    await world.add("dev2")
    await world.twins.patch(device, {"tags": {"hall": 2}}, None)
    assert names(await ask(world, "SELECT * FROM devices WHERE tags.hall = 2")) == ["dev1"]
    await world.twins.patch(device, {"tags": {"hall": 3}}, None)
    assert names(await ask(world, "SELECT * FROM devices WHERE tags.hall = 2")) == []


async def test_every_document_of_a_device_can_be_asked_for(world: World) -> None:
    device = await world.add("dev1")
    await world.add("dev2")
    await world.twins.patch_reported(device, {"t": {"on": True}})
    await world.registry.put(device, {"status": "disabled"}, "*")
    world.presence.connected(device, NOW_MS)
    await world.presence.flush()
    text = "properties.reported.t.on = true AND status = 'disabled' AND connectionState = 'Connected'"
    assert names(await ask(world, f"SELECT * FROM devices WHERE {text}")) == ["dev1"]


async def test_modules_are_asked_for_by_themselves(world: World) -> None:
    for name in ("a", "a/m1", "b", "b/m1", "b/m2"):
        await world.add(name)
    assert names(await ask(world, "SELECT * FROM devices")) == ["a", "b"]
    assert names(await ask(world, "SELECT * FROM devices.modules WHERE deviceId = 'b'")) == ["b/m1", "b/m2"]


async def test_pages_follow_one_another_and_end(world: World) -> None:
    for number in range(5):
        await world.add(f"d{number}")
    first = await ask(world, "SELECT * FROM devices", size=2)
    second = await ask(world, "SELECT * FROM devices", size=2, continuation=first.continuation)
    last = await ask(world, "SELECT * FROM devices", size=2, continuation=second.continuation)
    assert [names(page) for page in (first, second, last)] == [["d0", "d1"], ["d2", "d3"], ["d4"]]
    assert last.continuation is None


async def test_a_full_last_page_has_no_continuation(world: World) -> None:
    for number in range(PAGE_MAX):
        await world.add(f"d{number}")
    page = await ask(world, "SELECT * FROM devices", size=PAGE_MAX * 10)
    assert len(page.rows) == PAGE_MAX
    assert page.continuation is None


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("SELECT TOP 3 * FROM devices", [["d0", "d1"], ["d2"]]),
        ("SELECT TOP 4 deviceId FROM devices", [["d0", "d1"], ["d2", "d3"]]),
        ("SELECT TOP 9 * FROM devices WHERE deviceId != 'd1'", [["d0", "d2"], ["d3", "d4"]]),
        ("SELECT TOP 0 * FROM devices", [[]]),
    ],
)
async def test_the_first_rows_are_those_of_all_pages(world: World, text: str, pages: list[list[str]]) -> None:
    for number in range(5):
        await world.add(f"d{number}")
    found: list[list[str]] = []
    continuation: str | None = None
    while not found or continuation is not None:
        page = await ask(world, text, size=2, continuation=continuation)
        found.append(names(page))
        continuation = page.continuation
    assert found == pages


async def test_devices_are_counted(world: World) -> None:
    for name in ("a", "b", "b/m"):
        await world.add(name)
    assert await tabled(world, "SELECT COUNT() AS n FROM devices") == [{"n": 2}]
    assert await tabled(world, "SELECT COUNT() AS n FROM devices WHERE deviceId = 'x'") == [{"n": 0}]
    assert await tabled(world, "SELECT COUNT() AS n FROM devices.modules") == [{"n": 1}]


async def test_groups_follow_one_another_page_by_page(world: World) -> None:
    for number in range(7):
        device = await world.add(f"d{number}")
        await world.twins.patch(device, {"tags": {"hall": number // 2}}, None)
    text = "tags.hall AS hall, COUNT() AS n, MAX(deviceId) AS last FROM devices GROUP BY tags.hall"
    found = await tabled(world, f"SELECT {text}", size=2)
    assert sorted(found, key=lambda row: str(row["hall"])) == [
        {"hall": 0, "n": 2, "last": "d1"},
        {"hall": 1, "n": 2, "last": "d3"},
        {"hall": 2, "n": 2, "last": "d5"},
        {"hall": 3, "n": 1, "last": "d6"},
    ]
    assert len(await tabled(world, f"SELECT TOP 3 {text}", size=2)) == 3


async def test_aggregates_look_at_all_documents_of_more_devices_than_are_read_at_once(world: World) -> None:
    for number in range(TALLIED_AT_ONCE + 1):
        await world.add(f"d{number}")
    assert await tabled(world, "SELECT connectionState, COUNT(status) AS n FROM devices GROUP BY connectionState") == [
        {"connectionState": "Disconnected", "n": TALLIED_AT_ONCE + 1}
    ]


@pytest.mark.parametrize(
    ("size", "continuation"),
    [(0, None), (1, "*"), (1, "AA"), (1, "_w=="), (1, "WzAsMV0="), (1, "Wy0xLCJ4Il0="), (1, "WzAsIngiLDFd")],
)
async def test_bad_pages_are_refused(world: World, size: int, continuation: str | None) -> None:
    with pytest.raises(HubError) as caught:
        await ask(world, "SELECT * FROM devices", size=size, continuation=continuation)
    assert caught.value.code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize("name", ["dev1", "dev1/m"])
async def test_a_condition_sees_what_a_row_shows(world: World, name: str) -> None:
    """Whatever whole twins show can be asked about, at the path and with the value that they show."""
    device = await world.add("dev1")
    if "/" in name:
        device = await world.add(name)
    else:
        await world.registry.put(device, {"capabilities": {"iotEdge": True}, "statusReason": "new"}, "*")
    sections = {"tags": {"a-b": {"c": [1, {"d": None}]}}, "properties": {"desired": {"on": True, "t": -1.5}}}
    await world.twins.patch(device, sections, None)
    await world.twins.patch_reported(device, {"text": 'it\'s \\ "so"'})
    collection = "devices.modules" if device.module_id else "devices"
    (view,) = (await ask(world, f"SELECT * FROM {collection}")).rows
    shown = {path: value for path, value in leaves(twin_to_wire(view, 0, with_model_id=True)) if path not in ONLY_SHOWN}
    assert len(shown) > 20
    for path, value in shown.items():
        condition = (
            f"{path} = {literal(value)}" if not isinstance(value, dict | list | tuple) else f"IS_DEFINED({path})"
        )
        assert names(await ask(world, f"SELECT * FROM {collection} WHERE {condition}")) == [name], condition


ONLY_SHOWN = ("[[cloudToDeviceMessageCount]]",)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """The values below one, by their paths: primitives, and what has no members."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    below = list(members)
    if not below:
        yield path, value
    for member, inner in below:
        step = f"[{member}]" if isinstance(member, int) else f"{'.' if path else ''}[[{member}]]"
        yield from leaves(inner, path + step)


def literal(value: object) -> str:
    """A value as a query writes it."""
    return msgspec.json.encode(value).decode()


def test_a_row_has_the_members_that_are_there() -> None:
    twin = {"deviceId": "d", "tags": {"a": [1, {"b": None}]}, "parentScopes": ("s",)}
    columns = (
        Column("deviceId", ("deviceId",)),
        Column("first", ("tags", "a", 0)),
        Column("b", ("tags", "a", 1, "b")),
        Column("scope", ("parentScopes", 0)),
        Column("no", ("tags", "a", 7)),
        Column("none", ("tags", "x", "y")),
    )
    assert project(twin, columns) == {"deviceId": "d", "first": 1, "b": None, "scope": "s"}


async def ask(world: World, text: str, *, size: int = PAGE_MAX, continuation: str | None = None) -> Page:
    page = await Fleet(world.state).query(HUB, text, page_size=size, continuation=continuation)
    assert isinstance(page, Page)
    return page


async def tabled(world: World, text: str, *, size: int = PAGE_MAX) -> list[JsonObject]:
    """The rows of all pages, none of which has more than `size`."""
    fleet, rows = Fleet(world.state), list[JsonObject]()
    table = await fleet.query(HUB, text, page_size=size, continuation=None)
    while isinstance(table, Table):
        assert len(table.rows) <= size
        rows += table.rows
        if table.continuation is None:
            return rows
        table = await fleet.query(HUB, text, page_size=size, continuation=table.continuation)
    raise AssertionError("these are no groups")


def names(page: Page) -> list[str]:
    return [row.ref.name for row in page.rows]
