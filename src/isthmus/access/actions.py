"""Names of actions and patterns of them, shared by the roles of management and of the data plane.

An action is `{provider}/{type}[/{type}…]/{verb}`. It is compared without case; a `*` in a pattern stands for any
characters, slashes included ("Understand Azure role definitions").
"""

import re
from collections.abc import Iterable
from functools import lru_cache

PATTERNS_MAX = 256
"""Compiled patterns that are kept; all of them come from roles that are built in."""


def matches(patterns: Iterable[str], action: str) -> bool:
    """True when one of the patterns names the action."""
    return any(_compiled(pattern).fullmatch(action) for pattern in patterns)


@lru_cache(PATTERNS_MAX)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.IGNORECASE)
