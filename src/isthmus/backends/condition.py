"""Whether a store can be written, for health and for whoever wants to hear of a change."""

from collections.abc import Callable

Heard = Callable[[str], None]
"""Is told why a store cannot be written; nothing when it can again."""


class Condition:
    """Belongs to an event loop; a store is well until it is told otherwise."""

    def __init__(self) -> None:
        self.failure = ""
        """Why the last attempt to write failed; empty when it succeeded."""
        self._listeners: list[Heard] = []

    def on_change(self, heard: Heard) -> None:
        """Calls `heard` when the store gets unwell, and when it is well again."""
        self._listeners.append(heard)

    def be(self, failure: str) -> None:
        """Notes what became of an attempt to write."""
        before, self.failure = self.failure, failure
        if bool(before) != bool(failure):
            for heard in self._listeners:
                heard(failure)
