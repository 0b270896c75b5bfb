"""Aggregates: rows become groups, and of each group what was counted, added up or compared.

Theory of operation. A `Tally` is given the documents for which the condition holds, one after the other, and keeps no
more of them than a row for each group. A group is known by a digest of its values, by which groups are ordered too: the
language leaves their order open, and this one lets a later page go on behind a group that was counted anew meanwhile.

Values are not converted. What is not there makes a group of its own, whose row lacks the member. `COUNT` of a path
counts where it is there; `AVG`, `SUM`, `MIN` and `MAX` pass over everything but numbers, the last two take texts too,
which are above all numbers (IoT Hub developer guide, "Query language", aggregation).
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import UNDEFINED, Filter

GROUPS_MAX = 10_000
"""Groups of one query; a query with more is refused, for it asks for devices and not about them."""

GROUPS_BYTES_MAX = 16 * 1024 * 1024
"""Of the values by which groups differ, written as JSON; texts may be long."""

EXACT_MAX = 1 << 53
"""Whole numbers up to here are exact as doubles too; larger sums are told as doubles."""


class Function(StrEnum):
    """What is made of the values of a group."""

    COUNT = "COUNT"
    AVG = "AVG"
    SUM = "SUM"
    MIN = "MIN"
    MAX = "MAX"


@dataclass(frozen=True, slots=True)
class Grouped:
    """A member of a row that tells one of the values by which groups differ."""

    name: str
    key: int


@dataclass(frozen=True, slots=True)
class Aggregated:
    """A member that tells something of the group's values; without `value` it is about the documents themselves."""

    name: str
    function: Function
    value: Filter | None


@dataclass(frozen=True, slots=True)
class Grouping:
    """How documents are grouped, and what a group's row has; without keys all of them are one group, even of none."""

    keys: tuple[Filter, ...]
    cells: tuple[Grouped | Aggregated, ...]

    @property
    def counts_only(self) -> bool:
        """True when nothing but the number of documents matters."""
        return not self.keys and all(isinstance(cell, Aggregated) and cell.value is None for cell in self.cells)


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group's row, and its place in the order of groups."""

    place: bytes
    row: dict[str, object]


class Tally:
    """The groups of the documents seen so far, at most `GROUPS_MAX` of them and `GROUPS_BYTES_MAX`."""

    def __init__(self, grouping: Grouping) -> None:
        self._grouping = grouping
        self._groups: dict[bytes, _Group] = {}
        self._bytes = 0
        if not grouping.keys:
            self._group(())

    def add(self, document: object, *, times: int = 1) -> None:
        """Takes a document in; raises `ARGUMENT_INVALID` when there are too many groups."""
        group = self._group([key.value_in(document) for key in self._grouping.keys])
        for measure in group.measures:
            measure.take(document, times)

    def rows(self) -> Iterator[GroupRow]:
        """A row for each group, in the order of their places."""
        for place, group in sorted(self._groups.items()):
            yield GroupRow(place, dict(self._members(group)))

    def _members(self, group: "_Group") -> Iterator[tuple[str, object]]:
        measures = iter(group.measures)
        for cell in self._grouping.cells:
            value = group.values[cell.key] if isinstance(cell, Grouped) else next(measures).result
            if value is not UNDEFINED:
                yield cell.name, value

    def _group(self, values: Sequence[object]) -> "_Group":
        written = msgspec.json.encode([[_alike(value)] if value is not UNDEFINED else [] for value in values])
        place = hashlib.sha256(written).digest()
        group = self._groups.get(place)
        if group is None:
            self._bytes += len(written)
            if len(self._groups) == GROUPS_MAX or self._bytes > GROUPS_BYTES_MAX:
                message = f"The query makes more than {GROUPS_MAX} groups, or groups of too long values"
                raise HubError(Code.ARGUMENT_INVALID, message)
            aggregated = [cell for cell in self._grouping.cells if isinstance(cell, Aggregated)]
            group = self._groups[place] = _Group(tuple(values), [_Measure(cell) for cell in aggregated])
        return group


@dataclass(frozen=True, slots=True)
class _Group:
    values: tuple[object, ...]
    measures: list["_Measure"]


class _Measure:
    """One aggregate of one group."""

    __slots__ = ("_best", "_count", "_function", "_total", "_value")

    def __init__(self, cell: Aggregated) -> None:
        self._function = cell.function
        self._value = cell.value
        self._count = 0
        self._total: float = 0
        self._best: tuple[bool, str | float] | None = None

    def take(self, document: object, times: int) -> None:
        value = None if self._value is None else self._value.value_in(document)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if self._function is Function.COUNT:
            self._count += times if value is not UNDEFINED else 0
        elif self._function in (Function.SUM, Function.AVG):
            if is_number:
                self._count += 1
                self._total += value  # type: ignore[operator]  # a number
        elif is_number or isinstance(value, str):
            found = (isinstance(value, str), value)
            if self._best is None or (found < self._best) is (self._function is Function.MIN):
                self._best = found  # type: ignore[assignment]  # a number or a text

    @property
    def result(self) -> object:
        if self._function is Function.COUNT:
            return self._count
        if self._function is Function.SUM:
            return _told(self._total)
        if self._function is Function.AVG:
            return _told(self._total / self._count) if self._count else UNDEFINED
        return UNDEFINED if self._best is None else self._best[1]


def _told(number: float) -> object:
    """A number that JSON has; a sum beyond all doubles is undefined."""
    if isinstance(number, int) and abs(number) <= EXACT_MAX:
        return number
    return float(number) if math.isfinite(number) else UNDEFINED


def _alike(value: object) -> object:
    """Equal numbers are one, however they are written, and objects are whatever the order of their members."""
    match value:
        case bool():
            return value
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _alike(value[name]) for name in sorted(value)}
        case list() | tuple():
            return [_alike(each) for each in value]
        case _:
            return value
