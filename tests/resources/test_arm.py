"""ARM's form of hubs and connections."""

from dataclasses import replace

from isthmus.resources.arm import connection_to_arm, hub_to_arm, link_resources_to_arm
from isthmus.resources.hub import GROUP_PATH
from resources.test_hub import FULL, HUB


def test_a_hub_as_az_prints_it() -> None:
    shown = hub_to_arm(FULL)
    assert shown["id"] == f"{GROUP_PATH}/providers/Microsoft.Devices/IotHubs/hub"
    assert shown["etag"] == "AAAAAAAAAAc="
    properties = shown["properties"]
    assert isinstance(properties, dict)
    assert properties["hostName"] == "hub.example.test"
    assert properties["publicNetworkAccess"] == "Disabled"
    assert properties["networkRuleSets"] == {
        "applyToBuiltInEventHubEndpoint": True,
        "defaultAction": "Allow",
        "ipRules": [{"action": "Allow", "filterName": "a", "ipMask": "10.0.0.0/8"}],
    }
    assert properties["eventHubEndpoints"]["events"] == {
        "endpoint": "sb://hub.example.test/",
        "partitionCount": 4,
        "partitionIds": ["0", "1", "2", "3"],
        "path": "hub",
        "retentionTimeInDays": 1,
    }
    assert properties["routing"]["routes"] == [
        {
            "name": "r",
            "source": "TwinChangeEvents",
            "condition": "true",
            "endpointNames": ["events"],
            "isEnabled": False,
        }
    ]


def test_a_hub_without_rules_has_none() -> None:
    properties = hub_to_arm(HUB)["properties"]
    assert isinstance(properties, dict)
    assert properties["networkRuleSets"] is None
    assert properties["cloudToDevice"] == {
        "defaultTtlAsIso8601": "PT1H",
        "feedback": {"lockDurationAsIso8601": "PT1M", "maxDeliveryCount": 10, "ttlAsIso8601": "PT1H"},
        "maxDeliveryCount": 10,
    }


def test_no_key_is_ever_part_of_it() -> None:
    text = repr(hub_to_arm(FULL))
    assert not any(key in text for policy in FULL.policies for key in policy.keys)
    assert "'rights': 'RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect'" in text


def test_a_connection_as_its_owner_reads_it() -> None:
    shown = connection_to_arm(FULL, FULL.connections[0])
    assert shown["id"] == f"{FULL.resource_id}/privateEndpointConnections/c"
    assert shown["properties"] == {
        "privateEndpoint": {"id": "id"},
        "groupIds": ["iotHub"],
        "privateLinkServiceConnectionState": {"status": "Rejected", "description": "no", "actionsRequired": "None"},
    }


def test_a_hub_can_be_connected_by_one_group() -> None:
    (resource,) = link_resources_to_arm(HUB)
    assert resource["properties"] == {
        "groupId": "iotHub",
        "requiredMembers": ["iotHub"],
        "requiredZoneNames": ["privatelink.example.test"],
    }
    (single,) = link_resources_to_arm(replace(HUB, host_name="localhost"))
    assert "privatelink.localhost" in repr(single)
