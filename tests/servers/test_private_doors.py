"""Private endpoints that listen: made, missed, tried again and deleted, on this machine and in other places."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.base.sockets import Unattended
from isthmus.servers.gateway import private_doors
from isthmus.servers.gateway.doors import Doors
from isthmus.servers.gateway.listener import Bound
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.private_doors import PrivateDoors
from servers.doors_world import PORTS, FakePlaces, all_planes, endpoint, make_doors, places
from servers.front_door import WAIT_SECONDS, FrontDoor, Pump, front_door

ADDRESS = "10.1.0.5"
ONE, TWO = "netns:one", "netns:two"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    async with front_door(tmp_path) as opened:
        yield opened


@pytest.fixture
def doors(front: FrontDoor) -> Doors:
    return make_doors(front)


@pytest.fixture
def elsewhere(loopback_addresses: Callable[[], str]) -> FakePlaces:
    return FakePlaces({ONE: loopback_addresses(), TWO: loopback_addresses()})


@pytest.fixture
def private(front: FrontDoor, elsewhere: FakePlaces) -> PrivateDoors:
    return make_doors(front, elsewhere=elsewhere).private


async def test_an_endpoint_listens_until_it_is_deleted(front: FrontDoor, doors: Doors, loopback_address: str) -> None:
    plant = endpoint(loopback_address)

    await doors.private.endpoint_changed(None, plant)
    assert places(front) == all_planes(loopback_address, "private:plant.1")

    await doors.private.endpoint_changed(plant, None)
    assert places(front) == set()


async def test_an_endpoint_listens_on_all_planes_or_on_none(
    front: FrontDoor, doors: Doors, loopback_address: str
) -> None:
    with socket.create_server((loopback_address, PORTS[Plane.AMQP])), pytest.raises(ConfigurationError):
        await doors.private.endpoint_changed(None, endpoint(loopback_address))

    assert places(front) == set()


async def test_an_endpoint_that_cannot_be_opened_closes_nothing_of_others(
    front: FrontDoor, doors: Doors, loopback_address: str
) -> None:
    doors.open_metrics(loopback_address, PORTS[Plane.HTTPS], Pump)

    with pytest.raises(ConfigurationError):
        await doors.private.endpoint_changed(None, endpoint(loopback_address))

    assert places(front) == {(loopback_address, 18_443, Plane.METRICS, "public")}


async def test_a_known_endpoint_that_cannot_be_opened_is_missed_and_tried_again(
    front: FrontDoor, doors: Doors, loopback_addresses: Callable[[], str]
) -> None:
    here, taken = loopback_addresses(), loopback_addresses()
    with socket.create_server((taken, PORTS[Plane.MQTT])):
        await doors.private.open_known([endpoint(here, "here"), endpoint(taken, "there")])
        await doors.private.look_after()
        missing = f"there: Port 18883 at {taken} is in use: stop what listens there, or choose another."
        assert doors.private.missing == missing
        assert places(front) == all_planes(here, "private:here.1")

    await doors.private.look_after()

    assert doors.private.missing == ""
    assert places(front) == all_planes(here, "private:here.1") | all_planes(taken, "private:there.1")


async def test_a_deleted_endpoint_is_missed_no_more(front: FrontDoor, doors: Doors) -> None:
    nowhere = endpoint("192.0.2.1")
    await doors.private.open_known([nowhere])

    await doors.private.endpoint_changed(nowhere, None)
    await doors.private.look_after()

    assert (doors.private.missing, places(front)) == ("", set())


async def test_two_places_have_one_address_on_the_same_ports(
    front: FrontDoor, private: PrivateDoors, elsewhere: FakePlaces
) -> None:
    first, second = endpoint(ADDRESS, "first", ONE), endpoint(ADDRESS, "second", TWO)
    await private.open_known([first, second])
    assert places(front) == all_planes(ADDRESS, "private:first.1") | all_planes(ADDRESS, "private:second.1")

    await private.endpoint_changed(first, None)

    assert places(front) == all_planes(ADDRESS, "private:second.1")
    assert elsewhere.held == {(TWO, ADDRESS)}


async def test_deleting_closes_what_came_in_and_gives_the_address_back(
    front: FrontDoor, private: PrivateDoors, elsewhere: FakePlaces
) -> None:
    """The kernel would go on: a listener outlives its network namespace, and so does what it accepted."""
    plant = endpoint(ADDRESS, place=ONE)
    await private.endpoint_changed(None, plant)
    bound = next(each for each in front.listeners.bound if each.plane is Plane.MQTT)
    reader, writer = await front.connect(bound, address=elsewhere.addresses[ONE])
    assert front.listeners.connections == 1

    await private.endpoint_changed(plant, None)

    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), WAIT_SECONDS) == b""
    writer.transport.abort()
    assert (places(front), elsewhere.held) == (set(), set())


async def test_an_endpoint_without_anybody_who_makes_its_sockets_is_refused(front: FrontDoor, doors: Doors) -> None:
    with pytest.raises(Unattended, match="netns:one has nobody who makes sockets"):
        await doors.private.endpoint_changed(None, endpoint(ADDRESS, place=ONE))
    assert places(front) == set()


async def test_a_place_that_comes_late_is_tried_again(
    front: FrontDoor, private: PrivateDoors, elsewhere: FakePlaces
) -> None:
    elsewhere.trouble = "There is no network namespace one."
    await private.open_known([endpoint(ADDRESS, place=ONE)])
    assert (private.missing, private.unattended) == ("plant: There is no network namespace one.", "")

    elsewhere.trouble = ""
    await private.look_after()

    assert (private.missing, places(front)) == ("", all_planes(ADDRESS, "private:plant.1"))


async def test_what_listens_goes_on_while_nobody_attends(
    front: FrontDoor, private: PrivateDoors, elsewhere: FakePlaces, loopback_address: str
) -> None:
    """Sockets that were passed on live without who made them; and he is asked once a round, not once an endpoint."""
    here = endpoint(loopback_address, "here")
    await private.open_known([endpoint(ADDRESS, "first", ONE)])
    elsewhere.away, elsewhere.orders = "The helper is away.", []
    await private.open_known([endpoint(ADDRESS, "second", TWO), here])

    assert private.unattended == "The helper is away."
    assert private.missing == "second: The helper is away."
    assert len(elsewhere.orders) == 1
    assert places(front) == all_planes(ADDRESS, "private:first.1") | all_planes(loopback_address, "private:here.1")

    elsewhere.away = ""
    await private.look_after()

    assert (private.unattended, private.missing) == ("", "")
    assert elsewhere.held == {(ONE, ADDRESS), (TWO, ADDRESS)}


async def test_sockets_follow_a_network_that_was_made_anew(
    front: FrontDoor, private: PrivateDoors, elsewhere: FakePlaces, loopback_addresses: Callable[[], str]
) -> None:
    await private.open_known([endpoint(ADDRESS, place=ONE)])
    await private.look_after()
    before = front.listeners.bound
    elsewhere.networks[ONE], elsewhere.addresses[ONE] = 2, loopback_addresses()

    await private.look_after()

    assert places(front) == all_planes(ADDRESS, "private:plant.1")
    assert await reaches(front, before[0], elsewhere.addresses[ONE])
    elsewhere.orders = []
    await private.look_after()
    assert elsewhere.orders == [("hold", ONE, ADDRESS)]


async def test_a_network_that_is_gone_for_now_is_missed_and_its_sockets_stay(
    front: FrontDoor, private: PrivateDoors, elsewhere: FakePlaces
) -> None:
    """A namespace lives on without its name while somebody is in it."""
    await private.open_known([endpoint(ADDRESS, place=ONE)])
    elsewhere.trouble = "There is no network namespace one."
    await private.look_after()
    assert private.missing == "plant: There is no network namespace one."
    assert places(front) == all_planes(ADDRESS, "private:plant.1")


async def test_an_endpoint_deleted_while_its_sockets_are_made_leaves_nothing(
    front: FrontDoor, private: PrivateDoors, elsewhere: FakePlaces
) -> None:
    plant = endpoint(ADDRESS, place=ONE)
    elsewhere.gate.clear()
    opening = asyncio.create_task(private.open_known([plant]))
    await asyncio.wait_for(elsewhere.asked.wait(), WAIT_SECONDS)

    await private.endpoint_changed(plant, None)
    elsewhere.gate.set()
    await opening

    assert (places(front), elsewhere.held, private.missing) == (set(), set(), "")
    with socket.create_server((elsewhere.addresses[ONE], PORTS[Plane.MQTT])):
        """Nothing is left there."""


async def test_an_address_of_this_machine_is_added_only_when_that_is_wanted(
    front: FrontDoor, elsewhere: FakePlaces, loopback_address: str
) -> None:
    unasked = make_doors(front, elsewhere=elsewhere).private
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1"):
        await unasked.endpoint_changed(None, endpoint("192.0.2.1"))
    adding = make_doors(front, elsewhere=elsewhere, add_addresses=True).private
    await adding.endpoint_changed(None, endpoint(loopback_address))
    assert elsewhere.orders == []

    elsewhere.trouble = "The helper may not."
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1.*\. The helper may not\."):
        await adding.endpoint_changed(None, endpoint("192.0.2.1", "other"))
    assert elsewhere.orders == [("hold", "", "192.0.2.1")]


async def test_many_addresses_are_held_in_turns(
    private: PrivateDoors, elsewhere: FakePlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_doors, "HOLDS_PER_ROUND_MAX", 2)
    addresses = [f"10.1.0.{number}" for number in range(4, 7)]
    elsewhere.addresses |= {f"netns:{address}": elsewhere.addresses[ONE] for address in addresses}
    for number, address in enumerate(addresses):
        elsewhere.port_offset = number
        await private.endpoint_changed(None, endpoint(address, address, f"netns:{address}"))

    rounds = []
    for _ in range(3):
        elsewhere.orders = []
        await private.look_after()
        rounds.append([address[-1] for _, _, address in elsewhere.orders])

    assert rounds == [["4", "5"], ["6", "4"], ["5", "6"]]


async def test_a_connector_listens_itself(front: FrontDoor, private: PrivateDoors, elsewhere: FakePlaces) -> None:
    plant = endpoint(ADDRESS, place="connector:plant")
    await private.endpoint_changed(None, plant)
    await private.look_after()
    await private.endpoint_changed(plant, None)
    assert (places(front), elsewhere.orders, private.missing) == (set(), [], "")


async def reaches(front: FrontDoor, bound: Bound, address: str) -> bool:
    _, writer = await front.connect(bound, address=address)
    writer.transport.abort()
    return True
