"""How many devices or modules the queries of configurations find.

Counting looks at every twin of a hub, so it has a share of the time and no more: a number is told again until
`REUSED_TIMES` of the time that counting took has passed, and one answer counts for `COUNTING_SECONDS_MAX` at most. What
was not counted then is told as it was counted last, or left out. In a hub of a thousand devices every answer counts.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.base.clock import Clock
from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.base.state import State
from isthmus.configurations.configuration import Configuration
from isthmus.query.search import compile_search

REUSED_TIMES = 19
"""Counting takes a twentieth of the time when somebody asks all the time."""

COUNTING_SECONDS_MAX = 2.0
"""Of one answer; a query that has begun comes to its end."""

COUNTED_MAX = 2_000
"""Numbers remembered: those of two hubs full of configurations; the longest unasked is forgotten first."""

Results = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Counted:
    number: int
    at: float
    took: float


class MetricCounts:
    """Counts what metrics ask for; used on one event loop."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._counted: OrderedDict[tuple[HubId, str], _Counted] = OrderedDict()

    def begin(self) -> float:
        """The time until which one answer may begin to count."""
        return self._clock.monotonic() + COUNTING_SECONDS_MAX

    async def results(self, hub: HubId, configuration: Configuration, until: float) -> tuple[Results, Results]:
        """The numbers of system metrics and of the configuration's own, as far as there are any."""
        return (
            await self._all(hub, configuration.system_queries, until),
            await self._all(hub, configuration.metrics, until),
        )

    async def _all(self, hub: HubId, queries: Mapping[str, str], until: float) -> Results:
        counted = {name: await self._one(hub, query, until) for name, query in queries.items()}
        return {name: number for name, number in counted.items() if number is not None}

    async def _one(self, hub: HubId, query: str, until: float) -> int | None:
        key, now = (hub, query), self._clock.monotonic()
        known = self._counted.get(key)
        if known is not None and (now >= until or now - known.at < known.took * REUSED_TIMES):
            self._counted.move_to_end(key)
            return known.number
        if now >= until:
            return None
        try:
            search = compile_search(query)
        except HubError:
            return None
        number = await self._state.count_devices(hub, search.where, modules=search.modules)
        after = self._clock.monotonic()
        self._counted[key] = _Counted(number, after, after - now)
        self._counted.move_to_end(key)
        if len(self._counted) > COUNTED_MAX:
            self._counted.popitem(last=False)
        return number
