"""`--set`, `--add` and `--remove` on documents."""

from typing import Any

import pytest

from isthmus.cli.edits import Edits, read_json, read_pairs, read_value
from isthmus.cli.errors import CommandError


def document() -> dict[str, Any]:
    return {"a": {"b": 1}, "rules": [{"name": "x", "on": True}, {"name": "y", "on": True}, {"name": "v.2"}]}


@pytest.mark.parametrize(
    ("word", "place", "value"),
    [
        ("a.b=2", ("a", "b"), 2),
        ("a.c=text", ("a", "c"), "text"),
        ("n.m.o=true", ("n", "m", "o"), True),
        ('a={"z": null}', ("a", "z"), None),
        ("a.b=x=y", ("a", "b"), "x=y"),
        ("a.b=", ("a", "b"), ""),
        ("rules[1].on=false", ("rules", 1, "on"), False),
        ("rules[-1].on=false", ("rules", 2, "on"), False),
        ("rules[name=x].on=false", ("rules", 0, "on"), False),
        ("rules[name=v.2].on=false", ("rules", 2, "on"), False),
    ],
)
def test_set_reaches_its_place(word: str, place: tuple[Any, ...], value: object) -> None:
    found: Any = document()
    Edits(to_set=[[word]]).apply(found)
    for step in place:
        found = found[step]
    assert found == value


def test_several_words_and_several_flags_are_applied_in_order() -> None:
    found = document()
    Edits(to_set=[["a.b=2", "a.c=3"], ["a.b=4"]]).apply(found)
    assert found["a"] == {"b": 4, "c": 3}


@pytest.mark.parametrize("word", ["a.b", "rules[9].on=1", "rules[name=z].on=1", "a.b.c=1", "=1", "a..b=1", "a[0]b=1"])
def test_a_place_that_is_not_there_is_told(word: str) -> None:
    with pytest.raises(CommandError):
        Edits(to_set=[[word]]).apply(document())


def test_add_appends_objects_and_values() -> None:
    found = document()
    Edits(to_add=[["rules", "name=z", "on=false"], ["rules", '{"name": "w"}']]).apply(found)
    assert found["rules"][3:] == [{"name": "z", "on": False}, {"name": "w"}]


def test_add_begins_a_list_where_there_is_none() -> None:
    found: dict[str, Any] = {"sets": None}
    Edits(to_set=[["sets.on=true"]], to_add=[["sets.rules", "mask=10.0.0.0/8"]]).apply(found)
    assert found == {"sets": {"on": True, "rules": [{"mask": "10.0.0.0/8"}]}}


def test_add_to_what_is_no_list_is_told() -> None:
    with pytest.raises(CommandError, match="list"):
        Edits(to_add=[["a", "1"]]).apply(document())


def test_remove_takes_names_indexes_and_filters() -> None:
    found = document()
    Edits(to_remove=[["a.b"], ["rules", "0"], ["rules[name=y]"]]).apply(found)
    assert found == {"a": {}, "rules": [{"name": "v.2"}]}


def test_remove_of_nothing_is_told() -> None:
    with pytest.raises(CommandError):
        Edits(to_remove=[["a.z"]]).apply(document())


def test_values_are_json_where_they_are_json() -> None:
    assert [read_value(text) for text in ("1", "true", '"1"', "Enabled", "[1]")] == [1, True, "1", "Enabled", [1]]


def test_json_comes_inline_or_from_a_file(tmp_path: Any) -> None:
    file = tmp_path / "twin.json"
    file.write_text('{"tags": {}}')
    for given in ('{"tags": {}}', str(file), f"@{file}"):
        assert read_json(given, "--json") == {"tags": {}}
    with pytest.raises(CommandError, match="--json"):
        read_json(f"@{tmp_path}/missing", "--json")
    with pytest.raises(CommandError, match="--json"):
        read_json("{" * 5000, "--json")


def test_pairs_need_a_value() -> None:
    assert read_pairs(["a=1", "b="], "--tags") == {"a": "1", "b": ""}
    with pytest.raises(CommandError, match="--tags"):
        read_pairs(["a"], "--tags")
