"""What of the language can be answered today, as the store understands it; everything else is refused by name.

This is the seam where the compiler to the store's language will sit: a tree comes in, what the state port takes goes
out. Today that is a conjunction of equalities.
"""

from dataclasses import dataclass

from isthmus.base.errors import Code, HubError
from isthmus.base.state import Equals
from isthmus.query.parser import parse
from isthmus.query.syntax import Aggregate, Binary, Call, Collection, Expression, Literal, Path, Query, Unary

CONDITIONS_MAX = 64
"""Equalities in one query; each costs the store a term."""

ROOTS = {
    "deviceid": ("deviceId",),
    "id": ("deviceId",),
    "moduleid": ("moduleId",),
    "status": ("status",),
    "statusreason": ("statusReason",),
    "devicescope": ("deviceScope",),
    "capabilities": ("capabilities",),
    "authenticationtype": ("authentication", "type"),
    "connectionstate": ("connectionState",),
    "lastactivitytime": ("lastActivityTime",),
    "tags": ("tags",),
    "properties": ("properties",),
}
"""Members that conditions may name, in any case, and where they stand in the joined view of a device."""

NAMES = {
    name.lower(): name
    for name in (
        "deviceId", "moduleId", "etag", "deviceEtag", "status", "statusReason", "statusUpdateTime", "connectionState",
        "lastActivityTime", "cloudToDeviceMessageCount", "authenticationType", "x509Thumbprint", "modelId", "version",
        "tags", "properties", "capabilities", "deviceScope", "parentScopes", "configurations",
    )
}  # fmt: skip
"""Members of a twin as rows spell them, whatever the case in the query."""


@dataclass(frozen=True, slots=True)
class Column:
    """A member of a row, and where it stands in the twin as services read it."""

    name: str
    path: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """A query that the store can answer; without columns each row is a whole twin."""

    modules: bool
    columns: tuple[Column, ...]
    conditions: tuple[Equals, ...]


def compile_search(text: str) -> Search:
    """The search of a query text; raises `ARGUMENT_INVALID` for one that is wrong or not supported yet."""
    return search_of(parse(text))


def search_of(query: Query) -> Search:
    """The search of a query; raises `ARGUMENT_INVALID` for one that is not supported yet."""
    _refuse_what_is_missing(query)
    return Search(
        modules=query.collection is Collection.MODULES,
        columns=tuple(_column(item.what, item.alias) for item in query.select),
        conditions=() if query.where is None else tuple(_conditions(query.where)),
    )


def _refuse_what_is_missing(query: Query) -> None:
    if query.collection is Collection.JOBS:
        raise _unsupported("devices.jobs")
    if query.top is not None:
        raise _unsupported("TOP")
    if query.group_by:
        raise _unsupported("GROUP BY")


def _column(what: Path | Aggregate, alias: str | None) -> Column:
    if isinstance(what, Aggregate):
        raise _unsupported(what.function, what.position)
    root, *below = what.segments
    path = (NAMES.get(str(root).lower(), root), *below)
    if str(root).lower() == "id":
        path = ("deviceId", *below)
    return Column(alias or str(path[-1]), path)


def _conditions(where: Expression) -> list[Equals]:
    """The equalities of a conjunction, in their order; walked without recursion, for the tree leans to the left."""
    found: list[Equals] = []
    pending = [where]
    while pending:
        expression = pending.pop()
        if isinstance(expression, Binary) and expression.operator == "AND":
            pending += [expression.right, expression.left]
            continue
        found.append(_equality(expression))
        if len(found) > CONDITIONS_MAX:
            raise _unsupported(f"more than {CONDITIONS_MAX} conditions")
    return found


def _equality(expression: Expression) -> Equals:
    match expression:
        case Binary("=", Path() as path, Literal(value)) | Binary("=", Literal(value), Path() as path):
            return Equals(_stored_path(path), value)
        case Binary(operator, position=position):
            raise _unsupported(f"{operator} between these operands", position)
        case Unary(operator, position=position):
            raise _unsupported(operator, position)
        case Call(function, position=position):
            raise _unsupported(f"{function}()", position)
        case _:
            raise _unsupported("a condition that is no comparison", expression.position)


def _stored_path(path: Path) -> tuple[str, ...]:
    root, *below = path.segments
    stored = ROOTS.get(str(root).lower())
    members = [segment for segment in below if isinstance(segment, str)]
    if stored is None or len(members) < len(below) or (stored == ("properties",) and "$" in "".join(members)):
        raise _unsupported(f"a condition on {_written(path)}", path.position)
    return (*stored, *members)


def _written(path: Path) -> str:
    return ".".join(str(segment) for segment in path.segments)[:100]


def _unsupported(what: str, position: int | None = None) -> HubError:
    place = "" if position is None else f" (at position {position + 1})"
    return HubError(Code.ARGUMENT_INVALID, f"{what} is not supported yet{place}")
