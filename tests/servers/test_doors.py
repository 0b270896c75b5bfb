"""Which sockets listen where: the public door with its fallback, endpoints that come and go, and the metrics."""

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.network.door import PUBLIC_DOOR
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.servers.gateway.doors import HTTPS_PORT_FALLBACK, Doors, PlaneSetting
from isthmus.servers.gateway.listener import Listeners, PortNotPermitted
from isthmus.servers.gateway.plane import Plane
from servers.front_door import FrontDoor, Pump, front_door

PORTS = {Plane.MQTT: 18_883, Plane.AMQP: 15_671, Plane.HTTPS: 18_443}
METRICS_PORT = 19_443


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    async with front_door(tmp_path) as opened:
        yield opened


@pytest.fixture
def doors(front: FrontDoor) -> Doors:
    return make_doors(front)


def make_doors(front: FrontDoor, *, https: int = 18_443, fallback: bool = True) -> Doors:
    planes = {plane: PlaneSetting(port, Pump) for plane, port in (PORTS | {Plane.HTTPS: https}).items()}
    return Doors(front.listeners, front.contexts, planes, fallback=fallback)


def places(front: FrontDoor) -> set[tuple[str, int, Plane, str]]:
    return {(bound.address, bound.port, bound.plane, bound.door.label) for bound in front.listeners.bound}


def all_planes(address: str, door: str = "public", https: int = 18_443) -> set[tuple[str, int, Plane, str]]:
    ports = PORTS | {Plane.HTTPS: https}
    return {(address, port, plane, door) for plane, port in ports.items()}


def endpoint(address: str, name: str = "plant") -> PrivateEndpoint:
    return PrivateEndpoint(name, "/hubs/one", "link", address, connection=f"{name}.1")


async def test_the_public_door_is_every_address_on_every_plane(
    front: FrontDoor, doors: Doors, loopback_addresses: Callable[[], str]
) -> None:
    addresses = loopback_addresses(), loopback_addresses()

    doors.open_public(addresses)

    assert places(front) == all_planes(addresses[0]) | all_planes(addresses[1])


async def test_https_falls_back_where_443_may_not_be_bound(
    front: FrontDoor, loopback_addresses: Callable[[], str], no_443: None
) -> None:
    doors = make_doors(front, https=443)
    first, second, private = loopback_addresses(), loopback_addresses(), loopback_addresses()

    doors.open_public((first, second))
    doors.open_private(endpoint(private))

    assert doors.ports[Plane.HTTPS] == HTTPS_PORT_FALLBACK
    assert places(front) == (
        all_planes(first, https=8443) | all_planes(second, https=8443) | all_planes(private, "private:plant.1", 8443)
    )


async def test_a_port_that_was_asked_for_does_not_move(front: FrontDoor, loopback_address: str, no_443: None) -> None:
    with pytest.raises(PortNotPermitted, match="Port 443 may not be bound"):
        make_doors(front, https=443, fallback=False).open_public((loopback_address,))


async def test_an_endpoint_listens_until_it_is_deleted(front: FrontDoor, doors: Doors, loopback_address: str) -> None:
    plant = endpoint(loopback_address)

    await doors.endpoint_changed(None, plant)
    assert places(front) == all_planes(loopback_address, "private:plant.1")

    await doors.endpoint_changed(plant, None)
    assert places(front) == set()


async def test_an_endpoint_listens_on_all_planes_or_on_none(
    front: FrontDoor, doors: Doors, loopback_address: str
) -> None:
    with socket.create_server((loopback_address, PORTS[Plane.AMQP])), pytest.raises(ConfigurationError):
        doors.open_private(endpoint(loopback_address))

    assert places(front) == set()


async def test_an_endpoint_that_cannot_be_opened_closes_nothing_of_others(
    front: FrontDoor, doors: Doors, loopback_address: str
) -> None:
    doors.open_metrics(loopback_address, PORTS[Plane.HTTPS], Pump)

    with pytest.raises(ConfigurationError):
        doors.open_private(endpoint(loopback_address))

    assert places(front) == {(loopback_address, 18_443, Plane.METRICS, "public")}


async def test_a_known_endpoint_that_cannot_be_opened_is_missed_and_tried_again(
    front: FrontDoor, doors: Doors, loopback_addresses: Callable[[], str]
) -> None:
    here, taken = loopback_addresses(), loopback_addresses()
    with socket.create_server((taken, PORTS[Plane.MQTT])):
        doors.open_known([endpoint(here, "here"), endpoint(taken, "there")])
        doors.try_again()
        assert doors.missing == f"there: Port 18883 at {taken} is in use: stop what listens there, or choose another."
        assert places(front) == all_planes(here, "private:here.1")

    doors.try_again()

    assert doors.missing == ""
    assert places(front) == all_planes(here, "private:here.1") | all_planes(taken, "private:there.1")


async def test_a_deleted_endpoint_is_missed_no_more(front: FrontDoor, doors: Doors) -> None:
    nowhere = endpoint("192.0.2.1")
    doors.open_known([nowhere])

    await doors.endpoint_changed(nowhere, None)
    doors.try_again()

    assert (doors.missing, places(front)) == ("", set())


async def test_the_public_address_cannot_be_an_endpoints(doors: Doors, loopback_addresses: Callable[[], str]) -> None:
    public, other = loopback_addresses(), loopback_addresses()
    doors.open_public((public,))

    assert "is the public door's address" in doors.objection("", public)
    assert doors.objection("", other) == ""
    assert doors.objection("netns:plant", public) == ""


async def test_metrics_have_a_place_of_their_own(front: FrontDoor, doors: Doors, loopback_address: str) -> None:
    doors.open_metrics(loopback_address, METRICS_PORT, Pump)

    (bound,) = front.listeners.bound
    assert (bound.port, bound.plane, bound.door) == (METRICS_PORT, Plane.METRICS, PUBLIC_DOOR)
    assert Plane.METRICS not in doors.ports


@pytest.fixture
def no_443(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which this user may not bind port 443, whoever runs the tests."""
    open_really = Listeners.open

    def open_above(self: Listeners, address: str, port: int, **rest: object) -> object:
        if port == 443:
            raise PortNotPermitted("Port 443 may not be bound by this user: choose one from 1024 up.")
        return open_really(self, address, port, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Listeners, "open", open_above)
