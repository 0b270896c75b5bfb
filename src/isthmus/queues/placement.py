"""Messages on their way into a queue, as part of a commit that may do more than that.

A placement has its numbers and its places on the shelf from the moment it is made; it ends in exactly one of `stored`
and `failed`. Placements of several queues, and changes of their sender, are one commit: all of it happens, or none.
"""

from collections.abc import Sequence

from isthmus.base.state import MUST_NOT_EXIST, Change, Conflict, Key, Put, State
from isthmus.queues.message import MessageState, Step, StoredMessage, encode_message
from isthmus.queues.shelf import Entry, Shelf

QUEUE_KIND = "queue"
COUNTER_KIND = "meta"


class Placement:
    """Messages that a queue has given numbers, from `first` on."""

    def __init__(
        self, shelf: Shelf, first: int, keys: Sequence[Key], stored: Sequence[StoredMessage], counter: Put
    ) -> None:
        self._shelf = shelf
        self._entries = [
            Entry.of(first + index, 0, message, MessageState.STORING) for index, message in enumerate(stored)
        ]
        puts = (Put(key, encode_message(one), MUST_NOT_EXIST) for key, one in zip(keys, stored, strict=True))
        self.changes: tuple[Change, ...] = (counter, *puts)
        self._is_over = False
        for entry in self._entries:
            shelf.add(entry)

    @property
    def sequences(self) -> list[int]:
        """The messages' numbers."""
        return [entry.sequence for entry in self._entries]

    def stored(self, revisions: Sequence[int]) -> None:
        """The commit is durable; `revisions` are those of `changes`."""
        self._is_over = True
        for entry, revision in zip(self._entries, revisions[1:], strict=True):
            entry.revision = revision
            self._shelf.step(entry, Step.STORED)

    def failed(self, *, conflicted: bool) -> None:
        """There was no commit; `conflicted` when it was the queue's own documents that were not as expected."""
        if self._is_over:
            return
        self._is_over = True
        for entry in self._entries:
            self._shelf.step(entry, Step.FAILED)
        if conflicted:
            self._shelf.close()


async def commit_with(state: State, changes: Sequence[Change], placements: Sequence[Placement]) -> list[int]:
    """Commits changes and placements together; returns the revisions of `changes`.

    Raises as `State.commit`; the index of a `Conflict` counts `changes` first, then the placements' in order.
    """
    ends, everything = [], list(changes)
    for placement in placements:
        everything += placement.changes
        ends.append(len(everything))
    try:
        revisions = await state.commit(everything)
    except BaseException as error:
        index = error.index if isinstance(error, Conflict) else -1
        for placement, end in zip(placements, ends, strict=True):
            placement.failed(conflicted=end - len(placement.changes) <= index < end)
        raise
    for placement, end in zip(placements, ends, strict=True):
        placement.stored(revisions[end - len(placement.changes) : end])
    return revisions[: len(changes)]
