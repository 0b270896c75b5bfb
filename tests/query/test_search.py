"""What can be asked today, and that the rest is refused by name."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import All, equals
from isthmus.query.search import Column, compile_search


def test_a_conjunction_of_equalities() -> None:
    search = compile_search(
        "SELECT * FROM devices WHERE (tags.hall.[[the nave]] = 'it''s' AND properties.reported.t = -1.5)"
        " AND 'enabled' = STATUS AND capabilities.iotEdge = true AND Id = 'd' AND properties.desired.x = null"
    )
    assert not search.modules
    assert search.columns == ()
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
    search = compile_search("select DeviceId, moduleid, tags.a.b as c, properties.reported from devices.modules")
    assert search.modules
    assert search.columns == (
        Column("deviceId", ("deviceId",)),
        Column("moduleId", ("moduleId",)),
        Column("c", ("tags", "a", "b")),
        Column("reported", ("properties", "reported")),
    )


def test_the_authentication_type_stands_elsewhere() -> None:
    search = compile_search("select * from devices where authenticationType = 'sas'")
    assert search.where == equals(("authentication", "type"), "sas")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT COUNT() AS n FROM devices",
        "SELECT TOP 1 * FROM devices",
        "SELECT tags.x FROM devices GROUP BY tags.x",
        "SELECT * FROM devices.jobs",
    ],
)
def test_the_rest_of_the_language_is_refused_by_name(text: str) -> None:
    with pytest.raises(HubError, match="is not supported yet") as caught:
        compile_search(text)
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert ";" not in caught.value.message
