"""Read, apply a pure rule, compare and set; again when somebody else was faster, a bounded number of times."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from isthmus.base.errors import Code, HubError
from isthmus.base.state import COMMIT_TRIES_MAX, Conflict

T = TypeVar("T")


async def compare_and_set(attempt: Callable[[], Awaitable[T]]) -> T:
    """Runs `attempt`, which reads anew and commits, until it does not meet a `Conflict`.

    Raises `HubError` with `SERVER_BUSY` after `COMMIT_TRIES_MAX` tries, and whatever `attempt` raises.
    """
    for _ in range(COMMIT_TRIES_MAX):
        try:
            return await attempt()
        except Conflict:
            continue
    raise HubError(Code.SERVER_BUSY, "Too many changes of the same document at once, try again")
