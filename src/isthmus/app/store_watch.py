"""What an owner is told when the state or the index and content of blobs cannot be written, and when they can again."""

import logging
from collections.abc import Callable, Iterator

from isthmus.access.journal import Journal
from isthmus.app.disk_notes import not_written, written_again
from isthmus.app.stores import Stores
from isthmus.backends.condition import Condition
from isthmus.backends.sqlite import SqliteState
from isthmus.servers.management.api import Part
from isthmus.servers.management.metrics import Reading

PLANE = "state"
"""How the journal calls the stores where a plane stands."""

logger = logging.getLogger(__name__)


class StoreWatch:
    """The stores beside the log. An ephemeral server's state is memory, which has no disk to fail."""

    def __init__(self, stores: Stores, journal: Journal) -> None:
        self._journal = journal
        self._state = stores.state if isinstance(stores.state, SqliteState) else None
        self._blobs = stores.blobs
        self._conditions: dict[str, Condition] = {"blobs": stores.blobs.condition}
        if self._state is not None:
            self._conditions["state"] = self._state.condition
        for name, condition in self._conditions.items():
            condition.on_change(self._heard(name))

    def parts(self) -> Iterator[Part]:
        """Whether what comes can be stored."""
        for name, condition in self._conditions.items():
            yield Part(name, not condition.failure, condition.failure)

    def readings(self) -> Iterator[Reading]:
        """What a scrape reads."""
        for name, condition in self._conditions.items():
            labels = {"store": name}
            yield Reading("store_ok", "1 while what comes can be stored", not condition.failure, labels=labels)
        if self._state is not None:
            health = self._state.health
            yield Reading("state_commits_failed", "Group commits that failed", health.groups_failed, total=True)
            yield Reading("journal_lost", "Decisions that had no room", health.decisions_lost, total=True)

    async def prove(self) -> None:
        """Tries again what nobody may be writing to now; the state does so by itself."""
        await self._blobs.prove()

    def _heard(self, name: str) -> Callable[[str], None]:
        def changed(failure: str) -> None:
            if not failure:
                logger.warning("store can be written again", extra={"store": name})
                self._journal.write(written_again(PLANE, name))
                return
            logger.error("store cannot be written", extra={"store": name, "reason": failure})
            self._journal.write(not_written(PLANE, failure, f"changes of {name} are refused until they can be stored"))

        return changed
