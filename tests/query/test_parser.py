"""The syntax of the whole language."""

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.query.parser import DEPTH_MAX, parse
from isthmus.query.syntax import (
    Aggregate,
    Binary,
    Call,
    Collection,
    Expression,
    ListOf,
    Literal,
    Path,
    Selected,
    Unary,
    Undefined,
)

DOCUMENTED = r"""
SELECT * FROM devices
select * from devices where deviceId = 'x'
select deviceId from devices
SELECT deviceId, deviceScope FROM devices
select * from devices where capabilities.iotEdge = true
select deviceId from devices where array_contains(parentScopes, 'ms-azure-iot-edge://p-1')
select count() AS numberOfDevices from devices
select deviceId from devices where not startswith(deviceId, 'keep')
SELECT * FROM devices WHERE STARTSWITH(id, 'pre')
SELECT * FROM devices WHERE properties.reported.connectivity IN ['wired', 'wifi']
SELECT * FROM devices WHERE is_defined(properties.reported.connectivity)
SELECT * FROM devices WHERE tags.[[group]].name = 'v'
SELECT DeviceId, LastActivityTime FROM devices WHERE status = 'enabled' AND connectionState = 'Disconnected'
select * from devices.modules where devices.deviceId = 'd'
SELECT * FROM devices.modules WHERE properties.reported.status = 'scanning' AND deviceId IN ['device1', 'device2']
select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[c12]].status = 'Applied'
SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'j' AND devices.jobs.createdTimeUtc > '2016-09-01'
SELECT properties.reported.a.status AS status, COUNT() AS n FROM devices GROUP BY properties.reported.a.status
SELECT TOP 3 * FROM devices WHERE a NOT IN (1, 2) OR b <> -1 + 2 * 3
""".strip().splitlines()


@pytest.mark.parametrize("text", DOCUMENTED)
def test_documented_queries_parse(text: str) -> None:
    parse(text)


def test_the_parts_of_a_query() -> None:
    query = parse("select top 5 deviceId as d, avg(tags.x) from devices.modules where true group by tags.y, tags.z")
    assert query.top == 5
    assert query.collection is Collection.MODULES
    assert query.select == (
        Selected(Path(("deviceId",), 13), "d"),
        Selected(Aggregate("AVG", Path(("tags", "x"), 32), 28), None),
    )
    assert [path.segments for path in query.group_by] == [("tags", "y"), ("tags", "z")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a OR b AND c", "(a OR (b AND c))"),
        ("NOT a = 1 AND b", "((NOT (a = 1)) AND b)"),
        ("a + 2 * 3 - 4 = 5", "(((a + (2 * 3)) - 4) = 5)"),
        ("(a OR b) AND c", "((a OR b) AND c)"),
        ("-2 < -a", "(-2 < (- a))"),
        ("a NOT IN [1, 2]", "(a NIN [1, 2])"),
        ("a nin ['x']", "(a NIN ['x'])"),
        ("a <> null", "(a != None)"),
        ("a = undefined", "(a = undefined)"),
        ("f(a, g())", "F(a, G())"),
        ("devices.deviceId = devices.modules.moduleId", "(deviceId = moduleId)"),
        ("tags.list[2].and = 1", "(tags.list.2.and = 1)"),
        ("tags.[[a b]] = 1", "(tags.a b = 1)"),
    ],
)
def test_precedence(text: str, shown: str) -> None:
    where = parse(f"SELECT * FROM devices WHERE {text}").where
    assert where is not None
    assert show(where) == shown


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", 1),
        ("SELECT", 7),
        ("SELECT * FROM", 14),
        ("SELECT * FROM phones", 15),
        ("SELECT * FROM devices WHERE", 28),
        ("SELECT * FROM devices WHERE a =", 32),
        ("SELECT * FROM devices WHERE (a = 1", 35),
        ("SELECT * FROM devices WHERE a = 1 b", 35),
        ("SELECT * FROM devices WHERE a IN 1", 34),
        ("SELECT * FROM devices WHERE tags.group = 1", 34),
        ("SELECT *, a FROM devices", 9),
        ("SELECT a AS FROM devices", 13),
        ("SELECT * FROM devices ORDER BY a", 23),
        ("SELECT TOP x * FROM devices", 12),
        ("SELECT * FROM devices WHERE a NOT", 31),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, place: int) -> None:
    with pytest.raises(HubError) as caught:
        parse(text)
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert caught.value.message.endswith(f"at position {place}")
    assert ";" not in caught.value.message


@pytest.mark.parametrize("opening", ["(", "NOT ", "- ", "f(", "["])
def test_expressions_may_be_only_so_deep(opening: str) -> None:
    with pytest.raises(HubError, match="inside one another"):
        parse(f"SELECT * FROM devices WHERE {opening * (DEPTH_MAX + 1)}")


def test_a_long_chain_is_not_deep() -> None:
    parse("SELECT * FROM devices WHERE " + " AND ".join(["a=1"] * 900))


WORDS = [
    "SELECT",
    "*",
    "FROM",
    "devices",
    ".",
    "WHERE",
    "a",
    "=",
    "1",
    "'x'",
    "AND",
    "NOT",
    "IN",
    "(",
    ")",
    "[",
    "]",
    ",",
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(WORDS), max_size=20))
def test_any_words_parse_or_are_refused(words: list[str]) -> None:
    for text in (" ".join(words), "SELECT * FROM devices WHERE " + " ".join(words)):
        with suppress(HubError):
            parse(text)


def show(expression: Expression) -> str:
    match expression:
        case Literal(value):
            return repr(value)
        case Undefined():
            return "undefined"
        case Path(segments):
            return ".".join(str(segment) for segment in segments)
        case Unary(operator, operand):
            return f"({operator} {show(operand)})"
        case Binary(operator, left, right):
            return f"({show(left)} {operator} {show(right)})"
        case Call(function, arguments):
            return f"{function}({', '.join(show(argument) for argument in arguments)})"
        case ListOf(members):
            return f"[{', '.join(show(member) for member in members)}]"
