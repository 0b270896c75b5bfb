"""What may be written about configurations, and how they are told."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from configurations.fakes import World, device_content
from isthmus.base.errors import Code, HubError
from isthmus.configurations.configuration import (
    CONFIGURATIONS_MAX,
    configuration_to_wire,
    new_configuration,
    parse_configuration,
)
from isthmus.configurations.content import ContentKind
from isthmus.configurations.target import check_condition, check_metric, system_queries
from isthmus.devices.twin import JsonObject

EDGE: JsonObject = {"modulesContent": {"m": {"properties.desired": {}}}}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.configurations.close()


def refused(body: JsonObject, config_id: str = "c") -> Code:
    with pytest.raises(HubError) as error:
        new_configuration(parse_configuration(config_id, body), 1, 0)
    return error.value.code


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (None, "content must be a JSON object"),
        ({}, "exactly one"),
        ({"deviceContent": {}, "moduleContent": {}}, "exactly one"),
        ({"deviceContent": []}, "must be a JSON object"),
        ({"deviceContent": {"tags.a": 1}}, "does not begin with properties.desired"),
        ({"deviceContent": {"properties.desiredx": 1}}, "does not begin with properties.desired"),
        ({"deviceContent": {"properties.desired.": 1}}, "empty member"),
        ({"deviceContent": {"properties.desired.a..b": 1}}, "empty member"),
        ({"deviceContent": {"properties.desired": 5}}, "must be a JSON object"),
        ({"deviceContent": {"properties.desired.$x": 5}}, "has a key"),
        ({"deviceContent": {"properties.desired.a": "x" * 4_097}}, "is longer than"),
        ({"deviceContent": {"properties.desired.a": {str(n): "x" * 4_000 for n in range(9)}}}, "is larger than"),
        ({"modulesContent": {"a b": {}}}, "is not a module id"),
        ({"modulesContent": {"$edgeAgent": {"properties.desired.modules": {"a/b": {}}}}}, "is not a module id"),
        ({"modulesContent": {"m": {"properties.reported": {}}}}, "does not begin with"),
        ({"modulesContent": {f"m{n}": {} for n in range(51)}}, "at most 50 modules"),
    ],
)
def test_content_that_is_refused(content: object, word: str) -> None:
    with pytest.raises(HubError) as error:
        new_configuration(parse_configuration("c", {"content": content}), 1, 0)
    assert error.value.code is Code.INVALID_CONFIGURATION_CONTENT
    assert word in error.value.message


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"targetCondition": "tags.a ="}, Code.INVALID_TARGET_CONDITION),
        ({"targetCondition": "tags.a = 1 GROUP BY tags.a"}, Code.INVALID_TARGET_CONDITION),
        ({"targetCondition": "x" * 9_000}, Code.INVALID_TARGET_CONDITION),
        ({"targetCondition": "from devices.modules where moduleId = 'm'"}, Code.INVALID_TARGET_CONDITION),
        ({"content": {"moduleContent": {}}, "targetCondition": "*"}, Code.INVALID_TARGET_CONDITION),
        ({"metrics": {"queries": {"m": "select"}}}, Code.INVALID_METRICS_QUERY),
        ({"metrics": {"queries": {"m": "select * from devices.jobs"}}}, Code.INVALID_METRICS_QUERY),
        ({"metrics": {"queries": {"m": "select count() as n from devices"}}}, Code.INVALID_METRICS_QUERY),
        ({"metrics": {"queries": {"m": "select top 3 * from devices"}}}, Code.INVALID_METRICS_QUERY),
        ({"metrics": {"queries": {str(n): "select * from devices" for n in range(6)}}}, Code.INVALID_METRICS_QUERY),
        ({"priority": -1}, Code.ARGUMENT_INVALID),
        ({"priority": "high"}, Code.ARGUMENT_INVALID),
        ({"labels": {"a": 1}}, Code.ARGUMENT_INVALID),
        ({"id": "other"}, Code.ARGUMENT_INVALID),
    ],
)
def test_a_body_that_is_refused(body: JsonObject, code: Code) -> None:
    assert refused({"content": device_content(x=1), **body}) is code


@pytest.mark.parametrize("config_id", ["", "A", "a b", "a/b", "a[b", "ä", "a" * 129, "a&b", 'a"b', "a\n"])
def test_an_id_that_is_refused(config_id: str) -> None:
    assert refused({"content": device_content(x=1)}, config_id) is Code.ARGUMENT_INVALID


def test_every_character_that_an_id_may_have() -> None:
    config_id = "a0-:+%_#*?!(),=@;'"
    made = new_configuration(parse_configuration(config_id, {"content": EDGE}), 1, 0)
    for query in made.system_queries.values():
        check_metric(query)


@pytest.mark.parametrize("kind", list(ContentKind))
@pytest.mark.parametrize("condition", ["", "*", "tags.a = 1 OR tags.b = 2"])
def test_system_metrics_are_queries_that_can_be_asked(kind: ContentKind, condition: str) -> None:
    text = f"from devices.modules where {condition}" if kind is ContentKind.MODULE and len(condition) > 1 else condition
    if kind is ContentKind.MODULE and condition == "*":
        text = "from devices.modules"
    for query in system_queries("c", text, kind).values():
        check_metric(query)


def test_a_configuration_is_told_as_services_read_it() -> None:
    body = {
        "content": device_content(x=None),
        "schemaVersion": "2.0",
        "contentType": None,
        "etag": "*",
        "metrics": None,
    }
    made = new_configuration(parse_configuration("c12", body), 1, 1_767_225_600_123)
    assert configuration_to_wire(made, {"targetedCount": 0}) == {
        "id": "c12",
        "schemaVersion": "2.0",
        "labels": None,
        "content": {"deviceContent": {"properties.desired.x": None}},
        "targetCondition": "",
        "createdTimeUtc": "2026-01-01T00:00:00.1230000Z",
        "lastUpdatedTimeUtc": "2026-01-01T00:00:00.1230000Z",
        "priority": 0,
        "systemMetrics": {
            "results": {"targetedCount": 0},
            "queries": {
                "targetedCount": "select deviceId from devices where deviceId = ''",
                "appliedCount": "select deviceId from devices where configurations.[[c12]].status = 'Applied'",
            },
        },
        "metrics": {"results": {}, "queries": {}},
        "etag": "MQ==",
    }


@pytest.mark.parametrize(
    "condition", ["", "*", "tags.a = 1", "FROM devices.modules", "from devices.modules where tags.a <> 1"]
)
def test_conditions_that_may_be_tried(condition: str) -> None:
    check_condition(condition)


async def test_etags_and_content_are_kept(world: World) -> None:
    made = await world.create("c", device_content(x=1))
    put = world.configurations.put
    with pytest.raises(HubError) as exists:
        await put(world.hub, "c", {"content": device_content(x=1)}, None)
    assert exists.value.code is Code.CONFIGURATION_ALREADY_EXISTS
    for etag, body, code in (
        ("no", {}, Code.PRECONDITION_FAILED),
        ("*", {"content": device_content(x=True)}, Code.IMMUTABLE_CONTENT),
        ("*", {"content": {"moduleContent": {"properties.desired.x": 1}}}, Code.IMMUTABLE_CONTENT),
        ("*", {"targetCondition": "tags."}, Code.INVALID_TARGET_CONDITION),
    ):
        with pytest.raises(HubError) as refusal:
            await put(world.hub, "c", body, etag)
        assert refusal.value.code is code
    same = await put(world.hub, "c", {"content": device_content(x=1.0), "labels": {"a": "b"}}, made.etag)
    assert (same.content, same.labels, same.etag, same.number) == (made.content, {"a": "b"}, "Mg==", made.number)
    for call in (put(world.hub, "none", {}, "*"), world.configurations.delete(world.hub, "none", None)):
        with pytest.raises(HubError) as missing:
            await call
        assert missing.value.code is Code.CONFIGURATION_NOT_FOUND
    with pytest.raises(HubError) as stale:
        await world.configurations.delete(world.hub, "c", made.etag)
    assert stale.value.code is Code.PRECONDITION_FAILED
    await world.configurations.delete(world.hub, "c", same.etag)


async def test_a_hub_has_so_many_configurations(world: World) -> None:
    for number in range(CONFIGURATIONS_MAX):
        await world.create(f"c{number}", device_content(x=number), "")
    with pytest.raises(HubError) as full:
        await world.create("more", device_content(x=1))
    assert full.value.code is Code.TOO_MANY_CONFIGURATIONS
    assert full.value.refusal is not None
    await world.configurations.delete(world.hub, "c0", None)
    await world.create("more", device_content(x=1))
    assert len(await world.configurations.all(world.hub.number)) == CONFIGURATIONS_MAX


async def test_what_is_stored_is_read_again(world: World) -> None:
    made = await world.create("c", EDGE, "tags.a = 1", priority=3, labels={"a": "b"})
    assert await world.configurations.get(world.hub.number, "c") == made
    assert msgspec.json.decode(msgspec.json.encode(made))["number"] == 1
