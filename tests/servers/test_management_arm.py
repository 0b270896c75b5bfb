"""Hubs, policies, consumer groups and private endpoints in ARM's paths: what is done, refused and noted."""

from collections.abc import Mapping
from urllib.parse import quote

import pytest

from isthmus.access.journal import Verdict
from resources.world import endpoint_body
from servers.management_world import ADDRESS, ENDPOINTS, HUB, HUBS, OWNER, ManagementWorld, event_hub

CLOUD_TO_DEVICE = {"properties": {"cloudToDevice": {"maxDeliveryCount": 7}}}
GROUPS = f"{HUB}/eventHubEndpoints/events/ConsumerGroups"


@pytest.fixture
async def world() -> ManagementWorld:
    return await ManagementWorld().start()


async def test_a_hub_is_made_of_a_whole_body(world: ManagementWorld) -> None:
    body = {**event_hub(partitionCount=2), "location": "hall", "tags": {"line": "7"}}
    body["properties"] = {**event_hub(partitionCount=2)["properties"], **CLOUD_TO_DEVICE["properties"]}  # type: ignore[dict-item]

    made = await world.ask("PUT", f"{HUBS}/Second", body)

    assert made.status == 201
    assert (made.json["name"], made.json["location"], made.json["tags"]) == ("Second", "hall", {"line": "7"})
    properties = made.json["properties"]
    assert properties["hostName"] == "second.example.test"
    assert properties["eventHubEndpoints"]["events"]["partitionCount"] == 2
    assert properties["cloudToDevice"]["maxDeliveryCount"] == 7
    assert world.prepared == ["second.example.test"]
    assert (await world.ask("GET", f"{HUBS}/second")).json == made.json
    assert [hub["name"] for hub in (await world.ask("GET", HUBS)).json["value"]] == ["hub", "Second"]


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("no", {}, "ArgumentInvalid"),
        ("second", {"properties": {"hostName": "a b"}}, "ArgumentInvalid"),
        ("second", {"properties": {"hostName": "second.elsewhere.test"}}, "ArgumentInvalid"),
        ("second", {"properties": {"hostName": "HUB.example.test:443"}}, "GenericConflict"),
        ("second", event_hub(partitionCount="many"), "ArgumentInvalid"),
        ("second", event_hub(partitionCount=0), "ArgumentInvalid"),
        ("second", {"properties": {"hatch": 1}}, "ArgumentInvalid"),
        ("second", {"properties": {"comments": "new"}}, "NotImplemented"),
    ],
)
async def test_a_hub_that_cannot_be_is_not_there_afterwards(
    world: ManagementWorld, name: str, body: Mapping[str, object], code: str
) -> None:
    refused = await world.ask("PUT", f"{HUBS}/{name}", body)

    assert refused.code == code
    assert len(world.domain.hubs.all()) == 1


async def test_put_replaces_and_patch_merges(world: ManagementWorld) -> None:
    await world.ask("PATCH", HUB, {**CLOUD_TO_DEVICE, "tags": {"line": "7"}})

    patched = await world.ask("PATCH", HUB, {"properties": {"publicNetworkAccess": "Disabled"}})
    assert patched.json["properties"]["cloudToDevice"]["maxDeliveryCount"] == 7
    assert patched.json["tags"] == {"line": "7"}

    put = await world.ask("PUT", HUB, {"location": "local", "properties": {}})
    assert put.json["properties"]["cloudToDevice"]["maxDeliveryCount"] == 10
    assert put.json["properties"]["publicNetworkAccess"] == "Disabled"
    assert put.json["tags"] == {}


async def test_what_was_shown_can_be_put_back(world: ManagementWorld) -> None:
    await world.ask("PATCH", HUB, {**CLOUD_TO_DEVICE, "tags": {"line": "7"}})
    shown = await world.ask("GET", HUB)

    assert (await world.ask("PUT", HUB, shown.json, if_match=f'"{shown.json["etag"]}"')).json == shown.json


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_hub_that_somebody_changed_is_not_overwritten(world: ManagementWorld, method: str) -> None:
    await world.ask("PUT", f"{HUBS}/second", {})
    before = await world.ask("GET", HUB)
    await world.ask("PATCH", HUB, CLOUD_TO_DEVICE)

    body = None if method == "DELETE" else {"properties": {"publicNetworkAccess": "Disabled"}}
    refused = await world.ask(method, HUB, body, if_match=f'"{before.json["etag"]}"')

    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    assert world.domain.hubs.require("hub").public_network_access


async def test_a_hub_that_is_gone_is_not_made_again_by_who_meant_to_change_it(world: ManagementWorld) -> None:
    refused = await world.ask("PUT", f"{HUBS}/second", {}, if_match='"AAAAAAAAAAE="')

    assert (refused.status, refused.code) == (412, "PreconditionFailed")
    assert len(world.domain.hubs.all()) == 1


async def test_a_hub_goes_and_the_last_one_stays(world: ManagementWorld) -> None:
    await world.ask("PUT", f"{HUBS}/second", {})

    assert (await world.ask("DELETE", HUB)).status == 204
    assert (await world.ask("GET", HUB)).code == "ResourceNotFound"
    last = await world.ask("DELETE", f"{HUBS}/second")
    assert (last.status, last.code) == (400, "InvalidOperation")


async def test_keys_are_shown_to_the_owner_and_that_is_noted(world: ManagementWorld) -> None:
    policies = (await world.ask("POST", f"{HUB}/listkeys")).json["value"]
    one = (await world.ask("POST", f"{HUB}/IotHubKeys/service/listkeys")).json

    assert [policy["keyName"] for policy in policies] == [
        *("iothubowner", "service", "device", "registryRead", "registryReadWrite"),
    ]
    assert one == policies[1]
    assert one["rights"] == "ServiceConnect"
    assert [decision.detail for decision in await world.noted()] == [
        "keys of all policies read",
        "keys of policy service read",
    ]
    assert (await world.ask("POST", f"{HUB}/IotHubKeys/nobody/listkeys")).code == "ResourceNotFound"


async def test_changes_are_noted_with_who_made_them_and_without_keys(world: ManagementWorld) -> None:
    await world.ask("PATCH", HUB, CLOUD_TO_DEVICE)

    (noted,) = await world.noted()
    assert (noted.verdict, noted.principal, noted.detail, noted.hub) == (Verdict.CHANGED, OWNER, "hub updated", "hub")
    assert "maxDeliveryCount" in noted.after
    secrets = {key for policy in world.domain.hubs.require("hub").policies for key in policy.keys}
    assert not any(secret in noted.before + noted.after for secret in secrets)


async def test_consumer_groups(world: ManagementWorld) -> None:
    made = await world.ask("PUT", f"{GROUPS}/shift-1", {})

    assert (made.status, made.json["name"]) == (200, "shift-1")
    assert [group["name"] for group in (await world.ask("GET", GROUPS)).json["value"]] == ["$Default", "shift-1"]
    assert (await world.ask("GET", f"{GROUPS}/{quote('$Default')}")).json["name"] == "$Default"
    assert (await world.ask("DELETE", f"{GROUPS}/shift-1")).status == 200
    assert (await world.ask("GET", f"{GROUPS}/shift-1")).code == "ResourceNotFound"
    assert (await world.ask("DELETE", f"{GROUPS}/{quote('$Default')}")).code == "InvalidOperation"


async def test_an_endpoint_and_its_connection(world: ManagementWorld) -> None:
    made = await world.put_endpoint(manual=True)
    assert made.status == 201
    (connection,) = (await world.ask("GET", f"{HUB}/privateEndpointConnections")).json
    assert connection["properties"]["privateLinkServiceConnectionState"]["status"] == "Pending"

    path = f"{HUB}/privateEndpointConnections/{quote(connection['name'])}"
    state = {"privateLinkServiceConnectionState": {"status": "approved", "description": "welcome"}}
    decided = await world.ask("PUT", path, {"properties": state})
    assert decided.json["properties"]["privateLinkServiceConnectionState"] == {
        "status": "Approved",
        "description": "welcome",
        "actionsRequired": "None",
    }
    assert (await world.ask("GET", path)).json == decided.json

    assert (await world.ask("DELETE", path)).status == 204
    (endpoint,) = (await world.ask("GET", ENDPOINTS)).json["value"]
    assert (await world.ask("GET", f"{ENDPOINTS}/PLANT")).json == endpoint
    assert (await world.ask("DELETE", f"{ENDPOINTS}/plant")).status == 204
    assert world.domain.endpoints.all() == ()
    assert [decision.detail.split(" ")[-1] for decision in await world.noted()] == [
        *("created", "Approved", "deleted", "deleted"),
    ]


async def test_decisions_that_cannot_be(world: ManagementWorld) -> None:
    await world.put_endpoint()
    path = f"{HUB}/privateEndpointConnections/plant"

    def state(status: str) -> dict[str, object]:
        return {"properties": {"privateLinkServiceConnectionState": {"status": status}}}

    assert (await world.ask("PUT", path, state("Perhaps"))).code == "ArgumentInvalid"
    assert (await world.ask("PUT", path, state("Disconnected"))).code == "ArgumentInvalid"
    await world.ask("PUT", path, state("Rejected"))
    again = await world.ask("PUT", path, state("Approved"))
    assert (again.status, again.code) == (409, "OperationNotAllowedInCurrentState")
    assert (await world.ask("PUT", f"{HUB}/privateEndpointConnections/none", state("Approved"))).code == (
        "ResourceNotFound"
    )


async def test_an_address_that_cannot_be_an_endpoints_is_refused(world: ManagementWorld) -> None:
    refused = await world.ask("PUT", f"{ENDPOINTS}/plant", endpoint_body(HUB, "10.1.0.8"))

    assert (refused.code, refused.message) == ("ArgumentInvalid", "no")
    assert (await world.ask("PUT", f"{ENDPOINTS}/plant", {"properties": {}})).code == "ArgumentInvalid"
    assert world.domain.endpoints.all() == ()


async def test_link_resources(world: ManagementWorld) -> None:
    (resource,) = (await world.ask("GET", f"{HUB}/privateLinkResources")).json["value"]

    assert resource["name"] == "iotHub"


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("GET", "/subscriptions", "ResourceNotFound"),
        ("GET", "/subscriptions/0/resourceGroups/isthmus", "ResourceNotFound"),
        ("GET", "/subscriptions/0/providers", "NotImplemented"),
        ("GET", "/subscriptions/0/providers/Microsoft.Compute/virtualMachines", "NotImplemented"),
        ("POST", HUB, "NotImplemented"),
        ("GET", f"{HUB}/certificates/none", "CertificateNotFound"),
        ("GET", f"{HUBS}/none", "ResourceNotFound"),
    ],
)
async def test_what_is_not_there_says_so(world: ManagementWorld, method: str, target: str, code: str) -> None:
    assert (await world.ask(method, target)).code == code


async def test_paths_have_no_case(world: ManagementWorld) -> None:
    assert (await world.ask("GET", HUB.upper())).json["name"] == "hub"
    assert (await world.put_endpoint()).json["properties"]["ipConfigurations"][0]["properties"] == {
        "groupId": "iotHub",
        "memberName": "iotHub",
        "privateIPAddress": ADDRESS,
    }


async def test_an_endpoint_that_is_asked_for_again_changes_its_tags_only(world: ManagementWorld) -> None:
    made = await world.put_endpoint(manual=True)
    body = endpoint_body(HUB, ADDRESS, manual=True)

    same = await world.ask("PUT", f"{ENDPOINTS}/plant", body)
    tagged = await world.ask("PUT", f"{ENDPOINTS}/plant", {**body, "tags": {"hall": "3"}})

    assert (made.status, same.status, tagged.status) == (201, 200, 200)
    assert same.json == made.json
    assert tagged.json == made.json | {"tags": {"hall": "3"}, "etag": tagged.json["etag"]}
    assert tagged.json["etag"] != made.json["etag"]
    details = [decision.detail for decision in await world.noted()]
    assert details == ["private endpoint plant created", "private endpoint plant updated"]
    assert (await world.put_endpoint(manual=False)).code == "GenericConflict"
