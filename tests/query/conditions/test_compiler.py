"""Conditions, compiled and judged: the tables of the language, and that nothing a message says makes one raise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.query.conditions.compiler import compile_condition
from isthmus.query.conditions.lexer import CONDITION_CHARACTERS_MAX, ConditionError
from isthmus.query.conditions.parser import NESTING_MAX, OPERATIONS_MAX
from query.conditions.subject import FakeMessage

MESSAGE = FakeMessage(
    properties={
        "key1": "value1",
        "key2": "3",
        "severity": "2",
        "messageType": "alerts",
        "a-b": "1",
        "a+b": "2",
        "a.b": "3",
        "x!": "4",
        "$state": "WA",
        "$contentType": "mine",
        "$body.conflict": "100",
        "processingPath": "hot",
        "deviceId": "my-device",
    },
    system={"contentType": "application/json", "contentEncoding": "UTF-8", "enqueuedTime": "2022-06-06T22:57:06Z"},
    document={
        "Weather": {
            "Temperature": 50,
            "Freezing": -50.4,
            "Precise": 50.4,
            "Nothing": None,
            "Time": "2017-03-09T00:00:00.000Z",
            "Prev": [20, 30, 40],
            "IsEnabled": True,
            "IsDisabled": False,
            "Location": {"Street": "One Microsoft Way", "City": "Redmond", "State": "WA"},
            "History": [{"Month": "Feb", "Temperature": 40}, {"Month": "Jan", "Temperature": 30}],
        },
        "conflict": 50,
        "properties": {"desired": {"x": 1}},
        "huge": 10**400,
    },
    sender={
        "tags": {"site": "north", "Floor": 1},
        "properties": {
            "desired": {"telemetryConfig": {"sendFrequency": "5m", "since": "2017-03-09T00:00:00Z"}},
            "reported": {"battery": 12.5},
        },
    },
)

TRUE = [
    "true",
    "processingPath = 'hot'",
    'deviceId = "my-device"',
    "PROCESSINGPATH = 'hot'",
    "messageType = 'alerts' AND as_number(severity) <= 2",
    "$contentEncoding = 'UTF-8' AND processingPath = 'hot'",
    "$CONTENTENCODING = 'UTF-8'",
    "{$contentType} = 'application/json'",
    "$contentType = 'mine'",
    '$enqueuedTime > "2022-06-06T22:56:06Z"',
    "a-b = '1' AND a+b = '2' AND a.b = '3' AND x! = '4'",
    "key1 /* a comment */ = 'value1'",
    "true AND NOT (key1 = 'other') or false",
    "1 + 2 * 3 = 7",
    "(1 + 2) * 3 = 9",
    "7 % 4 = 3",
    "- (3) = -3",
    "-3 % 2 = -1",
    "0x1F = 31",
    ".5 + 1.5e1 = 15.5",
    "'a'||'b' = 'ab'",
    "'a' || 'b' || key1 = 'abvalue1'",
    r"'it\'s \u0041' = \"it's A\"".replace('\\"', '"'),
    "null = null",
    "null <= null",
    "NOT (null != null)",
    "3 / 0 > 1000000",
    "undefined OR true",
    "NOT (undefined AND false)",
    "(missing ?? 'x') = 'x'",
    "(key1 ?? 'x') = 'value1'",
    "($body.Weather.InvalidKey ?? 5) = 5",
    "is_defined(key1) AND NOT is_defined(missing)",
    "50 >= $body.Weather.Temperature",
    "$BODY.Weather.Temperature = 40 + 10",
    "$body.Weather.Temperature <> '100'",
    "$body.Weather.Temperature = 50 AND $body.Weather.IsEnabled",
    "$body.Weather.History[0].Month = 'Feb'",
    "$body.Weather.Prev[0] + $body.Weather.Prev[1] = 50",
    "$body.Weather.Prev[1] / $body.Weather.Prev[0] = 1.5",
    "$body.Weather.Location.State = $state",
    "NOT $body.Weather.IsDisabled",
    "$body.Weather.IsDisabled OR NOT($body.Weather.IsDisabled)",
    "$body.Weather.InvalidKey <> '100'",
    "$body.Weather.InvalidKey = null",
    "$body.Weather.Nothing = null",
    "$body.Weather.Temperature != null",
    "$body.conflict = '100'",
    "{$body.conflict} = 50",
    "$body.Weather.IsEnabled < $body.Weather.Temperature",
    "$body.Weather.Temperature < $body.Weather.Location.City",
    "$body.Weather.Location.City < $body.Weather.Nothing",
    "is_defined($body.properties.desired.x)",
    "NOT is_defined($body.Weather.InvalidKey)",
    "NOT is_defined($body.Weather)",
    "$body.huge > 1e300",
    "$twin.properties.desired.telemetryConfig.sendFrequency = '5m'",
    "$twin.properties.desired.telemetryConfig.since < '2018'",
    "$TWIN.Tags.site = 'north'",
    "$twin.tags.floor = 1",
    "$twin.properties.reported.battery > 12",
    "NOT is_defined($twin.tags.none)",
    "abs($body.Weather.Freezing) = 50.4",
    "ceiling($body.Weather.Precise) = 51 AND floor(50.9) = 50 AND sign(-4) = -1 AND sqrt(9) = 3",
    "exp(0) = 1 AND power(2, 10) = 1024 AND square(5) = 25",
    "as_number('0x10') = 1 OR as_number(' 3 ') = 3",
    "is_array($body.Weather.Prev) AND is_object($body.Weather) AND NOT is_array($body.Weather)",
    "is_bool(true) AND is_null(null) AND is_number(1) AND is_string('a') AND is_primitive($body.Weather.Nothing)",
    "is_string(key1) AND NOT is_string(missing)",
    "concat('a', 'b', 'c') = 'abc'",
    "length($body.Weather.Location.State) = 2",
    "lower('ABC') = 'abc' AND upper('abc') = 'ABC'",
    "substring($body.Weather.Location.Street, 4, 9) = 'Microsoft'",
    "substring('hello', 5) = ''",
    "index_of('hello', 'l') = 2 AND index_of('hello', 'z') = -1",
    "STARTSWITH(key1, 'val') AND starts_with(key1, 'val') AND ENDSWITH(key1, '1') AND ends_with(key1, '1')",
    "contains($body.Weather.Location.Street, 'soft')",
]

FALSE = [
    "false",
    "$body.Weather.Temperature = '50'",
    "$body.Weather.Temperature < 50",
    "$body.Weather.Location.City != 'Redmond'",
    "NOT true",
    "undefined AND false",
    "$body.Weather.InvalidKey != null",
    "$twin.tags.floor = '1'",
    "key1 = 'VALUE1'",
]

UNDEFINED = [
    "",
    "   ",
    "undefined",
    "null",
    "'text'",
    "3",
    "missing = 'x'",
    "missing != 'x'",
    "NOT undefined",
    "undefined AND true",
    "undefined OR false",
    "3 = undefined",
    "3 % 0 = 1",
    "0 / 0 = 1",
    "$body",
    "$body[0] = 1",
    "$body.Weather <> null",
    "$body.Weather.Prev = 1",
    "$body.Weather.Time <> '100'",
    "$City <> $body.Weather.InvalidKey",
    "$body.Weather.Temperature AND true",
    "$body.Weather.Location.City + 1 = 2",
    "length($body.Weather.Temperature) = 2",
    "substring('hello', 6) = ''",
    "substring('hello', 5, 1) = ''",
    "substring('hello', 2, 9) = 'llo'",
    "sqrt(-1) = 1",
    "as_number(key1) = 1",
    "$twin.tags.none != 'x'",
    "$iothub-message-source = 'Telemetry'",
]

ERRORS = [
    ("severity > 2", "as_number"),
    ("key1 = 'a' /* never ended", "unterminated comment"),
    ("3 = none", "'='"),
    ("key1 = null", "string and null"),
    ("key1 = true", "string and boolean"),
    ("3 + true", "'+'"),
    ("'a' + 'b'", "'+'"),
    ("3 + undefined", "'+'"),
    ("NOT a = 1", "'NOT'"),
    ("key1 ?? 12.34", "'??'"),
    ("key1 ?? 'hello' = 'value1'", "'??'"),
    ("'a' || null", "'||'"),
    ("key1 AND true", "'AND'"),
    ("length(12.34) = 1", "'length' takes a string as argument 1"),
    ("concat('a', null) = 'a'", "argument 2"),
    ("concat('a') = 'a'", "2 or more"),
    ("index_of('a')", "2 arguments"),
    ("substring('a') = 'a'", "2 to 3"),
    ("abs(key1) = 1", "number"),
    ("abs(3, 4) = 1", "1 arguments"),
    ("is_defined()", "1 argument"),
    ("nosuch(1)", "no function 'nosuch'"),
    ("twin_change_includes(tags.x)", "twin changes only"),
    ("$body.p[] = 1", "$body"),
    ("$body.p[1:2] = 1", "invalid symbol ':'"),
    ("$body;@", "invalid symbol ';'"),
    ("$body.a['x y'] = 1", "invalid symbol ']'"),
    ("$body. = 1", "$body"),
    ("$twin.x = 1", "$twin"),
    ("$twin.properties.x = 1", "$twin"),
    ("\"unterminated = 'x'", "unterminated string"),
    ("a = @", "invalid symbol '@'"),
    ("(a = 'x'", "missing closing ')'"),
    ("a = 'x')", "unmatched closing ')'"),
    ("a =", "Syntax error."),
    ("= a", "Syntax error."),
    ("a 'x'", "Syntax error."),
    ("32 = [32]", "invalid symbol '['"),
    ("AND true", "Syntax error."),
    ("{$a = 1", "Syntax error."),
    ("- true = 1", "'-'"),
]


@pytest.mark.parametrize("text", TRUE)
def test_holds(text: str) -> None:
    assert compile_condition(text).holds(MESSAGE) is True


@pytest.mark.parametrize("text", FALSE)
def test_does_not_hold(text: str) -> None:
    assert compile_condition(text).holds(MESSAGE) is False


@pytest.mark.parametrize("text", UNDEFINED)
def test_is_undefined(text: str) -> None:
    assert compile_condition(text).holds(MESSAGE) is None


@pytest.mark.parametrize(("text", "part"), ERRORS)
def test_does_not_compile(text: str, part: str) -> None:
    with pytest.raises(ConditionError) as raised:
        compile_condition(text)
    assert part in raised.value.message
    assert 0 <= raised.value.start <= raised.value.end <= len(text)


def test_a_twin_change_is_asked_what_it_includes() -> None:
    condition = compile_condition("twin_change_includes(properties.desired.x)", twin_changes=True)
    assert condition.holds(MESSAGE) is True
    assert compile_condition("twin_change_includes(tags)", twin_changes=True).holds(MESSAGE) is False
    assert condition.holds(FakeMessage()) is None


def test_it_says_what_it_asks_for() -> None:
    assert compile_condition("$body.a = 1").asks_body
    assert compile_condition("$twin.tags.a = 1").asks_twin
    plain = compile_condition("a = '1'")
    assert not plain.asks_body
    assert not plain.asks_twin


def test_without_a_body_and_a_twin_their_members_are_undefined() -> None:
    assert compile_condition("$body.a = null").holds(FakeMessage()) is None
    assert compile_condition("$twin.tags.a = null").holds(FakeMessage()) is None


def test_a_condition_is_bounded() -> None:
    with pytest.raises(ConditionError, match="characters"):
        compile_condition("a" * (CONDITION_CHARACTERS_MAX + 1))
    depth = NESTING_MAX
    assert compile_condition("(" * depth + "true" + ")" * depth).holds(MESSAGE) is True
    with pytest.raises(ConditionError, match="deep"):
        compile_condition("(" * (depth + 1) + "true" + ")" * (depth + 1))
    assert compile_condition("true" + " AND true" * 800).holds(MESSAGE) is True
    assert compile_condition("1" + " + 1" * (OPERATIONS_MAX - 1) + " = 200").holds(MESSAGE) is True
    with pytest.raises(ConditionError, match="operations"):
        compile_condition("1" + " + 1" * (OPERATIONS_MAX + 1))


VOCABULARY = """a key1 $body.a.b[0] $twin.tags.x {$body.a} $userId 's' "q 1 -2.5 0x1 true null undefined AND or NOT ( )
, ?? || = != < <= > >= + - * / % length concat substring as_number is_defined power /* */ @ [ { } \\ é"""
WORDS = st.sampled_from(VOCABULARY.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abx"), inner, max_size=2),
    max_leaves=6,
)


@given(
    st.lists(WORDS, max_size=10).map(" ".join) | st.text(max_size=30),
    st.dictionaries(st.sampled_from(["a", "key1"]), st.text(max_size=5)),
    st.dictionaries(st.sampled_from("abx"), JSON, max_size=3),
)
def test_any_text_compiles_or_says_where_it_does_not_and_no_message_makes_it_raise(
    text: str, properties: dict[str, str], document: dict[str, object]
) -> None:
    try:
        condition = compile_condition(text)
    except ConditionError as error:
        placed = 0 <= error.start <= error.end <= len(text)
        if not placed:
            raise
        return
    assert condition.holds(FakeMessage(properties, {}, document, {"tags": document})) in (True, False, None)


@given(
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "AND", "OR", "+", "-", "*", "/", "%", "??", "||"]),
    JSON,
    JSON,
)
def test_no_two_values_make_an_operator_raise(operator: str, left: object, right: object) -> None:
    document = {"a": left, "b": right}
    condition = compile_condition(f"is_defined($body.a {operator} $body.b)")
    assert condition.holds(FakeMessage(document=document)) in (True, False)


@given(
    st.sampled_from(["abs", "exp", "square", "ceiling", "floor", "sign", "sqrt", "as_number", "length", "lower"]),
    JSON,
)
def test_no_value_makes_a_function_raise(function: str, value: object) -> None:
    condition = compile_condition(f"is_defined({function}($body.a))")
    assert condition.holds(FakeMessage(document={"a": value})) in (True, False)


@given(st.integers(-10, 10), st.integers(-10, 10))
def test_a_substring_is_inside_or_undefined(start: int, length: int) -> None:
    condition = compile_condition(
        f"substring('hello', {start}, {length}) = '{'hello'[max(start, 0) :][: max(length, 0)]}'"
    )
    fits = 0 <= start < 5 and 0 <= length <= 5 - start
    assert condition.holds(MESSAGE) is (True if fits else None)
