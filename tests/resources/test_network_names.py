"""What each network's clients see: the nearest endpoint's address, their own zones, and whom to ask."""

import dns.message
import pytest

from isthmus.names.answer import answer
from isthmus.names.zone import Names, RecordType
from isthmus.network.private_endpoints import ConnectionStatus
from isthmus.resources.hub import hub_resource_id
from isthmus.resources.virtual_network_arm import subnet_id
from names.asking import ask, told
from resources.world import (
    World,
    endpoint_body,
    group_body,
    in_subnet,
    line_body,
    link_body,
    network_body,
    peering_body,
    site_body,
)

HUB_ID = hub_resource_id("hub")

HOST = "hub.example.test"
PRIVATE = "hub.privatelink.example.test"


@pytest.fixture
async def world() -> World:
    """Two unrelated networks, each with an endpoint, and an office that is peered with the plant."""
    made = await World().with_hub()
    for name, prefix in (("plant", "10.1"), ("mill", "10.2"), ("office", "10.3")):
        await made.networks.put_network(name, network_body(f"{prefix}.0.0/16", line=f"{prefix}.0.0/24"))
    await made.networks.put_peering("plant", "office", peering_body("office"))
    await made.networks.put_peering("office", "plant", peering_body("plant"))
    for name in ("plant", "mill"):
        await endpoint(made, name)
    return made


async def endpoint(world: World, network: str, name: str = "", *, manual: bool = False) -> None:
    body = endpoint_body(world.hubs.require("hub").resource_id, "", manual=manual)
    await world.endpoints.create(name or network, in_subnet(body, subnet_id(network, "line"), dynamic=True))


def addresses(names: Names, name: str = HOST) -> list[str]:
    return [line.rpartition(" ")[2] for line in told(ask(names, name)) if " A " in line]


def test_each_network_sees_its_own_endpoint(world: World) -> None:
    assert told(ask(world.names.names("plant"), HOST)) == [f"{HOST}. CNAME {PRIVATE}.", f"{PRIVATE}. A 10.1.0.4"]
    assert addresses(world.names.names("MILL")) == ["10.2.0.4"]


def test_a_peer_without_an_endpoint_sees_that_of_its_peer(world: World) -> None:
    assert addresses(world.names.names("office")) == ["10.1.0.4"]
    assert world.names.servers("office") == ("10.1.0.4",)


async def test_a_peer_with_an_endpoint_sees_its_own(world: World) -> None:
    await endpoint(world, "office")

    assert addresses(world.names.names("office")) == ["10.3.0.4"]
    assert world.names.servers("office") == ("10.3.0.4",)


async def test_who_reaches_no_endpoint_sees_no_name(world: World) -> None:
    await world.networks.delete_peering("plant", "office")

    assert world.names.names("office").view.zones == ()
    assert world.names.names("unheard-of").view.zones == ()
    assert world.names.servers("office") == ()


async def test_an_approved_endpoint_comes_before_one_that_waits(world: World) -> None:
    await endpoint(world, "plant", "second", manual=True)
    assert addresses(world.names.names("plant")) == ["10.1.0.4"]

    await world.endpoints.decide(HUB_ID, "plant", ConnectionStatus.REJECTED, "")
    assert addresses(world.names.names("plant")) == ["10.1.0.4", "10.1.0.5"]

    await world.endpoints.decide(HUB_ID, "second", ConnectionStatus.APPROVED, "")
    assert addresses(world.names.names("plant")) == ["10.1.0.5"]

    await world.endpoints.delete_connection(HUB_ID, "plant")
    await world.endpoints.delete_connection(HUB_ID, "second")
    assert world.names.names("plant").view.zones == ()


async def test_an_endpoint_in_no_network_has_names_of_its_own(world: World) -> None:
    await world.endpoints.create("alone", endpoint_body(world.hubs.require("hub").resource_id, "10.9.0.5"))

    assert addresses(world.names.names("")) == ["10.9.0.5"]
    assert addresses(world.names.names("plant")) == ["10.1.0.4"]


async def test_an_ipv6_endpoint_has_an_ipv6_address(world: World) -> None:
    await world.networks.put_network("six", network_body("fd00:6::/48", line="fd00:6::/64"))
    await endpoint(world, "six")

    names = world.names.names("six")

    assert told(ask(names, HOST, "AAAA"))[1] == f"{PRIVATE}. AAAA fd00:6::4"
    assert addresses(names) == []


async def test_every_hub_of_a_network_is_seen_under_one_domain(world: World) -> None:
    await world.with_hub("second")
    body = endpoint_body(world.hubs.require("second").resource_id, "")
    await world.endpoints.create("second", in_subnet(body, subnet_id("plant", "line"), dynamic=True))

    names = world.names.names("plant")

    assert (addresses(names), addresses(names, "second.example.test")) == (["10.1.0.4"], ["10.1.0.5"])
    assert addresses(world.names.names("mill"), "second.example.test") == []


async def test_a_linked_zone_is_seen_where_it_is_linked_and_comes_first(world: World) -> None:
    for zone in ("plant.test", "privatelink.example.test"):
        await world.zones.put_zone(zone, {})
        await world.zones.put_link(zone, "link", link_body("plant"))
    members = {"ttl": 5, "aRecords": [{"ipv4Address": "10.1.9.9"}]}
    await world.zones.put_records("plant.test", RecordType.A, "press", {"properties": members})
    await world.zones.put_records("privatelink.example.test", RecordType.A, "hub", {"properties": members})

    plant = world.names.names("plant")

    assert addresses(plant, "press.plant.test") == ["10.1.9.9"]
    assert addresses(plant) == ["10.1.9.9"]
    assert addresses(world.names.names("mill")) == ["10.2.0.4"]
    assert addresses(world.names.names("mill"), "press.plant.test") == []


async def test_a_groups_records_are_seen_in_a_linked_network_that_is_no_peer(world: World) -> None:
    await world.networks.delete_peering("office", "plant")
    await world.zones.put_zone("privatelink.example.test", {})
    await world.zones.put_group("plant", "default", group_body(zone="privatelink.example.test"))
    await world.zones.put_link("privatelink.example.test", "link", link_body("office"))

    assert addresses(world.names.names("office"), PRIVATE) == ["10.1.0.4"]


async def test_listeners_of_changes_find_the_new_view(world: World) -> None:
    seen: list[list[str]] = []

    async def listener(*_: object) -> None:
        seen.append(addresses(world.names.names("office")))

    for source in (world.hubs, world.networks, world.endpoints, world.zones):
        source.on_change(listener)
    await world.networks.delete_peering("office", "plant")
    assert seen == [[]]

    await endpoint(world, "office")
    assert seen[-1] == ["10.3.0.4"]

    await world.hubs.delete("hub")
    assert seen[-1] == []


class TestAdvice:
    """What is told of a client that came to the public door."""

    @pytest.mark.parametrize(
        ("address", "network", "private"),
        [("10.1.7.7", "plant", "10.1.0.4"), ("10.3.7.7", "office", "10.1.0.4"), ("10.2.0.9", "mill", "10.2.0.4")],
    )
    def test_who_is_inside_has_resolved_the_public_address(
        self, world: World, address: str, network: str, private: str
    ) -> None:
        said = world.names.advice(address, world.hubs.require("hub"))

        assert f"is in {network} and resolved the public address" in said
        assert f"ask DNS server {private}, where {HOST} is {private}" in said

    async def test_who_is_behind_a_gateway_is_inside(self, world: World) -> None:
        await world.networks.put_gateway("works", site_body("plant", "192.168.7.0/24"))

        way = world.names.way_of("192.168.7.9", world.hubs.require("hub"))

        assert way is not None
        assert (way.network, way.addresses) == ("plant", ("10.1.0.4",))

    @pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::1", "", "unix"])
    def test_who_is_outside_is_told_nothing(self, world: World, address: str) -> None:
        assert world.names.advice(address, world.hubs.require("hub")) == ""

    async def test_who_has_no_way_is_told_nothing(self, world: World) -> None:
        await world.endpoints.delete("mill")

        assert world.names.advice("10.2.7.7", world.hubs.require("hub")) == ""


@pytest.mark.parametrize(
    ("resolved", "wrong"),
    [
        (["10.1.0.4"], ""),
        (["::ffff:10.1.0.4"], ""),
        (["192.0.2.9"], "192.0.2.9"),
        (["10.1.0.4", "10.2.0.4"], "10.2.0.4"),
    ],
)
def test_a_client_that_was_misled_is_told_so(world: World, resolved: list[str], wrong: str) -> None:
    said = world.names.misled("plant", HOST.upper(), resolved)

    assert bool(said) is bool(wrong)
    assert not wrong or f"was resolved to {wrong}, which" in said
    assert world.names.misled("plant", "elsewhere.test", resolved) == ""


async def test_a_servers_address_that_was_named_comes_first_and_is_kept(world: World) -> None:
    body = network_body("10.1.0.0/16", line="10.1.0.0/24")
    body["properties"]["dhcpOptions"] = {"dnsServers": ["10.1.0.53", "10.1.0.4"]}

    made = await world.networks.put_network("plant", body)

    assert made.dns_servers == ("10.1.0.53",)
    assert world.names.servers("plant") == ("10.1.0.53", "10.1.0.4")
    await world.networks.put_subnet("plant", "more", line_body("10.1.1.0/24"))
    assert world.names.servers("plant") == ("10.1.0.53", "10.1.0.4")


def test_answers_of_a_whole_view_parse(world: World) -> None:
    said = answer(
        dns.message.make_query(HOST, "A").to_wire(), world.names.names("plant"), over_tcp=False, forwards=False
    )

    assert isinstance(said, bytes)
    assert dns.message.from_wire(said).authority == []
