"""The hosted Service Bus namespaces: their entities, their messages and their links, connected."""

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.base.state import State
from isthmus.neighbours.bus import Bus
from isthmus.neighbours.bus_entities import BusEntities
from isthmus.neighbours.bus_entity import Entity
from isthmus.neighbours.neighbour import Neighbour
from isthmus.neighbours.neighbours import Neighbours
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.removal import Removal
from isthmus.servers.gateway.bus_codec import facts_of
from isthmus.servers.gateway.bus_links import BusLinks
from isthmus.servers.gateway.bus_nodes import BusNodes


class ServiceBus:
    """Everything that is in the Service Bus namespaces."""

    def __init__(self, state: State, clock: Clock, ids: Ids, namespaces: Neighbours, removal: Removal) -> None:
        self._namespaces = namespaces
        self._removal = removal
        self.entities = BusEntities(state, clock)
        self.bus = Bus(state, clock, ids, self.entities, facts_of)
        self.links = BusLinks()
        self.nodes = BusNodes(self.bus, self.entities, self.links)
        for listener in (self.links.entity_changed, self.bus.entity_changed, self._entity_changed):
            self.entities.on_change(listener)
        namespaces.on_change(self._namespace_changed)

    async def start(self) -> None:
        """Reads what was there; the namespaces are loaded, and what was deleted has been swept up."""
        await self.entities.load(each.number for each in self._namespaces.of(ResourceKind.SERVICE_BUS))
        await self.bus.start(self.entities.all())

    async def close(self) -> None:
        """Waits for changes and messages under way."""
        await self.entities.settled()
        await self.bus.close()

    async def _entity_changed(self, old: Entity | None, new: Entity | None) -> None:
        if old is not None and new is None:
            self._removal.number_gone(old.number)

    async def _namespace_changed(self, old: Neighbour | None, new: Neighbour | None) -> None:
        if old is not None and new is None and old.kind is ResourceKind.SERVICE_BUS:
            await self.entities.forget(old.number)
