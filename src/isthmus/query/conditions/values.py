"""Values of conditions while they are judged: three-valued logic, and comparisons without conversion.

Between values of different types nothing is equal, and order follows the types: boolean, number, string, null. A
`MISSING` member counts as null, and whatever is compared with an undefined value is undefined.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from isthmus.query.conditions.nodes import Constant, Undefined

UNDEFINED = Undefined.UNDEFINED
MISSING = Undefined.MISSING

Value = Constant | Sequence[object] | Mapping[str, object]
"""Sequences and mappings come from JSON; only the functions that ask for them ever see them."""


class Subject(Protocol):
    """What a condition is judged about; names arrive in small letters."""

    def application_property(self, name: str) -> str | None:
        """An application property's text, None when the message has none of that name."""

    def system_property(self, name: str) -> str | None:
        """A system property's text under the name that conditions use, None when it is not set."""

    def body(self) -> Mapping[str, object] | None:
        """The body where it is a JSON object that may be asked, else None."""

    def twin(self) -> Mapping[str, object] | None:
        """The sender's twin with `tags` and `properties`, None when there is none."""


Judged = Callable[[Subject], Value]
"""A compiled part of a condition. It never raises."""

_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")

_BOOLEAN, _NUMBER, _STRING, _NULL, _OTHER = range(5)


def primitive(value: object) -> Constant:
    """A JSON value as conditions see it: dates in ISO 8601, arrays and objects are undefined, a missing member null."""
    if value is None or value is MISSING:
        return None
    if isinstance(value, str):
        return UNDEFINED if value[4:5] == "-" and _DATE_TIME.fullmatch(value) else value
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return number(value)
    return UNDEFINED


def text_or_more(value: object) -> Constant:
    """As `primitive`, for twins: their dates are text, and a member that is not there is undefined."""
    if value is MISSING:
        return UNDEFINED
    return value if isinstance(value, str) else primitive(value)


def number(value: int | float) -> Constant:
    """A double; undefined where it is none, and infinite where a whole number is too large."""
    try:
        result = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return UNDEFINED if math.isnan(result) else result


def equal(left: Value, right: Value) -> Value:
    """True, false or undefined."""
    left_rank, right_rank = _rank(left), _rank(right)
    if left_rank == _OTHER or right_rank == _OTHER:
        return UNDEFINED
    return left_rank == right_rank and left == right


def unequal(left: Value, right: Value) -> Value:
    """The opposite of `equal`, undefined where that is."""
    result = equal(left, right)
    return result if result is UNDEFINED else not result


def ordered(accept: Callable[[int], bool]) -> Callable[[Value, Value], Value]:
    """A comparison that holds when `accept` takes the sign of left minus right."""

    def compare(left: Value, right: Value) -> Value:
        left_rank, right_rank = _rank(left), _rank(right)
        if left_rank == _OTHER or right_rank == _OTHER:
            return UNDEFINED
        if left_rank != right_rank:
            return accept(left_rank - right_rank)
        if left_rank == _NULL or left == right:
            return accept(0)
        return accept(-1 if left < right else 1)  # type: ignore[operator]  # both are of one rank

    return compare


def opposite(value: Value) -> Value:
    """NOT: undefined for what is no boolean."""
    return not value if isinstance(value, bool) else UNDEFINED


def as_number(value: Value) -> Constant:
    """A number, or a string that is one; anything else is undefined."""
    if isinstance(value, str):
        text = value.strip()
        return number(float(text)) if _DECIMAL.fullmatch(text) else UNDEFINED
    return value if isinstance(value, float) else UNDEFINED


_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _rank(value: Value) -> int:
    if isinstance(value, str):
        return _STRING
    if isinstance(value, bool):
        return _BOOLEAN
    if isinstance(value, float):
        return _NUMBER
    return _NULL if value is None or value is MISSING else _OTHER
