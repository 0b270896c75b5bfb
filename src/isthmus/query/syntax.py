"""The syntax tree of a query; positions count characters from 0."""

from dataclasses import dataclass
from enum import Enum


class Collection(Enum):
    """What a query looks at."""

    DEVICES = "devices"
    MODULES = "devices.modules"
    JOBS = "devices.jobs"


@dataclass(frozen=True, slots=True)
class Undefined:
    """The constant `undefined`."""

    position: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, number, truth value or null."""

    value: str | int | float | bool | None
    position: int


@dataclass(frozen=True, slots=True)
class Path:
    """A member of the document, the name of its collection in front removed; an integer indexes an array."""

    segments: tuple[str | int, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`NOT x`, `-x`, `+x`."""

    operator: str
    operand: "Expression"
    position: int


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands: logic, comparison, arithmetic, `IN` and `NIN`; keywords in capitals, `<>` as `!=`."""

    operator: str
    left: "Expression"
    right: "Expression"
    position: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function, its name in capitals."""

    function: str
    arguments: tuple["Expression", ...]
    position: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[a, b, c]`."""

    members: tuple["Expression", ...]
    position: int


Expression = Undefined | Literal | Path | Unary | Binary | Call | ListOf


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`COUNT`, `AVG`, `SUM`, `MIN`, `MAX`; without a path it counts rows."""

    function: str
    path: Path | None
    position: int


@dataclass(frozen=True, slots=True)
class Selected:
    """One member of a row: what, and under which name if one was given."""

    what: Path | Aggregate
    alias: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query; `select` is empty for `*`."""

    select: tuple[Selected, ...]
    collection: Collection
    where: Expression | None
    group_by: tuple[Path, ...]
    top: int | None
