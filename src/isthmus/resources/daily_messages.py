"""How many messages each hub took today, where a day's number is limited; days begin at midnight UTC.

Theory of operation. Counts are numbers in memory, looked at and raised for each message; `write` stores those that have
changed, and whoever keeps time calls it every some seconds and at the end. A process that dies forgets the messages of
the last seconds: the hub takes that many more on that day, and nothing is refused for a count that was too high.
"""

from collections.abc import Iterable

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.ids import HubId
from isthmus.base.state import Key, Put, State
from isthmus.resources.guarded import Guarded
from isthmus.resources.throttling import DAY_MS, day_of

KIND, NAME = "meta", "daily-messages"
"""The document of a hub, which goes with it."""


class _Day(msgspec.Struct):
    """A hub's messages of a day; as it is stored."""

    day: int
    messages: int


class DailyMessages:
    """Counts of all hubs; belongs to one event loop."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._days: dict[HubId, _Day] = {}
        self._written: dict[HubId, tuple[int, int]] = {}

    async def start(self, hubs: Iterable[HubId]) -> None:
        """Reads what was counted before; to be called before any message is."""
        for hub in hubs:
            stored = await self._state.get(Key(KIND, hub, NAME))
            if stored is not None:
                self._days[hub] = msgspec.json.decode(stored.body, type=_Day)

    def used(self, hub: HubId) -> int:
        """Messages of today."""
        return self._today(hub).messages

    def take(self, hub: HubId, messages: int) -> None:
        """Counts messages of today."""
        self._today(hub).messages += messages

    def seconds_left(self) -> float:
        """Until the next midnight."""
        return (DAY_MS - self._clock.utc_ms() % DAY_MS) / 1000

    async def write(self) -> None:
        """Stores the counts that have changed since the last time."""
        changed = {
            hub: (day.day, day.messages)
            for hub, day in self._days.items()
            if self._written.get(hub) != (day.day, day.messages)
        }
        if not changed:
            return
        await self._state.commit([Put(Key(KIND, hub, NAME), msgspec.json.encode(self._days[hub])) for hub in changed])
        self._written |= changed

    async def resource_changed(self, old: Guarded | None, new: Guarded | None) -> None:
        """Listens to hubs: the count of one that is gone goes."""
        if old is not None and new is None:
            self._days.pop(old.number, None)
            self._written.pop(old.number, None)

    def _today(self, hub: HubId) -> _Day:
        day = day_of(self._clock.utc_ms())
        found = self._days.get(hub)
        if found is None or found.day != day:
            found = self._days[hub] = _Day(day, 0)
        return found
