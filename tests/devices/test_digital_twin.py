"""A twin as a digital twin, and its patches."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.devices.digital_twin import OPERATIONS_MAX, desired_of, digital_twin
from isthmus.devices.twin import JsonObject, Twin, TwinBody, new_twin, patched, reported_patched

WISHED, TOLD = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def twin_of(desired: JsonObject, reported: JsonObject) -> Twin:
    return reported_patched(patched(new_twin(), TwinBody(None, desired), WISHED), reported, TOLD)


def add(path: str, value: object, op: str = "add") -> JsonObject:
    return {"op": op, "path": path, "value": value}


def test_values_are_what_the_device_reports_and_metadata_what_is_desired() -> None:
    twin = twin_of(
        {"target": 21, "wished": 1, "thermostat": {"__t": "c", "limit": 5}},
        {
            "serial": "a1",
            "target": {"value": 20, "ac": 200, "av": 1, "ad": "on its way"},
            "thermostat": {"__t": "c", "max": 67.5},
            "plain": {"value": 1},
        },
    )
    assert digital_twin("dev1", twin) == {
        "$dtId": "dev1",
        "target": 20,
        "serial": "a1",
        "plain": {"value": 1},
        "thermostat": {
            "max": 67.5,
            "$metadata": {
                "limit": {"desiredValue": 5, "desiredVersion": 2, "lastUpdateTime": WISHED},
                "max": {"lastUpdateTime": TOLD},
            },
        },
        "$metadata": {
            "$model": "",
            "target": {
                "desiredValue": 21,
                "desiredVersion": 2,
                "ackCode": 200,
                "ackVersion": 1,
                "ackDescription": "on its way",
                "lastUpdateTime": TOLD,
            },
            "wished": {"desiredValue": 1, "desiredVersion": 2, "lastUpdateTime": WISHED},
            "serial": {"lastUpdateTime": TOLD},
            "plain": {"lastUpdateTime": TOLD},
        },
    }


@pytest.mark.parametrize(
    ("operations", "wanted"),
    [
        ([add("/target", 42)], {"target": 42}),
        ([add("/object", {"b": 2}, "replace")], {"object": {"a": None, "b": 2}}),
        ([add("/reported", 1, "replace")], {"reported": 1}),
        ([{"op": "remove", "path": "/object"}], {"object": None}),
        ([add("/part/limit", 6)], {"part": {"limit": 6}}),
        ([add("/told/limit", 6)], {"told": {"__t": "c", "limit": 6}}),
        ([add("/new/limit", 6)], {"new": {"__t": "c", "limit": 6}}),
        ([add("/new", {"limit": 6, "$metadata": {}})], {"new": {"__t": "c", "limit": 6}}),
        ([add("/part", {"$metadata": {}}, "replace")], {"part": {"limit": None}}),
        ([{"op": "remove", "path": "/part/limit"}], {"part": {"limit": None}}),
        ([add("/x", 1), add("/x", 2, "replace"), {"op": "remove", "path": "/x"}], {}),
        ([add("/a~1b", 1)], {"a/b": 1}),
    ],
)
def test_a_patch_is_one_of_desired_properties(operations: list[JsonObject], wanted: JsonObject) -> None:
    twin = twin_of({"object": {"a": 1}, "part": {"__t": "c", "limit": 5}}, {"reported": 0, "told": {"__t": "c"}})
    assert desired_of(twin, operations) == wanted


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({}, Code.INVALID_JSON_PATCH),
        ([], Code.INVALID_JSON_PATCH),
        ("add", Code.INVALID_JSON_PATCH),
        ([1], Code.INVALID_JSON_PATCH),
        ([add("/a", 1, "move")], Code.INVALID_JSON_PATCH),
        ([{"op": "add", "path": "/a"}], Code.INVALID_JSON_PATCH),
        ([add("/a", 1)] * (OPERATIONS_MAX + 1), Code.INVALID_JSON_PATCH),
        ([add("/a", None)], Code.INVALID_TWIN_PAYLOAD),
        ([add("/part", 5)], Code.INVALID_TWIN_PAYLOAD),
        ([add("a", 1)], Code.INVALID_PATCH_PATH),
        ([add("/", 1)], Code.INVALID_PATCH_PATH),
        ([add("/a/b/c", 1)], Code.INVALID_PATCH_PATH),
        ([add("/$metadata", 1)], Code.INVALID_PATCH_PATH),
        ([add("/part/__t", 1)], Code.INVALID_PATCH_PATH),
        ([add("/object/a", 1)], Code.INVALID_PATCH_PATH),
        ([{"op": "add", "value": 1}], Code.INVALID_PATCH_PATH),
        ([add("/none", 1, "replace")], Code.INVALID_TWIN_PATCH),
        ([{"op": "remove", "path": "/none"}], Code.INVALID_TWIN_PATCH),
        ([{"op": "remove", "path": "/part/none"}], Code.INVALID_TWIN_PATCH),
    ],
)
def test_a_patch_that_is_refused(operations: object, code: Code) -> None:
    twin = twin_of({"object": {"a": 1}, "part": {"__t": "c", "limit": 5}}, {})
    with pytest.raises(HubError) as refused:
        desired_of(twin, operations)
    assert refused.value.code is code
