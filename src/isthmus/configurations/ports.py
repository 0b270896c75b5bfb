"""What configurations need from outside."""

from typing import Protocol

from isthmus.access.journal import Decision


class Notes(Protocol):
    """Where it is noted that a device does not take what is wanted of it; `access.journal.Journal` is it."""

    def write(self, decision: Decision) -> bool:
        """Stores or counts a decision."""
