"""Everything the installation listens at, from those who know: the listeners, the configuration, the connectors."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from isthmus.app.domain import Domain
from isthmus.config import Config
from isthmus.network.door import LOCAL_DOOR
from isthmus.network.virtual_networks import PresenceKind
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.servers.gateway.link_door import LinkDoor
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.management.exposure import Exposed, Installation
from isthmus.wire.link.messages import EndpointStatus, Status

HUB = "hub"
HELPER = "namespace helper"
LISTENING = "listening"
NOT_REPORTED = "nothing"


def installation(
    config: Config, domain: Domain, listeners: Listeners, ports: Mapping[Plane, int], link: LinkDoor | None
) -> Installation:
    """What is listened at now; connectors listen for the planes at `ports`."""
    sockets = [*_own(listeners), *_local(config, listeners)]
    for endpoint in domain.endpoints.all() if link is not None else ():
        kind, _, name = endpoint.place.partition(":")
        if kind == PresenceKind.CONNECTOR and link is not None:
            statuses = [status for control in link.links.of(name).controls if (status := control.status)]
            sockets += _carried(endpoint, ports, statuses)
    return Installation({HUB: os.getpid()}, tuple(sockets))


def _own(listeners: Listeners) -> Iterator[Exposed]:
    for bound in listeners.bound:
        protocol = "udp" if bound.datagrams else "tcp"
        yield Exposed(HUB, bound.place, protocol, bound.address, bound.port, bound.plane, bound.door)


def _local(config: Config, listeners: Listeners) -> Iterator[Exposed]:
    for path, name in listeners.local:
        yield Exposed(HUB, "", "unix", name, 0, Plane.MANAGEMENT, LOCAL_DOOR, file=str(path.absolute()))
    if helper := config.network.helper:
        yield Exposed(HELPER, "", "unix", helper, 0, None, LOCAL_DOOR, file=str(Path(helper).absolute()))


def _carried(endpoint: PrivateEndpoint, ports: Mapping[Plane, int], statuses: Sequence[Status]) -> Iterator[Exposed]:
    """An endpoint's sockets at its connector: what that reports of each plane, and of names where it serves them."""
    place, address, door = endpoint.place, endpoint.address, endpoint.door
    said = _said(address, [each for status in statuses for each in status.endpoints])
    for plane, port in ports.items():
        yield Exposed(place, place, "tcp", address, port, plane, door, said.get(port, NOT_REPORTED))
    for port, word in _said(address, [each for status in statuses for each in status.names]).items():
        for protocol in ("tcp", "udp"):
            yield Exposed(place, place, protocol, address, port, Plane.NAMES, door, word)


def _said(address: str, reports: Iterable[EndpointStatus]) -> dict[int, str]:
    """By port, what the processes of a connector say about listening at an address."""
    said: dict[int, str] = {}
    for each in (each for each in reports if each.address == address):
        said |= dict.fromkeys(each.ports, LISTENING if each.listening else each.reason)
    return said
