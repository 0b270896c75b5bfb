"""ISO 8601 durations as ARM writes them: days, hours, minutes, seconds; no years and months."""

import re

_DURATION = re.compile(
    r"P(?:(?P<days>\d{1,5})D)?(?:T(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,7})M)?(?:(?P<seconds>\d{1,8})S)?)?"
)
_UNITS_MS = {"days": 86_400_000, "hours": 3_600_000, "minutes": 60_000, "seconds": 1_000}


def format_duration(milliseconds: int) -> str:
    """`PT1H`, `PT1M30S`, `P2D`; fractions of a second are dropped."""
    rest = milliseconds
    counts: dict[str, int] = {}
    for unit, size in _UNITS_MS.items():
        counts[unit], rest = divmod(rest, size)
    time = "".join(f"{counts[unit]}{unit[0].upper()}" for unit in ("hours", "minutes", "seconds") if counts[unit])
    days = f"{counts['days']}D" if counts["days"] else ""
    return f"P{days}{'T' + time if time else ''}" if days or time else "PT0S"


def parse_duration(text: str) -> int | None:
    """Milliseconds of a duration; None when it is not one."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groupdict().values()) or text.endswith("T"):
        return None
    return sum(int(count) * _UNITS_MS[unit] for unit, count in match.groupdict().items() if count)
