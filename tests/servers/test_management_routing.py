"""Routes tried on made-up messages."""

from typing import Any

import pytest

from servers.management_world import HUB, ManagementWorld

NEW, ALL = f"{HUB}/routing/routes/$testnew", f"{HUB}/routing/routes/$testall"
JSON = {"contentType": "application/json", "contentEncoding": "utf-8"}


def route(condition: str, **members: object) -> dict[str, object]:
    usual = {"name": "r", "source": "DeviceMessages", "endpointNames": ["events"], "isEnabled": True}
    return {**usual, "condition": condition, **members}


def message(body: str = "", **properties: str) -> dict[str, object]:
    return {"body": body, "appProperties": properties, "systemProperties": JSON}


@pytest.fixture
async def world() -> ManagementWorld:
    return await ManagementWorld().start()


@pytest.mark.parametrize(
    ("condition", "sent", "expected"),
    [
        ("level = 'hot'", message(level="hot"), "true"),
        ("level = 'hot'", message(level="cold"), "false"),
        ("level = 'hot'", message(), "undefined"),
        ("$body.level > 2", message('{"level":3}'), "true"),
        ("$body.level > 2", message("no JSON"), "undefined"),
        ("$contentType = 'application/json'", message(), "true"),
    ],
)
async def test_a_route_that_is_not_saved_is_tried(
    world: ManagementWorld, condition: str, sent: dict[str, object], expected: str
) -> None:
    answer = await world.ask("POST", NEW, {"message": sent, "route": route(condition)})
    assert answer.json == {"result": expected, "details": {"compilationErrors": []}}
    assert (await world.ask("GET", HUB)).json["properties"]["routing"]["routes"] == []


async def test_what_does_not_compile_is_shown_with_its_place(world: ManagementWorld) -> None:
    answer = await world.ask("POST", NEW, {"message": message(), "route": route("a = 'x'\nAND level > 2")})
    assert answer.status == 200
    (error,) = answer.json["details"]["compilationErrors"]
    assert error["severity"] == "error"
    assert "as_number" in error["message"]
    assert error["location"] == {"start": {"line": 2, "column": 5}, "end": {"line": 2, "column": 14}}


async def test_all_routes_of_a_source_are_tried_and_the_fallback_route_last(world: ManagementWorld) -> None:
    routes = [
        route("level = 'hot'", name="hot"),
        route("true", name="off", isEnabled=False),
        route("true", name="twins", source="TwinChangeEvents"),
    ]
    await world.ask("PATCH", HUB, {"properties": {"routing": {"routes": routes}}})

    async def taken(body: dict[str, object]) -> list[Any]:
        answer = await world.ask("POST", ALL, body)
        return [each["properties"]["name"] for each in answer.json["routes"]]

    assert await taken({"routingSource": "DeviceMessages", "message": message(level="hot")}) == ["hot"]
    assert await taken({"message": message(level="cold")}) == ["$fallback"]
    assert await taken({"routingSource": "TwinChangeEvents", "message": message()}) == ["twins"]


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        (NEW, {"message": message()}, "route"),
        (NEW, {"message": message(), "route": route("true", endpointNames=["none"])}, "none"),
        (NEW, {"message": {"body": [1]}, "route": route("true")}, "message.body"),
        (NEW, {"message": message(), "route": route("true"), "surprise": 1}, "surprise"),
        (ALL, {"routingSource": "Invalid"}, "routingSource"),
    ],
)
async def test_a_bad_trial_is_refused(world: ManagementWorld, path: str, body: dict[str, object], named: str) -> None:
    answer = await world.ask("POST", path, body)
    assert answer.status == 400
    assert named in answer.message
