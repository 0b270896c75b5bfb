"""Virtual networks, subnets, peerings and local gateways in ARM's paths: what is done, refused and noted."""

from typing import Any

import pytest

from isthmus.resources.hub import GROUP_PATH
from resources.world import endpoint_body, in_subnet, line_body, network_body, peering_body, site_body
from servers.management_world import ENDPOINTS, HUB, OWNER, ManagementWorld

NETWORKS = f"{GROUP_PATH}/providers/Microsoft.Network/virtualNetworks"
GATEWAYS = f"{GROUP_PATH}/providers/Microsoft.Network/localNetworkGateways"
PLANT = f"{NETWORKS}/plant"


@pytest.fixture
async def world() -> ManagementWorld:
    made = await ManagementWorld().start()
    await made.ask("PUT", PLANT, network_body("10.1.0.0/16", line="10.1.0.0/29"))
    return made


async def test_a_network_is_made_read_and_deleted(world: ManagementWorld) -> None:
    again = await world.ask("PUT", PLANT, network_body("10.1.0.0/16", line="10.1.0.0/29", test="10.1.1.0/24"))
    assert again.status == 200
    assert (await world.ask("PUT", f"{NETWORKS}/office", network_body("10.2.0.0/16"))).status == 201
    shown = (await world.ask("GET", f"{NETWORKS}/Plant")).json
    assert shown == again.json
    assert (shown["id"], shown["type"]) == (PLANT, "Microsoft.Network/virtualNetworks")
    assert shown["properties"]["addressSpace"] == {"addressPrefixes": ["10.1.0.0/16"]}
    assert shown["properties"]["provisioningState"] == "Succeeded"
    assert [subnet["properties"]["addressPrefix"] for subnet in shown["properties"]["subnets"]] == [
        "10.1.0.0/29",
        "10.1.1.0/24",
    ]
    listed = (await world.ask("GET", NETWORKS)).json["value"]
    assert [network["name"] for network in listed] == ["office", "plant"]
    assert (await world.ask("PUT", PLANT, shown)).json == shown
    assert (await world.ask("DELETE", PLANT)).status == 204
    assert (await world.ask("GET", PLANT)).code == "ResourceNotFound"


async def test_a_network_that_was_changed_meanwhile_is_not_overwritten(world: ManagementWorld) -> None:
    read = (await world.ask("GET", PLANT)).json
    await world.ask("PUT", f"{PLANT}/subnets/test", line_body("10.1.2.0/24"))
    refused = await world.ask("PUT", PLANT, read, if_match=read["etag"])
    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    again = (await world.ask("GET", PLANT)).json
    assert (await world.ask("PUT", PLANT, again, if_match=again["etag"])).status == 200
    assert (await world.ask("PUT", f"{NETWORKS}/new", network_body("10.3.0.0/16"), if_match="*")).status == 412


async def test_a_subnet_is_made_read_and_deleted(world: ManagementWorld) -> None:
    path = f"{PLANT}/subnets/test"
    made = await world.ask("PUT", path, line_body("10.1.2.0/24"))
    assert (made.status, made.json["id"]) == (201, path)
    assert (await world.ask("PUT", path, line_body("10.1.3.0/24"))).status == 200
    assert (await world.ask("GET", path)).json["properties"]["addressPrefix"] == "10.1.3.0/24"
    assert len((await world.ask("GET", f"{PLANT}/subnets")).json["value"]) == 2
    assert (await world.ask("PUT", path, line_body("10.1.0.0/24"))).code == "ArgumentInvalid"
    assert (await world.ask("DELETE", path)).status == 204
    assert (await world.ask("DELETE", path)).status == 404


async def test_a_peering_has_two_sides(world: ManagementWorld) -> None:
    await world.ask("PUT", f"{NETWORKS}/office", network_body("10.2.0.0/16"))
    one, other = f"{PLANT}/virtualNetworkPeerings/there", f"{NETWORKS}/office/virtualNetworkPeerings/back"
    made = await world.ask("PUT", one, peering_body("office"))
    assert (made.status, made.json["properties"]["peeringState"]) == (201, "Initiated")
    made = await world.ask("PUT", other, peering_body("plant", allowForwardedTraffic=True))
    assert (
        made.json["properties"] | {"peeringState": "Connected", "allowForwardedTraffic": True}
        == (made.json["properties"])
    )
    assert (await world.ask("GET", one)).json["properties"]["remoteAddressSpace"] == {
        "addressPrefixes": ["10.2.0.0/16"]
    }
    (listed,) = (await world.ask("GET", f"{PLANT}/virtualNetworkPeerings")).json["value"]
    assert listed["properties"]["peeringState"] == "Connected"
    assert (await world.ask("DELETE", other)).status == 204
    refused = await world.ask("PUT", other, peering_body("plant"))
    assert (refused.status, refused.code) == (409, "OperationNotAllowedInCurrentState")


async def test_a_site_is_made_read_and_deleted(world: ManagementWorld) -> None:
    path = f"{GATEWAYS}/works"
    made = await world.ask("PUT", path, site_body("plant", "192.168.0.0/16"))
    assert (made.status, made.json["properties"]["virtualNetwork"]) == (201, {"id": PLANT})
    assert (await world.ask("PUT", path, made.json)).status == 200
    assert (await world.ask("GET", GATEWAYS)).json == {"value": [(await world.ask("GET", path)).json]}
    assert (await world.ask("DELETE", PLANT)).code == "InvalidOperation"
    assert (await world.ask("DELETE", path)).status == 204


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({}, "virtualNetwork"),
        ({"virtualNetwork": {"id": "plant"}}, "virtualNetwork.id"),
        ({"virtualNetwork": {"id": PLANT}}, "localNetworkAddressSpace"),
        (site_body("plant", "10.1.0.0/24")["properties"], "overlap"),
        (site_body("plant", "192.168.0.1/16")["properties"], "host bits"),
        (site_body("plant", "192.168.0.0/16")["properties"] | {"gatewayIpAddress": "there"}, "gatewayIpAddress"),
    ],
)
async def test_a_bad_site_is_refused_by_its_member(
    world: ManagementWorld, properties: dict[str, Any], said: str
) -> None:
    refused = await world.ask("PUT", f"{GATEWAYS}/works", {"properties": properties})
    assert refused.status == 400
    assert said in refused.message


async def test_an_endpoint_takes_an_address_of_its_subnet(world: ManagementWorld) -> None:
    """The only address this machine has is 10.1.0.7: the subnet's broadcast address, and free in a larger one."""
    await world.ask("PUT", f"{PLANT}/subnets/line", line_body("10.1.0.0/28"))
    body = in_subnet(endpoint_body(HUB, ""), f"{PLANT}/subnets/line", dynamic=True)
    made = await world.ask("PUT", f"{ENDPOINTS}/plant", body)
    assert made.json["properties"]["customDnsConfigs"][0]["ipAddresses"] == ["10.1.0.7"]
    assert made.json["properties"]["subnet"] == {"id": f"{PLANT}/subnets/line"}
    refused = await world.ask("DELETE", f"{PLANT}/subnets/line")
    assert (refused.status, refused.code) == (400, "InvalidOperation")
    assert "privateEndpoints/plant" in refused.message


async def test_changes_are_noted_with_what_was_before(world: ManagementWorld) -> None:
    await world.ask("PUT", f"{PLANT}/subnets/test", line_body("10.1.2.0/24"))
    await world.ask("PUT", f"{PLANT}/subnets/test", line_body("10.1.3.0/24"))
    await world.ask("DELETE", PLANT)
    noted = [each for each in await world.noted() if "plant" in each.detail]
    assert [each.detail for each in noted] == [
        "virtual network plant created",
        "subnet test of plant created",
        "subnet test of plant updated",
        "virtual network plant deleted",
    ]
    assert ("10.1.2.0/24" in noted[2].before, "10.1.3.0/24" in noted[2].after) == (True, True)
    assert {each.principal for each in noted} == {OWNER}
