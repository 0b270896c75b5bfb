"""Times as people write them on a command line: `15m`, `36h`, `30d`."""

import re

from isthmus.cli.errors import CommandError

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def read_duration(text: str, flag: str) -> int:
    """Seconds of a number with its unit; raises CommandError naming the flag."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise CommandError(f"{flag} takes a number with s, m, h or d, such as 15m or 30d, and {text!r} is none.")
    return int(found[1]) * _SECONDS[found[2]]
