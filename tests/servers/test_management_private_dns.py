"""Private DNS zones, links, record sets and zone groups in ARM's paths: what is done, refused and noted."""

from typing import Any

import pytest

from isthmus.resources.hub import GROUP_PATH
from resources.world import group_body, link_body, network_body
from servers.management_world import ADDRESS, ENDPOINTS, OWNER, ManagementWorld

ZONES = f"{GROUP_PATH}/providers/Microsoft.Network/privateDnsZones"
NETWORKS = f"{GROUP_PATH}/providers/Microsoft.Network/virtualNetworks"
NAME = "privatelink.example.test"
ZONE = f"{ZONES}/{NAME}"
LINK = f"{ZONE}/virtualNetworkLinks/here"
PRESS = f"{ZONE}/A/press"
GROUP = f"{ENDPOINTS}/plant/privateDnsZoneGroups/default"
BODY: dict[str, Any] = {"properties": {"ttl": 60, "aRecords": [{"ipv4Address": "10.1.0.9"}]}}


@pytest.fixture
async def world() -> ManagementWorld:
    made = await ManagementWorld().start()
    await made.ask("PUT", f"{NETWORKS}/plant", network_body("10.1.0.0/16", line="10.1.0.0/24"))
    await made.ask("PUT", ZONE, {"location": "global", "tags": {"site": "north"}})
    return made


async def test_a_zone_is_made_read_changed_and_deleted(world: ManagementWorld) -> None:
    shown = (await world.ask("GET", f"{ZONES}/{NAME.upper()}")).json
    assert (shown["id"], shown["name"], shown["location"], shown["tags"]) == (ZONE, NAME, "global", {"site": "north"})
    assert shown["properties"]["numberOfRecordSets"] == 1
    assert (await world.ask("PUT", ZONE, shown)).json == shown
    patched = await world.ask("PATCH", ZONE, {"tags": {"site": "south"}})
    assert (patched.status, patched.json["tags"]) == (200, {"site": "south"})
    assert (await world.ask("PUT", f"{ZONES}/second.test", {})).status == 201
    assert [each["name"] for each in (await world.ask("GET", ZONES)).json["value"]] == [NAME, "second.test"]
    assert (await world.ask("DELETE", ZONE)).status == 204
    assert (await world.ask("GET", ZONE)).code == "ResourceNotFound"


async def test_a_record_set_is_made_read_changed_and_deleted(world: ManagementWorld) -> None:
    made = await world.ask("PUT", PRESS, BODY)
    assert made.status == 201
    assert made.json["type"] == "Microsoft.Network/privateDnsZones/A"
    assert made.json["properties"] == {
        "aRecords": [{"ipv4Address": "10.1.0.9"}],
        "fqdn": f"press.{NAME}.",
        "isAutoRegistered": False,
        "metadata": {},
        "ttl": 60,
    }
    patched = (await world.ask("PATCH", PRESS, {"properties": {"ttl": 5}})).json["properties"]
    assert (patched["ttl"], patched["aRecords"]) == (5, [{"ipv4Address": "10.1.0.9"}])
    assert [each["name"] for each in (await world.ask("GET", f"{ZONE}/A")).json["value"]] == ["press"]
    assert [each["type"].rpartition("/")[2] for each in (await world.ask("GET", f"{ZONE}/aLL")).json["value"]] == [
        "SOA",
        "A",
    ]
    assert (await world.ask("DELETE", PRESS)).status == 204
    assert (await world.ask("GET", PRESS)).code == "ResourceNotFound"


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("AAAA", {"aaaaRecords": [{"ipv6Address": "fd00::1"}]}),
        ("CNAME", {"cnameRecord": {"cname": "other.test"}}),
        ("TXT", {"txtRecords": [{"value": ["x" * 255, "yz"]}, {"value": [""]}]}),
        ("CNAME", {"cnameRecord": None}),
        ("A", {"aRecords": []}),
    ],
)
async def test_each_type_comes_back_as_it_was_sent(world: ManagementWorld, kind: str, members: dict[str, Any]) -> None:
    made = await world.ask("PUT", f"{ZONE}/{kind}/x", {"properties": members})

    assert made.status == 201
    assert {name: made.json["properties"][name] for name in members} == members
    assert (await world.ask("GET", f"{ZONE}/{kind}/x")).json == made.json


async def test_every_zone_has_a_soa_that_nobody_changes(world: ManagementWorld) -> None:
    soa = (await world.ask("GET", f"{ZONE}/SOA/@")).json
    assert (soa["name"], soa["properties"]["soaRecord"]["minimumTtl"]) == ("@", 10)
    assert (await world.ask("PUT", f"{ZONE}/SOA/@", soa)).status == 501


async def test_a_link_is_made_read_changed_and_deleted(world: ManagementWorld) -> None:
    made = await world.ask("PUT", LINK, link_body("plant"))
    assert (made.status, made.json["properties"]["virtualNetworkLinkState"]) == (201, "Completed")
    assert (await world.ask("PUT", LINK, made.json)).json == made.json
    patched = await world.ask("PATCH", LINK, {"properties": {"resolutionPolicy": "NxDomainRedirect"}})
    assert patched.json["properties"]["resolutionPolicy"] == "NxDomainRedirect"
    listed = (await world.ask("GET", f"{ZONE}/virtualNetworkLinks")).json["value"]
    assert [each["name"] for each in listed] == ["here"]
    assert (await world.ask("DELETE", ZONE)).status == 409
    assert (await world.ask("DELETE", LINK)).status == 204
    assert (await world.ask("GET", LINK)).status == 404


async def test_a_group_keeps_records_in_step_with_its_endpoint(world: ManagementWorld) -> None:
    await world.put_endpoint()
    made = await world.ask("PUT", GROUP, group_body(hub=NAME))
    assert made.status == 201
    (config,) = made.json["properties"]["privateDnsZoneConfigs"]
    (record,) = config["properties"]["recordSets"]
    assert (record["fqdn"], record["ipAddresses"], record["recordType"]) == (f"hub.{NAME}", [ADDRESS], "A")
    shown = (await world.ask("GET", f"{ZONE}/A/hub")).json["properties"]
    assert (shown["aRecords"], shown["ttl"]) == ([{"ipv4Address": ADDRESS}], 10)
    assert shown["metadata"]["creator"].startswith("created by private endpoint plant with resource guid ")
    assert len((await world.ask("GET", f"{ENDPOINTS}/plant/privateDnsZoneGroups")).json["value"]) == 1
    assert (await world.ask("DELETE", f"{ENDPOINTS}/plant")).status == 204
    assert (await world.ask("GET", f"{ZONE}/A/hub")).status == 404


async def test_a_group_is_taken_back(world: ManagementWorld) -> None:
    await world.put_endpoint()
    await world.ask("PUT", GROUP, group_body(hub=NAME))

    assert (await world.ask("DELETE", GROUP)).status == 204
    assert (await world.ask("GET", f"{ENDPOINTS}/plant/privateDnsZoneGroups")).json == {"value": []}
    assert (await world.ask("GET", f"{ZONE}/A/hub")).status == 404
    assert (await world.ask("PUT", GROUP, group_body(hub="nowhere.test"))).status == 404


@pytest.mark.parametrize("form", ["zone", "hosts", "dnsmasq", "CoreDNS"])
async def test_what_a_network_sees_is_exported(world: ManagementWorld, form: str) -> None:
    await world.ask("PUT", LINK, link_body("plant"))
    await world.ask("PUT", PRESS, BODY)

    text = (await world.ask("GET", f"{NETWORKS}/plant/privateNames/{form}")).json["value"]

    assert "10.1.0.9" in text
    assert "press" in text


async def test_an_export_is_of_a_known_network_and_format(world: ManagementWorld) -> None:
    assert (await world.ask("GET", f"{NETWORKS}/plant/privateNames/pdf")).code == "ArgumentInvalid"
    assert (await world.ask("GET", f"{NETWORKS}/nowhere/privateNames/zone")).code == "ResourceNotFound"


async def test_changes_are_noted_with_who_made_them(world: ManagementWorld) -> None:
    await world.ask("PUT", PRESS, BODY)
    await world.ask("PUT", PRESS, {"properties": {"ttl": 5, "aRecords": BODY["properties"]["aRecords"]}})
    await world.ask("DELETE", PRESS)

    noted = [entry for entry in await world.noted() if "record set" in entry.detail]

    assert [entry.detail for entry in noted] == [
        f"A record set press of {NAME} {done}" for done in ("created", "updated", "deleted")
    ]
    assert {entry.principal for entry in noted} == {OWNER}
    assert ('"ttl":60' in noted[1].before, '"ttl":5' in noted[1].after) == (True, True)
