"""The nodes of a hub that links attach to: what each needs to be proved, and what then handles the link."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from isthmus.access.principal import Right, SharedAccessPolicy
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import is_probe
from isthmus.commands.cloud_to_device import CloudToDevice
from isthmus.commands.servicebound import ServiceboundQueue
from isthmus.resources.consumer_groups import find_group
from isthmus.resources.guarded import Guarded
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_cbs import put_token
from isthmus.servers.gateway.amqp_commands import CommandReceiver
from isthmus.servers.gateway.amqp_contract import (
    Address,
    Node,
    not_found,
    parse_address,
    partition_number,
    path_segments,
)
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.servers.gateway.amqp_management import Management
from isthmus.servers.gateway.amqp_probe import ProbeReceiver, ProbeSender
from isthmus.servers.gateway.amqp_reader import Place, Readers, check_group_door, open_reader
from isthmus.servers.gateway.amqp_replies import Replies, ReplyLink, RequestLink
from isthmus.servers.gateway.amqp_servicebound import ServiceboundSender, encode_feedback, encode_file_notification
from isthmus.servers.gateway.amqp_tokens import Need
from isthmus.servers.gateway.http_routes import DATA_ACTIONS
from isthmus.servers.gateway.ports import ProbeOutlet
from isthmus.servers.gateway.throttles import Throttles
from isthmus.telemetry.ports import Log, Partition
from isthmus.wire.amqp.errors import Condition
from isthmus.wire.amqp.limits import REDIRECT_DETACH_SECONDS
from isthmus.wire.amqp.link import Link, LinkRole
from isthmus.wire.amqp.states import Error
from isthmus.wire.amqp.values import AmqpValue, Int, Symbol

AMQPS_PORT: Final = 5671
"""The port that clients are sent to; SDKs have no other."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Everything behind the links of all hubs; one per process."""

    log: Log
    commands: CloudToDevice
    feedback: ServiceboundQueue
    file_notifications: ServiceboundQueue
    readers: Readers
    clock: Clock
    probe_mail: ProbeOutlet
    throttles: Throttles

    def attach(self, link: Link, pump: Pump, replies: Replies, resource: Guarded) -> LinkHandler | None:
        """Judges a new link and accepts it; None when it was redirected. Raises HubError to refuse it.

        What was not proved is refused before anything is told of what there is.
        """
        hub = hub_of(resource)
        address = parse_address(link.target_address if link.role is LinkRole.RECEIVER else link.source_address)
        need = need_of(address, hub, sends=link.role is LinkRole.RECEIVER)
        if need is not None:
            pump.require(need)
        handler = self._handler(link, pump, replies, hub, address)
        if handler is not None:
            handler.need = need
        return handler

    def policies(self, resource: Guarded, audience: str) -> Iterable[SharedAccessPolicy]:
        """No part of a hub has policies of its own."""
        return ()

    def told(self, error: HubError, resource: Guarded) -> HubError:
        """A hub's refusals are in a hub's words already."""
        return error

    def _handler(self, link: Link, pump: Pump, replies: Replies, hub: Hub, address: Address) -> LinkHandler | None:
        match address.node, link.role:
            case Node.CBS, LinkRole.RECEIVER:
                return RequestLink(link, pump, replies, Node.CBS, partial(put_token, pump))
            case Node.MANAGEMENT, LinkRole.RECEIVER:
                management = Management(hub, self.log, self.clock)
                return RequestLink(link, pump, replies, Node.MANAGEMENT, management.answer)
            case Node.CBS | Node.MANAGEMENT, LinkRole.SENDER:
                return ReplyLink(link, replies, address.node)
            case Node.PARTITION, LinkRole.SENDER:
                return self._read(link, pump, hub, address)
            case Node.EVENTS_REDIRECT, LinkRole.SENDER:
                self._redirect(link, hub, address)
                return None
            case Node.DEVICEBOUND, LinkRole.RECEIVER:
                return CommandReceiver(link, pump, self.commands, hub, self.throttles)
            case Node.FEEDBACK, LinkRole.SENDER:
                return ServiceboundSender(link, pump, self.feedback, hub.number, encode_feedback)
            case Node.FILE_NOTIFICATIONS, LinkRole.SENDER:
                return ServiceboundSender(link, pump, self.file_notifications, hub.number, encode_file_notification)
            case Node.DEVICE, _ if probe_in(address):
                return self._of_probe(link, pump, hub, probe_in(address))
            case Node.DEVICE, _:
                raise _not_implemented(address)
            case Node.EVENT_HUB, LinkRole.RECEIVER:
                raise _cannot_send(address)
            case _:
                raise not_found(address.text, "Use the address the documentation gives.")

    def _of_probe(self, link: Link, pump: Pump, hub: Hub, device_id: str) -> LinkHandler:
        if link.role is LinkRole.RECEIVER:
            return ProbeReceiver(link, pump, self.probe_mail, hub, device_id)
        return ProbeSender(link, pump, self.probe_mail, hub, device_id)

    def _read(self, link: Link, pump: Pump, hub: Hub, address: Address) -> LinkHandler:
        group = _group(hub, address)
        check_group_door(hub, group, pump.connection.door)
        partition = Partition(hub.number, partition_number(address.partition, hub.partitions))
        place = Place(partition, group.lower())
        reader = open_reader(link, pump, self.readers, place, self.readers.encoder.encode)
        pump.reading(group)
        return reader

    def _redirect(self, link: Link, hub: Hub, address: Address) -> None:
        """Sends IoT service SDKs to the Event Hubs-compatible endpoint, which is at the hub's own host name."""
        host = hub.host_name
        info: dict[Symbol, AmqpValue] = {
            Symbol("hostname"): host,
            Symbol("network-host"): host,
            Symbol("port"): Int(AMQPS_PORT),
            Symbol("address"): f"amqps://{host}:{AMQPS_PORT}/{hub.name}{address.suffix}",
        }
        moved = Error(str(Condition.LINK_REDIRECT), "The messages are read at another address.", info)
        link.refuse_later(moved, detach_at=self.clock.monotonic() + REDIRECT_DETACH_SECONDS)


def hub_of(resource: Guarded) -> Hub:
    """The resource, a hub."""
    assert isinstance(resource, Hub), "these are the nodes of hubs"
    return resource


def need_of(address: Address, hub: Hub, *, sends: bool = False) -> Need | None:
    """What has to be proved for a node, by a peer that reads or `sends`.

    None for `$cbs`, and for what is refused to everybody alike.
    """
    match address.node:
        case Node.PARTITION:
            path = f"{address.entity}/ConsumerGroups/{address.consumer_group}/Partitions/{address.partition}"
            return Need(hub.number, path, built_in=True)
        case Node.MANAGEMENT:
            return Need(hub.number, f"{hub.name}/$management", built_in=True)
        case Node.EVENTS_REDIRECT:
            return Need(hub.number, "messages/events", built_in=False)
        case Node.DEVICEBOUND:
            action = f"{DATA_ACTIONS}cloudToDeviceMessages/send/action"
            return Need(hub.number, "messages/devicebound", built_in=False, data_action=action)
        case Node.FEEDBACK:
            action = f"{DATA_ACTIONS}cloudToDeviceMessages/feedback/action"
            return Need(hub.number, "messages/serviceBound/feedback", built_in=False, data_action=action)
        case Node.FILE_NOTIFICATIONS:
            action = f"{DATA_ACTIONS}fileUpload/notifications/action"
            return Need(hub.number, "messages/serviceBound/filenotifications", built_in=False, data_action=action)
        case Node.DEVICE if probe_in(address):
            # A reader's probe has proved itself for the built-in endpoint alone.
            built_in = path_segments(address.text)[2:] == ["messages", "events"] and not sends
            return Need(hub.number, f"devices/{probe_in(address)}", built_in=built_in, right=Right.DEVICE_CONNECT)
        case _:
            return None


def probe_in(address: Address) -> str:
    """The probe whose side of the hub an address means; empty for anybody else's."""
    segments = path_segments(address.text)
    return segments[1] if address.node is Node.DEVICE and is_probe(segments[1]) else ""


def _group(hub: Hub, address: Address) -> str:
    """The consumer group as it was created; it must exist, and the event hub has the hub's name."""
    if address.entity.lower() != hub.name.lower():
        raise not_found(address.entity, "Use the EntityPath of the connection string.")
    group = find_group(hub, address.consumer_group)
    if group is None:
        raise not_found(
            f"{address.entity}/ConsumerGroups/{address.consumer_group}",
            f"isthmus iot hub consumer-group create --name {address.consumer_group}",
        )
    return group


def _not_implemented(address: Address) -> HubError:
    """A node of Azure's that is not offered here."""
    return HubError(
        Code.NOT_IMPLEMENTED,
        "This is not offered over AMQP here.",
        Refusal(Hop.CONTRACT, "contract.not-implemented", address.text[:200], "Devices connect by MQTT, port 8883."),
    )


def _cannot_send(address: Address) -> HubError:
    return HubError(
        Code.INVALID_OPERATION,
        "The built-in endpoint takes no messages of services.",
        Refusal(Hop.CONTRACT, "contract.address", address.text[:200], "Send as a device, or read a partition."),
    )
