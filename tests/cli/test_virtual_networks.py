"""`network vnet`, subnets, peerings and local gateways: what they send, and what they print as `az` does."""

import json
from typing import Any

import pytest

from cli.conftest import Run
from cli.management import HUB_ID, FakeManagement

GROUP = HUB_ID.partition("/Microsoft.Devices")[0]
NETWORKS = f"{GROUP}/Microsoft.Network/virtualNetworks"
PLANT = f"{NETWORKS}/plant"
LINE = f"{PLANT}/subnets/line"
SIDE = f"{PLANT}/virtualNetworkPeerings/there"
WORKS = f"{GROUP}/Microsoft.Network/localNetworkGateways/works"


def subnet(prefix: str = "10.20.1.0/24") -> dict[str, Any]:
    return {"id": LINE, "name": "line", "properties": {"addressPrefix": prefix, "provisioningState": "Succeeded"}}


def side(**members: Any) -> dict[str, Any]:
    properties = {"allowVirtualNetworkAccess": True, "peeringState": "Initiated", "useRemoteGateways": False}
    return {"id": SIDE, "name": "there", "properties": properties | members}


def network() -> dict[str, Any]:
    properties = {
        "addressSpace": {"addressPrefixes": ["10.20.0.0/16"]},
        "presence": "bind",
        "subnets": [subnet()],
        "virtualNetworkPeerings": [side()],
    }
    return {
        "id": PLANT,
        "name": "plant",
        "location": "local",
        "tags": {},
        "etag": 'W/"AAAA="',
        "properties": properties,
    }


@pytest.mark.parametrize(
    ("flags", "prefixes", "subnets"),
    [
        ([], ["10.0.0.0/16"], None),
        (["--address-prefixes", "10.20.0.0/16", "10.21.0.0/16"], ["10.20.0.0/16", "10.21.0.0/16"], None),
        (["--address-prefixes", "10.20.0.0/16", "--subnet-name", "line"], ["10.20.0.0/16"], ["10.20.0.0/24"]),
        (["--address-prefix", "10.20.0.0/28", "--subnet-name", "line"], ["10.20.0.0/28"], ["10.20.0.0/28"]),
        (["--address-prefix", "fd00::/48", "--subnet-name", "line"], ["fd00::/48"], ["fd00::/64"]),
        (["--subnet-name", "line", "--subnet-prefixes", "10.0.9.0/24"], ["10.0.0.0/16"], ["10.0.9.0/24"]),
    ],
)
def test_create_sends_ranges_as_az_does(
    management: FakeManagement, run: Run, flags: list[str], prefixes: list[str], subnets: list[str] | None
) -> None:
    management.on("PUT", PLANT, network())
    done = run("network", "vnet", "create", "-n", "plant", *flags, "--tags", "site=north")
    assert json.loads(done.out)["newVNet"]["name"] == "plant"
    assert management.last.body["tags"] == {"site": "north"}
    properties = management.last.body["properties"]
    assert properties["addressSpace"] == {"addressPrefixes": prefixes}
    made = [{"name": "line", "properties": {"addressPrefixes": subnets}}] if subnets else None
    assert properties.get("subnets") == made


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--subnet-prefixes", "10.0.0.0/24"], "--subnet-name"),
        (["--address-prefixes", "ten", "--subnet-name", "a"], "ten"),
    ],
)
def test_create_tells_what_is_missing(management: FakeManagement, run: Run, flags: list[str], said: str) -> None:
    done = run("network", "vnet", "create", "-n", "plant", *flags)
    assert done.code == 1
    assert said in done.err


def test_presence_is_sent_as_said(management: FakeManagement, run: Run) -> None:
    management.on("PUT", PLANT, network())
    run("network", "vnet", "create", "-n", "plant", "--presence", "netns:plant")
    assert management.last.body["properties"]["presence"] == "netns:plant"


def test_show_and_list_print_flat(management: FakeManagement, run: Run) -> None:
    management.on("GET", PLANT, network())
    management.on("GET", NETWORKS, {"value": [network()]})
    shown = json.loads(run("network", "vnet", "show", "-n", "plant").out)
    assert shown["addressSpace"] == {"addressPrefixes": ["10.20.0.0/16"]}
    assert shown["resourceGroup"] == "isthmus"
    assert shown["subnets"][0]["addressPrefix"] == "10.20.1.0/24"
    assert "properties" not in json.dumps(shown)
    assert json.loads(run("network", "vnet", "list").out) == [shown]


def test_update_sends_the_whole_network_and_its_etag(management: FakeManagement, run: Run) -> None:
    management.on("GET", PLANT, network())
    management.on("PUT", PLANT, network())
    run(
        *("network", "vnet", "update", "-n", "plant", "--address-prefixes", "10.0.0.0/8", "--presence", "bind"),
        *("--set", "tags.site=north", "--add", "subnets", "name=new", "addressPrefix=10.9.0.0/24"),
    )
    assert management.last.headers["if-match"] == '"AAAA="'
    body = management.last.body
    assert (body["tags"], body["location"]) == ({"site": "north"}, "local")
    assert body["properties"]["addressSpace"] == {"addressPrefixes": ["10.0.0.0/8"]}
    assert [each["properties"]["addressPrefix"] for each in body["properties"]["subnets"]] == [
        "10.20.1.0/24",
        "10.9.0.0/24",
    ]


def test_subnets(management: FakeManagement, run: Run) -> None:
    for method in ("PUT", "GET"):
        management.on(method, LINE, subnet())
    management.on("GET", f"{PLANT}/subnets", {"value": [subnet()]})
    management.on("DELETE", LINE, status=204)
    named = ("--vnet-name", "plant", "-n", "line")
    made = json.loads(run("network", "vnet", "subnet", "create", *named, "--address-prefixes", "10.20.1.0/24").out)
    assert made["addressPrefix"] == "10.20.1.0/24"
    assert management.last.body == {"properties": {"addressPrefixes": ["10.20.1.0/24"]}}
    assert json.loads(run("network", "vnet", "subnet", "show", *named).out) == made
    assert json.loads(run("network", "vnet", "subnet", "list", "--vnet-name", "plant").out) == [made]
    run("network", "vnet", "subnet", "update", *named, "--address-prefixes", "10.20.2.0/24")
    assert management.last.body["properties"]["addressPrefixes"] == ["10.20.2.0/24"]
    assert "addressPrefix" not in management.last.body["properties"]
    run("network", "vnet", "subnet", "update", *named, "--set", "addressPrefix=10.20.3.0/24")
    assert management.last.body["properties"]["addressPrefix"] == "10.20.3.0/24"
    assert run("network", "vnet", "subnet", "delete", *named).code == 0


@pytest.mark.parametrize("remote", ["office", f"{NETWORKS}/office"])
def test_peerings_are_made(management: FakeManagement, run: Run, remote: str) -> None:
    management.on("PUT", SIDE, side())
    named = ("--vnet-name", "plant", "-n", "there", "--remote-vnet", remote)
    done = run("network", "vnet", "peering", "create", *named, "--allow-vnet-access", "--allow-forwarded-traffic", "1")
    assert json.loads(done.out)["peeringState"] == "Initiated"
    assert management.last.body["properties"] == {
        "remoteVirtualNetwork": {"id": f"{NETWORKS}/office"},
        "allowVirtualNetworkAccess": True,
        "allowForwardedTraffic": True,
        "allowGatewayTransit": False,
        "useRemoteGateways": False,
    }


def test_peerings_are_read_changed_and_deleted(management: FakeManagement, run: Run) -> None:
    for method in ("PUT", "GET"):
        management.on(method, SIDE, side())
    management.on("GET", f"{PLANT}/virtualNetworkPeerings", {"value": [side()]})
    management.on("DELETE", SIDE, status=204)
    named = ("--vnet-name", "plant", "-n", "there")
    shown = json.loads(run("network", "vnet", "peering", "show", *named).out)
    assert json.loads(run("network", "vnet", "peering", "list", "--vnet-name", "plant").out) == [shown]
    for change in (("--use-remote-gateways", "true"), ("--set", "useRemoteGateways=true")):
        run("network", "vnet", "peering", "update", *named, *change)
        assert management.last.body["properties"]["useRemoteGateways"] is True
        assert management.last.body["properties"]["allowVirtualNetworkAccess"] is True
    run("network", "vnet", "peering", "update", *named, "--allow-vnet-access", "false")
    assert management.last.body["properties"]["allowVirtualNetworkAccess"] is False
    assert run("network", "vnet", "peering", "delete", *named).code == 0


def test_local_gateways(management: FakeManagement, run: Run) -> None:
    made = {"id": WORKS, "name": "works", "properties": {"gatewayIpAddress": "203.0.113.1"}}
    for method in ("PUT", "GET"):
        management.on(method, WORKS, made)
    management.on("GET", WORKS.rpartition("/")[0], {"value": [made]})
    management.on("DELETE", WORKS, status=204)
    run(
        *("network", "local-gateway", "create", "-n", "works", "--vnet-name", "plant"),
        *("--local-address-prefixes", "192.168.0.0/16", "172.16.0.0/12", "--gateway-ip-address", "203.0.113.1"),
    )
    assert management.last.body["properties"] == {
        "localNetworkAddressSpace": {"addressPrefixes": ["192.168.0.0/16", "172.16.0.0/12"]},
        "virtualNetwork": {"id": PLANT},
        "gatewayIpAddress": "203.0.113.1",
    }
    shown = json.loads(run("network", "local-gateway", "show", "-n", "works").out)
    assert shown["gatewayIpAddress"] == "203.0.113.1"
    assert json.loads(run("network", "local-gateway", "list").out) == [shown]
    assert run("network", "local-gateway", "delete", "-n", "works").code == 0


def test_a_network_is_deleted(management: FakeManagement, run: Run) -> None:
    management.on("DELETE", PLANT, status=204)
    assert run("network", "vnet", "delete", "-n", "plant").code == 0
