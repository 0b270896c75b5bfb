"""The functions of route conditions ("IoT Hub query language, expressions and conditions", built-in functions).

Wrong counts and statically wrong types of arguments do not compile; a body's value of a wrong type makes the result
undefined. Strings are compared by code point and case.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from isthmus.query.conditions.values import MISSING, UNDEFINED, Value, as_number, number


class Type(Enum):
    """What is known of a value before it is there; `ANY` is a body's or a twin's."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    NULL = "null"
    UNDEFINED = "undefined"
    ANY = "any"


class Takes(Enum):
    """How a function wants its arguments: of a type, or as they are, arrays and objects included."""

    TYPED = auto()
    ANYTHING = auto()
    RAW = auto()


@dataclass(frozen=True, slots=True)
class Function:
    """`required` of `parameters`, the types of its arguments, must be there; the last one `repeats`, or not."""

    apply: Callable[..., Value]
    result: Type
    parameters: tuple[Type, ...]
    required: int
    repeats: bool = False
    takes: Takes = Takes.TYPED


def _guarded(operation: Callable[..., Value]) -> Callable[..., Value]:
    """Mathematics without exceptions: what overflows is infinite, what has no result undefined."""

    def apply(*values: Value) -> Value:
        if not all(isinstance(value, float) for value in values):
            return UNDEFINED
        try:
            result = operation(*values)
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return UNDEFINED
        return number(result) if isinstance(result, (int, float)) else UNDEFINED

    return apply


def _strings(operation: Callable[..., Value]) -> Callable[..., Value]:
    def apply(*values: Value) -> Value:
        return operation(*values) if all(isinstance(value, str) for value in values) else UNDEFINED

    return apply


def _rounded(operation: Callable[[float], int]) -> Callable[[float], Value]:
    return lambda value: float(operation(value)) if math.isfinite(value) else value


def _sign(value: float) -> Value:
    return float((value > 0) - (value < 0))


def _power(base: float, exponent: float) -> Value:
    return math.pow(base, exponent)


def _substring(text: Value, start: Value, length: Value = None) -> Value:
    """Out of range is undefined: a start beyond the end, and with a length also one that does not fit."""
    if not isinstance(text, str) or not isinstance(start, float) or not math.isfinite(start):
        return UNDEFINED
    begin = int(start)
    if begin < 0 or begin > len(text):
        return UNDEFINED
    if length is None:
        return text[begin:]
    if not isinstance(length, float) or not math.isfinite(length):
        return UNDEFINED
    count = int(length)
    return text[begin : begin + count] if 0 <= count <= len(text) - begin and begin < len(text) else UNDEFINED


def _is_primitive(value: Value) -> bool:
    return value is None or isinstance(value, (str, bool, int, float))


def _is_array(value: Value) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_null(value: Value) -> bool:
    return value is None or value is MISSING


def _math(operation: Callable[..., Value], count: int = 1) -> Function:
    return Function(_guarded(operation), Type.NUMBER, (Type.NUMBER,) * count, count)


def _text(operation: Callable[..., Value], result: Type, count: int, *, repeats: bool = False) -> Function:
    return Function(_strings(operation), result, (Type.STRING,) * count, count, repeats)


def _test(operation: Callable[[Value], bool]) -> Function:
    return Function(operation, Type.BOOLEAN, (Type.ANY,), 1, takes=Takes.RAW)


_STARTS_WITH = _text(lambda text, start: text.startswith(start), Type.BOOLEAN, 2)
_ENDS_WITH = _text(lambda text, end: text.endswith(end), Type.BOOLEAN, 2)

CONCAT = _text(lambda *parts: "".join(parts), Type.STRING, 2, repeats=True)
"""Also the operator `||`."""

FUNCTIONS: Mapping[str, Function] = {
    "ABS": _math(abs),
    "EXP": _math(math.exp),
    "POWER": _math(_power, 2),
    "SQUARE": _math(lambda value: value * value),
    "CEILING": _math(_rounded(math.ceil)),
    "FLOOR": _math(_rounded(math.floor)),
    "SIGN": _math(_sign),
    "SQRT": _math(math.sqrt),
    "AS_NUMBER": Function(as_number, Type.NUMBER, (Type.ANY,), 1, takes=Takes.ANYTHING),
    "IS_ARRAY": _test(_is_array),
    "IS_BOOL": _test(lambda value: isinstance(value, bool)),
    "IS_NULL": _test(_is_null),
    "IS_NUMBER": _test(_is_number),
    "IS_OBJECT": _test(lambda value: isinstance(value, Mapping)),
    "IS_PRIMITIVE": _test(_is_primitive),
    "IS_STRING": _test(lambda value: isinstance(value, str)),
    "CONCAT": CONCAT,
    "LENGTH": _text(lambda text: float(len(text)), Type.NUMBER, 1),
    "LOWER": _text(str.lower, Type.STRING, 1),
    "UPPER": _text(str.upper, Type.STRING, 1),
    "SUBSTRING": Function(_substring, Type.STRING, (Type.STRING, Type.NUMBER, Type.NUMBER), 2),
    "INDEX_OF": _text(lambda text, part: float(text.find(part)), Type.NUMBER, 2),
    "STARTS_WITH": _STARTS_WITH,
    "STARTSWITH": _STARTS_WITH,
    "ENDS_WITH": _ENDS_WITH,
    "ENDSWITH": _ENDS_WITH,
    "CONTAINS": _text(lambda text, part: part in text, Type.BOOLEAN, 2),
}
"""By name in capitals; documents spell some with an underscore and some without, so both are taken.

`IS_DEFINED` and `TWIN_CHANGE_INCLUDES` are the compiler's own: they ask for names, not for values.
"""
