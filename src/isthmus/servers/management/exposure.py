"""What this installation listens at, and what a stranger at an address should find there: `GET /exposure?from=ADDRESS`.

This is the half of the exposure matrix that is known here. The other half is what the kernel tells and what knocking
finds out; whoever asks compares the two.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from isthmus.base.errors import Code, HubError
from isthmus.base.hosts import is_address
from isthmus.network.admission import Allow, admit
from isthmus.network.door import Door, DoorKind
from isthmus.network.private_endpoints import ConnectionStatus, status_of
from isthmus.network.virtual_networks import NetworkFacts
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.management.request import Call, Reply

HUB_PLANES = frozenset({Plane.MQTT, Plane.AMQP, Plane.HTTPS})
"""Planes on which a hub is served, and a peer is admitted or not."""

VANTAGE = "127.0.0.1"
"""Where a stranger is who does not say where he is."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """A socket that is listened at, by whom.

    `reported` is what its machine says of one that is not on this one; a Unix socket's `address` is the name that the
    kernel has for it, `file` where it lies.
    """

    process: str
    place: str
    protocol: str
    address: str
    port: int
    plane: Plane | None
    door: Door
    reported: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything that is listened at now, and the processes by name that do."""

    processes: dict[str, int]
    sockets: tuple[Exposed, ...]


@dataclass(frozen=True, slots=True)
class ExposureCalls:
    """Answers calls about what is exposed; on the event loop only. `installation` is None where no server runs."""

    hubs: Hubs
    facts: Callable[[], NetworkFacts]
    installation: Callable[[], Installation] | None = None

    def answer(self, call: Call) -> Reply:
        """The table; raises HubError."""
        source = call.query.get("from") or VANTAGE
        if not is_address(source):
            raise HubError(Code.ARGUMENT_INVALID, f"from takes an IP address, and {source!r} is none")
        if self.installation is None:
            raise HubError(Code.INVALID_OPERATION, "What is exposed is asked of a server that runs: isthmus up")
        now, hubs = self.installation(), self.hubs.all()
        return Reply(
            value={
                "processes": [{"name": name, "pid": pid} for name, pid in now.processes.items()],
                "hubs": [{"name": hub.name, "hostName": hub.host_name} for hub in hubs],
                "sockets": [self._told(each, hubs, source) for each in now.sockets],
            }
        )

    def _told(self, socket: Exposed, hubs: Iterable[Hub], source: str) -> dict[str, object]:
        return {
            "process": socket.process,
            "place": socket.place,
            "protocol": socket.protocol,
            "address": socket.address,
            "port": socket.port,
            "plane": socket.plane.value if socket.plane else "",
            "door": socket.door.label,
            "who": who(socket, tuple(hubs)),
            "reported": socket.reported,
            "file": socket.file,
            "hubs": self._admissions(socket, hubs, source) if socket.plane in HUB_PLANES else {},
        }

    def _admissions(self, socket: Exposed, hubs: Iterable[Hub], source: str) -> dict[str, dict[str, object]]:
        """By hub, whether a peer from there is admitted, and by which rule it is or is not."""
        told: dict[str, dict[str, object]] = {}
        for hub in hubs:
            admission = admit(hub, door=socket.door, address=source, facts=self.facts())
            admitted = isinstance(admission, Allow)
            rule = admission.rule if isinstance(admission, Allow) else admission.refusal.rule
            told[hub.name] = {"admitted": admitted, "rule": rule}
        return told


def who(socket: Exposed, hubs: tuple[Hub, ...]) -> str:
    """Who may talk there, for people."""
    if socket.plane is Plane.METRICS:
        return "whoever reaches it"
    match socket.door.kind:
        case DoorKind.LOCAL:
            return "the user who runs the hub" if socket.process == "hub" else "the users it was told"
        case DoorKind.LINK:
            return "enrolled connectors"
        case DoorKind.MANAGEMENT:
            return "holders of a token"
        case DoorKind.METADATA:
            return f"what runs in the namespace {socket.door.connection}"
        case DoorKind.PRIVATE if socket.plane in HUB_PLANES:
            return _at_private_door(socket.door, hubs)
        case DoorKind.PRIVATE:
            return f"clients of network {socket.door.network}" if socket.door.network else "whoever reaches the address"
        case _:
            return "; ".join(dict.fromkeys(_at_public_door(hub) for hub in hubs))


def _at_private_door(door: Door, hubs: tuple[Hub, ...]) -> str:
    owner = next((hub for hub in hubs if hub.resource_id.lower() == door.resource_id.lower()), None)
    status = status_of(door.connection, owner.connections) if owner is not None else ConnectionStatus.DISCONNECTED
    if status is not ConnectionStatus.APPROVED:
        return f"nobody: {status.value}"
    return f"network {door.network} and who reaches it" if door.network else "whoever reaches the address"


def _at_public_door(hub: Hub) -> str:
    if not hub.public_network_access:
        return "nobody: public access is disabled"
    return "everybody" if hub.rules is None else f"addresses of {len(hub.rules.ip_rules)} IP rules"
