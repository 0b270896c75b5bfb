"""What is told about hubs besides themselves, and nothing that is not so."""

import pytest

from isthmus.base.ids import DeviceRef
from isthmus.servers.management.api import Part
from servers.management_world import HUB, HUBS, ManagementWorld

DEVICES = "/subscriptions/0/providers/Microsoft.Devices"
TYPES = "providers/Microsoft.Network/locations/local/availablePrivateEndpointTypes"


@pytest.fixture
async def world() -> ManagementWorld:
    return await ManagementWorld().start()


async def test_devices_are_counted(world: ManagementWorld) -> None:
    hub = world.domain.hubs.require("hub").number
    for name, status in (("one", "enabled"), ("two", "enabled"), ("three", "disabled")):
        await world.domain.registry.put(DeviceRef(hub, name), {"deviceId": name, "status": status}, None)

    assert (await world.ask("GET", f"{HUB}/IotHubStats")).json == {
        "totalDeviceCount": 3,
        "enabledDeviceCount": 2,
        "disabledDeviceCount": 1,
    }
    (quota,) = (await world.ask("GET", f"{HUB}/quotaMetrics")).json["value"]
    assert (quota["name"], quota["currentValue"]) == ("TotalDeviceCount", 3)


async def test_every_size_that_is_told_can_be_had(world: ManagementWorld) -> None:
    for size in (await world.ask("GET", f"{HUB}/skus")).json["value"]:
        put = await world.ask("PATCH", HUB, {"sku": {"name": size["sku"]["name"], "capacity": 2}})
        assert put.json["sku"] == size["sku"] | {"capacity": 2}


async def test_the_built_in_endpoint_is_as_well_as_the_log(world: ManagementWorld) -> None:
    (well,) = (await world.ask("GET", f"{HUB}/routingEndpointsHealth")).json["value"]
    world.parts = [Part("log", ok=False, reason="the disk is full")]
    (ill,) = (await world.ask("GET", f"{HUB}/routingEndpointsHealth")).json["value"]

    assert well == {"endpointId": "events", "healthStatus": "healthy"}
    assert ill == {"endpointId": "events", "healthStatus": "unhealthy", "lastKnownError": "the disk is full"}


async def test_names_are_free_taken_or_none(world: ManagementWorld) -> None:
    answers = [
        (await world.ask("POST", f"{DEVICES}/checkNameAvailability", {"name": name})).json
        for name in ("new-one", "HUB", "no")
    ]

    assert [(each["nameAvailable"], each.get("reason")) for each in answers] == [
        *((True, None), (False, "AlreadyExists"), (False, "Invalid")),
    ]
    assert (await world.ask("POST", f"{DEVICES}/checkNameAvailability", {})).code == "ArgumentInvalid"


async def test_usage_kinds_and_operations(world: ManagementWorld) -> None:
    (usage,) = (await world.ask("GET", f"{DEVICES}/usages")).json["value"]
    assert (usage["currentValue"], usage["limit"]) == (1, 64)
    for path in (f"/subscriptions/0/{TYPES}", f"/subscriptions/0/resourceGroups/g/{TYPES}"):
        (kind,) = (await world.ask("GET", path)).json["value"]
        assert kind["resourceName"] == "Microsoft.Devices/IotHubs"
    operations = (await world.ask("GET", "/providers/Microsoft.Devices/operations")).json["value"]
    assert "Microsoft.Devices/iothubs/write" in {each["name"] for each in operations}


async def test_a_private_link_resource_is_shown_by_its_name(world: ManagementWorld) -> None:
    assert (await world.ask("GET", f"{HUB}/privateLinkResources/IOTHUB")).json["name"] == "iotHub"
    assert (await world.ask("GET", f"{HUB}/privateLinkResources/events")).code == "ResourceNotFound"


@pytest.mark.parametrize("view", ["IotHubStats", "skus", "quotaMetrics", "routingEndpointsHealth"])
async def test_nothing_is_told_of_a_hub_that_is_not_there(world: ManagementWorld, view: str) -> None:
    assert (await world.ask("GET", f"{HUBS}/none/{view}")).code == "ResourceNotFound"
