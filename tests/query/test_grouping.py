"""Groups of documents, and what is told of them."""

from collections.abc import Sequence

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.query import grouping as grouping_module
from isthmus.query.grouping import EXACT_MAX, Tally
from isthmus.query.search import compile_search


def rows(text: str, tags: Sequence[object]) -> list[dict[str, object]]:
    grouping = compile_search(f"SELECT {text}").grouping
    assert grouping is not None
    tally = Tally(grouping)
    for each in tags:
        tally.add({"tags": each})
    found = list(tally.rows())
    assert [row.place for row in found] == sorted({row.place for row in found})
    return sorted((row.row for row in found), key=str)


OF_ALL_KINDS = [{"x": 3}, {"x": 1.5}, {"x": "b"}, {"x": "a"}, {"x": True}, {"x": None}, {"x": [1]}, {}]


def test_values_are_counted_added_up_and_compared() -> None:
    text = "COUNT() AS all, COUNT(tags.x) AS there, SUM(tags.x), AVG(tags.x), MIN(tags.x), MAX(tags.x) FROM devices"
    assert rows(text, OF_ALL_KINDS) == [
        {"all": 8, "there": 7, "SUM": 4.5, "AVG": 2.25, "MIN": 1.5, "MAX": "b"},
    ]


def test_of_nothing_there_is_a_row_with_what_can_be_said() -> None:
    text = "COUNT() AS n, COUNT(tags.x) AS there, SUM(tags.x), AVG(tags.x), MIN(tags.x), MAX(tags.x) FROM devices"
    assert rows(text, []) == [{"n": 0, "there": 0, "SUM": 0}]


def test_of_nothing_there_are_no_groups() -> None:
    assert rows("tags.x, COUNT() AS n FROM devices GROUP BY tags.x", []) == []


def test_a_group_is_one_value_whatever_its_spelling() -> None:
    tags = [{"x": 1}, {"x": 1.0}, {"x": True}, {"x": "1"}, {"x": None}, {}, {}, {"x": {"a": 1, "b": 2}}]
    found = rows("tags.x AS x, COUNT() AS n FROM devices GROUP BY tags.x", [*tags, {"x": {"b": 2, "a": 1.0}}])
    assert found == sorted(
        [
            {"x": 1, "n": 2},
            {"x": True, "n": 1},
            {"x": "1", "n": 1},
            {"x": None, "n": 1},
            {"n": 2},
            {"x": {"a": 1, "b": 2}, "n": 2},
        ],
        key=str,
    )


def test_groups_by_several_values() -> None:
    tags = [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1, "b": "x"}, {"b": "x"}]
    assert rows("COUNT() AS n, tags.a, MAX(tags.a) AS most FROM devices GROUP BY tags.a, tags.b", tags) == sorted(
        [{"n": 2, "a": 1, "most": 1}, {"n": 1, "a": 1, "most": 1}, {"n": 1}], key=str
    )


def test_groups_alone_are_the_distinct_values() -> None:
    assert rows("tags.a FROM devices GROUP BY tags.a", [{"a": 1}, {"a": 2}, {"a": 1}]) == [{"a": 1}, {"a": 2}]


def test_large_sums_are_doubles_and_too_large_ones_nothing() -> None:
    assert rows("SUM(tags.x) AS s FROM devices", [{"x": EXACT_MAX}, {"x": 1}]) == [{"s": float(EXACT_MAX + 1)}]
    assert rows("SUM(tags.x) AS s FROM devices", [{"x": 1e308}, {"x": 1e308}]) == [{}]


@pytest.mark.parametrize("limit", ["GROUPS_MAX", "GROUPS_BYTES_MAX"])
def test_too_many_groups_are_refused(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(grouping_module, limit, 12)
    with pytest.raises(HubError, match="groups") as caught:
        rows("tags.x FROM devices GROUP BY tags.x", [{"x": number} for number in range(13)])
    assert caught.value.code is Code.ARGUMENT_INVALID
