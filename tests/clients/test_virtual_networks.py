"""Declared networks decide who uses a private endpoint: by address, at once, and the owner reads why."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from clients.devices import key_of, make_device
from clients.raw import ACCEPTED, NOT_AUTHORIZED, RawMqtt
from clients.sas import sas_token
from support.server import RunningHub

OFFICE, FAR = "127.240.0.0/16", "127.241.0.0/16"
"""Ranges of networks beside the plant's: no test's own address is in them."""
FROM_OFFICE, FROM_FAR, FROM_SITE = "127.240.0.9", "127.241.0.9", "127.242.0.9"
CUT_SECONDS = 1.0


@dataclass(frozen=True)
class Plant:
    """A network with an endpoint in it, whose address was chosen from the subnet, and where a neighbour comes from."""

    hub: RunningHub
    address: str
    neighbour: str
    device_id: str

    def sign_in(self, source: str) -> bytes:
        with RawMqtt(self.hub, self.address, source=source) as connection:
            return self.connect(connection)

    def connect(self, connection: RawMqtt) -> bytes:
        hub, device_id = self.hub, self.device_id
        token = sas_token(f"{hub.host_name}/devices/{device_id}", key_of(hub.device_connection_string(device_id)))
        return connection.connect(device_id, f"{hub.host_name}/{device_id}/?api-version=2021-04-12", token)

    def network(self, *words: str) -> None:
        self.hub.isthmus("network", *words)


@pytest.fixture
def plant(hub: RunningHub, loopback_address: str, device_id: str) -> Iterator[Plant]:
    """Everything declared is gone afterwards."""
    make_device(hub, device_id)
    _, second, third, _ = loopback_address.split(".")
    hub.isthmus("network", "vnet", "create", "-n", "plant", "--address-prefixes", f"127.{second}.0.0/16")
    line = f"127.{second}.{third}.0/24"
    hub.isthmus("network", "vnet", "subnet", "create", "--vnet-name", "plant", "-n", "line", "--address-prefix", line)
    made = hub.json(
        *("network", "private-endpoint", "create", "-n", "line", "--connection-name", "line", "--group-id", "iotHub"),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"]),
        *("--vnet-name", "plant", "--subnet", "line"),
    )
    address = made["properties"]["customDnsConfigs"][0]["ipAddresses"][0]
    yield Plant(hub, address, f"127.{second}.{(int(third) + 1) % 256}.7", device_id)
    hub.isthmus("network", "private-endpoint", "delete", "-n", "line")
    for gateway in hub.json("network", "local-gateway", "list"):
        hub.isthmus("network", "local-gateway", "delete", "-n", gateway["name"])
    for network in hub.json("network", "vnet", "list"):
        hub.isthmus("network", "vnet", "delete", "-n", network["name"])


def test_an_endpoint_serves_its_network_and_says_why_nobody_else(plant: Plant) -> None:
    assert plant.sign_in(plant.neighbour) == ACCEPTED
    assert plant.sign_in(FROM_OFFICE) == NOT_AUTHORIZED
    refusal = plant.hub.json("explain", "--address", FROM_OFFICE)[0]
    assert (refusal["hop"], refusal["rule"], refusal["plane"]) == ("network", "network.not-in-network", "mqtt")
    assert refusal["door"].startswith("private:line")
    assert f"{FROM_OFFICE} is in no declared network" in refusal["value"]
    assert "isthmus network vnet peering create" in refusal["remedy"]


def test_peers_come_in_and_their_peers_do_not(plant: Plant) -> None:
    for name, prefix in (("office", OFFICE), ("far", FAR)):
        plant.network("vnet", "create", "-n", name, "--address-prefixes", prefix)
    peer(plant, "plant", "office")
    assert plant.sign_in(FROM_OFFICE) == NOT_AUTHORIZED
    peer(plant, "office", "plant")
    peer(plant, "office", "far")
    peer(plant, "far", "office")
    assert plant.sign_in(FROM_OFFICE) == ACCEPTED
    assert plant.sign_in(FROM_FAR) == NOT_AUTHORIZED
    assert (
        "not peered with plant, only both with office" in plant.hub.json("explain", "--address", FROM_FAR)[0]["value"]
    )
    with RawMqtt(plant.hub, plant.address, source=FROM_OFFICE) as device:
        assert plant.connect(device) == ACCEPTED
        plant.network("vnet", "peering", "delete", "--vnet-name", "office", "-n", "office-plant")
        assert_cut(device)


def test_a_site_behind_the_gateway_comes_in_until_it_is_taken_back(plant: Plant) -> None:
    assert plant.sign_in(FROM_SITE) == NOT_AUTHORIZED
    plant.network(
        *("local-gateway", "create", "-n", "works", "--vnet-name", "plant", "--local-address-prefixes"),
        "127.242.0.0/16",
    )
    with RawMqtt(plant.hub, plant.address, source=plant.neighbour) as near:
        assert plant.connect(near) == ACCEPTED
    with RawMqtt(plant.hub, plant.address, source=FROM_SITE) as device:
        assert plant.connect(device) == ACCEPTED
        plant.network("local-gateway", "delete", "-n", "works")
        assert_cut(device)


def test_a_restart_keeps_networks_and_the_chosen_address(plant: Plant) -> None:
    plant.hub.restart()
    shown = plant.hub.json("network", "private-endpoint", "show", "-n", "line")
    assert shown["properties"]["customDnsConfigs"][0]["ipAddresses"] == [plant.address]
    assert plant.sign_in(plant.neighbour) == ACCEPTED
    assert plant.sign_in(FROM_OFFICE) == NOT_AUTHORIZED


def test_a_subnet_with_an_endpoint_stays(plant: Plant) -> None:
    for words in (("subnet", "delete", "--vnet-name", "plant", "-n", "line"), ("delete", "-n", "plant")):
        assert "privateEndpoints/line" in plant.hub.isthmus("network", "vnet", *words, code=1)
    assert plant.hub.json("network", "vnet", "subnet", "show", "--vnet-name", "plant", "-n", "line")["privateEndpoints"]


def test_an_address_that_this_machine_lacks_is_told_and_nothing_is_kept(hub: RunningHub) -> None:
    hub.isthmus("network", "vnet", "create", "-n", "lab", "--address-prefix", "203.0.113.0/24", "--subnet-name", "lab")
    said = hub.isthmus(
        *("network", "private-endpoint", "create", "-n", "lab", "--connection-name", "lab", "--group-id", "iotHub"),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"]),
        *("--vnet-name", "lab", "--subnet", "lab"),
        code=1,
    )
    assert "203.0.113.4 is not an address of this machine: add it to an interface first" in said
    assert hub.json("network", "private-endpoint", "list") == []
    hub.isthmus("network", "vnet", "delete", "-n", "lab")


@pytest.mark.parametrize("presence", ["bind", "netns:plant", "connector:plant"])
def test_a_presence_is_declared_and_shown(hub: RunningHub, presence: str) -> None:
    hub.isthmus("network", "vnet", "create", "-n", "later", "--presence", presence)
    assert hub.json("network", "vnet", "show", "-n", "later")["presence"] == presence
    hub.isthmus("network", "vnet", "delete", "-n", "later")


def test_an_unknown_presence_is_refused(hub: RunningHub) -> None:
    assert "presence" in hub.isthmus("network", "vnet", "create", "-n", "later", "--presence", "tunnel:x", code=1)
    assert hub.json("network", "vnet", "list") == []


def peer(plant: Plant, one: str, other: str) -> None:
    plant.network(
        *("vnet", "peering", "create", "--vnet-name", one, "-n", f"{one}-{other}", "--remote-vnet", other),
        "--allow-vnet-access",
    )


def assert_cut(device: RawMqtt) -> None:
    began = time.monotonic()
    assert device.read(1) == b""
    assert time.monotonic() - began < CUT_SECONDS
