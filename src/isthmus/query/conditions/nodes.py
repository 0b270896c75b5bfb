"""What a condition consists of, as it was parsed; positions are characters from the condition's beginning."""

from dataclasses import dataclass
from enum import Enum


class Undefined(Enum):
    """The value that is not there; a `MISSING` member of a body compares as null but is not defined."""

    UNDEFINED = "undefined"
    MISSING = "missing"


Constant = str | float | bool | None | Undefined


@dataclass(frozen=True, slots=True)
class Literal:
    """A value as it is written."""

    value: Constant
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Property:
    """An application property."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reference:
    """What begins with a dollar sign; `forced` (in braces) is never an application property of that name."""

    text: str
    forced: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function; `argument_text` is what stands between its parentheses."""

    function: str
    arguments: tuple["Node", ...]
    argument_text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`NOT` or `-`."""

    operator: str
    operand: "Node"
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Logical:
    """`AND` or `OR` of two or more."""

    operator: str
    operands: tuple["Node", ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Binary:
    """`??`, a comparison, or an operation; `<>` is written `!=`."""

    operator: str
    left: "Node"
    right: "Node"
    start: int
    end: int


Node = Literal | Property | Reference | Call | Unary | Logical | Binary
