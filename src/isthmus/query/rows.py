"""Conditions judged over rows at hand, such as those of `devices.jobs`, where no store can be asked.

Values are those of JSON and `undefined`. What is not there is undefined; a comparison with it, or of an order between
different types, is undefined too; and a condition holds only where it is true (IoT Hub developer guide, "Query
language").
"""

from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from types import MappingProxyType
from typing import Any

from isthmus.base.errors import Code, HubError
from isthmus.query.syntax import Binary, Call, Expression, ListOf, Literal, Path, Unary, Undefined

HEIGHT_MAX = 100
"""Operators upon one another: far more than somebody writes, and few enough to be judged by recursion."""

_UNDEFINED = object()

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType({"<": lt, "<=": le, ">": gt, ">=": ge})

_ALIASES: Mapping[str, str] = MappingProxyType({"createdtimeutc": "createdDateTimeUtc"})
"""Names that the guide's examples have for members of rows."""


def check_height(where: Expression) -> None:
    """Raises `ARGUMENT_INVALID` for a condition whose tree is too high to be judged: it leans as far as it is long."""
    level: list[Expression] = [where]
    for _ in range(HEIGHT_MAX):
        level = [below for each in level for below in _below(each)]
        if not level:
            return
    raise HubError(Code.ARGUMENT_INVALID, f"The condition has more than {HEIGHT_MAX} operators upon one another")


def _below(expression: Expression) -> tuple[Expression, ...]:
    match expression:
        case Binary(_, left, right):
            return left, right
        case Unary(_, operand):
            return (operand,)
        case ListOf(members):
            return members
        case Call(_, arguments):
            return arguments
        case _:
            return ()


def row_holds(where: Expression, row: Mapping[str, object]) -> bool:
    """True where the condition holds for a row; raises `ARGUMENT_INVALID` for what is not supported."""
    return _value(where, row) is True


def equal_text(where: Expression | None, member: str) -> str:
    """The text that a member must equal for the condition to hold; empty when it leaves that open."""
    match where:
        case Binary("AND", left, right):
            return equal_text(left, member) or equal_text(right, member)
        case Binary("=", Path((str() as name,)), Literal(str() as text)) if name.lower() == member.lower():
            return text
        case _:
            return ""


def _value(expression: Expression, row: Mapping[str, object]) -> object:
    match expression:
        case Literal(value):
            return value
        case Undefined():
            return _UNDEFINED
        case Path(segments):
            return _member(segments, row)
        case Unary("NOT", operand):
            found = _value(operand, row)
            return _UNDEFINED if found is _UNDEFINED else found is not True
        case Binary(operator, left, right):
            return _binary(operator, left, right, row)
        case Call("IS_DEFINED", (argument,)):
            return _value(argument, row) is not _UNDEFINED
        case _:
            raise HubError(Code.ARGUMENT_INVALID, f"This is not supported here (at position {expression.position + 1})")


def _binary(operator: str, left: Expression, right: Expression, row: Mapping[str, object]) -> object:
    if operator in ("AND", "OR"):
        sides = (_value(left, row) is True, _value(right, row) is True)
        return all(sides) if operator == "AND" else any(sides)
    found = _value(left, row)
    if operator in ("IN", "NIN", "NOT IN"):
        members = right.members if isinstance(right, ListOf) else ()
        among = any(_same(found, _value(member, row)) for member in members)
        return _UNDEFINED if found is _UNDEFINED else among is (operator == "IN")
    other = _value(right, row)
    if found is _UNDEFINED or other is _UNDEFINED:
        return _UNDEFINED
    if operator in ("=", "!=", "<>"):
        return _same(found, other) is (operator == "=")
    if operator in _ORDERS and type(found) is type(other) and isinstance(found, str | int | float):
        return _ORDERS[operator](found, other)
    return _UNDEFINED


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _member(segments: tuple[str | int, ...], row: Mapping[str, object]) -> object:
    """A member of the row; those of its root in any case."""
    first = str(segments[0]).lower()
    wanted = _ALIASES.get(first, first).lower()
    value: object = next((each for name, each in row.items() if name.lower() == wanted), _UNDEFINED)
    for segment in segments[1:]:
        value = value.get(str(segment), _UNDEFINED) if isinstance(value, Mapping) else _UNDEFINED
    return value
