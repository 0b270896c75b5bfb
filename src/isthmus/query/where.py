"""Compiles what stands behind WHERE to a filter, as stores and rows at hand are asked by.

Theory of operation. Chains of AND and OR, whose trees lean to the left for as long as they are, become one node with
many terms; everything else is compiled by recursion, whose depth is bounded. A path is looked up in the vocabulary of
what is asked about: a member that no document has is refused, not searched for in vain. No types are checked: what does
not fit is undefined, document by document (IoT Hub developer guide, "Query language").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from isthmus.base.filters import (
    UNDEFINED,
    All,
    Among,
    AnyOf,
    Applied,
    Array,
    Comparison,
    Computed,
    Constant,
    Defined,
    Field,
    Filter,
    Not,
    Order,
    Sign,
)
from isthmus.query.functions import FUNCTIONS
from isthmus.query.lexer import unexpected
from isthmus.query.syntax import Binary, Call, Expression, ListOf, Literal, Path, Unary, Undefined

OPERATIONS_MAX = 512
"""Comparisons, computations, functions and the words between them; each is judged for every document."""

HEIGHT_MAX = 100
"""Operators upon one another: far more than somebody writes, and few enough to be judged by recursion."""

Member = Callable[[tuple[str | int, ...]], Filter]
"""What a path below a root member means."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What can be asked about: root members by their names in small letters, and how documents are called.

    A member whose meaning is None is shown in rows, and no condition can be on it.
    """

    documents: str
    members: Mapping[str, Member | None]


def compile_where(where: Expression | None, vocabulary: Vocabulary) -> Filter:
    """The filter of a condition; raises `ARGUMENT_INVALID` with the position of what cannot be asked."""
    return All(()) if where is None else _Compiler(vocabulary).filter(where, 0)


def compile_path(path: Path, vocabulary: Vocabulary) -> Filter:
    """The filter that gives a member; raises `ARGUMENT_INVALID` for one that no document has."""
    root, *below = path.segments
    name = str(root).lower()
    if name not in vocabulary.members:
        raise unexpected(path.position, f"{vocabulary.documents} have no member '{str(root)[:100]}'")
    member = vocabulary.members[name]
    if member is None:
        raise unexpected(path.position, f"no condition can be on {root}")
    return member(tuple(below))


class _Compiler:
    """One condition, and how many operations it has so far."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._operations = 0

    def filter(self, expression: Expression, height: int) -> Filter:
        if height > HEIGHT_MAX:
            raise unexpected(expression.position, f"more than {HEIGHT_MAX} operators upon one another")
        match expression:
            case Literal(value):
                return Constant(value)
            case Undefined():
                return Constant(UNDEFINED)
            case Path():
                return compile_path(expression, self._vocabulary)
            case ListOf(members):
                return Array(self._each(members, height))
            case Unary() | Call() | Binary():
                return self._operation(expression, height)

    def _operation(self, expression: Unary | Call | Binary, height: int) -> Filter:
        self._count(expression)
        match expression:
            case Unary("NOT", operand):
                return Not(self.filter(operand, height + 1))
            case Unary(sign, operand):
                return Computed(Sign(sign), Constant(0), self.filter(operand, height + 1))
            case Call():
                return self._call(expression, height)
            case Binary("AND" | "OR"):
                return self._joined(expression, height)
            case Binary("IN" | "NIN" as operator, left, ListOf(members)):
                among = Among(self.filter(left, height + 1), self._each(members, height))
                return among if operator == "IN" else Not(among)
            case Binary(operator, left, right):
                return _binary(operator, self.filter(left, height + 1), self.filter(right, height + 1))

    def _each(self, expressions: Sequence[Expression], height: int) -> tuple[Filter, ...]:
        return tuple(self.filter(each, height + 1) for each in expressions)

    def _joined(self, expression: Binary, height: int) -> Filter:
        """A chain of one operator, in its order; walked without recursion."""
        found: list[Expression] = []
        pending: list[Expression] = [expression.right, expression.left]
        while pending:
            each = pending.pop()
            if isinstance(each, Binary) and each.operator == expression.operator:
                self._count(each)
                pending += [each.right, each.left]
            else:
                found.append(each)
        terms = self._each(found, height)
        return All(terms) if expression.operator == "AND" else _any_of(terms)

    def _call(self, call: Call, height: int) -> Filter:
        arguments = self._each(call.arguments, height)
        if call.function == "IS_DEFINED":
            _check_arguments(call, 1, 1, "1 argument")
            return Defined(arguments[0])
        function = FUNCTIONS.get(call.function)
        if function is None:
            raise unexpected(call.position, f"no function {call.function[:100]}()")
        _check_arguments(call, function.arguments_min, function.arguments_max, function.arity)
        return Applied(call.function, function.apply, arguments)

    def _count(self, expression: Expression) -> None:
        self._operations += 1
        if self._operations > OPERATIONS_MAX:
            raise unexpected(expression.position, f"more than {OPERATIONS_MAX} operations in a condition")


def _check_arguments(call: Call, least: int, most: int, arity: str) -> None:
    if not least <= len(call.arguments) <= most:
        raise unexpected(call.position, f"{call.function}() takes {arity}")


def _binary(operator: str, left: Filter, right: Filter) -> Filter:
    if operator in tuple(Sign):
        return Computed(Sign(operator), left, right)
    order = Order(operator)
    if isinstance(left, Constant) and not isinstance(right, Constant):
        return Comparison(order.turned, right, left)
    return Comparison(order, left, right)


def _any_of(terms: tuple[Filter, ...]) -> Filter:
    """Equalities of one field, and such lists, are one list, in which a store can find it."""
    operand, members = None, list[Filter]()
    for term in terms:
        match term:
            case Comparison(Order.EQUAL, Field() as field, Constant() as constant) if operand in (None, field):
                operand = field
                members.append(constant)
            case Among(Field() as field, more) if operand in (None, field):
                operand = field
                members += more
            case _:
                return AnyOf(terms)
    return AnyOf(terms) if operand is None else Among(operand, tuple(members))
