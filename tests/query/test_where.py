"""What conditions of queries mean for a twin, by the words of the developer guide; and what is refused, and where."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import All, Among, Comparison, Constant, Field, Order, holds
from isthmus.query.search import compile_search
from isthmus.query.where import HEIGHT_MAX, OPERATIONS_MAX

STORED = {
    "deviceId": "d1",
    "moduleId": "",
    "etag": "MA==",
    "status": "enabled",
    "statusReason": None,
    "statusUpdatedTime": "2026-01-01T00:00:00.0000000Z",
    "authentication": {"type": "sas", "x509Thumbprint": {"primaryThumbprint": None}},
    "capabilities": {"iotEdge": True},
    "deviceScope": "ms-azure-iot-edge://d1-1",
    "parentScopes": ["ms-azure-iot-edge://p-1"],
    "connectionState": "Disconnected",
    "lastActivityTime": "2026-05-01T10:00:00.0000000Z",
    "tags": {"floor": 3, "name": "hall", "note": None, "on": True, "group": {"name": "v"}, "list": ["x", 2, None]},
    "properties": {
        "desired": {"interval": 5},
        "reported": {"connectivity": "wifi", "lastDesiredVersion": 4, "Temp": 21.5},
    },
    "metadata": {
        "desired": {"$lastUpdated": "2026-04-01T00:00:00Z", "$lastUpdatedVersion": 4},
        "reported": {"Temp": {"$lastUpdated": "2026-04-02T00:00:00Z"}},
    },
    "version": 7,
    "etagNumber": 7,
    "desiredVersion": 4,
    "reportedVersion": 9,
    "modelId": "dtmi:com:example:Press;1",
    "configurations": {"c12": {"status": "Applied"}},
}


def judged(text: str, document: object = STORED, collection: str = "devices") -> bool:
    return holds(compile_search(f"SELECT * FROM {collection} WHERE {text}").where, document)


@pytest.mark.parametrize(
    "text",
    [
        "deviceId = 'd1'",
        "devices.deviceId = 'd1' AND DEVICEID = 'd1' AND id = 'd1'",
        "tags.floor > 2 AND tags.floor >= 3 AND tags.floor < 4 AND tags.floor <= 3",
        "3 < 4 AND 4 > tags.floor",
        "tags.floor = 3.0",
        "tags.floor != 4 AND tags.floor <> 4",
        "tags.floor + 1 = 4 AND tags.floor * 2 - 1 = 5 AND tags.floor / 2 = 1.5 AND tags.floor % 2 = 1",
        "-tags.floor = -3 AND +tags.floor = 3 AND -(-3) = tags.floor",
        "tags.name = 'hall' OR tags.nowhere = 1",
        "NOT tags.name = 'x'",
        "tags.on AND NOT tags.on = false",
        "tags.note = null",
        "tags.floor != '3'",
        "tags.note != 1",
        "tags.name >= 'ha' AND tags.name < 'hb'",
        "tags.[[group]].name = 'v'",
        "tags.list[0] = 'x' AND tags.list[1] = 2",
        "tags.name IN ['hall', 'nave'] AND tags.name NOT IN ('nave') AND tags.name NIN ['x']",
        "tags.floor IN [tags.list[1] + 1]",
        "is_defined(tags.note) AND NOT is_defined(tags.nowhere)",
        "STARTSWITH(id, 'd') AND not startswith(deviceId, 'keep')",
        "array_contains(parentScopes, 'ms-azure-iot-edge://p-1')",
        "ARRAY_CONTAINS(tags.list, null) AND NOT ARRAY_CONTAINS(tags.list, 'y')",
        "ARRAY_CONTAINS(['hall', 'nave'], tags.name)",
        "LENGTH(tags.name) = 4 AND UPPER(tags.name) = 'HALL' AND CONTAINS(tags.name, 'al')",
        "ABS(-3) = tags.floor AND IS_NUMBER(tags.floor) AND IS_OBJECT(tags.[[group]]) AND IS_NULL(tags.note)",
        "CONCAT(tags.name, '-', deviceId) = 'hall-d1'",
        "capabilities.iotEdge = true",
        "configurations.[[c12]].status = 'Applied'",
        "properties.desired.$version = properties.reported.lastDesiredVersion",
        "properties.Desired.$version = 4 AND properties.REPORTED.$version = 9",
        "properties.reported.$metadata.Temp.$lastUpdated >= '2026-04-02'",
        "properties.desired.$metadata.$lastUpdatedVersion = 4",
        "version = 7 AND etag = 'AAAAAAAAAAc=' AND deviceEtag = 'MA=='",
        "modelId = 'dtmi:com:example:Press;1' AND authenticationType = 'sas'",
        "lastActivityTime > '2026-01-01T00:00:00Z' AND statusUpdateTime < '2027'",
        "deviceScope = 'ms-azure-iot-edge://d1-1'",
        "is_object(properties) AND is_object(properties.reported) AND is_object(tags)",
        "x509Thumbprint.primaryThumbprint = null",
        "true",
        "/* everything */ 1 = 1",
    ],
)
def test_a_condition_holds(text: str) -> None:
    assert judged(text)


@pytest.mark.parametrize(
    "text",
    [
        "tags.nowhere = 1",
        "tags.nowhere != 1",
        "NOT tags.nowhere = 1",
        "tags.nowhere = null",
        "tags.nowhere = undefined",
        "tags.name = undefined",
        "tags.name != undefined",
        "tags.nowhere NIN [1]",
        "tags.floor = '3'",
        "tags.floor > '2'",
        "NOT tags.floor > '2'",
        "tags.on > false",
        "tags.note < 1",
        "tags.on = 1",
        "tags = tags",
        "tags.list = tags.list",
        "tags.list != 1",
        "NOT tags.list != 1",
        "tags.floor",
        "NOT tags.floor",
        "tags.name AND true",
        "tags.floor / 0 = 0",
        "tags.name + 1 = 1",
        "-tags.name = -1",
        "tags.Floor = 3",
        "properties.reported.temp = 21.5",
        "moduleId = ''",
        "is_defined(moduleId)",
        "is_defined(statusReason)",
        "properties.desired.$version.x = 4",
        "is_defined(etag.x)",
        "STARTSWITH(tags.floor, '3')",
        "NOT STARTSWITH(tags.floor, '3')",
        "ARRAY_CONTAINS(tags.name, 'hall')",
        "NOT ARRAY_CONTAINS(tags.list, tags.list)",
        "IS_NULL(tags.nowhere)",
        "null",
        "undefined",
        "'true'",
        "1",
        "[true]",
    ],
)
def test_a_condition_does_not_hold(text: str) -> None:
    assert not judged(text)


def test_scopes_that_nobody_gave_are_not_there() -> None:
    device = {"deviceScope": "", "parentScopes": [], "capabilities": {"iotEdge": False}}
    assert not judged("is_defined(deviceScope) OR is_defined(parentScopes) OR parentScopes[0] = 'x'", device)
    edge = device | {"capabilities": {"iotEdge": True}}
    assert judged("is_array(parentScopes) AND NOT array_contains(parentScopes, 'x')", edge)


def test_modules_have_an_id_of_their_own() -> None:
    assert judged("moduleId = 'm' AND devices.modules.moduleId = 'm'", {"moduleId": "m"}, "devices.modules")


def test_chains_are_one_node_and_equalities_of_a_field_one_list() -> None:
    assert compile_search("SELECT * FROM devices WHERE tags.a = 1 AND (tags.b > 2 AND 3 < tags.c)").where == All(
        (
            Comparison(Order.EQUAL, Field(("tags", "a")), Constant(1)),
            Comparison(Order.GREATER, Field(("tags", "b")), Constant(2)),
            Comparison(Order.GREATER, Field(("tags", "c")), Constant(3)),
        )
    )
    assert compile_search("SELECT * FROM devices WHERE id = 'a' OR deviceId IN ['b', 'c'] OR id = 'd'").where == Among(
        Field(("deviceId",)), tuple(Constant(each) for each in "abcd")
    )


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("location = 'x'", "devices have no member 'location' at position 29"),
        ("authentication.symmetricKey.primaryKey = 'x'", "devices have no member 'authentication' at position 29"),
        ("tags.a = 1 AND region = 2", "devices have no member 'region' at position 44"),
        ("cloudToDeviceMessageCount > 0", "no condition can be on cloudToDeviceMessageCount at position 29"),
        ("LIKE(deviceId, 'x%')", "no function LIKE() at position 29"),
        ("STARTSWITH(deviceId)", "STARTSWITH() takes 2 arguments at position 29"),
        ("IS_DEFINED(tags.a, tags.b)", "IS_DEFINED() takes 1 argument at position 29"),
        ("SUBSTRING('a') = 'a'", "SUBSTRING() takes 2 to 3 arguments at position 29"),
        ("tags.a LIKE 'x'", "unexpected 'LIKE' at position 36"),
        ("tags.a =", "a name expected at position 37"),
        ("tags.a = 1 ORDER BY tags.a", "unexpected 'ORDER' at position 40"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_place(condition: str, message: str) -> None:
    with pytest.raises(HubError) as caught:
        compile_search(f"SELECT * FROM devices WHERE {condition}")
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert caught.value.message == f"The query is not valid: {message}"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (" OR ".join(["tags.a>1"] * (OPERATIONS_MAX + 1)), f"more than {OPERATIONS_MAX} operations"),
        ("+".join(["1"] * (HEIGHT_MAX + 2)), f"more than {HEIGHT_MAX} operators upon one another"),
    ],
)
def test_a_condition_has_bounds(condition: str, message: str) -> None:
    with pytest.raises(HubError, match=message):
        compile_search(f"SELECT * FROM devices WHERE {condition}")
