"""The nodes of a hub that links attach to: which right each asks for, and what then handles the link."""

from collections.abc import Callable
from dataclasses import dataclass

from isthmus.access.principal import Right
from isthmus.access.refusals import unauthorized
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.commands.cloud_to_device import CloudToDevice
from isthmus.commands.feedback import Feedback
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_cbs import CbsReceiver
from isthmus.servers.gateway.amqp_commands import CommandReceiver, FeedbackSender
from isthmus.servers.gateway.amqp_contract import (
    EARLIEST,
    Address,
    Node,
    StartPosition,
    parse_address,
    parse_selector,
)
from isthmus.servers.gateway.amqp_event import EventEncoder
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.servers.gateway.amqp_management import ManagementReceiver
from isthmus.servers.gateway.amqp_reader import RUNTIME_METRIC, PartitionReader, Readers
from isthmus.servers.gateway.amqp_replies import ReplyLink
from isthmus.telemetry.ports import Log, Partition
from isthmus.wire.amqp.errors import Condition
from isthmus.wire.amqp.limits import REDIRECT_DETACH_SECONDS
from isthmus.wire.amqp.link import Link, LinkRole
from isthmus.wire.amqp.states import Error, Source
from isthmus.wire.amqp.values import AmqpValue, Described, Int, Symbol

SELECTOR = "apache.org:selector-filter:string"
EPOCH = Symbol("com.microsoft:epoch")
AMQPS_PORT = 5671
"""The port that clients are sent to; SDKs have no other."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Everything behind the links of all hubs; one per process."""

    log: Log
    commands: CloudToDevice
    feedback: Feedback
    readers: Readers
    encoder: EventEncoder
    clock: Clock

    def is_built_in(self, audience: str) -> bool:
        """True when an audience means the built-in endpoint rather than the hub's own nodes."""
        return audience.lower().startswith(("sb://", "sb%3a"))

    def attach(self, link: Link, pump: Pump, hub: Callable[[], Hub]) -> LinkHandler | None:
        """Judges a new link and accepts it; None when it was redirected. Raises HubError to refuse it."""
        sends = link.role is LinkRole.RECEIVER
        address = parse_address(link.target_address if sends else link.source_address)
        match address.node, sends:
            case Node.CBS, True:
                return CbsReceiver(link, pump)
            case Node.CBS, False:
                return ReplyLink(link, pump.replies, Node.CBS)
            case Node.MANAGEMENT, True:
                _require(pump, hub(), hub().name, f"{hub().name}/$management")
                return ManagementReceiver(link, pump, self.log, hub(), self.clock)
            case Node.MANAGEMENT, False:
                return ReplyLink(link, pump.replies, Node.MANAGEMENT)
            case Node.PARTITION, False:
                return self._read(link, pump, hub(), address)
            case Node.EVENTS_REDIRECT, False:
                self._redirect(link, pump, hub(), address)
                return None
            case Node.DEVICEBOUND, True:
                _require(pump, hub(), "messages/devicebound")
                return CommandReceiver(link, pump, self.commands, hub())
            case Node.FEEDBACK, False:
                _require(pump, hub(), "messages/serviceBound/feedback")
                return FeedbackSender(link, pump, self.feedback, hub())
            case Node.DEVICE | Node.FILE_NOTIFICATIONS, _:
                raise not_implemented(address)
            case Node.EVENT_HUB, True:
                raise _cannot_send(address)
            case _:
                raise not_found(address.text)

    def _read(self, link: Link, pump: Pump, hub: Hub, address: Address) -> LinkHandler:
        _check_entity(hub, address)
        _require(pump, hub, f"{address.entity}/ConsumerGroups/{address.consumer_group}/Partitions/{address.partition}")
        partition = Partition(hub.number, _partition_number(hub, address))
        epoch = _epoch(link)
        self.readers.judge(partition, address.consumer_group, epoch)
        start = _start(link)
        tracks = (RUNTIME_METRIC,) if RUNTIME_METRIC in link.desired_capabilities else ()
        link.accept(properties=dict(link.properties), offered_capabilities=tracks)
        reader = PartitionReader(
            link,
            pump,
            self.log,
            partition=partition,
            start=start,
            epoch=epoch,
            encoder=self.encoder,
            clock=self.clock,
            readers=self.readers,
            group=address.consumer_group,
        )
        self.readers.enter(reader)
        return reader

    def _redirect(self, link: Link, pump: Pump, hub: Hub, address: Address) -> None:
        """Sends IoT service SDKs to the Event Hubs-compatible endpoint, which is at the hub's own host name."""
        _require(pump, hub, "messages/events")
        host = hub.host_name
        info: dict[Symbol, AmqpValue] = {
            Symbol("hostname"): host,
            Symbol("network-host"): host,
            Symbol("port"): Int(AMQPS_PORT),
            Symbol("address"): f"amqps://{host}:{AMQPS_PORT}/{hub.name}{address.suffix}",
        }
        moved = Error(str(Condition.LINK_REDIRECT), "The messages are read at another address.", info)
        link.refuse_later(moved, detach_at=self.clock.monotonic() + REDIRECT_DETACH_SECONDS)


def _require(pump: Pump, hub: Hub, *paths: str) -> None:
    """All nodes of services ask for ServiceConnect (IoT Hub developer guide, access control), for one of the paths."""
    admitted = next((proof for path in paths if (proof := pump.proof_for(hub.number, path))), None)
    if admitted is None:
        raise unauthorized(
            "auth.missing", paths[0], "put a token to $cbs that covers the address before attaching", Hop.AUTHORIZATION
        )
    if Right.SERVICE_CONNECT not in admitted.principal.rights:
        raise unauthorized(
            "auth.right",
            f"{admitted.principal.label} has no ServiceConnect",
            "use a policy with ServiceConnect",
            Hop.AUTHORIZATION,
        )


def _check_entity(hub: Hub, address: Address) -> None:
    """The event hub has the hub's name, and the consumer group must exist."""
    if address.entity.lower() != hub.name.lower():
        raise not_found(address.entity)
    if address.consumer_group.lower() not in {group.lower() for group in hub.consumer_groups}:
        raise not_found(
            f"{address.entity}/ConsumerGroups/{address.consumer_group}",
            f"isthmus iot hub consumer-group create --name {address.consumer_group}",
        )


def _partition_number(hub: Hub, address: Address) -> int:
    if address.partition.isdecimal() and int(address.partition) < hub.partitions:
        return int(address.partition)
    raise HubError(
        Code.ARGUMENT_INVALID,
        f"The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and "
        f"{hub.partitions - 1}.",
        Refusal(Hop.CONTRACT, "contract.partition", address.partition[:64], f"Use 0 to {hub.partitions - 1}."),
    )


def _epoch(link: Link) -> int | None:
    value = link.properties.get(EPOCH)
    return int(value) if isinstance(value, int) else None


def _start(link: Link) -> StartPosition:
    source = link.source
    if not isinstance(source, Source) or SELECTOR not in source.filters:
        return EARLIEST
    found = source.filters[SELECTOR]
    return parse_selector(str(found.value if isinstance(found, Described) else found))


def not_found(what: str, remedy: str = "") -> HubError:
    """No such node, entity or consumer group."""
    return HubError(
        Code.AMQP_ADDRESS_NOT_FOUND,
        f"The messaging entity '{what}' could not be found.",
        Refusal(Hop.CONTRACT, "contract.address", what[:200], remedy or "Use the address the documentation gives."),
    )


def not_implemented(address: Address) -> HubError:
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
