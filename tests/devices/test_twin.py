"""The pure rules of twins: merge, stamps, versions, limits."""

from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.fakes import NOW
from isthmus.base.errors import Code, HubError
from isthmus.devices.twin import (
    DEPTH_MAX,
    INTEGER_MAX,
    INTEGER_MIN,
    JsonObject,
    Stamp,
    Twin,
    apply_patch,
    client_section,
    decode_twin,
    encode_twin,
    new_twin,
    parse_twin_body,
    patched,
    replaced,
    reported_patched,
    section_size,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NEVER = "0001-01-01T00:00:00Z"
KEYS = st.text("abc", min_size=1, max_size=3)
LEAVES = st.integers(INTEGER_MIN, INTEGER_MAX) | st.text(max_size=5) | st.booleans() | st.lists(st.integers(0, 9))
TREES = st.recursive(LEAVES | st.none(), lambda below: st.dictionaries(KEYS, below, max_size=3), max_leaves=12)
PATCHES = st.dictionaries(KEYS, TREES, max_size=4)


def test_a_new_twin_has_the_first_version_of_everything() -> None:
    twin = new_twin()
    assert (twin.version, twin.desired_version, twin.reported_version, twin.etag) == (1, 1, 1, "AAAAAAAAAAE=")
    assert twin.metadata.desired == twin.metadata.reported == {"$lastUpdated": NEVER}


def test_a_patch_merges_removes_and_replaces() -> None:
    twin = desired(new_twin(), {"a": {"x": 1, "y": 2}, "b": 1, "list": [1, 2]})
    twin = desired(twin, {"a": {"x": None, "z": 3}, "b": {"now": "an object"}, "list": [3], "empty": {}})
    assert twin.properties.desired == {"a": {"y": 2, "z": 3}, "b": {"now": "an object"}, "list": [3], "empty": {}}
    twin = desired(twin, {"b": 7})
    assert twin.properties.desired["b"] == 7


def test_a_patch_of_desired_moves_three_counters() -> None:
    twin = desired(new_twin(), {"a": 1})
    assert (twin.version, twin.desired_version, twin.reported_version, twin.etag) == (2, 2, 1, "AAAAAAAAAAI=")


def test_a_patch_of_tags_leaves_the_desired_version() -> None:
    twin = patched(new_twin(), parse_twin_body({"tags": {"a": 1}}), NOW)
    assert (twin.version, twin.desired_version, twin.etag) == (2, 1, "AAAAAAAAAAI=")


def test_a_patch_of_reported_moves_its_version_only() -> None:
    twin = reported_patched(new_twin(), {"a": 1}, NOW)
    assert (twin.version, twin.desired_version, twin.reported_version, twin.etag) == (1, 1, 2, "AAAAAAAAAAE=")
    assert twin.metadata.reported == {"$lastUpdated": NOW, "a": {"$lastUpdated": NOW}}


def test_a_patch_without_a_section_changes_nothing() -> None:
    twin = new_twin()
    assert patched(twin, parse_twin_body({"deviceId": "d", "properties": {"reported": {"a": 1}}}), NOW) is twin


def test_what_is_written_is_stamped_with_all_above_it() -> None:
    twin = desired(new_twin(), {"a": {"x": 1, "y": {"z": [1]}}}, at="t2")
    twin = desired(twin, {"a": {"x": 2}}, at="t3")
    assert twin.metadata.desired == {
        **node("t3", 3),
        "a": {**node("t3", 3), "x": node("t3", 3), "y": {**node("t2", 2), "z": node("t2", 2)}},
    }


def test_removing_takes_the_metadata_and_stamps_the_parent() -> None:
    twin = desired(new_twin(), {"a": {"x": 1, "y": 1}}, at="t2")
    twin = desired(twin, {"a": {"x": None}}, at="t3")
    assert twin.metadata.desired == {**node("t3", 3), "a": {**node("t3", 3), "y": node("t2", 2)}}


def test_members_of_the_hub_are_ignored_on_input() -> None:
    twin = desired(new_twin(), {"a": 1, "$version": 99, "$metadata": {"$lastUpdated": "x"}})
    assert twin.properties.desired == {"a": 1}
    assert twin.desired_version == 2


def test_null_sections_count_as_absent() -> None:
    body = parse_twin_body({"tags": None, "properties": {"desired": None}})
    assert body.tags is None
    assert body.desired is None


def test_a_replacement_replaces_the_sections_it_has() -> None:
    twin = patched(new_twin(), parse_twin_body({"tags": {"t": 1}, "properties": {"desired": {"a": 1}}}), "t2")
    twin = replaced(twin, parse_twin_body({"properties": {"desired": {"b": 2, "gone": None}}}), "t3")
    assert (twin.tags, twin.properties.desired) == ({"t": 1}, {"b": 2})
    assert twin.metadata.desired == {**node("t3", 3), "b": node("t3", 3)}


@pytest.mark.parametrize("key", ["a.b", "$a", "a b", "", "a\x00", "a\x85", "a\x7f", "k" * 1025])
def test_bad_keys_are_refused(key: str) -> None:
    refused({key: 1})
    refused({"below": {key: 1}})
    refused({"list": [{key: 1}]})


def test_a_key_may_have_a_thousand_bytes_of_any_script() -> None:
    client_section({"k" * 1024: 1, "ключ-鍵": {"ü": 1}}, "tags")


@pytest.mark.parametrize("value", [INTEGER_MIN - 1, INTEGER_MAX + 1, "x" * 4097, "é" * 2049, ["x" * 2000] * 3])
def test_values_beyond_their_limits_are_refused(value: object) -> None:
    refused({"a": value})


@pytest.mark.parametrize("value", [INTEGER_MIN, INTEGER_MAX, "x" * 4096, True, 1.5, [1, None, "a"], {}, []])
def test_values_at_their_limits_pass(value: object) -> None:
    client_section({"a": value}, "tags")


def test_ten_levels_pass_and_eleven_do_not() -> None:
    client_section(nested(DEPTH_MAX), "tags")
    refused(nested(DEPTH_MAX + 1))
    refused({"a": [[[[[[[[[[[1]]]]]]]]]]]})


def test_a_very_deep_list_is_refused_without_harm() -> None:
    deep: object = 1
    for _ in range(50_000):
        deep = [deep]
    refused({"a": deep})


@pytest.mark.parametrize("body", [None, [], "x", 1, {"tags": []}, {"properties": 1}, {"properties": {"desired": "x"}}])
def test_bodies_that_are_no_twins_are_refused(body: object) -> None:
    with pytest.raises(HubError) as caught:
        parse_twin_body(body)
    assert caught.value.code is Code.ARGUMENT_INVALID


def test_sections_have_sizes() -> None:
    assert section_size({"ab": 1, "c": "xyz\x01", "d": True, "e": {"f": [1, None, "é"]}}) == 2 + 8 + 1 + 3 + 1 + 4 + 11
    half = {f"k{number}": "x" * 4094 for number in range(2)}
    tagged = patched(new_twin(), parse_twin_body({"tags": half}), NOW)
    with pytest.raises(HubError):
        patched(tagged, parse_twin_body({"tags": {"k": 1}}), NOW)
    properties: JsonObject = {f"k{number}": "x" * 4094 for number in range(8)}
    full = desired(new_twin(), properties)
    with pytest.raises(HubError):
        desired(full, {"k": 1})
    with pytest.raises(HubError):
        reported_patched(reported_patched(new_twin(), properties, NOW), {"k": 1}, NOW)


def test_what_makes_room_may_come_with_what_needs_it() -> None:
    properties: JsonObject = {f"k{number}": "x" * 4094 for number in range(8)}
    full = desired(new_twin(), properties)
    assert "k0" not in desired(full, {"k0": None, "new": "x" * 4000}).properties.desired


@UNHURRIED
@given(PATCHES, PATCHES)
def test_a_patch_is_a_merge_patch(before: JsonObject, patch: JsonObject) -> None:
    start, nodes = apply_patch({}, {}, before, Stamp("t1", 1))
    frozen = repr((start, nodes))
    values, _ = apply_patch(start, nodes, patch, Stamp("t2", 2))
    assert values == merge_patch(start, patch)
    assert repr((start, nodes)) == frozen


@UNHURRIED
@given(PATCHES, PATCHES)
def test_metadata_has_the_shape_of_the_tree(before: JsonObject, patch: JsonObject) -> None:
    values, metadata = apply_patch(*apply_patch({}, {}, before, Stamp("t1", 1)), patch, Stamp("t2", 2))
    assert shape(metadata) == shape(values)


@UNHURRIED
@given(PATCHES, PATCHES)
def test_a_twin_survives_its_stored_form(tags: JsonObject, wish: JsonObject) -> None:
    twin = patched(new_twin(), parse_twin_body({"tags": tags, "properties": {"desired": wish}}), NOW)
    assert decode_twin(encode_twin(twin)) == twin


def desired(twin: Twin, patch: JsonObject, at: str = NOW) -> Twin:
    return patched(twin, parse_twin_body({"properties": {"desired": patch}}), at)


def node(last_updated: str, version: int) -> JsonObject:
    return {"$lastUpdated": last_updated, "$lastUpdatedVersion": version}


def nested(levels: int) -> JsonObject:
    tree: JsonObject = {"leaf": 1}
    for _ in range(levels):
        tree = {"below": tree}
    return tree


def refused(section: object) -> None:
    with pytest.raises(HubError) as caught:
        client_section(section, "tags")
    assert caught.value.code is Code.ARGUMENT_INVALID


def merge_patch(target: object, patch: object) -> object:
    """RFC 7396, section 2, as written there."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def shape(tree: object) -> object:
    """Names of a tree without the hub's own and without what stands at the leaves."""
    if not isinstance(tree, Mapping):
        return {}
    return {name: shape(value) for name, value in tree.items() if not name.startswith("$")}
