"""What conditions mean: three-valued logic, and comparisons without conversion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.filters import (
    EVERYTHING,
    UNDEFINED,
    All,
    Among,
    AnyOf,
    Comparison,
    Computed,
    Constant,
    Defined,
    Field,
    Filter,
    Given,
    Not,
    Order,
    Primitive,
    Sign,
    Undefined,
    equals,
    fields,
    holds,
)

DOCUMENT = {
    "text": "b",
    "number": 5,
    "fraction": 5.0,
    "yes": True,
    "none": None,
    "empty": "",
    "list": [1, {"deep": "x"}],
    "object": {"a": 1},
    "huge": 10**400,
}
OF_EVERY_KIND: tuple[Primitive, ...] = ("b", 5, 2.5, True, False, None)


def constant(value: Primitive | Undefined) -> Constant:
    return Constant(value)


def field(*path: str | int) -> Field:
    return Field(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("text",), "b"),
        (("list", 0), 1),
        (("list", 1, "deep"), "x"),
        (("list", 2), UNDEFINED),
        (("list", "0"), UNDEFINED),
        (("object", 0), UNDEFINED),
        (("object", "a", "b"), UNDEFINED),
        (("text", 0), UNDEFINED),
        (("nowhere",), UNDEFINED),
    ],
)
def test_a_field_is_what_lies_at_its_path(path: tuple[str | int, ...], value: object) -> None:
    assert Field(path).value_in(DOCUMENT) == value


@pytest.mark.parametrize("left", OF_EVERY_KIND)
@pytest.mark.parametrize("right", OF_EVERY_KIND)
def test_values_of_different_types_are_unequal_and_have_no_order(left: Primitive, right: Primitive) -> None:
    numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in (left, right)]
    alike = all(numbers) or type(left) is type(right)
    judged = {order: Comparison(order, constant(left), constant(right)).value_in({}) for order in Order}
    assert judged[Order.EQUAL] is (alike and left == right)
    assert judged[Order.UNEQUAL] is not judged[Order.EQUAL]
    if not alike or left is None or isinstance(left, bool):
        assert {judged[order] for order in (Order.LESS, Order.AT_MOST, Order.GREATER, Order.AT_LEAST)} == {UNDEFINED}


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("other", [field("nowhere"), field("list"), field("object"), constant(UNDEFINED)])
def test_what_is_not_there_and_what_is_no_primitive_compares_with_nothing(order: Order, other: Filter) -> None:
    assert Comparison(order, other, other).value_in(DOCUMENT) is UNDEFINED
    assert Comparison(order, field("text"), other).value_in(DOCUMENT) is UNDEFINED
    assert Comparison(order, other, constant(None)).value_in(DOCUMENT) is UNDEFINED


@pytest.mark.parametrize(
    ("order", "holding"),
    [
        (Order.LESS, [False, False, True]),
        (Order.AT_MOST, [False, True, True]),
        (Order.GREATER, [True, False, False]),
        (Order.AT_LEAST, [True, True, False]),
    ],
)
def test_texts_and_numbers_have_an_order(order: Order, holding: list[bool]) -> None:
    assert [holds(Comparison(order, field("text"), constant(text)), DOCUMENT) for text in "abc"] == holding
    assert [holds(Comparison(order, field("number"), constant(each)), DOCUMENT) for each in (4.5, 5, 6)] == holding
    turned = [holds(Comparison(order.turned, constant(text), field("text")), DOCUMENT) for text in "abc"]
    assert turned == holding


@pytest.mark.parametrize("left", [True, False, UNDEFINED])
@pytest.mark.parametrize("right", [True, False, UNDEFINED])
def test_logic_has_three_values(left: Primitive | Undefined, right: Primitive | Undefined) -> None:
    both = All((constant(left), constant(right))).value_in({})
    either = AnyOf((constant(left), constant(right))).value_in({})
    assert both == (False if False in (left, right) else UNDEFINED if UNDEFINED in (left, right) else True)
    assert either == (True if True in (left, right) else UNDEFINED if UNDEFINED in (left, right) else False)


@pytest.mark.parametrize("value", ["true", 1, 0, None])
def test_what_is_no_boolean_is_neither_true_nor_false(value: Primitive) -> None:
    assert Not(constant(value)).value_in({}) is UNDEFINED
    assert All((constant(value), constant(True))).value_in({}) is UNDEFINED
    assert AnyOf((constant(value), constant(False))).value_in({}) is UNDEFINED
    assert not holds(constant(value), {})


def test_nothing_to_ask_holds_for_everything() -> None:
    assert holds(EVERYTHING, {})
    assert AnyOf(()).value_in({}) is False


@pytest.mark.parametrize(
    ("path", "found"),
    [("text", True), ("number", True), ("fraction", True), ("yes", False), ("none", False), ("list", UNDEFINED)],
)
def test_a_value_is_among_others_or_not_or_compares_with_none(path: str, found: object) -> None:
    members = (constant("b"), constant(5), field("nowhere"), field("object"))
    assert Among(field(path), members).value_in(DOCUMENT) is found


def test_null_is_there_and_empty_is_not_given() -> None:
    assert Defined(field("none")).value_in(DOCUMENT) is True
    assert Defined(field("nowhere")).value_in(DOCUMENT) is False
    given = [Given(field(name)).value_in(DOCUMENT) for name in ("text", "empty", "none", "nowhere")]
    assert given == ["b", UNDEFINED, UNDEFINED, UNDEFINED]


@pytest.mark.parametrize(
    ("sign", "left", "right", "value"),
    [
        ("+", 5, 2, 7.0),
        ("-", 5, 2, 3.0),
        ("*", 5, 2, 10.0),
        ("/", 5, 2, 2.5),
        ("/", 5, 0, UNDEFINED),
        ("%", 5, 3, 2.0),
        ("%", -5, 3, -2.0),
        ("%", 5, 0, UNDEFINED),
        ("*", 1e308, 10, UNDEFINED),
        ("+", 10**400, 1, UNDEFINED),
        ("+", "5", 1, UNDEFINED),
        ("+", True, 1, UNDEFINED),
        ("+", None, 1, UNDEFINED),
    ],
)
def test_numbers_are_computed_as_doubles(sign: str, left: Primitive, right: Primitive, value: object) -> None:
    assert Computed(Sign(sign), constant(left), constant(right)).value_in({}) == value


def test_the_fields_of_a_filter_are_those_it_looks_at() -> None:
    where = All((equals(("a",), 1), Not(Among(field("b", 0), (field("c"),))), Defined(Given(field("d")))))
    assert list(fields(where)) == [("a",), ("b", 0), ("c",), ("d",)]


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3))


@given(st.sampled_from(Order), VALUES, VALUES)
def test_a_turned_comparison_says_the_same(order: Order, left: Primitive, right: Primitive) -> None:
    one = Comparison(order, constant(left), constant(right)).value_in({})
    assert one == Comparison(order.turned, constant(right), constant(left)).value_in({})
