"""Which devices or modules a scheduled job is for: its query condition."""

import re
from dataclasses import dataclass

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import Filter
from isthmus.query.parser import parse
from isthmus.query.search import search_of
from isthmus.query.syntax import Collection

CONDITION_CHARACTERS_MAX = 8_192
"""A query's text (IoT Hub developer guide, "Query language")."""

ALL = "*"
FROM = re.compile(r"from\s", re.IGNORECASE)
"""Begins a condition that says what it is about, such as `FROM devices.modules WHERE …`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What must hold, of devices or of modules."""

    modules: bool
    where: Filter


def parse_selection(condition: str) -> Selection:
    """The selection of a job's `queryCondition`; raises `ARGUMENT_INVALID` for one that is wrong.

    That is the part of a query behind its WHERE, `*` for all devices, or the part from its FROM.
    """
    if len(condition) > CONDITION_CHARACTERS_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"queryCondition is longer than {CONDITION_CHARACTERS_MAX} characters")
    query = parse(_query_text(condition.strip()))
    if query.collection is Collection.JOBS:
        raise HubError(Code.ARGUMENT_INVALID, "queryCondition must be about devices or modules")
    search = search_of(query)
    return Selection(search.modules, search.where)


def _query_text(condition: str) -> str:
    if condition == ALL:
        return "SELECT * FROM devices"
    if FROM.match(condition):
        return f"SELECT * {condition}"
    return f"SELECT * FROM devices WHERE {condition}"
