"""TOML as files of an owner have it, read in time that grows with the file."""

import re
import tomllib
from typing import Any

DOTS_MAX = 64
"""In one line, outside of quotes and comments: keys and tables are three or four deep, and the library copies the whole
of a dotted key for each of its parts."""

_NOT_KEYS = re.compile(r"\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|\#.*")
"""Quoted text, which a line may end without its end, and comments."""


def parse_toml(text: str) -> dict[str, Any]:
    """The document; raises ValueError with the reason."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > DOTS_MAX and _NOT_KEYS.sub("", line).count(".") > DOTS_MAX:
            raise ValueError(f"line {number} has a key of more than {DOTS_MAX} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep to be read") from None
