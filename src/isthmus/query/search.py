"""What of a query the store can answer: a tree of syntax comes in, what the state port takes goes out."""

from dataclasses import dataclass

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import Filter
from isthmus.query.parser import parse
from isthmus.query.syntax import Aggregate, Collection, Path, Query
from isthmus.query.twin_members import DEVICES, MODULES, twin_path
from isthmus.query.where import compile_where


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
    where: Filter


def compile_search(text: str) -> Search:
    """The search of a query text; raises `ARGUMENT_INVALID` for one that is wrong or not supported yet."""
    return search_of(parse(text))


def search_of(query: Query) -> Search:
    """The search of a query; raises `ARGUMENT_INVALID` for one that is not supported yet."""
    _refuse_what_is_missing(query)
    modules = query.collection is Collection.MODULES
    return Search(
        modules=modules,
        columns=tuple(_column(item.what, item.alias) for item in query.select),
        where=compile_where(query.where, MODULES if modules else DEVICES),
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
    path = twin_path(what.segments)
    return Column(alias or str(path[-1]), path)


def _unsupported(what: str, position: int | None = None) -> HubError:
    place = "" if position is None else f" (at position {position + 1})"
    return HubError(Code.ARGUMENT_INVALID, f"{what} is not supported yet{place}")
