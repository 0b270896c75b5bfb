"""Where names are served: at endpoints' own addresses, each network's to its clients, and never to strangers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import dns.asyncquery
import dns.message
import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.base.ids import RandomIds
from isthmus.base.sockets import SocketKind
from isthmus.names.forward import Forwarder
from isthmus.names.serve import NameServer
from isthmus.network.door import PUBLIC_DOOR
from isthmus.resources.virtual_network_arm import subnet_id
from isthmus.servers.gateway.listener import PortNotPermitted
from isthmus.servers.gateway.name_doors import NameDoors
from isthmus.servers.gateway.places import Nowhere
from isthmus.servers.gateway.plane import Plane
from resources.world import World, endpoint_body, in_subnet, network_body
from servers.front_door import FrontDoor, front_door

PORT = 15_353
HOST = "hub.example.test"


class Elsewhere(Nowhere):
    """Makes sockets of other places at an address of this machine; an order waits while `gate` is clear."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    async def listening_socket(self, place: str, address: str, port: int, kind: SocketKind) -> socket.socket:
        self.asked.set()
        await self.gate.wait()
        made = socket.socket(type=socket.SOCK_STREAM if kind is SocketKind.STREAM else socket.SOCK_DGRAM)
        made.bind((self.address, port))
        if kind is SocketKind.STREAM:
            made.listen()
        return made


class Served:
    """A hub's resources, and the doors of their names."""

    def __init__(self, front: FrontDoor, elsewhere: Elsewhere) -> None:
        self.world = World()
        self.front = front
        self.server = NameServer(Forwarder((), RandomIds()))
        world = self.world
        self.doors = NameDoors(
            *(front.listeners, self.server, world.names, world.endpoints, world.networks.facts, elsewhere), port=PORT
        )
        world.endpoints.on_change(lambda _old, _new: self.doors.settle())
        world.networks.on_change(lambda _facts: self.doors.settle())

    async def endpoint(self, name: str, address: str) -> None:
        body = endpoint_body(self.world.hubs.require("hub").resource_id, address)
        await self.world.endpoints.create(name, body)

    async def endpoint_in(self, network: str, address: str) -> None:
        body = endpoint_body(self.world.hubs.require("hub").resource_id, address)
        await self.world.endpoints.create(network, in_subnet(body, subnet_id(network, "line")))

    @property
    def places(self) -> set[tuple[str, str, bool]]:
        return {
            (each.place, each.address, each.datagrams)
            for each in self.front.listeners.bound
            if each.plane is Plane.NAMES
        }


def both(address: str, place: str = "") -> set[tuple[str, str, bool]]:
    return {(place, address, False), (place, address, True)}


@pytest.fixture
def elsewhere(loopback_addresses: Callable[[], str]) -> Elsewhere:
    return Elsewhere(loopback_addresses())


@pytest.fixture
async def served(tmp_path: Path, elsewhere: Elsewhere) -> AsyncIterator[Served]:
    async with front_door(tmp_path) as front:
        made = Served(front, elsewhere)
        await made.world.with_hub()
        yield made
        made.server.close()


async def asked(address: str, name: str = HOST) -> list[str]:
    said = await dns.asyncquery.udp(dns.message.make_query(name, "A"), address, port=PORT, timeout=5)
    over_tcp = await dns.asyncquery.tcp(dns.message.make_query(name, "A"), address, port=PORT, timeout=5)
    assert said.answer == over_tcp.answer
    return [record.to_text() for each in said.answer for record in each if each.rdtype.name == "A"]


async def test_names_are_served_from_an_endpoints_making_to_its_deletion(served: Served, loopback_address: str) -> None:
    await served.endpoint("plant", loopback_address)
    assert served.places == both(loopback_address)
    assert await asked(loopback_address) == [loopback_address]

    await served.world.endpoints.delete("plant")
    assert served.places == set()


async def test_each_address_answers_for_its_own_network(served: Served, loopback_addresses: Callable[[], str]) -> None:
    addresses = {name: loopback_addresses() for name in ("one", "two")}
    for name, address in addresses.items():
        prefix = address.rpartition(".")[0] + ".0/24"
        await served.world.networks.put_network(name, network_body(prefix, line=prefix))
        await served.endpoint_in(name, address)

    assert {name: await asked(address) for name, address in addresses.items()} == {
        name: [address] for name, address in addresses.items()
    }


async def test_a_change_counts_at_once(served: Served, loopback_address: str) -> None:
    await served.endpoint("plant", loopback_address)
    assert await asked(loopback_address, "second.example.test") == []

    await served.world.with_hub("second")
    body = endpoint_body(served.world.hubs.require("second").resource_id, "127.99.99.98")
    await served.world.endpoints.create("other", body)

    assert await asked(loopback_address, "second.example.test") == ["127.99.99.98"]


async def test_a_taken_port_is_missing_until_it_is_free(served: Served, loopback_address: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind((loopback_address, PORT))
        await served.endpoint("plant", loopback_address)
        assert f"Port {PORT} at {loopback_address} is in use" in served.doors.missing
        assert (served.places, served.doors.well) == (set(), False)

    await served.doors.settle()
    assert (served.doors.missing, served.doors.well) == ("", True)
    assert served.places == both(loopback_address)


async def test_a_port_that_may_not_be_bound_is_told_and_is_no_trouble(
    served: Served, loopback_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PortNotPermitted("Port 53 may not be bound by this user.")

    monkeypatch.setattr(served.front.listeners, "open_names", refused)
    await served.endpoint("plant", loopback_address)
    assert "may not be bound" in served.doors.missing
    assert served.doors.well


async def test_an_address_that_strangers_reach_has_no_names(served: Served) -> None:
    await served.endpoint("plant", "8.8.4.4")

    assert (served.places, served.doors.missing) == (set(), "")


async def test_a_named_server_on_this_machine_is_served(served: Served, loopback_addresses: Callable[[], str]) -> None:
    here = loopback_addresses()
    prefix = here.rpartition(".")[0] + ".0/24"
    body = network_body(prefix, line=prefix)
    body["properties"]["dhcpOptions"] = {"dnsServers": [here, "198.51.100.53"]}
    await served.world.networks.put_network("plant", body)
    assert served.places == both(here)

    body["properties"]["dhcpOptions"] = {}
    await served.world.networks.put_network("plant", body)
    assert (served.places, served.doors.missing) == (set(), "")


async def test_names_in_a_namespace_are_served_there(served: Served, elsewhere: Elsewhere) -> None:
    body = network_body("10.1.0.0/16", line="10.1.0.0/24")
    body["properties"]["presence"] = "netns:plant"
    await served.world.networks.put_network("plant", body)
    await served.endpoint_in("plant", "10.1.0.5")

    assert served.places == both("10.1.0.5", "netns:plant")
    assert await asked(elsewhere.address) == ["10.1.0.5"]


async def test_an_endpoint_that_goes_while_its_sockets_are_made_leaves_none(
    served: Served, elsewhere: Elsewhere
) -> None:
    body = network_body("10.1.0.0/16", line="10.1.0.0/24")
    body["properties"]["presence"] = "netns:plant"
    await served.world.networks.put_network("plant", body)
    elsewhere.gate.clear()
    making = asyncio.create_task(served.endpoint_in("plant", "10.1.0.5"))
    await asyncio.wait_for(elsewhere.asked.wait(), 5)
    deleting = asyncio.create_task(served.world.endpoints.delete("plant"))
    await deleting
    elsewhere.gate.set()
    await making

    assert served.places == set()
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind((elsewhere.address, PORT))


async def test_a_connectors_names_are_its_own_to_serve(served: Served) -> None:
    body = network_body("10.1.0.0/16", line="10.1.0.0/24")
    body["properties"]["presence"] = "connector:plant"
    await served.world.networks.put_network("plant", body)
    await served.endpoint_in("plant", "10.1.0.5")

    assert served.places == set()


async def test_closed_doors_stay_closed(served: Served, loopback_address: str) -> None:
    await served.endpoint("plant", loopback_address)

    served.doors.close()
    await served.doors.settle()

    assert served.places == set()


async def test_what_is_half_opened_is_closed(served: Served, loopback_address: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind((loopback_address, PORT))
        with pytest.raises(ConfigurationError):
            served.front.listeners.open_names(
                loopback_address, PORT, door=PUBLIC_DOOR, serve=lambda _udp, _tcp: pytest.fail("served")
            )
    with socket.create_server((loopback_address, PORT)):
        pass
