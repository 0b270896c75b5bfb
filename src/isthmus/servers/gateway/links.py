"""The live links: of each connector its control connections, its spare connections, and those that carry somebody."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from isthmus.base.clock import iso_utc
from isthmus.servers.gateway.link_control import ControlHandler
from isthmus.servers.gateway.link_layer import Role
from isthmus.servers.gateway.link_socket import LinkSocket
from isthmus.wire.link.messages import EndpointStatus

WAITING_MAX = 256
"""Connections of one connector on which no header has begun: a burst of its devices, and its spare ones; with one more,
the oldest is closed."""


@dataclass(slots=True)
class LiveLinks:
    """What one connector has open; sockets in the order in which they came."""

    controls: list[ControlHandler] = field(default_factory=list)
    waiting: dict[LinkSocket, None] = field(default_factory=dict)
    sockets: dict[LinkSocket, None] = field(default_factory=dict)

    @property
    def carried(self) -> int:
        """Connections that carry somebody."""
        return sum(socket.carries_somebody for socket in self.sockets)

    def shown(self) -> dict[str, object]:
        """For people."""
        return {
            "connected": bool(self.controls),
            "processes": [_process(control) for control in self.controls],
            "carriedConnections": self.carried,
            "spareConnections": len(self.waiting),
        }


class Links:
    """All live links by connector; use it on one loop only."""

    def __init__(self) -> None:
        self._by_name: dict[str, LiveLinks] = {}

    def of(self, name: str) -> LiveLinks:
        """What a connector has open; nothing for one that is not there."""
        return self._by_name.get(name, LiveLinks())

    def controls(self) -> Iterator[ControlHandler]:
        """All control connections that have said hello."""
        for links in list(self._by_name.values()):
            yield from list(links.controls)

    @property
    def connected(self) -> int:
        """Connectors that have a control connection."""
        return sum(bool(links.controls) for links in self._by_name.values())

    @property
    def spares(self) -> int:
        """Connections on which no header has begun."""
        return sum(len(links.waiting) for links in self._by_name.values())

    @property
    def carried(self) -> int:
        """Connections that carry somebody."""
        return sum(links.carried for links in self._by_name.values())

    def join(self, socket: LinkSocket) -> LinkSocket | None:
        """Takes a socket whose connector is known in, and gives the spare one that has to go for it."""
        assert socket.connector is not None
        links = self._by_name.setdefault(socket.connector.name, LiveLinks())
        links.sockets[socket] = None
        if socket.role is not Role.CARRYING:
            return None
        links.waiting[socket] = None
        return next(iter(links.waiting)) if len(links.waiting) > WAITING_MAX else None

    def begun(self, socket: LinkSocket) -> None:
        """A header has begun on the socket."""
        assert socket.connector is not None
        self.of(socket.connector.name).waiting.pop(socket, None)

    def leave(self, socket: LinkSocket) -> None:
        """Lets a closed socket go; without effect when it is not in."""
        if socket.connector is None:
            return
        links = self.of(socket.connector.name)
        links.waiting.pop(socket, None)
        links.sockets.pop(socket, None)
        self._tidy(socket.connector.name)

    def greet(self, control: ControlHandler) -> ControlHandler | None:
        """Takes a control connection in, and gives the one of the same process that it replaces."""
        controls = self._by_name.setdefault(control.connector.name, LiveLinks()).controls
        same = [each for each in controls if each.hello is not None and each.hello.instance == _instance(control)]
        controls.append(control)
        return same[0] if same else None

    def gone(self, control: ControlHandler) -> None:
        """Lets a control connection go; without effect when it is not in."""
        controls = self.of(control.connector.name).controls
        if control in controls:
            controls.remove(control)
            self._tidy(control.connector.name)

    def _tidy(self, name: str) -> None:
        links = self._by_name.get(name)
        if links is not None and not links.sockets and not links.controls:
            del self._by_name[name]


def _instance(control: ControlHandler) -> str:
    return control.hello.instance if control.hello is not None else ""


def _process(control: ControlHandler) -> dict[str, object]:
    hello, status = control.hello, control.status
    return {
        "instance": hello.instance if hello is not None else "",
        "hostName": hello.hostname if hello is not None else "",
        "address": control.peer_address,
        "connectedTime": iso_utc(control.since_ms),
        "certificateExpiryTime": iso_utc(control.identity.not_after_ms),
        "setUp": status is not None and status.generation >= control.generation,
        "endpoints": [_status(each) for each in (status.endpoints if status is not None else ())],
        "names": [_status(each) for each in (status.names if status is not None else ())],
    }


def _status(status: EndpointStatus) -> dict[str, object]:
    return {
        "address": status.address,
        "ports": list(status.ports),
        "listening": status.listening,
        "reason": status.reason,
    }
