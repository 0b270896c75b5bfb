"""Queries over a hub's twins, page by page."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import msgspec

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import State, Stored
from isthmus.devices.documents import ref_of
from isthmus.devices.identity import decode_identity
from isthmus.devices.joined_view import view_of
from isthmus.devices.presence import presence_of
from isthmus.devices.twin import JsonObject, decode_twin
from isthmus.devices.twins import TwinView
from isthmus.query.grouping import Grouping, Tally
from isthmus.query.search import Column, Search, compile_search

PAGE_MAX = 100
"""Rows of a page; a request for more gets this many (IoT Hub developer guide, "Query language")."""

TALLIED_AT_ONCE = 100
"""Twins that are read, and taken into groups, in one turn of the event loop: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a query; without columns they are whole twins. `continuation` is None on the last page."""

    rows: tuple[TwinView, ...]
    columns: tuple[Column, ...]
    continuation: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of groups; `continuation` is None on the last page."""

    rows: tuple[JsonObject, ...]
    continuation: str | None


class _Place(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a query goes on: behind a name or the place of a group, with so many rows on the pages before."""

    given: Annotated[int, msgspec.Meta(ge=0)]
    after: str


_START = _Place(0, "")


class Fleet:
    """Answers queries from the committed state: a query sees what was just written."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def query(self, hub: HubId, text: str, *, page_size: int, continuation: str | None) -> Page | Table:
        """A page of the query's answer; the text is the same for every page.

        What is grouped is grouped anew for each page: it is counted as it is now. Raises `ARGUMENT_INVALID` for a wrong
        query, page size or continuation, and for a query of too many groups.
        """
        if page_size < 1:
            raise HubError(Code.ARGUMENT_INVALID, "The page size must be at least 1")
        search = compile_search(text)
        place = _START if continuation is None else _resumed(continuation)
        limit = min(page_size, PAGE_MAX)
        if search.top is not None:
            limit = max(0, min(limit, search.top - place.given))
        if search.grouping is not None:
            return await self._table(hub, search, search.grouping, place, limit)
        rows = await self._state.query_devices(
            hub, search.where, modules=search.modules, after=place.after, limit=limit + 1
        )
        more = _following(search, place, limit, rows[limit - 1][0].key.name) if len(rows) > limit > 0 else None
        return Page(tuple(_view(*row) for row in rows[:limit]), search.columns, more)

    async def _table(self, hub: HubId, search: Search, grouping: Grouping, place: _Place, limit: int) -> Table:
        tally = await self._tally(hub, search, grouping)
        later = (row for row in tally.rows() if row.place.hex() > place.after)
        rows = list(islice(later, limit + 1))
        more = _following(search, place, limit, rows[limit - 1].place.hex()) if len(rows) > limit > 0 else None
        return Table(tuple(row.row for row in rows[:limit]), more)

    async def _tally(self, hub: HubId, search: Search, grouping: Grouping) -> Tally:
        """The groups of everything for which the condition holds; cancelled between two reads."""
        tally = Tally(grouping)
        if grouping.counts_only:
            tally.add(None, times=await self._state.count_devices(hub, search.where, modules=search.modules))
            return tally
        after = ""
        while rows := await self._state.query_devices(
            hub, search.where, modules=search.modules, after=after, limit=TALLIED_AT_ONCE
        ):
            for row in rows:
                tally.add(view_of(*row))
            after = rows[-1][0].key.name
        return tally


def project(twin: Mapping[str, object], columns: tuple[Column, ...]) -> JsonObject:
    """The row of selected members of a twin as services read it; members it does not have are left out."""
    row: JsonObject = {}
    for column in columns:
        value: object = twin
        for segment in column.path:
            value = _member(value, segment)
        if value is not _MISSING:
            row[column.name] = value
    return row


_MISSING = object()


def _member(value: object, segment: str | int) -> object:
    if isinstance(segment, str):
        return value.get(segment, _MISSING) if isinstance(value, Mapping) else _MISSING
    return value[segment] if isinstance(value, list | tuple) and segment < len(value) else _MISSING


def _view(identity: Stored, twin: Stored, presence: Stored | None) -> TwinView:
    return TwinView(ref_of(identity.key), decode_identity(identity.body), decode_twin(twin.body), presence_of(presence))


def _following(search: Search, place: _Place, limit: int, after: str) -> str | None:
    """The continuation behind a full page; None where the query wants no more rows."""
    given = place.given + limit
    return None if given == search.top else _continuation(_Place(given, after))


def _continuation(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _resumed(continuation: str) -> _Place:
    try:
        return msgspec.json.decode(base64.b64decode(continuation, altchars=b"-_", validate=True), type=_Place)
    except (binascii.Error, ValueError):
        raise HubError(Code.ARGUMENT_INVALID, "The continuation token is not valid") from None
