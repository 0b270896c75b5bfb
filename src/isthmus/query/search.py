"""What of a query the store can answer: a tree of syntax comes in, what the state port takes goes out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import Filter
from isthmus.query.grouping import Aggregated, Function, Grouped, Grouping
from isthmus.query.lexer import unexpected
from isthmus.query.parser import parse
from isthmus.query.syntax import Aggregate, Collection, Path, Query, Selected
from isthmus.query.twin_members import DEVICES, MODULES, twin_path
from isthmus.query.where import Vocabulary, compile_path, compile_where


@dataclass(frozen=True, slots=True)
class Column:
    """A member of a row, and where it stands in the twin as services read it."""

    name: str
    path: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """A query over devices or modules; at most `top` rows of all pages, None for all.

    With a grouping rows are those of groups, with columns members of twins, and without either whole twins.
    """

    modules: bool
    columns: tuple[Column, ...]
    where: Filter
    top: int | None = None
    grouping: Grouping | None = None


def compile_search(text: str) -> Search:
    """The search of a query text; raises `ARGUMENT_INVALID` for one that is wrong."""
    return search_of(parse(text))


def search_of(query: Query) -> Search:
    """The search of a query; raises `ARGUMENT_INVALID` for one that asks what cannot be asked."""
    if query.collection is Collection.JOBS:
        raise HubError(Code.ARGUMENT_INVALID, "The query must be about devices or devices.modules")
    modules = query.collection is Collection.MODULES
    vocabulary = MODULES if modules else DEVICES
    _check_names(query.select)
    where = compile_where(query.where, vocabulary)
    paths = [(_name(each), each.what) for each in query.select if isinstance(each.what, Path)]
    if query.group_by or len(paths) < len(query.select):
        return Search(modules, (), where, query.top, _grouping(query, vocabulary))
    columns = tuple(Column(name, twin_path(path.segments)) for name, path in paths)
    return Search(modules, columns, where, query.top)


def _name(selected: Selected) -> str:
    """The alias; else the function, or the last member of the path as twins spell it."""
    if selected.alias is not None:
        return selected.alias
    what = selected.what
    return what.function if isinstance(what, Aggregate) else str(twin_path(what.segments)[-1])


def _check_names(select: Sequence[Selected]) -> None:
    seen = Counter[str]()
    for selected in select:
        name = _name(selected)
        seen[name] += 1
        if seen[name] > 1:
            raise unexpected(selected.what.position, f"a second member '{name[:100]}', which AS has to name otherwise,")


def _grouping(query: Query, vocabulary: Vocabulary) -> Grouping:
    if not query.select:
        raise unexpected(query.group_by[0].position, "SELECT * with GROUP BY")
    keys = tuple(compile_path(path, vocabulary) for path in query.group_by)
    places = {twin_path(path.segments): place for place, path in enumerate(query.group_by)}
    return Grouping(keys, tuple(_cell(each, places, vocabulary) for each in query.select))


def _cell(
    selected: Selected, places: Mapping[tuple[str | int, ...], int], vocabulary: Vocabulary
) -> Grouped | Aggregated:
    name = _name(selected)
    if isinstance(selected.what, Aggregate):
        path = selected.what.path
        value = None if path is None else compile_path(path, vocabulary)
        return Aggregated(name, Function(selected.what.function), value)
    segments = twin_path(selected.what.segments)
    if segments not in places:
        written = ".".join(map(str, selected.what.segments))[:100]
        raise unexpected(selected.what.position, f"{written}, by which nothing is grouped,")
    return Grouped(name, places[segments])
