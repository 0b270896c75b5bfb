"""Hubs as resources and their private doors."""

import json
from typing import Any

import pytest

from cli.conftest import Run
from cli.management import HUB_ID, FakeManagement

GROUP = HUB_ID.partition("/Microsoft.Devices")[0]
ENDPOINT = f"{GROUP}/Microsoft.Network/privateEndpoints/plant"
CONNECTION = f"{HUB_ID}/privateEndpointConnections/plant"
HUB = {"name": "hub", "etag": "AAAA", "tags": {}, "properties": {"publicNetworkAccess": "Enabled"}}


def test_update_sets_and_sends_the_etag(management: FakeManagement, run: Run) -> None:
    management.on("GET", HUB_ID, HUB)
    management.on("PUT", HUB_ID, HUB)
    run("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled", "--force")
    assert management.last.body == HUB | {"properties": {"publicNetworkAccess": "Disabled"}}
    assert management.last.headers["if-match"] == '"AAAA"'


def test_hub_is_named_by_any_of_az_flags(management: FakeManagement, run: Run) -> None:
    management.on("GET", HUB_ID, HUB)
    for flag in ("--name", "-n", "--hub-name"):
        assert json.loads(run("iot", "hub", "show", flag, "hub.isthmus.test").out) == HUB


def test_an_unknown_hub_is_told_with_those_there_are(management: FakeManagement, run: Run) -> None:
    done = run("iot", "hub", "show", "-n", "other")
    assert done.code == 1
    assert "hubs here: hub" in done.err


def test_of_two_hubs_one_must_be_named(management: FakeManagement, run: Run) -> None:
    management.set("GET", "/hubs", [{"name": name, "hostName": f"{name}.test"} for name in ("one", "two")])
    done = run("device-twin", "show", "-d", "a")
    assert done.code == 1
    assert "--hub-name" in done.err


def test_create_makes_a_hub(management: FakeManagement, run: Run) -> None:
    path = HUB_ID.removesuffix("/hub") + "/second"
    management.on("PUT", path, {"name": "second"})
    run("iot", "hub", "create", "-n", "second", "--partition-count", "8", "--tags", "site=north", "line=2")
    assert management.last.body["tags"] == {"site": "north", "line": "2"}
    assert management.last.body["properties"]["eventHubEndpoints"]["events"] == {"partitionCount": 8}


def test_private_endpoint_create_has_the_shape_of_az(management: FakeManagement, run: Run) -> None:
    management.on("PUT", ENDPOINT, {"name": "plant"})
    done = run(
        *("network", "private-endpoint", "create", "-n", "plant", "--connection-name", "plant"),
        *("--private-connection-resource-id", HUB_ID, "--group-id", "iotHub", "--vnet-name", "ot", "--subnet", "line"),
        *("--ip-config", "name=plant", "group-id=iotHub", "member-name=iotHub", "private-ip-address=127.0.0.2"),
    )
    assert done.code == 0
    properties = management.last.body["properties"]
    assert properties["privateLinkServiceConnections"] == [
        {
            "name": "plant",
            "properties": {"privateLinkServiceId": HUB_ID, "groupIds": ["iotHub"], "requestMessage": ""},
        }
    ]
    assert properties["ipConfigurations"] == [
        {
            "name": "plant",
            "properties": {"groupId": "iotHub", "memberName": "iotHub", "privateIPAddress": "127.0.0.2"},
        }
    ]
    assert properties["subnet"]["id"].endswith("/virtualNetworks/ot/subnets/line")


def test_manual_request_waits_for_approval(management: FakeManagement, run: Run) -> None:
    management.on("PUT", ENDPOINT, {"name": "plant"})
    run(
        *("network", "private-endpoint", "create", "-n", "plant", "--connection-name", "c", "--manual-request", "true"),
        *("--private-connection-resource-id", HUB_ID, "--request-message", "line 4, please"),
    )
    properties = management.last.body["properties"]
    assert properties["manualPrivateLinkServiceConnections"][0]["properties"]["requestMessage"] == "line 4, please"
    assert "privateLinkServiceConnections" not in properties


def test_an_ip_config_needs_its_address(management: FakeManagement, run: Run) -> None:
    done = run(
        *("network", "private-endpoint", "create", "-n", "plant", "--connection-name", "c"),
        *("--private-connection-resource-id", HUB_ID, "--ip-config", "name=plant"),
    )
    assert done.code == 1
    assert "private-ip-address" in done.err


@pytest.mark.parametrize(("word", "status"), [("approve", "Approved"), ("reject", "Rejected")])
@pytest.mark.parametrize("by_id", [True, False])
def test_connections_are_decided(management: FakeManagement, run: Run, word: str, status: str, by_id: bool) -> None:
    management.on("GET", CONNECTION, _connection("Pending"))
    management.on("PUT", CONNECTION, _connection(status))
    named = ["--id", CONNECTION] if by_id else ["--name", "plant", "--resource-name", "hub"]
    done = run("network", "private-endpoint-connection", word, *named, "--description", "checked")
    state = json.loads(done.out)["properties"]["privateLinkServiceConnectionState"]
    assert state["status"] == status
    assert management.last.body["properties"]["privateLinkServiceConnectionState"] == {
        "status": status,
        "description": "checked",
        "actionsRequired": "None",
    }


def test_connections_are_listed_as_a_bare_array(management: FakeManagement, run: Run) -> None:
    management.on("GET", f"{HUB_ID}/privateEndpointConnections", [_connection("Approved")])
    for named in (["--id", HUB_ID], ["--name", "hub", "--type", "Microsoft.Devices/IotHubs"], []):
        assert len(json.loads(run("network", "private-endpoint-connection", "list", *named).out)) == 1


def test_what_can_be_connected_is_listed(management: FakeManagement, run: Run) -> None:
    management.on("GET", f"{HUB_ID}/privateLinkResources", {"value": [{"name": "iotHub"}]})
    types = (
        HUB_ID.rpartition("/Microsoft.Devices")[0] + "/Microsoft.Network/locations/local/availablePrivateEndpointTypes"
    )
    management.on("GET", types, {"value": [{"resourceName": "Microsoft.Devices/IotHubs"}]})

    assert run("network", "private-link-resource", "list", "--query", "[].name", "-o", "tsv").out == "iotHub\n"
    shown = run("network", "private-endpoint", "list-types", "--query", "[0].resourceName", "-o", "tsv")
    assert shown.out == "Microsoft.Devices/IotHubs\n"


def test_what_a_hub_counts_is_shown(management: FakeManagement, run: Run) -> None:
    management.on("GET", f"{HUB_ID}/IotHubStats", {"totalDeviceCount": 3})
    for view in ("quotaMetrics", "skus"):
        management.on("GET", f"{HUB_ID}/{view}", {"value": [{"view": view}]})

    assert json.loads(run("iot", "hub", "show-stats", "-n", "hub").out) == {"totalDeviceCount": 3}
    assert json.loads(run("iot", "hub", "show-quota-metrics").out) == [{"view": "quotaMetrics"}]
    assert json.loads(run("iot", "hub", "list-skus").out) == [{"view": "skus"}]


def test_another_kind_of_resource_has_no_connections_here(management: FakeManagement, run: Run) -> None:
    done = run("network", "private-endpoint-connection", "list", "--name", "a", "--type", "Microsoft.Storage/x")
    assert done.code == 1


def _connection(status: str) -> dict[str, Any]:
    state = {"status": status, "description": "", "actionsRequired": "None"}
    return {"id": CONNECTION, "properties": {"privateLinkServiceConnectionState": state}}
