"""What can be asked today, and that the rest is refused by name."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.state import Equals
from isthmus.query.search import CONDITIONS_MAX, Column, compile_search


def test_a_conjunction_of_equalities() -> None:
    search = compile_search(
        "SELECT * FROM devices WHERE (tags.hall.[[the nave]] = 'it''s' AND properties.reported.t = -1.5)"
        " AND 'enabled' = STATUS AND capabilities.iotEdge = true AND Id = 'd' AND properties.desired.x = null"
    )
    assert not search.modules
    assert search.columns == ()
    assert search.conditions == (
        Equals(("tags", "hall", "the nave"), "it's"),
        Equals(("properties", "reported", "t"), -1.5),
        Equals(("status",), "enabled"),
        Equals(("capabilities", "iotEdge"), True),
        Equals(("deviceId",), "d"),
        Equals(("properties", "desired", "x"), None),
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
    assert search.conditions == (Equals(("authentication", "type"), "sas"),)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM devices WHERE status = 'a' OR status = 'b'",
        "SELECT * FROM devices WHERE tags.x > 1",
        "SELECT * FROM devices WHERE tags.x != 1",
        "SELECT * FROM devices WHERE NOT status = 'a'",
        "SELECT * FROM devices WHERE tags.x IN [1]",
        "SELECT * FROM devices WHERE STARTSWITH(deviceId, 'a')",
        "SELECT * FROM devices WHERE tags.x = tags.y",
        "SELECT * FROM devices WHERE tags.x = undefined",
        "SELECT * FROM devices WHERE true",
        "SELECT * FROM devices WHERE tags.x[0] = 1",
        "SELECT * FROM devices WHERE version = 1",
        "SELECT * FROM devices WHERE authentication.symmetricKey.primaryKey = 'x'",
        "SELECT * FROM devices WHERE properties.desired.$version = 1",
        "SELECT COUNT() AS n FROM devices",
        "SELECT TOP 1 * FROM devices",
        "SELECT tags.x FROM devices GROUP BY tags.x",
        "SELECT * FROM devices.jobs",
        "SELECT * FROM devices WHERE " + " AND ".join(["status=1"] * (CONDITIONS_MAX + 1)),
    ],
)
def test_the_rest_of_the_language_is_refused_by_name(text: str) -> None:
    with pytest.raises(HubError, match="is not supported yet") as caught:
        compile_search(text)
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert ";" not in caught.value.message
