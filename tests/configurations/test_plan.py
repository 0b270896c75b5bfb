"""What a twin becomes for the configurations that match it."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.configurations.content import DESIRED, Settings, TwinPath
from isthmus.configurations.plan import APPLIED, TARGETED, Claim, plan
from isthmus.devices.twin import JsonObject, Properties, Twin, TwinBody, new_twin, patched

NOW = "2026-01-01T00:00:00Z"


def claim(name: str, settings: dict[str, object]) -> Claim:
    return Claim(name, f"{name}@1", {path(key): value for key, value in settings.items()})


def path(key: str) -> TwinPath:
    return tuple(key.split(".")) if key else ()


def twin_of(desired: JsonObject) -> Twin:
    return patched(new_twin(), TwinBody(None, desired), NOW)


def settled(twin: Twin, claims: Sequence[Claim]) -> Twin:
    """The twin after its plan, which leaves nothing to do."""
    planned = plan(twin, claims)
    if planned is not None:
        twin = patched(planned.written(twin), TwinBody(None, planned.patch or None), NOW)
    assert plan(twin, claims) is None
    return twin


def desired(twin: Twin) -> JsonObject:
    return twin.properties.desired


def statuses(twin: Twin) -> dict[str, str]:
    return (
        {} if twin.configurations is msgspec.UNSET else {n: each["status"] for n, each in twin.configurations.items()}
    )


def test_a_configuration_is_applied_and_leaves_nothing_behind() -> None:
    before = twin_of({"own": 1})
    applied = settled(before, [claim("c", {"chiller.water": {"temperature": 66}})])
    assert desired(applied) == {"own": 1, "chiller": {"water": {"temperature": 66}}}
    assert statuses(applied) == {"c": APPLIED}
    after = settled(applied, [])
    assert (desired(after), after.configurations, after.configured) == ({"own": 1}, msgspec.UNSET, msgspec.UNSET)


def test_a_path_goes_to_the_highest_rank_and_then_to_the_next() -> None:
    high, low = claim("high", {"a": {"x": 1}}), claim("low", {"a": {"x": 2, "y": 3}, "b": 4})
    both = settled(twin_of({}), [high, low])
    assert desired(both) == {"a": {"x": 1}, "b": 4}
    assert statuses(both) == {"high": APPLIED, "low": APPLIED}
    assert desired(settled(both, [low])) == {"a": {"x": 2, "y": 3}, "b": 4}
    assert statuses(settled(both, [high, claim("low", {"a": 5})])) == {"high": APPLIED, "low": TARGETED}


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ({"a": {"x": 1}}, {"a.y": 2}, {"a": {"x": 1}}),
        ({"a.y": 2}, {"a": {"x": 1, "y": 1}}, {"a": {"x": 1, "y": 2}}),
        ({"": {"x": 1}}, {"y": 2}, {"x": 1}),
        ({"a.b.c": 1}, {"": {"a": {"b": {"c": 2, "d": 3}}}}, {"a": {"b": {"c": 1, "d": 3}}}),
        ({"a.b": None}, {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
    ],
    ids=["above-outranks", "below-outranks", "whole-outranks", "deep-outranks", "null-outranks"],
)
def test_a_path_inside_another_counts_where_it_has_the_higher_rank(
    first: dict[str, object], second: dict[str, object], wanted: JsonObject
) -> None:
    assert desired(settled(twin_of({}), [claim("first", first), claim("second", second)])) == wanted


def test_one_configuration_may_write_inside_its_own_path() -> None:
    assert desired(settled(twin_of({}), [claim("c", {"a": {"x": 1}, "a.y": 2})])) == {"a": {"x": 1, "y": 2}}


def test_a_section_is_replaced_when_it_is_taken_over_and_only_mended_afterwards() -> None:
    mine = [claim("c", {"a": {"x": 1}})]
    taken = settled(twin_of({"a": {"other": 1}}), mine)
    assert desired(taken) == {"a": {"x": 1}}
    touched = patched(taken, TwinBody(None, {"a": {"x": 9, "more": 2}}), NOW)
    mended = settled(touched, mine)
    assert desired(mended) == {"a": {"x": 1, "more": 2}}
    assert desired(settled(mended, [])) == {"a": {"more": 2}}


def test_null_removes_and_stays_removed() -> None:
    claims = [claim("c", {"a": None, "b": {"c": None, "d": 1}})]
    twin = settled(twin_of({"a": 1, "b": {"c": 2}}), claims)
    assert desired(twin) == {"b": {"d": 1}}
    again = settled(patched(twin, TwinBody(None, {"a": 3}), NOW), claims)
    assert desired(again) == {"b": {"d": 1}}
    assert desired(settled(again, [])) == {}


def test_the_patch_says_no_more_than_what_changes() -> None:
    planned = plan(twin_of({"a": {"x": 1, "y": 2}, "b": 3}), [claim("c", {"a": {"x": 1, "z": 4}})])
    assert planned is not None
    assert planned.patch == {"a": {"y": None, "z": 4}}


@pytest.mark.parametrize("value", [{}, [], "", 0, False, 0.5, {"a": {}}, [1, {"b": None}]])
def test_any_json_may_be_written(value: object) -> None:
    twin = settled(twin_of({}), [claim("c", {"p": value})])
    assert desired(twin) == {"p": value}
    assert desired(settled(twin, [])) == {}


def test_a_boolean_is_not_a_number() -> None:
    assert desired(settled(twin_of({"p": 1}), [claim("c", {"p": True})]))["p"] is True


def test_a_configuration_that_writes_nothing_is_applied() -> None:
    assert statuses(settled(twin_of({}), [claim("c", {})])) == {"c": APPLIED}


def test_a_configuration_of_the_same_name_made_anew_takes_over() -> None:
    old = settled(twin_of({}), [claim("c", {"a": {"x": 1}})])
    new: Settings = {("a",): {"y": 2}}
    assert desired(settled(old, [Claim("c", "c@2", new)])) == {"a": {"y": 2}}


def test_a_refused_plan_leaves_settings_as_they_are() -> None:
    claims = [claim("old", {"a": 1})]
    twin = settled(twin_of({}), claims)
    more = [claim("new", {"b": "x" * 40_000}), *claims]
    planned = plan(twin, more)
    assert planned is not None
    after = planned.refused(twin, more).written(twin)
    assert after.properties == Properties({"a": 1}, {})
    assert statuses(after) == {"new": TARGETED, "old": APPLIED}
    assert desired(settled(after, [])) == {}


def test_the_record_names_paths_as_configurations_do() -> None:
    twin = settled(twin_of({}), [claim("c", {"a.b": {"x": [1]}})])
    assert twin.configured == {f"{DESIRED}.a.b": {"owners": ["c@1"], "shape": {"x": 0}}}


KEYS = st.sampled_from("abc")
VALUES = st.recursive(
    st.sampled_from([None, 0, 1, True, "x"]) | st.just([1]), lambda inner: st.dictionaries(KEYS, inner, max_size=3)
)
CLAIMS = st.lists(st.dictionaries(st.lists(KEYS, min_size=1, max_size=3).map(tuple), VALUES, max_size=3), max_size=4)


@given(desired_before=st.dictionaries(KEYS, VALUES, max_size=3), first=CLAIMS, second=CLAIMS)
def test_whatever_comes_and_goes_a_plan_ends_and_leaves_nothing(
    desired_before: JsonObject, first: list[Settings], second: list[Settings]
) -> None:
    twin = twin_of(desired_before)
    for claims in (first, second):
        ranked = [Claim(f"c{rank}", f"c{rank}@{len(claims)}", settings) for rank, settings in enumerate(claims)]
        twin = settled(twin, ranked)
        if claims and len(claims[0]) == 1:
            [(where, value)] = claims[0].items()
            assert isinstance(value, dict) or leaf(desired(twin), where) == value
    gone = settled(twin, [])
    assert (gone.configured, gone.configurations) == (msgspec.UNSET, msgspec.UNSET)
    assert not settled(settled(twin_of({}), [Claim("c", "c@1", each) for each in first[:1]]), []).properties.desired


def leaf(tree: object, where: TwinPath) -> object:
    for member in where:
        tree = tree.get(member) if isinstance(tree, dict) else None
    return tree
