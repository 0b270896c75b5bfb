"""What a query asks of the store, and what of it cannot be asked."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import EVERYTHING, All, Field, equals
from isthmus.query.grouping import Aggregated, Function, Grouped, Grouping
from isthmus.query.search import Column, Search, compile_search


def test_a_query_without_more_is_for_all_devices() -> None:
    assert compile_search("SELECT * FROM devices") == Search(False, (), EVERYTHING)


def test_a_conjunction_of_equalities() -> None:
    search = compile_search(
        "SELECT * FROM devices WHERE (tags.hall.[[the nave]] = 'it''s' AND properties.reported.t = -1.5)"
        " AND 'enabled' = STATUS AND capabilities.iotEdge = true AND Id = 'd' AND properties.desired.x = null"
    )
    assert search.where == All(
        (
            equals(("tags", "hall", "the nave"), "it's"),
            equals(("properties", "reported", "t"), -1.5),
            equals(("status",), "enabled"),
            equals(("capabilities", "iotEdge"), True),
            equals(("deviceId",), "d"),
            equals(("properties", "desired", "x"), None),
        )
    )


def test_modules_and_columns() -> None:
    search = compile_search(
        "select TOP 7 DeviceId, moduleid, tags.a.b as c, properties.Reported, properties.desired.$version,"
        " tags.list[0] AS first from devices.modules"
    )
    assert (search.modules, search.top) == (True, 7)
    assert search.columns == (
        Column("deviceId", ("deviceId",)),
        Column("moduleId", ("moduleId",)),
        Column("c", ("tags", "a", "b")),
        Column("reported", ("properties", "reported")),
        Column("$version", ("properties", "desired", "$version")),
        Column("first", ("tags", "list", 0)),
    )


def test_the_authentication_type_stands_elsewhere() -> None:
    search = compile_search("select * from devices where authenticationType = 'sas'")
    assert search.where == equals(("authentication", "type"), "sas")


def test_aggregates_of_groups() -> None:
    search = compile_search(
        "SELECT TOP 3 properties.reported.fw.status AS status, COUNT() AS n, avg(tags.t), tags.hall FROM devices"
        " WHERE tags.x = 1 GROUP BY tags.hall, properties.Reported.fw.status"
    )
    assert search.grouping == Grouping(
        keys=(Field(("tags", "hall")), Field(("properties", "reported", "fw", "status"))),
        cells=(
            Grouped("status", 1),
            Aggregated("n", Function.COUNT, None),
            Aggregated("AVG", Function.AVG, Field(("tags", "t"))),
            Grouped("hall", 0),
        ),
    )
    assert (search.where, search.top, search.columns) == (equals(("tags", "x"), 1), 3, ())


@pytest.mark.parametrize("count", ["COUNT()", "count(*)", "COUNT() AS a, COUNT(*)"])
def test_a_number_of_devices_is_all_that_matters(count: str) -> None:
    grouping = compile_search(f"SELECT {count} FROM devices.modules").grouping
    assert grouping is not None
    assert grouping.counts_only


@pytest.mark.parametrize("text", ["COUNT(tags.x) FROM devices", "tags.x, COUNT() FROM devices GROUP BY tags.x"])
def test_other_aggregates_look_at_devices(text: str) -> None:
    grouping = compile_search(f"SELECT {text}").grouping
    assert grouping is not None
    assert not grouping.counts_only


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT * FROM devices.jobs", "about devices or devices.modules"),
        ("SELECT * FROM devices GROUP BY tags.x", "GROUP BY at position 32"),
        ("SELECT tags.x, COUNT() AS n FROM devices", "tags.x, by which nothing is grouped, at position 8"),
        ("SELECT tags.y FROM devices GROUP BY tags.x", "tags.y, by which nothing is grouped, at position 8"),
        ("SELECT SUM(location) FROM devices", "no member 'location' at position 12"),
        ("SELECT SUM() FROM devices", "a name expected at position 12"),
        ("SELECT COUNT() AS n FROM devices GROUP BY cloudToDeviceMessageCount", "at position 43"),
        ("SELECT tags.a.x, tags.b.x FROM devices", "second member 'x', which AS has to name otherwise, at position 18"),
        ("SELECT COUNT(), COUNT(tags.x) FROM devices", "second member 'COUNT'"),
        ("SELECT TOP -1 * FROM devices", "a whole number expected at position 12"),
        ("SELECT TOP 1.5 * FROM devices", "a whole number expected at position 12"),
        ("SELECT DISTINCT tags.x FROM devices", "FROM expected at position 17"),
        ("SELECT * FROM devices HAVING COUNT() > 1", "unexpected 'HAVING' at position 23"),
        ("SELECT * FROM devices OFFSET 1", "unexpected 'OFFSET' at position 23"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(HubError) as caught:
        compile_search(text)
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert message in caught.value.message
    assert ";" not in caught.value.message
