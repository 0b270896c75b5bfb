"""The only place that asks the machine what time it is; everybody else is given a `Clock`."""

import time
from datetime import UTC, datetime
from typing import Protocol

TICKS_AT_EPOCH = 621_355_968_000_000_000
"""100 ns ticks between 0001-01-01 and 1970-01-01, the zero of .NET's `DateTime`."""


class Clock(Protocol):
    """Tells wall time and monotonic time."""

    def utc_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps; only differences mean anything."""


class SystemClock:
    """The machine's clock."""

    def utc_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


def is_over(end_ms: int, now_ms: int, *, of_ms: int) -> bool:
    """True when a wait of `of_ms`, which ends at `end_ms` of wall time, is over.

    So it is too when the wall clock was set back to before the wait began: nobody waits for it to catch up.
    """
    return not end_ms - of_ms <= now_ms < end_ms


def iso_utc(utc_ms: int) -> str:
    """Formats milliseconds since the epoch as `2026-01-01T00:00:00.0000000Z`, the seven digits Azure writes."""
    moment = datetime.fromtimestamp(utc_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{utc_ms % 1000:03d}0000Z"


NEVER = "0001-01-01T00:00:00Z"
"""The date of what never happened, as Azure writes it."""


def ticks(utc_ms: int) -> int:
    """Milliseconds since the epoch as .NET ticks, the shape of generation ids."""
    return TICKS_AT_EPOCH + utc_ms * 10_000


def parse_iso_ms(text: str) -> int | None:
    """Milliseconds since the epoch of an ISO 8601 date, UTC where no zone is given; None when it is not one.

    Nor is a date whose zone takes it out of the years 1 to 9999, in which alone it could be told again.
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return int(moment.timestamp() * 1000)
