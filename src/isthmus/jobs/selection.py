"""Which devices or modules a scheduled job is for: its query condition, as far as the store can answer it."""

from dataclasses import dataclass, replace

from isthmus.base.errors import Code, HubError
from isthmus.base.state import Equals
from isthmus.query.parser import parse
from isthmus.query.search import search_of
from isthmus.query.syntax import Binary, Collection, Expression, ListOf, Literal, Path

CONDITION_CHARACTERS_MAX = 8_192
"""A query's text (IoT Hub developer guide, "Query language")."""

ALL = "*"
MODULES = "from devices.modules"
"""Begins a condition over modules."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Equalities that all hold, over devices or modules; `device_ids` are None where any may be meant."""

    modules: bool
    conditions: tuple[Equals, ...]
    device_ids: tuple[str, ...] | None = None


def parse_selection(condition: str) -> Selection:
    """The selection of a job's `queryCondition`; raises `ARGUMENT_INVALID` for one that is wrong or not supported yet.

    That is the part of a query behind its WHERE, `*` for all devices; one over modules begins with
    `FROM devices.modules`. Device ids may be given by IN beside equalities.
    """
    if len(condition) > CONDITION_CHARACTERS_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"queryCondition is longer than {CONDITION_CHARACTERS_MAX} characters")
    query = parse(_query_text(condition.strip()))
    if query.collection is Collection.JOBS:
        raise HubError(Code.ARGUMENT_INVALID, "queryCondition must be about devices or modules")
    device_ids: tuple[str, ...] | None = None
    rest: Expression | None = None
    for term in [] if query.where is None else _terms(query.where):
        named = _device_ids(term)
        if named is None:
            rest = term if rest is None else Binary("AND", rest, term, term.position)
        else:
            device_ids = named if device_ids is None else tuple(each for each in device_ids if each in named)
    search = search_of(replace(query, where=rest))
    return Selection(search.modules, search.conditions, device_ids)


def _query_text(condition: str) -> str:
    if condition == ALL:
        return "SELECT * FROM devices"
    if condition.lower().startswith(MODULES):
        return f"SELECT * {condition}"
    return f"SELECT * FROM devices WHERE {condition}"


def _terms(where: Expression) -> list[Expression]:
    """What AND joins, in its order; walked without recursion, for the tree leans to the left."""
    found: list[Expression] = []
    pending = [where]
    while pending:
        expression = pending.pop()
        if isinstance(expression, Binary) and expression.operator == "AND":
            pending += [expression.right, expression.left]
        else:
            found.append(expression)
    return found


def _device_ids(term: Expression) -> tuple[str, ...] | None:
    """The ids of `deviceId IN [...]`, each once; None for another term."""
    match term:
        case Binary("IN", Path((str() as root,)), ListOf(members)) if root.lower() in ("deviceid", "id"):
            values = [member.value for member in members if isinstance(member, Literal)]
            ids = [value for value in values if isinstance(value, str)]
            return tuple(dict.fromkeys(ids)) if len(ids) == len(members) else None
    return None
