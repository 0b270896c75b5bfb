"""Filters as SQL: a condition over the joined view becomes `json_type` and `json_extract` over a device's documents.

Theory of operation. SQL's logic has three values as the filters' has, with NULL for what is undefined, so what is
compiled here means exactly the same. Only some nodes are: what a field holds against constants, whether it is there,
what it begins with, and logic over these. Of the terms that must all be true, those are told in SQL; the others are
kept together as `rest`, which the caller judges document by document. SQL thereby selects what may be meant, and the
filter's own meaning decides.

Values and paths are bound, never written into the statement. SQLite's paths cannot name a key that JSON must escape
(its quotes have no escape before 3.46), and its numbers are not whole beyond 64 bits; such terms belong to the rest,
and so do those whose logic is too high for SQLite's parser.
What a device's name says, its ids, is asked of the name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from isthmus.backends.device_view import IDENTITY, NEVER_CONNECTED, PRESENCE, TWIN, home_of
from isthmus.base.filters import (
    All,
    Among,
    AnyOf,
    Applied,
    Comparison,
    Constant,
    Defined,
    Field,
    Filter,
    Given,
    Not,
    Order,
    Path,
    fields,
    terms_of,
)

ALIASES = {IDENTITY: "i", TWIN: "t", PRESENCE: "p"}
"""What the statement calls the documents of a device."""

DEVICE_ID, MODULE_ID = ("deviceId",), ("moduleId",)

HEIGHT_MAX = 12
"""Logic upon logic that is told in SQL; SQLite's parser has a stack of 100 symbols, and uses some for each."""

_TYPES = ("text", "integer", "real", "true", "false", "null")
"""What `json_type` says of values that can be compared."""

_NEEDS_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f]')
_INTEGER_MAX = 2**63 - 1
_INDEX_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of a statement, and the values to bind in it."""

    text: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Compiled:
    """A filter, told in SQL as far as it can be.

    `device_ids` are the only ones that are meant, None where the filter leaves that open; `homes` are the documents
    that it looks at.
    """

    told: tuple[Sql, ...]
    rest: Filter | None
    device_ids: tuple[str, ...] | None
    homes: frozenset[str]


def compile_filter(where: Filter, *, modules: bool) -> Compiled:
    """The filter over devices or modules."""
    told: list[Sql] = []
    rest: list[Filter] = []
    device_ids: set[str] | None = None
    for term in terms_of(where):
        named = _device_ids(term)
        if named is not None:
            device_ids = named if device_ids is None else device_ids & named
        elif (sql := _Teller(modules).truth(_without_given(term))) is not None:
            told.append(sql)
        else:
            rest.append(term)
    return Compiled(
        tuple(told),
        All(tuple(rest)) if rest else None,
        None if device_ids is None else tuple(sorted(device_ids)),
        frozenset(home_of(path) for path in fields(where) if not is_in_name(path, modules=modules)),
    )


def is_in_name(path: Path, *, modules: bool) -> bool:
    """True for the ids that a document's name says."""
    return path == DEVICE_ID or (modules and path == MODULE_ID)


def document_text(kind: str) -> str:
    """The plain text of a device's document, verified."""
    alias = ALIASES[kind]
    columns = ", ".join(f"{alias}.{column}" for column in ("kind", "hub", "name", "revision", "checksum", "body"))
    if kind == PRESENCE:
        return f"CASE WHEN p.name IS NULL THEN '{NEVER_CONNECTED}' ELSE sound({columns}) END"
    return f"sound({columns})"


def _device_ids(term: Filter) -> set[str] | None:
    """The ids that a term leaves; None when it is about something else."""
    match term:
        case Comparison(Order.EQUAL, Field(path), Constant() as member) if path == DEVICE_ID:
            members: Sequence[Filter] = (member,)
        case Among(Field(path), several) if path == DEVICE_ID:
            members = several
        case _:
            return None
    values = [member.value for member in members if isinstance(member, Constant)]
    return {value for value in values if isinstance(value, str)} if len(values) == len(members) else None


def _without_given(term: Filter) -> Filter:
    """Where only truth counts, what equals something was given."""
    match term:
        case Comparison(Order.EQUAL, Given(field), Constant(str() as text)) if text:
            return Comparison(Order.EQUAL, field, Constant(text))
        case _:
            return term


@dataclass(frozen=True, slots=True)
class _Told:
    """A field in SQL: its type as `json_type` says it, and its value."""

    type: Sql
    value: Sql

    def by_type(self, outcomes: Sequence[tuple[str, str, tuple[object, ...]]]) -> Sql:
        """For some types an outcome, in which `{}` is the value; NULL for the others."""
        if not outcomes:
            return Sql("NULL")
        text, values = f"CASE {self.type.text}", [*self.type.values]
        for name, outcome, bound in outcomes:
            text += f" WHEN '{name}' THEN {outcome.format(self.value.text)}"
            values += [*(self.value.values if "{}" in outcome else ()), *bound]
        return Sql(f"{text} END", tuple(values))


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells filters over devices or modules in SQL; None where it cannot."""

    modules: bool

    def truth(self, where: Filter, height: int = 0) -> Sql | None:
        """1 for true, 0 for false, NULL for anything else."""
        match where:
            case All() | AnyOf() | Not() if height == HEIGHT_MAX:
                return None
            case All(terms):
                return self._joined(" AND ", terms, "1", height + 1)
            case AnyOf(terms):
                return self._joined(" OR ", terms, "0", height + 1)
            case Not(operand):
                return _around("NOT {}", self.truth(operand, height + 1))
            case Constant(value):
                return Sql(str(int(value)) if isinstance(value, bool) else "NULL")
            case Defined(Field() as field):
                return _around("{} IS NOT NULL", told.type if (told := self._told(field)) else None)
            case Field():
                return self._by_type(where, [("true", "1", ()), ("false", "0", ())])
            case Comparison(order, Field() as field, Constant(value)):
                return self._by_type(field, _compared(order, value))
            case Among(Field() as field, members):
                constants = [member.value for member in members if isinstance(member, Constant)]
                return self._by_type(field, _among(constants)) if len(constants) == len(members) else None
            case Applied("STARTSWITH" | "STARTS_WITH", _, (Field() as field, Constant(str() as start))):
                return self._by_type(field, [("text", f"substr({{}}, 1, {len(start)}) = ?", (start,))])
            case _:
                return None

    def _joined(self, operator: str, terms: Sequence[Filter], of_none: str, height: int) -> Sql | None:
        told = [sql for term in terms if (sql := self.truth(term, height)) is not None]
        if len(told) < len(terms):
            return None
        text = operator.join(sql.text for sql in told) or of_none
        return Sql(f"({text})", tuple(value for sql in told for value in sql.values))

    def _by_type(self, field: Field, outcomes: Sequence[tuple[str, str, tuple[object, ...]]]) -> Sql | None:
        told = self._told(field)
        if told is None or any(_is_wide(value) for _, _, values in outcomes for value in values):
            return None
        return told.by_type(outcomes)

    def _told(self, field: Field) -> _Told | None:
        if is_in_name(field.path, modules=self.modules):
            return _Told(Sql("'text'"), Sql(self._from_name(field.path)))
        if not all(_is_tellable(step) for step in field.path):
            return None
        text = document_text(home_of(field.path))
        path = "$" + "".join(f'."{step}"' if isinstance(step, str) else f"[{step}]" for step in field.path)
        return _Told(Sql(f"json_type({text}, ?)", (path,)), Sql(f"json_extract({text}, ?)", (path,)))

    def _from_name(self, path: Path) -> str:
        if not self.modules:
            return "i.name"
        slash = "instr(i.name, '/')"
        return f"substr(i.name, 1, {slash} - 1)" if path == DEVICE_ID else f"substr(i.name, {slash} + 1)"


def _is_tellable(step: str | int) -> bool:
    if isinstance(step, int):
        return step <= _INDEX_MAX
    return bool(step) and _NEEDS_ESCAPE.search(step) is None


def _compared(order: Order, value: object) -> list[tuple[str, str, tuple[object, ...]]]:
    """What a comparison with a constant says of each type of values; nothing where it is undefined."""
    types = _types_of(value)
    if order not in (Order.EQUAL, Order.UNEQUAL):
        ordered = types if types == ("text",) or types == ("integer", "real") else ()
        return [(name, f"{{}} {order} ?", (value,)) for name in ordered]
    if not types:
        return []
    same = order is Order.EQUAL
    found: list[tuple[str, str, tuple[object, ...]]] = []
    for name in _TYPES:
        if name in ("text", "integer", "real") and name in types:
            found.append((name, "{} = ?" if same else "{} <> ?", (value,)))
        else:
            found.append((name, str(int((name in types) is same)), ()))
    return found


def _among(constants: Sequence[object]) -> list[tuple[str, str, tuple[object, ...]]]:
    found: list[tuple[str, str, tuple[object, ...]]] = []
    for name in _TYPES:
        members = tuple(value for value in constants if name in _types_of(value))
        if name in ("text", "integer", "real") and members:
            found.append((name, f"{{}} IN ({', '.join('?' * len(members))})", members))
        else:
            found.append((name, str(int(bool(members))), ()))
    return found


def _types_of(value: object) -> tuple[str, ...]:
    """The types of values that may equal a constant."""
    match value:
        case bool():
            return ("true",) if value else ("false",)
        case str():
            return ("text",)
        case int() | float():
            return ("integer", "real")
        case None:
            return ("null",)
        case _:
            return ()


def _around(template: str, sql: Sql | None) -> Sql | None:
    return None if sql is None else Sql(f"({template.format(sql.text)})", sql.values)


def _is_wide(value: object) -> bool:
    return isinstance(value, int) and abs(value) > _INTEGER_MAX
