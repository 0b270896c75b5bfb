"""Private endpoints: both sides agree at every moment, addresses belong to one, and a restart finds all of it."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Code, ConfigurationError, HubError
from isthmus.network.admission import Allow, Deny, admit
from isthmus.network.private_endpoints import ConnectionStatus
from isthmus.resources.hub import hub_resource_id
from isthmus.resources.private_endpoint import (
    PrivateEndpoint,
    decode_endpoint,
    encode_endpoint,
    parse_endpoint,
)
from isthmus.resources.virtual_network_arm import subnet_id
from resources.world import World, endpoint_body, in_subnet, json_values, network_body

HUB_ID = hub_resource_id("hub")

ADDRESS = "10.1.0.7"


async def made(world: World, name: str = "plant", address: str = ADDRESS, *, manual: bool = False) -> PrivateEndpoint:
    target = world.hubs.require("hub").resource_id
    body = endpoint_body(target, address, manual=manual, message="please" if manual else "")
    return await world.endpoints.create(name, body)


def admitted(world: World, address: str = ADDRESS) -> bool:
    door = world.endpoints.door_of(address)
    assert door is not None
    return isinstance(admit(world.hubs.require("hub"), door=door, address="10.0.0.9"), Allow)


async def test_an_endpoint_is_approved_at_once() -> None:
    world = await World().with_hub()
    endpoint = await made(world)
    (connection,) = world.hubs.require("hub").connections
    assert connection.status is ConnectionStatus.APPROVED
    assert connection.name == endpoint.connection
    assert connection.name.startswith("plant.")
    assert connection.endpoint_id == endpoint.resource_id
    assert world.bound == [ADDRESS]
    assert admitted(world)


async def test_a_manual_request_waits_for_the_owner() -> None:
    world = await World().with_hub()
    endpoint = await made(world, manual=True)
    assert world.endpoints.status(endpoint) is ConnectionStatus.PENDING
    assert world.endpoints.connection(HUB_ID, "plant").description == "please"
    assert world.bound == [ADDRESS]
    assert not admitted(world)
    await world.endpoints.decide(HUB_ID, endpoint.connection, ConnectionStatus.APPROVED, "yes")
    assert admitted(world)
    rejected = await world.endpoints.decide(HUB_ID, "plant", ConnectionStatus.REJECTED, "no")
    assert (rejected.status, rejected.description) == (ConnectionStatus.REJECTED, "no")
    assert not admitted(world)
    with pytest.raises(HubError, match=r"Rejected .* Approved") as caught:
        await world.endpoints.decide(HUB_ID, "plant", ConnectionStatus.APPROVED, "")
    assert caught.value.code is Code.INVALID_TRANSITION


async def test_the_owner_hears_of_the_hub_before_the_answer() -> None:
    world = await World().with_hub()
    await made(world)
    await world.endpoints.decide(HUB_ID, "plant", ConnectionStatus.REJECTED, "")
    old, new = world.told[-1]
    assert old is not None
    assert new is not None
    assert (old.connections[0].status, new.connections[0].status) == (
        ConnectionStatus.APPROVED,
        ConnectionStatus.REJECTED,
    )
    assert old.etag != new.etag


async def test_a_connection_the_owner_deletes_leaves_its_endpoint_disconnected() -> None:
    world = await World().with_hub()
    endpoint = await made(world)
    await world.endpoints.delete_connection(HUB_ID, endpoint.connection)
    assert world.endpoints.status(endpoint) is ConnectionStatus.DISCONNECTED
    assert world.bound == [ADDRESS]
    assert not admitted(world)
    shown: Any = world.endpoints.to_arm(endpoint)
    state = shown["properties"]["privateLinkServiceConnections"][0]["properties"]["privateLinkServiceConnectionState"]
    assert state["status"] == "Disconnected"
    await world.endpoints.delete("plant")
    assert world.bound == []


async def test_deleting_the_endpoint_takes_the_connection_and_frees_the_address() -> None:
    world = await World().with_hub()
    await made(world)
    await world.endpoints.delete("Plant")
    assert world.hubs.require("hub").connections == ()
    assert world.endpoints.door_of(ADDRESS) is None
    assert world.endpoints.all() == ()
    again = await made(world)
    assert admitted(world)
    assert again.connection != "plant"


async def test_deleting_the_hub_leaves_endpoints_disconnected_even_when_the_name_returns() -> None:
    world = await World().with_hub()
    endpoint = await made(world)
    await world.hubs.delete("hub")
    assert world.endpoints.status(endpoint) is ConnectionStatus.DISCONNECTED
    await world.with_hub()
    assert world.endpoints.status(endpoint) is ConnectionStatus.DISCONNECTED
    assert not admitted(world)
    await world.endpoints.delete("plant")


async def test_a_restart_finds_endpoints_and_connections() -> None:
    world = await World().with_hub()
    endpoint = await made(world, manual=True)
    again = await World(state=world.state).loaded()
    assert again.endpoints.all() == world.endpoints.all()
    assert again.endpoints.door_of(ADDRESS) == endpoint.door
    assert again.endpoints.status(endpoint) is ConnectionStatus.PENDING
    await again.endpoints.delete("plant")
    assert (await World(state=world.state).loaded()).endpoints.all() == ()


async def test_an_address_belongs_to_one_endpoint() -> None:
    world = await World().with_hub()
    await made(world)
    for address in (ADDRESS, "::ffff:10.1.0.7"):
        with pytest.raises(HubError) as caught:
            await made(world, "second", address)
        assert caught.value.code is Code.CONFLICT
    assert len(world.hubs.require("hub").connections) == 1


async def test_an_address_is_given_once_to_many_who_ask_at_once() -> None:
    world = await World().with_hub()
    outcomes = await asyncio.gather(*(made(world, f"plant{n}") for n in range(5)), return_exceptions=True)
    assert len([outcome for outcome in outcomes if isinstance(outcome, PrivateEndpoint)]) == 1
    assert world.bound == [ADDRESS]


async def test_making_the_same_again_changes_nothing() -> None:
    world = await World().with_hub()
    first = await made(world)
    assert await made(world) is first
    with pytest.raises(HubError) as caught:
        await made(world, address="10.1.0.8")
    assert caught.value.code is Code.CONFLICT


async def test_an_address_that_cannot_be_used_is_refused_with_the_sentence() -> None:
    world = await World(objection="10.1.0.7 is the public door's.").with_hub()
    with pytest.raises(HubError, match="public door"):
        await made(world)
    assert world.hubs.require("hub").connections == ()


async def test_an_address_that_cannot_be_listened_on_is_taken_back() -> None:
    world = await World().with_hub()

    async def failing(old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        if new is not None:
            raise ConfigurationError("It is not an address of this machine.")

    world.endpoints.on_change(failing)
    with pytest.raises(HubError, match="not an address of this machine") as caught:
        await made(world)
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert world.endpoints.all() == ()
    assert world.hubs.require("hub").connections == ()
    assert (await World(state=world.state).loaded()).endpoints.all() == ()


async def test_a_resource_that_is_not_here_cannot_be_connected() -> None:
    world = await World().with_hub()
    with pytest.raises(HubError) as caught:
        await world.endpoints.create("plant", endpoint_body("/subscriptions/x/other", ADDRESS))
    assert caught.value.code is Code.NOT_FOUND


async def test_a_group_that_the_resource_does_not_have_is_refused() -> None:
    world = await World().with_hub()
    body: dict[str, Any] = endpoint_body(HUB_ID, ADDRESS)
    body["properties"]["privateLinkServiceConnections"] = link(groupIds=["blob"], privateLinkServiceId=HUB_ID)
    body["properties"]["ipConfigurations"] = configuration()
    with pytest.raises(HubError, match="iotHub, what the hub can be connected by"):
        await world.endpoints.create("plant", body)


async def test_what_is_not_there_is_named() -> None:
    world = await World().with_hub()
    await made(world)
    with pytest.raises(HubError, match="no private endpoint other"):
        world.endpoints.require("other")
    with pytest.raises(HubError, match=r"no connection other; there are: plant\."):
        world.endpoints.connection(HUB_ID, "other")


async def test_no_door_belongs_to_an_address_that_nobody_has() -> None:
    world = await World().with_hub()
    assert world.endpoints.door_of("127.0.0.1") is None


async def test_a_private_door_does_not_lead_to_another_hub() -> None:
    world = await World().with_hub()
    await world.with_hub("second")
    await made(world)
    door = world.endpoints.door_of(ADDRESS)
    assert door is not None
    admission = admit(world.hubs.require("second"), door=door, address="10.0.0.9")
    assert isinstance(admission, Deny)
    assert admission.refusal.rule == "network.wrong-door"


async def test_an_endpoint_as_az_prints_it() -> None:
    world = await World().with_hub()
    endpoint = await made(world, manual=True)
    shown: Any = world.endpoints.to_arm(endpoint)
    assert shown["id"].endswith("/providers/Microsoft.Network/privateEndpoints/plant")
    properties = shown["properties"]
    assert properties["customDnsConfigs"] == [{"fqdn": "hub.example.test", "ipAddresses": [ADDRESS]}]
    assert properties["privateLinkServiceConnections"] == []
    (link,) = properties["manualPrivateLinkServiceConnections"]
    assert link["properties"]["privateLinkServiceConnectionState"]["status"] == "Pending"
    assert properties["ipConfigurations"][0]["properties"]["privateIPAddress"] == ADDRESS
    assert parse_endpoint("plant", shown).address == ADDRESS
    assert decode_endpoint(encode_endpoint(endpoint), endpoint.revision) == endpoint


def asked(**properties: object) -> dict[str, Any]:
    body: dict[str, Any] = endpoint_body("/hub", ADDRESS)
    body["properties"] |= properties
    return body


def configuration(**members: object) -> list[dict[str, object]]:
    return [{"name": "ip", "properties": {"privateIPAddress": ADDRESS} | members}]


def link(**members: object) -> list[dict[str, object]]:
    return [{"name": "c", "properties": {"privateLinkServiceId": "/hub", "groupIds": ["iotHub"]} | members}]


@pytest.mark.parametrize(
    ("name", "body", "named"),
    [
        ("", asked(), "name"),
        ("-x", asked(), "name"),
        ("x" * 65, asked(), "name"),
        ("x", {}, "properties"),
        ("x", asked(privateLinkServiceConnections=[]), "one connection"),
        ("x", asked(manualPrivateLinkServiceConnections=link()), "one connection"),
        ("x", asked(privateLinkServiceConnections=link(groupIds=["blob"])), "one of blob"),
        ("x", asked(privateLinkServiceConnections=link(groupIds=[])), "iotHub"),
        ("x", asked(privateLinkServiceConnections=link(privateLinkServiceId=None)), "privateLinkServiceId"),
        ("x", asked(privateLinkServiceConnections=link(requestMessage="x" * 141)), "requestMessage"),
        ("x", asked(ipConfigurations=[]), "--ip-config"),
        ("x", asked(ipConfigurations=configuration() * 2), "--ip-config"),
        ("x", asked(ipConfigurations=configuration(privateIPAddress="plant")), "privateIPAddress"),
        ("x", asked(ipConfigurations=configuration(memberName="events")), "memberName"),
        ("x", asked(subnet="s"), "subnet"),
    ],
)
def test_a_bad_request_is_refused_by_its_member(name: str, body: dict[str, Any], named: str) -> None:
    with pytest.raises(HubError) as caught:
        parse_endpoint(name, body)
    assert caught.value.code is Code.ARGUMENT_INVALID
    assert named in caught.value.message


async def test_disconnecting_is_deleting() -> None:
    world = await World().with_hub()
    await made(world)
    with pytest.raises(HubError, match="delete it") as caught:
        await world.endpoints.decide(HUB_ID, "plant", ConnectionStatus.DISCONNECTED, "")
    assert caught.value.code is Code.ARGUMENT_INVALID


@given(properties=json_values(), name=st.sampled_from(["plant", "", "x" * 80]))
def test_no_body_breaks_the_reader(properties: object, name: str) -> None:
    with suppress(HubError):
        parse_endpoint(name, {"properties": properties})


async def test_an_address_belongs_to_an_endpoint_in_its_place_only() -> None:
    """Two customers with the same range, and this machine besides: nobody notices the others."""
    world = await World().with_hub()
    places = ["netns:one", "connector:two", ""]
    for number, place in enumerate(places):
        body = network_body("10.1.0.0/24", line="10.1.0.0/24")
        presence = place or "bind"
        await world.networks.put_network(f"v{number}", {"properties": body["properties"] | {"presence": presence}})

    made = [await in_network(world, f"e{number}", subnet_id(f"v{number}", "line")) for number in range(3)]

    assert [each.address for each in made] == ["10.1.0.4"] * 3
    assert [each.place for each in made] == places
    for each in made:
        assert world.endpoints.at("10.1.0.4", each.place) == each
        assert world.endpoints.door_of("::ffff:10.1.0.4", each.place) == each.door
    await world.endpoints.delete("e0")
    assert world.endpoints.door_of("10.1.0.4", "netns:one") is None
    assert world.endpoints.door_of("10.1.0.4") == made[2].door
    again = await World(state=world.state).loaded()
    assert [each.place for each in again.endpoints.all()] == places[1:]


async def test_networks_in_one_place_share_its_addresses() -> None:
    world = await World().with_hub()
    for name in ("a", "b"):
        body = network_body("10.1.0.0/24", line="10.1.0.0/24")
        await world.networks.put_network(name, {"properties": body["properties"] | {"presence": "netns:one"}})
    await in_network(world, "e1", subnet_id("a", "line"))
    assert (await in_network(world, "e2", subnet_id("b", "line"))).address == "10.1.0.5"


async def in_network(world: World, name: str, subnet: str) -> PrivateEndpoint:
    body = endpoint_body(world.hubs.require("hub").resource_id, "10.1.0.4")
    return await world.endpoints.create(name, in_subnet(body, subnet, dynamic=True))
