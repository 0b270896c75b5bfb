"""Which messages rules select; a correlation filter agrees with all it names, in value and in kind."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.neighbours.bus_rules import (
    CORRELATION_PROPERTIES_MAX,
    Facts,
    FilterKind,
    Rule,
    check_rule,
    selected,
)

MESSAGE = Facts(label="hot", content_type="text/plain", properties={"line": 1, "on": True, "day": "monday", "x": 0.5})


def correlation(**wanted: object) -> Rule:
    return Rule("r", FilterKind.CORRELATION, replace(Facts(), **wanted))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], False),
        ([Rule("r")], True),
        ([Rule("r", FilterKind.FALSE)], False),
        ([Rule("r", FilterKind.FALSE), Rule("s")], True),
        ([correlation(label="hot")], True),
        ([correlation(label="Hot")], False),
        ([correlation(label="hot", content_type="text/html")], False),
        ([correlation(properties={"line": 1, "day": "monday"})], True),
        ([correlation(properties={"line": 2})], False),
        ([correlation(properties={"line": True})], False),
        ([correlation(properties={"on": 1})], False),
        ([correlation(properties={"line": 1.0})], True),
        ([correlation(properties={"line": "1"})], False),
        ([correlation(properties={"missing": None})], False),
        ([correlation(label="cold"), correlation(properties={"x": 0.5})], True),
    ],
)
def test_a_message_is_selected_when_any_rule_agrees(rules: list[Rule], expected: bool) -> None:
    assert selected(rules, lambda: MESSAGE) is expected


def test_facts_are_read_only_where_they_matter() -> None:
    def unread() -> Facts:
        raise AssertionError("nobody has to look")

    assert selected([Rule("r", FilterKind.FALSE), Rule("s")], unread)
    assert not selected([Rule("r", FilterKind.FALSE)], unread)


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.text(max_size=3) | st.none())
def test_a_message_agrees_with_a_filter_made_of_itself(properties: dict[str, object], label: str | None) -> None:
    facts = Facts(label=label, properties=properties)  # type: ignore[arg-type]
    assert Rule("r", FilterKind.CORRELATION, facts).selects(facts)


@pytest.mark.parametrize(
    "rule",
    [
        Rule("no spaces"),
        Rule("x" * 51),
        correlation(),
        correlation(properties={str(number): 1 for number in range(CORRELATION_PROPERTIES_MAX + 1)}),
    ],
)
def test_what_cannot_be_a_rule(rule: Rule) -> None:
    with pytest.raises(HubError) as refused:
        check_rule(rule)
    assert refused.value.code is Code.ARGUMENT_INVALID
