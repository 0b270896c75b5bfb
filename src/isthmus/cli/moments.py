"""Times as people give them: ISO 8601, or how long ago."""

import re

from isthmus.base.clock import SystemClock, iso_utc, parse_iso_ms
from isthmus.cli.errors import CommandError

AGO_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""Units of `--since 15m`."""


def moment_of(flag: str, text: str) -> str:
    """The time that a flag was given, in ISO 8601; empty for none. Raises CommandError."""
    if not text:
        return ""
    ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if ago:
        return iso_utc(max(SystemClock().utc_ms() - int(ago[1]) * AGO_MS[ago[2]], 0))
    moment = parse_iso_ms(text)
    if moment is None:
        raise CommandError(f"{flag} takes a time such as 2026-01-31T14:02:00Z, or 15m; {text!r} is neither.")
    return iso_utc(moment)
