"""Read, apply a pure rule, compare and set; again when somebody else was faster, a bounded number of times."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from isthmus.base.errors import Code, HubError
from isthmus.base.state import COMMIT_TRIES_MAX, Conflict
from isthmus.completion import Completion

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


class Changes:
    """Makes changes that somebody is told of after the commit, to their end even when the caller is cancelled.

    A caller that hangs up between commit and news must not keep a deleted device connected. Used on one event loop.
    """

    def __init__(self) -> None:
        self._completion = Completion()

    async def make(self, attempt: Callable[[], Coroutine[object, object, T]]) -> T:
        """As `compare_and_set`; cancelling the wait does not cancel the change."""
        return await self._completion.run(compare_and_set(attempt))

    async def settled(self) -> None:
        """Returns when no change is under way; for the time before the store is closed."""
        await self._completion.settled()


class DraftedChanges(Changes):
    """Makes changes of a draft, of which nobody is told yet: one that is cancelled leaves nothing but the draft."""

    async def make(self, attempt: Callable[[], Coroutine[object, object, T]]) -> T:
        """As `compare_and_set`."""
        return await compare_and_set(attempt)
