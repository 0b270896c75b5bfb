"""Durations of Service Bus: ISO 8601 with fractions of a second, and the longest of all, which stands for no end."""

import re
from typing import Final

from isthmus.queues import NO_LIMIT
from isthmus.resources.durations import format_duration

FOREVER: Final = "P10675199DT2H48M5.4775807S"
"""The longest duration that .NET can tell; entities whose messages have no end are given it."""

FOREVER_DAYS: Final = 10_675_199
"""As many days, or more, are for ever."""

_DURATION = re.compile(
    r"P(?:(?P<years>\d{1,5})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<days>\d{1,8})D)?"
    r"(?:T(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,7})M)?(?:(?P<seconds>\d{1,8}(?:\.\d{1,9})?)S)?)?"
)
_UNITS_MS: Final = (
    *(("years", 365 * 86_400_000), ("months", 30 * 86_400_000), ("days", 86_400_000)),
    *(("hours", 3_600_000), ("minutes", 60_000), ("seconds", 1_000)),
)


def parse_bus_duration(text: str) -> int | None:
    """Milliseconds of a duration, `NO_LIMIT` for one without an end; None when it is none."""
    match = _DURATION.fullmatch(text)
    if match is None or text.endswith(("P", "T")):
        return None
    milliseconds = sum(round(float(match[unit] or 0) * size) for unit, size in _UNITS_MS)
    return NO_LIMIT if milliseconds >= FOREVER_DAYS * 86_400_000 else milliseconds


def format_bus_duration(milliseconds: int) -> str:
    """The duration as ARM and the administration client write it."""
    return FOREVER if milliseconds >= NO_LIMIT else format_duration(milliseconds)
