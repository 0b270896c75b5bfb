"""The AMQP nodes of hosted Event Hubs namespaces: event hubs to send to, partitions to read, `$management`, `$cbs`.

Theory of operation. A link is judged when it attaches, as at a hub: first what was proved, then whether there is such
an event hub, group and partition, and whether it may be used. `$management` is for whoever may send to the event hub
that a request names, or read it, so its links are open and each request is judged. Links know the snapshot of their
event hub; when that is changed, `event_hub_changed` ends those that the present one would not let in.
"""

import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from isthmus.access import sas
from isthmus.access.principal import Right, SharedAccessPolicy
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId
from isthmus.neighbours.event_hub import EventHub
from isthmus.neighbours.event_hubs import EventHubs
from isthmus.neighbours.retained import retained_cursor, retained_info
from isthmus.resources.guarded import Guarded
from isthmus.servers.gateway.amqp_cbs import put_token
from isthmus.servers.gateway.amqp_contract import Node, not_found, partition_number
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.servers.gateway.amqp_management import Facts, answered
from isthmus.servers.gateway.amqp_reader import PartitionReader, Place, Readers, open_reader
from isthmus.servers.gateway.amqp_replies import Answer, Replies, ReplyLink, Request, RequestLink
from isthmus.servers.gateway.amqp_tokens import Need
from isthmus.servers.gateway.event_hub_contract import EventHubAddress, EventHubNode, parse_event_hub_address
from isthmus.servers.gateway.event_hub_intake import Destination, EventIntake
from isthmus.servers.gateway.hosted_event import HostedEventEncoder, Sender
from isthmus.servers.gateway.namespace_refusals import key_refused, link_refused, token_refused
from isthmus.telemetry.ports import Log, Partition
from isthmus.wire.amqp.link import Link, LinkRole

ACTIONS: Final = {
    Right.SEND: "Microsoft.EventHub/namespaces/messages/send/action",
    Right.LISTEN: "Microsoft.EventHub/namespaces/messages/receive/action",
}
"""What a role must allow where a policy must have a right."""

NAME_REMEDY: Final = "isthmus eventhubs eventhub list --namespace-name {namespace}"


class EventHubNodes:
    """Everything behind the links of all Event Hubs namespaces; one per process, on its event loop only."""

    def __init__(self, event_hubs: EventHubs, log: Log, readers: Readers, clock: Clock) -> None:
        self._event_hubs = event_hubs
        self._log = log
        self._readers = readers
        self._clock = clock
        self._encode = HostedEventEncoder().encode
        self._turns: Iterator[int] = itertools.count()
        self._intakes: dict[HubId, set[EventIntake]] = {}

    def attach(self, link: Link, pump: Pump, replies: Replies, resource: Guarded) -> LinkHandler | None:
        """Judges a new link and accepts it; raises HubError to refuse it."""
        address = parse_event_hub_address(
            link.target_address if link.role is LinkRole.RECEIVER else link.source_address
        )
        need = need_of(address, resource)
        if need is not None:
            _require(pump, need, resource)
        handler = self._handler(link, pump, replies, resource, address)
        handler.need = need
        return handler

    def policies(self, resource: Guarded, audience: str) -> Iterable[SharedAccessPolicy]:
        """The policies of the event hub that an audience names."""
        path = sas.resource_of(audience).path
        event_hub = self._event_hubs.find(resource.number, path[0]) if path else None
        return () if event_hub is None else event_hub.policies

    def told(self, error: HubError, resource: Guarded) -> HubError:
        """The words of Event Hubs."""
        return token_refused(key_refused(error, resource))

    async def event_hub_changed(self, old: EventHub | None, new: EventHub | None) -> None:
        """Ends the links that an event hub, as it is now, would not let in; returns after the last one."""
        if old is None:
            return
        for intake in tuple(self._intakes.get(old.number, ())):
            refusal = _gone(old) if new is None else _send_refused(new)
            if refusal is not None:
                intake.end(refusal)
        for reader in self._readers.of_hub(old.number):
            refusal = _gone(old) if new is None else _read_refused(new, reader.place.group)
            if refusal is not None:
                reader.end(refusal)

    def left(self, intake: EventIntake) -> None:
        """Forgets a link that sends; called once."""
        links = self._intakes[intake.event_hub.number]
        links.discard(intake)
        if not links:
            del self._intakes[intake.event_hub.number]

    def _handler(
        self, link: Link, pump: Pump, replies: Replies, namespace: Guarded, address: EventHubAddress
    ) -> LinkHandler:
        match address.node, link.role:
            case EventHubNode.CBS, LinkRole.RECEIVER:
                return RequestLink(link, pump, replies, Node.CBS, partial(put_token, pump))
            case EventHubNode.CBS, LinkRole.SENDER:
                return ReplyLink(link, replies, Node.CBS)
            case EventHubNode.MANAGEMENT, LinkRole.RECEIVER:
                return RequestLink(link, pump, replies, Node.MANAGEMENT, partial(self._manage, pump, namespace))
            case EventHubNode.MANAGEMENT, LinkRole.SENDER:
                return ReplyLink(link, replies, Node.MANAGEMENT)
            case EventHubNode.READ, LinkRole.SENDER:
                return self._read(link, pump, namespace, address)
            case EventHubNode.SEND, LinkRole.RECEIVER:
                return self._send(link, pump, namespace, address)
            case _:
                raise not_found(address.text, "Use the address the documentation gives.")

    def destination(self, namespace: Guarded, address: EventHubAddress) -> Destination:
        """Where events for an address go; raises HubError when there is no such place, or it takes none."""
        event_hub = self._find(namespace, address.entity)
        refusal = _send_refused(event_hub)
        if refusal is not None:
            raise refusal
        number = partition_number(address.partition, event_hub.partitions) if address.partition else None
        return Destination(event_hub, number, self._turns)

    def _send(self, link: Link, pump: Pump, namespace: Guarded, address: EventHubAddress) -> EventIntake:
        destination = self.destination(namespace, address)
        sender = Sender(pump.principal, pump.connection.door.label, address.publisher)
        intake = EventIntake(link, pump, self._log, self._clock, destination, sender, self.left)
        self._intakes.setdefault(destination.event_hub.number, set()).add(intake)
        return intake

    def _read(self, link: Link, pump: Pump, namespace: Guarded, address: EventHubAddress) -> PartitionReader:
        event_hub = self._find(namespace, address.entity)
        group = event_hub.group(address.consumer_group)
        if group is None:
            raise _no_group(event_hub, address.consumer_group)
        if not event_hub.status.receives:
            raise _disabled(event_hub)
        number = partition_number(address.partition, event_hub.partitions)
        partition = Partition(event_hub.number, number)
        since_ms = event_hub.kept_since_ms(self._clock.utc_ms())
        earliest = retained_cursor(self._log, partition, 0, since_ms)
        place = Place(partition, group.name.lower())
        reader = open_reader(link, pump, self._readers, place, self._encode, earliest=earliest)
        pump.reading(f"{event_hub.name}/{group.name}")
        return reader

    async def _manage(self, pump: Pump, namespace: Guarded, request: Request) -> Answer:
        """Answers a READ for whoever may send to the event hub or read it."""
        name = str(request.properties.get("name"))
        _require_any(pump, namespace, name)
        event_hub = self._find(namespace, name)
        now_ms = self._clock.utc_ms()
        since_ms = event_hub.kept_since_ms(now_ms)
        facts = Facts(event_hub.name, event_hub.created_ms, event_hub.partitions)
        return answered(
            request,
            facts,
            lambda number: retained_info(self._log, Partition(event_hub.number, number), since_ms),
            now_ms,
        )

    def _find(self, namespace: Guarded, name: str) -> EventHub:
        found = self._event_hubs.find(namespace.number, name)
        if found is None:
            raise not_found(f"{namespace.host_name}/{name}", NAME_REMEDY.format(namespace=namespace.name))
        return found


def need_of(address: EventHubAddress, namespace: Guarded) -> Need | None:
    """What has to be proved for a node; None for `$cbs` and `$management`, and for what is refused to everybody."""
    match address.node:
        case EventHubNode.READ:
            group = f"{address.entity}/ConsumerGroups/{address.consumer_group}"
            part = f"/eventhubs/{address.entity}/consumergroups/{address.consumer_group}"
            return _need(namespace, Right.LISTEN, f"{group}/Partitions/{address.partition}", part)
        case EventHubNode.SEND:
            below = f"/Partitions/{address.partition}" if address.partition else ""
            below = f"/Publishers/{address.publisher}" if address.publisher else below
            return _need(namespace, Right.SEND, f"{address.entity}{below}", f"/eventhubs/{address.entity}")
        case _:
            return None


def _need(namespace: Guarded, right: Right, path: str, part: str) -> Need:
    return Need(namespace.number, path, built_in=False, right=right, data_action=ACTIONS[right], part=part)


def _require(pump: Pump, need: Need, namespace: Guarded) -> None:
    try:
        pump.require(need)
    except HubError as error:
        raise link_refused(error, need.right, f"sb://{namespace.host_name}/{need.path.lower()}") from error


def _require_any(pump: Pump, namespace: Guarded, name: str) -> None:
    """Raises HubError, that of sending, unless the peer may read the event hub or send to it."""
    path, part = f"{name}/$management", f"/eventhubs/{name}"
    try:
        pump.require(_need(namespace, Right.LISTEN, path, part))
    except HubError:
        _require(pump, _need(namespace, Right.SEND, path, part), namespace)


def _send_refused(event_hub: EventHub) -> HubError | None:
    return None if event_hub.status.sends else _disabled(event_hub)


def _read_refused(event_hub: EventHub, group: str) -> HubError | None:
    if event_hub.group(group) is None:
        return _no_group(event_hub, group)
    return None if event_hub.status.receives else _disabled(event_hub)


def _no_group(event_hub: EventHub, group: str) -> HubError:
    remedy = f"isthmus eventhubs eventhub consumer-group create --eventhub-name {event_hub.name} -n {group}"
    return not_found(f"{event_hub.name}/ConsumerGroups/{group}", remedy)


def _gone(event_hub: EventHub) -> HubError:
    return not_found(event_hub.name, f"isthmus eventhubs eventhub create -n {event_hub.name}")


def _disabled(event_hub: EventHub) -> HubError:
    remedy = f"isthmus eventhubs eventhub update -n {event_hub.name} --status Active"
    refusal = Refusal(Hop.CONTRACT, "contract.entity-disabled", f"{event_hub.name} is {event_hub.status.value}", remedy)
    return HubError(Code.INVALID_OPERATION, f"The messaging entity '{event_hub.name}' is disabled.", refusal)
