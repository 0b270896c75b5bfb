"""The links of Service Bus entities, by entity: what is deleted or switched off ends the links it concerns."""

from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.neighbours.bus_entity import Entity
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.servers.gateway.bus_contract import disabled, no_such_entity
from isthmus.wire.amqp.link import Link


class BusLink(LinkHandler):
    """One link at an entity, which a client `sends` by, or else reads."""

    def __init__(self, link: Link, pump: Pump, links: "BusLinks", entity: Entity, *, sends: bool) -> None:
        self.link = link
        self.pump = pump
        self.sends = sends
        self.number = entity.number
        self._links = links
        links.enter(self)

    def changed(self, entity: Entity) -> None:
        """The entity is another one from now on."""

    def detached(self) -> None:
        self._links.leave(self)

    def end(self, error: HubError) -> None:
        """Ends the link, because of a change that leaves nothing to do for it."""
        self.link.detach(self.pump.refused(error))
        self.pump.flush()


class BusLinks:
    """All links of all entities; belongs to one event loop."""

    def __init__(self) -> None:
        self._links: dict[HubId, set[BusLink]] = {}

    def enter(self, link: BusLink) -> None:
        """Ends the link when the entity changes so that it must."""
        self._links.setdefault(link.number, set()).add(link)

    def leave(self, link: BusLink) -> None:
        """Forgets a link that is over."""
        links = self._links.get(link.number)
        if links is not None:
            links.discard(link)
            if not links:
                del self._links[link.number]

    async def entity_changed(self, old: Entity | None, new: Entity | None) -> None:
        """Listens to the entities."""
        if old is None:
            return
        for link in tuple(self._links.get(old.number, ())):
            if new is None:
                link.end(no_such_entity("", old.path))
            elif not (new.status.sends if link.sends else new.status.receives):
                link.end(disabled(new.path, new.status))
            else:
                link.changed(new)
