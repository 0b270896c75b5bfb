"""Conditions over documents, as a tree of frozen values: what a query asks of a store, and what it means.

A backend may compile the tree to its own language; what `value_in` says is the meaning it must keep. Values are those
of JSON and `UNDEFINED`, which stands for what is not there and for what has no result. Logic is three-valued; a
condition holds only where its value is true. Nothing is converted: values of different types are never equal and have
no order, a boolean is no number, and arrays and objects are not compared (IoT Hub developer guide, "Query language for
device and module twins").
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, TypeGuard


class Undefined(Enum):
    """The value of what is not there."""

    UNDEFINED = "undefined"


UNDEFINED = Undefined.UNDEFINED

Primitive = str | int | float | bool | None
"""A value that can be compared."""

Path = tuple[str | int, ...]
"""Members, and places in arrays, from a document's root."""


class Order(StrEnum):
    """How two values are compared."""

    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="

    @property
    def turned(self) -> "Order":
        """The one that says the same of the operands in the other order."""
        return _TURNED.get(self, self)


class Sign(StrEnum):
    """What is computed of two numbers, as doubles."""

    PLUS = "+"
    MINUS = "-"
    TIMES = "*"
    DIVIDED = "/"
    REMAINDER = "%"


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that no document changes."""

    value: Primitive | Undefined

    def value_in(self, document: object) -> object:
        return self.value


@dataclass(frozen=True, slots=True)
class Field:
    """What lies at a path of the document, the joined view of a device for instance."""

    path: Path

    def value_in(self, document: object) -> object:
        found = document
        for step in self.path:
            if isinstance(step, str):
                if not isinstance(found, Mapping) or step not in found:
                    return UNDEFINED
                found = found[step]
            elif _is_array(found) and step < len(found):
                found = found[step]
            else:
                return UNDEFINED
        return found


@dataclass(frozen=True, slots=True)
class Given:
    """A field that is stored empty, or null, where nobody gave it: undefined then."""

    field: Field

    def value_in(self, document: object) -> object:
        value = self.field.value_in(document)
        return UNDEFINED if value is None or value == "" else value


@dataclass(frozen=True, slots=True)
class Array:
    """An array of values."""

    members: tuple["Filter", ...]

    def value_in(self, document: object) -> object:
        return [member.value_in(document) for member in self.members]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether two values stand in an order; undefined when one of them is, or where they cannot be compared."""

    order: Order
    left: "Filter"
    right: "Filter"

    def value_in(self, document: object) -> object:
        left, right = self.left.value_in(document), self.right.value_in(document)
        match self.order:
            case Order.EQUAL:
                return equal(left, right)
            case Order.UNEQUAL:
                return _opposite(equal(left, right))
            case order:
                kind = _kind(left)
                if kind is not _kind(right) or kind not in (_Kind.NUMBER, _Kind.STRING):
                    return UNDEFINED
                return _ORDERS[order](left, right)


@dataclass(frozen=True, slots=True)
class Among:
    """Whether a value equals one of several; undefined where it can equal nothing."""

    operand: "Filter"
    members: tuple["Filter", ...]

    def value_in(self, document: object) -> object:
        value = self.operand.value_in(document)
        if _kind(value) is _Kind.OTHER:
            return UNDEFINED
        return any(equal(value, member.value_in(document)) is True for member in self.members)


@dataclass(frozen=True, slots=True)
class Defined:
    """Whether a value is there, null included."""

    operand: "Filter"

    def value_in(self, document: object) -> object:
        return self.operand.value_in(document) is not UNDEFINED


@dataclass(frozen=True, slots=True)
class All:
    """True where all terms are, false where one is; of no terms it is true. What is no boolean counts as undefined."""

    terms: tuple["Filter", ...]

    def value_in(self, document: object) -> object:
        return _judged_in_turn(self.terms, document, decisive=False)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True where one term is, false where all are."""

    terms: tuple["Filter", ...]

    def value_in(self, document: object) -> object:
        return _judged_in_turn(self.terms, document, decisive=True)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a boolean; of anything else undefined."""

    operand: "Filter"

    def value_in(self, document: object) -> object:
        return _opposite(self.operand.value_in(document))


@dataclass(frozen=True, slots=True)
class Computed:
    """Two numbers, computed; undefined where one is none, and where there is no result."""

    sign: Sign
    left: "Filter"
    right: "Filter"

    def value_in(self, document: object) -> object:
        left, right = as_double(self.left.value_in(document)), as_double(self.right.value_in(document))
        if left is None or right is None:
            return UNDEFINED
        try:
            result = _COMPUTATIONS[self.sign](left, right)
        except (OverflowError, ValueError, ZeroDivisionError):
            return UNDEFINED
        return result if math.isfinite(result) else UNDEFINED


@dataclass(frozen=True, slots=True)
class Applied:
    """A function of values; it is pure and raises nothing. A backend that knows it by its name may do it itself."""

    name: str
    apply: Callable[..., object]
    arguments: tuple["Filter", ...]

    def value_in(self, document: object) -> object:
        return self.apply(*[argument.value_in(document) for argument in self.arguments])


Filter = Constant | Field | Given | Array | Comparison | Among | Defined | All | AnyOf | Not | Computed | Applied

EVERYTHING = All(())
"""Holds for every document."""


def holds(where: Filter, document: object) -> bool:
    """True where the condition's value is true."""
    return where.value_in(document) is True


def equals(path: Path, value: Primitive) -> Comparison:
    """`path = value`."""
    return Comparison(Order.EQUAL, Field(path), Constant(value))


def terms_of(where: Filter) -> tuple[Filter, ...]:
    """What must be true, each, for the condition to hold."""
    return where.terms if isinstance(where, All) else (where,)


def fields(where: Filter) -> Iterator[Path]:
    """The paths that a condition looks at, some more than once."""
    if isinstance(where, Field):
        yield where.path
    for below in operands(where):
        yield from fields(below)


def operands(where: Filter) -> tuple[Filter, ...]:
    """What stands below a node of the tree."""
    match where:
        case All(terms) | AnyOf(terms) | Array(terms):
            return terms
        case Comparison(_, left, right) | Computed(_, left, right):
            return left, right
        case Not(operand) | Defined(operand) | Given(operand):
            return (operand,)
        case Among(operand, members):
            return operand, *members
        case Applied(_, _, arguments):
            return arguments
        case _:
            return ()


def equal(left: object, right: object) -> bool | Undefined:
    """Whether two values are the same; undefined where one is undefined, an array or an object."""
    left_kind, right_kind = _kind(left), _kind(right)
    if left_kind is _Kind.OTHER or right_kind is _Kind.OTHER:
        return UNDEFINED
    return left_kind is right_kind and left == right


def as_double(value: object) -> float | None:
    """A number as the language knows it, None for anything else; what is beyond all doubles is infinite."""
    if _kind(value) is not _Kind.NUMBER:
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # a number, as its kind says
    except OverflowError:
        return math.copysign(math.inf, 1 if value > 0 else -1)  # type: ignore[operator]


class _Kind(Enum):
    BOOLEAN = 1
    NUMBER = 2
    STRING = 3
    NULL = 4
    OTHER = 5


_KINDS = {bool: _Kind.BOOLEAN, int: _Kind.NUMBER, float: _Kind.NUMBER, str: _Kind.STRING, type(None): _Kind.NULL}


def _kind(value: object) -> _Kind:
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    return _Kind.STRING if isinstance(value, str) else _Kind.OTHER


def _opposite(value: object) -> bool | Undefined:
    return not value if isinstance(value, bool) else UNDEFINED


def _judged_in_turn(terms: Sequence[Filter], document: object, *, decisive: bool) -> bool | Undefined:
    result: bool | Undefined = not decisive
    for term in terms:
        value = term.value_in(document)
        if value is decisive:
            return decisive
        if not isinstance(value, bool):
            result = UNDEFINED
    return result


def _is_array(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


_TURNED = {
    Order.LESS: Order.GREATER,
    Order.AT_MOST: Order.AT_LEAST,
    Order.GREATER: Order.LESS,
    Order.AT_LEAST: Order.AT_MOST,
}
_ORDERS: dict[Order, Callable[[Any, Any], bool]] = {
    Order.LESS: operator.lt,
    Order.AT_MOST: operator.le,
    Order.GREATER: operator.gt,
    Order.AT_LEAST: operator.ge,
}
_COMPUTATIONS: dict[Sign, Callable[[float, float], float]] = {
    Sign.PLUS: operator.add,
    Sign.MINUS: operator.sub,
    Sign.TIMES: operator.mul,
    Sign.DIVIDED: operator.truediv,
    Sign.REMAINDER: math.fmod,
}
