"""Automatic device management over the domain."""

from collections.abc import Iterator, Mapping

from isthmus.app.domain import Domain
from isthmus.app.stores import Stores
from isthmus.configurations.configurations import Configurations
from isthmus.configurations.edge import EdgeContent
from isthmus.configurations.metrics import MetricCounts
from isthmus.configurations.rollout import Rollout
from isthmus.jobs.yielding import Yielding
from isthmus.servers.gateway.http_configurations import ConfigurationsApi
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_service import Handler
from isthmus.servers.management.metrics import Reading


class DeviceManagement:
    """The configurations of a server's hubs, and their engine."""

    def __init__(self, stores: Stores, domain: Domain) -> None:
        state, clock = stores.state, stores.clock
        yielding = Yielding(clock, lambda: stores.log.backlog_bytes > 0)
        self.rollout = Rollout(state, clock, domain.registry, domain.twins, domain.journal, give_way=yielding.give_way)
        self.configurations = Configurations(state, clock, self.rollout)
        self._edge = EdgeContent(state, clock, domain.registry, domain.twins)
        self._counts = MetricCounts(state, clock)
        self._hubs = domain.hubs

    async def start(self) -> None:
        """Goes on with what the last process left, and stops for hubs that are deleted from now on."""
        self._hubs.on_change(self.rollout.hub_changed)
        await self.configurations.start(self._hubs.all())

    async def close(self) -> None:
        """Stops, after the commits under way."""
        await self.configurations.close()
        await self._edge.settled()

    def handlers(self) -> Mapping[Action, Handler]:
        """The calls of the service API about it."""
        return ConfigurationsApi(self.configurations, self._counts, self._edge).handlers

    def readings(self) -> Iterator[Reading]:
        """What a scrape reads of it."""
        rollout = self.rollout
        yield Reading("configuration_engines", "Hubs whose configurations are kept", rollout.active)
        yield Reading("configuration_twins_waiting", "Changed twins not yet looked at", rollout.waiting)
        yield Reading("configuration_passes", "Passes over all devices", rollout.passes, total=True)
        yield Reading("configuration_twins_written", "Twins brought to configurations", rollout.written, total=True)
        yield Reading("configuration_twins_refused", "Twins that did not take settings", rollout.refused, total=True)
