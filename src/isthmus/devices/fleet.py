"""Queries over a hub's twins, page by page."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import State, Stored
from isthmus.devices.documents import ref_of
from isthmus.devices.identity import decode_identity
from isthmus.devices.presence import presence_of
from isthmus.devices.twin import JsonObject, decode_twin
from isthmus.devices.twins import TwinView
from isthmus.query.search import Column, compile_search

PAGE_MAX = 100
"""Rows of a page; a request for more gets this many (IoT Hub developer guide, "Query language")."""


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a query; without columns they are whole twins. `continuation` is None on the last page."""

    rows: tuple[TwinView, ...]
    columns: tuple[Column, ...]
    continuation: str | None


class Fleet:
    """Answers queries from the committed state: a query sees what was just written."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def query(self, hub: HubId, text: str, *, page_size: int, continuation: str | None) -> Page:
        """A page of the query's answer; the text is the same for every page.

        Raises `ARGUMENT_INVALID` for a wrong or unsupported query, page size or continuation.
        """
        if page_size < 1:
            raise HubError(Code.ARGUMENT_INVALID, "The page size must be at least 1")
        search = compile_search(text)
        after = "" if continuation is None else _resumed(continuation)
        limit = min(page_size, PAGE_MAX)
        rows = await self._state.query_devices(hub, search.where, modules=search.modules, after=after, limit=limit + 1)
        more = _continuation(rows[limit - 1][0].key.name) if len(rows) > limit else None
        return Page(tuple(_view(*row) for row in rows[:limit]), search.columns, more)


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


def _continuation(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _resumed(continuation: str) -> str:
    try:
        return base64.b64decode(continuation, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise HubError(Code.ARGUMENT_INVALID, "The continuation token is not valid") from None
