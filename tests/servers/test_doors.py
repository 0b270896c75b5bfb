"""Which sockets listen where: the public door with its fallback, and the metrics."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from isthmus.network.door import MANAGEMENT_DOOR, PUBLIC_DOOR
from isthmus.servers.gateway.doors import HTTPS_PORT_FALLBACK, Doors
from isthmus.servers.gateway.listener import Listeners, PortNotPermitted
from isthmus.servers.gateway.plane import Plane
from servers.doors_world import FakePlaces, all_planes, endpoint, make_doors, places
from servers.front_door import FrontDoor, Pump, front_door

METRICS_PORT = 19_443


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    async with front_door(tmp_path) as opened:
        yield opened


@pytest.fixture
def doors(front: FrontDoor) -> Doors:
    return make_doors(front)


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
    await doors.private.endpoint_changed(None, endpoint(private))

    assert doors.ports[Plane.HTTPS] == HTTPS_PORT_FALLBACK
    assert places(front) == (
        all_planes(first, https=8443) | all_planes(second, https=8443) | all_planes(private, "private:plant.1", 8443)
    )


async def test_what_this_user_may_not_bind_is_served_where_others_make_the_sockets(
    front: FrontDoor, loopback_addresses: Callable[[], str], monkeypatch: pytest.MonkeyPatch, no_443: None
) -> None:
    """At both ports: 443 is what clients know, and the other one stands in connection strings."""
    elsewhere = FakePlaces({"netns:plant": loopback_addresses()})
    doors = make_doors(front, https=443, elsewhere=elsewhere)
    doors.open_public((loopback_addresses(),))
    monkeypatch.undo()

    await doors.private.endpoint_changed(None, endpoint("10.1.0.5", place="netns:plant"))

    assert {bound.port for bound in front.listeners.bound if bound.place} == {18_883, 15_671, 443, 8443}


async def test_a_port_that_was_asked_for_does_not_move(front: FrontDoor, loopback_address: str, no_443: None) -> None:
    with pytest.raises(PortNotPermitted, match="Port 443 may not be bound"):
        make_doors(front, https=443, fallback=False).open_public((loopback_address,))


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


async def test_management_has_a_door_of_its_own(doors: Doors, front: FrontDoor, loopback_address: str) -> None:
    doors.open_management([loopback_address], METRICS_PORT, Pump)

    (bound,) = front.listeners.bound
    assert (bound.port, bound.plane, bound.door) == (METRICS_PORT, Plane.MANAGEMENT, MANAGEMENT_DOOR)
    assert Plane.MANAGEMENT not in doors.ports
    assert "management door's address" in doors.objection("", loopback_address)
    assert not doors.objection("netns:plant", loopback_address)


@pytest.fixture
def no_443(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which this user may not bind port 443, whoever runs the tests."""
    open_really = Listeners.open

    def open_above(self: Listeners, address: str, port: int, **rest: object) -> object:
        if port == 443:
            raise PortNotPermitted("Port 443 may not be bound by this user: choose one from 1024 up.")
        return open_really(self, address, port, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Listeners, "open", open_above)
