"""The nodes of a Service Bus namespace: what each needs to be proved, and what then handles the link."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from isthmus.access import sas
from isthmus.access.principal import Right, SharedAccessPolicy
from isthmus.base.errors import HubError
from isthmus.neighbours.bus import Bus, address_of
from isthmus.neighbours.bus_entities import BusEntities
from isthmus.neighbours.bus_entity import Entity, EntityKind, arm_name
from isthmus.queues import QueueAddress
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway.amqp_cbs import put_token
from isthmus.servers.gateway.amqp_contract import Node, path_segments
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.servers.gateway.amqp_replies import Replies, ReplyLink, RequestLink
from isthmus.servers.gateway.amqp_tokens import Need
from isthmus.servers.gateway.bus_contract import (
    BusAddress,
    BusNode,
    disabled,
    no_sessions,
    no_such_entity,
    no_transfers,
    not_readable,
    not_sendable,
    parse_bus_address,
)
from isthmus.servers.gateway.bus_intake import BusIntake
from isthmus.servers.gateway.bus_links import BusLinks
from isthmus.servers.gateway.bus_management import BusManagement
from isthmus.servers.gateway.bus_outlet import BusOutlet, Source
from isthmus.servers.gateway.namespace_refusals import key_refused, link_refused, token_refused
from isthmus.wire.amqp import states
from isthmus.wire.amqp.link import Link, LinkRole

UNWORDED: Final = "Unauthorized"
"""What the door says to everybody it refuses."""

SESSION_FILTER: Final = "com.microsoft:session-filter"

ACTIONS: Final = MappingProxyType(
    {
        Right.SEND: "Microsoft.ServiceBus/namespaces/messages/send/action",
        Right.LISTEN: "Microsoft.ServiceBus/namespaces/messages/receive/action",
        Right.MANAGE: "Microsoft.ServiceBus/namespaces/topics/subscriptions/rules/write",
    }
)
"""What a role must allow, by the right that a policy would need (Azure built-in roles, Service Bus)."""


@dataclass(frozen=True, slots=True)
class BusNodes:
    """Everything behind the links of all Service Bus namespaces; one per process."""

    bus: Bus
    entities: BusEntities
    links: BusLinks

    def attach(self, link: Link, pump: Pump, replies: Replies, resource: Guarded) -> LinkHandler | None:
        """Judges a new link and accepts it; raises HubError to refuse it.

        What was not proved is refused before anything is told of what there is.
        """
        sends = link.role is LinkRole.RECEIVER
        address = parse_bus_address(link.target_address if sends else link.source_address)
        match address.node:
            case BusNode.CBS:
                if sends:
                    return RequestLink(link, pump, replies, Node.CBS, partial(put_token, pump))
                return ReplyLink(link, replies, Node.CBS)
            case BusNode.TRANSFER:
                raise no_transfers(address.text)
            case BusNode.MANAGEMENT:
                return self._manage(link, pump, replies, resource, address)
            case BusNode.ENTITY:
                return self._carry(link, pump, resource, address, sends=sends)

    def policies(self, resource: Guarded, audience: str) -> Iterable[SharedAccessPolicy]:
        """The policies of the queue or topic that a token's audience means, or is below."""
        path = sas.resource_of(audience).path if audience else ()
        for end in range(len(path), 0, -1):
            found = self.entities.find(resource.number, "/".join(path[:end]))
            if found is not None and found.kind is not EntityKind.SUBSCRIPTION:
                return found.policies
        return ()

    def told(self, error: HubError, resource: Guarded) -> HubError:
        """A refusal in the words of Service Bus; one that has them already stays as it is."""
        return token_refused(key_refused(error, resource)) if error.message == UNWORDED else error

    def _carry(self, link: Link, pump: Pump, resource: Guarded, address: BusAddress, *, sends: bool) -> LinkHandler:
        right = Right.SEND if sends else Right.LISTEN
        need = self._need(resource, address, right)
        _require(pump, need, resource)
        entity = self._entity(resource, address)
        handler = self._intake(link, pump, entity, address) if sends else self._outlet(link, pump, entity, address)
        handler.need = need
        return handler

    def _intake(self, link: Link, pump: Pump, entity: Entity, address: BusAddress) -> LinkHandler:
        if entity.kind is EntityKind.SUBSCRIPTION or address.dead_letters:
            raise not_sendable(address.path)
        if not entity.status.sends:
            raise disabled(entity.path, entity.status)
        return BusIntake(link, pump, self.bus, self.links, entity)

    def _outlet(self, link: Link, pump: Pump, entity: Entity, address: BusAddress) -> LinkHandler:
        if not entity.can_be_read:
            raise not_readable(entity.path)
        if not entity.status.receives:
            raise disabled(entity.path, entity.status)
        if isinstance(link.source, states.Source) and SESSION_FILTER in link.source.filters:
            raise no_sessions(entity.path)
        return BusOutlet(link, pump, self.bus, self.links, Source(entity, _queue(entity, address)))

    def _manage(self, link: Link, pump: Pump, replies: Replies, resource: Guarded, address: BusAddress) -> LinkHandler:
        """Whoever may send or receive may attach; each operation asks for its right."""
        needs = [self._need(resource, address, right) for right in (Right.LISTEN, Right.SEND, Right.MANAGE)]
        need = _first_met(pump, needs, resource)
        if link.role is not LinkRole.RECEIVER:
            handler: LinkHandler = ReplyLink(link, replies, Node.MANAGEMENT)
        else:
            entity = self._entity(resource, address)
            management = BusManagement(
                pump,
                self.bus,
                self.entities,
                entity,
                _queue(entity, address),
                lambda right: _require(pump, self._need(resource, address, right), resource),
            )
            handler = RequestLink(link, pump, replies, Node.MANAGEMENT, management.answer)
        handler.need = need
        return handler

    def _entity(self, resource: Guarded, address: BusAddress) -> Entity:
        found = self.entities.find(resource.number, address.path)
        if found is None:
            raise no_such_entity(resource.host_name, address.path)
        return found

    def _need(self, resource: Guarded, address: BusAddress, right: Right) -> Need:
        """What is to be proved; of an entity that is not there, as if it were a queue."""
        found = self.entities.find(resource.number, address.path)
        part = f"/queues/{arm_name(address.path)}" if found is None else part_of(found)
        path = "/".join(path_segments(address.text))
        return Need(resource.number, path, built_in=False, right=right, data_action=ACTIONS[right], part=part)


def part_of(entity: Entity) -> str:
    """The end of an entity's ARM id, behind that of its namespace."""
    match entity.kind:
        case EntityKind.QUEUE:
            return f"/queues/{arm_name(entity.name)}"
        case EntityKind.TOPIC:
            return f"/topics/{arm_name(entity.name)}"
        case EntityKind.SUBSCRIPTION:
            return f"/topics/{arm_name(entity.topic)}/subscriptions/{entity.name}"


def _queue(entity: Entity, address: BusAddress) -> QueueAddress:
    return address_of(entity).dead_letters if address.dead_letters else address_of(entity)


def _require(pump: Pump, need: Need, resource: Guarded) -> None:
    try:
        pump.require(need)
    except HubError as error:
        raise link_refused(error, need.right, f"sb://{resource.host_name}/{need.path}") from error


def _first_met(pump: Pump, needs: Iterable[Need], resource: Guarded) -> Need:
    """The first that the peer has proved; raises the refusal of the first of all."""
    refusals: list[HubError] = []
    for need in needs:
        try:
            _require(pump, need, resource)
        except HubError as error:
            refusals.append(error)
        else:
            return need
    raise refusals[0]
