"""Everything the installation listens at, from those who know: the listeners, the configuration, the connectors."""

import os
from collections.abc import Iterator, Mapping

from isthmus.app.domain import Domain
from isthmus.base.places import MANAGEMENT_SOCKET
from isthmus.config import Config
from isthmus.network.door import LOCAL_DOOR
from isthmus.network.virtual_networks import PresenceKind
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.servers.gateway.link_door import LinkDoor
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.management.exposure import Exposed, Installation

HUB = "hub"
HELPER = "namespace helper"
LISTENING = "listening"


def installation(
    config: Config, domain: Domain, listeners: Listeners, ports: Mapping[Plane, int], link: LinkDoor | None
) -> Installation:
    """What is listened at now; connectors listen for the planes at `ports`."""
    sockets = [*_own(listeners), *_local(config)]
    for endpoint in domain.endpoints.all() if link is not None else ():
        kind, _, name = endpoint.place.partition(":")
        if kind == PresenceKind.CONNECTOR:
            sockets += _carried(endpoint, ports, _reports(link, name, endpoint.address))
    return Installation({HUB: os.getpid()}, tuple(sockets))


def _own(listeners: Listeners) -> Iterator[Exposed]:
    for bound in listeners.bound:
        protocol = "udp" if bound.datagrams else "tcp"
        yield Exposed(HUB, bound.place, protocol, bound.address, bound.port, bound.plane, bound.door)


def _local(config: Config) -> Iterator[Exposed]:
    path = str((config.data_folder / MANAGEMENT_SOCKET).absolute())
    yield Exposed(HUB, "", "unix", path, 0, Plane.MANAGEMENT, LOCAL_DOOR)
    if config.network.helper:
        yield Exposed(HELPER, "", "unix", config.network.helper, 0, None, LOCAL_DOOR)


def _carried(endpoint: PrivateEndpoint, ports: Mapping[Plane, int], reports: Mapping[int, str]) -> Iterator[Exposed]:
    """An endpoint's sockets at its connector: what that reports, or that it reports nothing."""
    for plane, port in ports.items():
        said = reports.get(port, "not reported")
        yield Exposed(endpoint.place, endpoint.place, "tcp", endpoint.address, port, plane, endpoint.door, said)


def _reports(link: LinkDoor | None, connector: str, address: str) -> dict[int, str]:
    """By port, what the processes of a connector say about listening at an address."""
    statuses = [status for control in link.links.of(connector).controls if (status := control.status)] if link else []
    said: dict[int, str] = {}
    for each in (each for status in statuses for each in status.endpoints if each.address == address):
        said |= dict.fromkeys(each.ports, LISTENING if each.listening else each.reason)
    return said
