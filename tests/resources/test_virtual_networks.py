"""Declared networks: kept over a restart, changed as a whole, and held by the endpoints that are in them."""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Code, ConfigurationError, HubError
from isthmus.base.state import Put
from isthmus.network.admission import Allow, admit
from isthmus.network.virtual_networks import BIND, NETWORKS_MAX, NetworkFacts, PeeringState, checked_network
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.resources.virtual_network_arm import (
    network_id,
    network_to_arm,
    parse_gateway,
    parse_network,
    parse_peering,
    parse_subnet,
    subnet_id,
)
from isthmus.resources.virtual_networks import FACTS
from resources.world import World, endpoint_body, in_subnet, line_body, network_body, peering_body, site_body

LINE = subnet_id("plant", "line")


async def plant() -> World:
    """A hub, and the network `plant` with the subnet `line`, of three usable addresses."""
    world = await World().with_hub()
    await world.networks.put_network("plant", network_body("10.20.0.0/16", line="10.20.1.0/29"))
    return world


async def endpoint(world: World, name: str, address: str = "", subnet: str = LINE) -> PrivateEndpoint:
    body = endpoint_body(world.hubs.require("hub").resource_id, address or "10.0.0.1")
    return await world.endpoints.create(name, in_subnet(body, subnet, dynamic=not address))


async def test_a_restart_finds_what_was_declared() -> None:
    world = await plant()
    await world.networks.put_gateway("works", site_body("plant", "192.168.0.0/16"))
    again = await World(state=world.state).loaded()
    assert again.networks.facts() == world.networks.facts()
    assert again.networks.facts().require("plant").guid


@pytest.mark.parametrize("presence", ["bind", "netns:plant-1", "connector:line.2"])
async def test_presence_is_kept_over_a_restart_and_by_bodies_that_do_not_name_it(presence: str) -> None:
    world = await World().with_hub()
    await world.networks.put_network("plant", present("plant", presence))
    await world.networks.put_network("plant", network_body("10.20.0.0/16", line="10.20.2.0/24"))
    again = await World(state=world.state).loaded()
    network = again.networks.facts().require("plant")
    assert network.presence.text == presence
    shown = network_to_arm(network, again.networks.facts(), again.networks.occupants)["properties"]
    assert isinstance(shown, dict)
    assert shown["presence"] == presence


async def test_facts_of_before_there_were_presences_are_bound() -> None:
    world = World()
    old = b'{"networks":[{"name":"plant","prefixes":["10.0.0.0/8"]}],"gateways":[]}'
    await world.state.commit([Put(FACTS, old)])
    assert (await world.loaded()).networks.facts().require("plant").presence == BIND


async def test_facts_with_a_presence_nobody_knows_are_damaged() -> None:
    world = World()
    await world.state.commit([Put(FACTS, b'{"networks":[{"name":"p","prefixes":[],"presence":"moon"}]}')])
    with pytest.raises(msgspec.DecodeError, match="presence is bind"):
        await world.loaded()


async def test_presence_does_not_change_under_endpoints() -> None:
    world = await plant()
    made = await endpoint(world, "one")
    with pytest.raises(HubError, match=r"is bind and cannot become netns:works while it has .*/one; delete") as refused:
        await world.networks.put_network("plant", present("plant", "netns:works"))
    assert refused.value.code is Code.INVALID_OPERATION
    await world.endpoints.delete(made.name)
    await world.networks.put_network("plant", present("plant", "netns:works"))
    assert (await endpoint(world, "two")).place == "netns:works"


async def test_a_network_is_not_declared_elsewhere_than_its_endpoints() -> None:
    world = await World().with_hub()
    await endpoint(world, "one", "10.20.1.4")
    with pytest.raises(HubError, match="cannot become connector:works"):
        await world.networks.put_network("plant", present("plant", "connector:works"))


def present(name: str, presence: str) -> dict[str, Any]:
    """The body of a network whose endpoints are present in this way."""
    body = network_body("10.20.0.0/16", line="10.20.1.0/29")
    return body | {"name": name, "properties": body["properties"] | {"presence": presence}}


async def test_listeners_hear_before_the_answer_and_only_of_changes() -> None:
    world = await plant()
    heard: list[NetworkFacts] = []

    async def listen(facts: NetworkFacts) -> None:
        heard.append(facts)

    world.networks.on_change(listen)
    await world.networks.put_subnet("plant", "line", line_body("10.20.1.0/29"))
    assert heard == []
    await world.networks.put_subnet("plant", "test", line_body("10.20.2.0/24"))
    assert heard == [world.networks.facts()]


async def test_rivals_changes_are_not_lost() -> None:
    world = await plant()
    rival = await World(state=world.state).loaded()
    await rival.networks.put_network("office", network_body("10.30.0.0/16"))
    await world.networks.put_network("lab", network_body("10.40.0.0/16"))
    assert [each.name for each in world.networks.facts().networks] == ["lab", "office", "plant"]
    await asyncio.gather(*(world.networks.put_subnet("lab", f"s{n}", line_body(f"10.40.{n}.0/24")) for n in range(5)))
    assert len(world.networks.facts().require("lab").subnets) == 5


async def test_addresses_are_given_out_and_stay() -> None:
    world = await plant()
    made = [await endpoint(world, name) for name in ("one", "two")]
    assert [each.address for each in made] == ["10.20.1.4", "10.20.1.5"]
    assert await endpoint(world, "one") is made[0]
    await world.endpoints.delete("one")
    assert (await World(state=world.state).loaded()).endpoints.require("two").address == "10.20.1.5"
    assert (await endpoint(world, "three")).address == "10.20.1.4"


async def test_many_who_ask_at_once_get_different_addresses_until_none_is_left() -> None:
    world = await plant()
    made = await asyncio.gather(*(endpoint(world, f"e{n}") for n in range(5)), return_exceptions=True)
    addresses = [each.address for each in made if isinstance(each, PrivateEndpoint)]
    assert sorted(addresses) == ["10.20.1.4", "10.20.1.5", "10.20.1.6"]
    refused = [each for each in made if isinstance(each, HubError)]
    assert [each.code for each in refused] == [Code.QUOTA_EXCEEDED] * 2


async def test_a_named_address_must_be_of_the_subnet_and_nobodys_reserve() -> None:
    world = await plant()
    assert (await endpoint(world, "fixed", "10.20.1.6")).address == "10.20.1.6"
    for address, said in (("10.20.2.9", "not in the subnet line"), ("10.20.1.1", "reserved")):
        with pytest.raises(HubError, match=said):
            await endpoint(world, "other", address)
    assert world.bound == ["10.20.1.6"]


async def test_an_address_this_machine_lacks_is_told_and_nothing_is_kept() -> None:
    world = await plant()

    async def failing(old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        if new is not None:
            raise ConfigurationError(f"{new.address} is not an address of this machine: add it to an interface first.")

    world.endpoints.on_change(failing)
    with pytest.raises(HubError, match=r"10\.20\.1\.4 is not an address of this machine"):
        await endpoint(world, "plant")
    assert world.endpoints.all() == ()
    assert world.networks.occupants("plant", "line") == ()


@pytest.mark.parametrize(
    ("subnet", "command"),
    [
        ("/not-an-id", "network vnet create"),
        (subnet_id("nowhere", "line"), "network vnet create"),
        (subnet_id("plant", "nowhere"), "network vnet subnet create --vnet-name plant"),
    ],
)
async def test_a_subnet_that_was_not_declared_is_refused(subnet: str, command: str) -> None:
    world = await plant()
    with pytest.raises(HubError, match=command) as caught:
        await endpoint(world, "plant", subnet=subnet)
    assert caught.value.code is Code.NOT_FOUND


async def test_a_network_that_nobody_declared_is_a_mere_name_beside_an_address() -> None:
    world = await plant()
    made = await endpoint(world, "named", "192.0.2.7", subnet=subnet_id("elsewhere", "line"))
    assert made.address == "192.0.2.7"
    shown: Any = world.endpoints.to_arm(made)
    assert shown["properties"]["subnet"] == {"id": subnet_id("elsewhere", "line")}


async def test_an_endpoint_shows_its_subnet_as_declared() -> None:
    world = await plant()
    shown: Any = world.endpoints.to_arm(await endpoint(world, "e", subnet=subnet_id("PLANT", "Line")))
    assert shown["properties"]["subnet"] == {"id": LINE}
    assert shown["properties"]["ipConfigurations"] == []
    assert shown["properties"]["customDnsConfigs"][0]["ipAddresses"] == ["10.20.1.4"]
    facts = world.networks.facts()
    network: Any = network_to_arm(facts.require("plant"), facts, world.networks.occupants)
    (line,) = network["properties"]["subnets"]
    assert line["properties"]["privateEndpoints"] == [{"id": shown["id"]}]


async def test_a_subnet_in_use_stays_as_it_is() -> None:
    world = await plant()
    await endpoint(world, "e")
    await world.networks.put_network("plant", network_body("10.0.0.0/8", line="10.20.1.0/29", more="10.9.0.0/24"))
    for attempt in (
        world.networks.delete_subnet("plant", "line"),
        world.networks.delete_network("plant"),
        world.networks.put_subnet("plant", "line", line_body("10.20.1.0/28")),
        world.networks.put_network("plant", network_body("10.0.0.0/8")),
    ):
        with pytest.raises(HubError, match="privateEndpoints/e") as caught:
            await attempt
        assert caught.value.code is Code.INVALID_OPERATION
    await world.endpoints.delete("e")
    await world.networks.delete_subnet("plant", "line")
    await world.networks.delete_network("plant")
    assert world.networks.facts().networks == ()


async def test_a_subnet_cannot_go_while_an_endpoint_comes() -> None:
    for delete_first in (False, True):
        world = await plant()
        works = [endpoint(world, "e"), world.networks.delete_subnet("plant", "line")]
        await asyncio.gather(*(reversed(works) if delete_first else works), return_exceptions=True)
        declared = world.networks.facts().require("plant").subnet("line") is not None
        assert declared is bool(world.endpoints.all())


async def test_an_endpoint_admits_who_reaches_its_network() -> None:
    world = await plant()
    door = (await endpoint(world, "e")).door

    def admitted(address: str) -> bool:
        hub, facts = world.hubs.require("hub"), world.networks.facts()
        return isinstance(admit(hub, door=door, address=address, facts=facts), Allow)

    assert (admitted("10.20.9.9"), admitted("10.30.0.9"), admitted("192.168.0.9")) == (True, False, False)
    await world.networks.put_network("office", network_body("10.30.0.0/16"))
    await world.networks.put_peering("plant", "there", peering_body("office"))
    assert not admitted("10.30.0.9")
    await world.networks.put_peering("office", "back", peering_body("plant"))
    await world.networks.put_gateway("works", site_body("plant", "192.168.0.0/16"))
    assert (admitted("10.30.0.9"), admitted("192.168.0.9")) == (True, True)
    await world.networks.delete_network("office")
    await world.networks.delete_gateway("works")
    assert (admitted("10.30.0.9"), admitted("192.168.0.9")) == (False, False)
    assert world.networks.facts().require("plant").require_peering("there").state is PeeringState.DISCONNECTED


async def test_networks_are_limited() -> None:
    world = World()
    for number in range(NETWORKS_MAX):
        await world.networks.put_network(f"n{number}", network_body(f"10.{number}.0.0/16"))
    with pytest.raises(HubError) as caught:
        await world.networks.put_network("one-more", network_body("192.168.0.0/16"))
    assert caught.value.code is Code.QUOTA_EXCEEDED


@pytest.mark.parametrize(
    ("properties", "code", "named"),
    [
        ({}, Code.ARGUMENT_INVALID, "addressSpace"),
        ({"addressSpace": {"addressPrefixes": []}}, Code.ARGUMENT_INVALID, "addressPrefixes"),
        ({"subnets": [{"name": "a"}]}, Code.ARGUMENT_INVALID, "properties"),
        ({"subnets": [{"name": "a", "properties": {}}]}, Code.ARGUMENT_INVALID, "addressPrefix"),
        ({"presence": "tunnel"}, Code.ARGUMENT_INVALID, "bind"),
        ({"presence": "netns:"}, Code.ARGUMENT_INVALID, "netns:NAME"),
        ({"dhcpOptions": {"dnsServers": ["ns.example"]}}, Code.ARGUMENT_INVALID, "dnsServers"),
        ({"virtualNetworkPeerings": [{"name": "p"}]}, Code.ARGUMENT_INVALID, "peering create"),
    ],
)
async def test_a_bad_network_is_refused_by_its_member(properties: dict[str, object], code: Code, named: str) -> None:
    body = {"properties": ({} if not properties else network_body("10.0.0.0/8")["properties"]) | properties}
    with pytest.raises(HubError, match=named) as caught:
        await World().networks.put_network("n", body)
    assert caught.value.code is code


NESTED = st.sampled_from(
    [
        *("addressSpace", "addressPrefixes", "addressPrefix", "subnets", "name", "properties", "presence", "id"),
        *(
            "virtualNetworkPeerings",
            "dhcpOptions",
            "remoteVirtualNetwork",
            "localNetworkAddressSpace",
            "virtualNetwork",
        ),
    ]
)
WORDS = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "fd00::/64", network_id("plant"), "plant", "bind", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NESTED, inner, max_size=6),
    max_leaves=15,
)


@given(properties=VALUES)
def test_no_body_breaks_the_readers(properties: object) -> None:
    body = {"properties": properties}
    for read in (
        lambda: checked_network(parse_network("n", body, None)),
        lambda: parse_subnet("n", body),
        lambda: parse_peering("n", body),
        lambda: parse_gateway("n", body, None),
    ):
        with suppress(HubError):
            read()
