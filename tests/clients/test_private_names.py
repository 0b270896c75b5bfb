"""The hub's usual name inside networks: stock resolvers and the stock device SDK in real network namespaces."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import pytest
from azure.iot.device.exceptions import ClientError, CredentialError

from clients.devices import client_of, make_device
from clients.names import resolved
from house.source import ROOT
from names import corefile
from support.connector import RunningConnector, plant
from support.listening import listening
from support.netns import NEEDS_ROOT, Namespace, join, may_make_namespaces, namespaces
from support.server import RunningHub

HOST = "hub.isthmus.test"
PRIVATE = f"hub.privatelink.{HOST.partition('.')[2]}."
PROGRAM = ROOT / "tests" / "clients" / "naming_client.py"
CLIENT_SECONDS_MAX = 90.0


@pytest.fixture
def named(make_hub: Callable[..., RunningHub]) -> RunningHub:
    """A hub with a name of its own."""
    return make_hub(hostname=HOST)


@pytest.fixture
def customers() -> Iterator[list[tuple[Namespace, Namespace]]]:
    """Two customers with the same ranges: each has a plant's namespace and a machine in it."""
    if not may_make_namespaces():
        pytest.skip(NEEDS_ROOT)
    with namespaces(4) as made:
        pairs = [(made[0], made[1]), (made[2], made[3])]
        for plant, machine in pairs:
            join(plant, "10.1.0.1/24", machine, "10.1.0.77/24")
        yield pairs


def make_network(hub: RunningHub, name: str, presence: str, prefix: str) -> None:
    hub.isthmus(
        *("network", "vnet", "create", "-n", name, "--presence", presence, "--address-prefixes", prefix),
        *("--subnet-name", "line", "--subnet-prefixes", prefix),
    )


def make_endpoint(hub: RunningHub, network: str, address: str) -> None:
    target = hub.json("iot", "hub", "show")["id"]
    hub.isthmus(
        *("network", "private-endpoint", "create", "-n", f"{network}-pe", "--connection-name", network),
        *("--private-connection-resource-id", target, "--group-id", "iotHub"),
        *("--vnet-name", network, "--subnet", "line", "--ip-config", f"private-ip-address={address}"),
    )


def ask_from(machine: Namespace, server: str, **task: str) -> Any:
    """What a client in a namespace is told whose resolver asks `server`."""
    folder = Path("/etc/netns", machine.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "resolv.conf").write_text(f"nameserver {server}\n")
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    done = subprocess.run(
        machine.inside([sys.executable, PROGRAM]),
        input=json.dumps({"host": HOST, "other": "other.isthmus.test"} | task),
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_clients_of_two_networks_use_the_usual_name(
    named: RunningHub, customers: list[tuple[Namespace, Namespace]]
) -> None:
    make_device(named, "press")
    for number, (place, machine) in enumerate(customers):
        address = f"10.1.0.{5 + number}"
        make_network(named, f"plant{number}", f"netns:{place.name}", "10.1.0.0/24")
        make_endpoint(named, f"plant{number}", address)
        (server,) = named.json("network", "vnet", "show", "-n", f"plant{number}")["dhcpOptions"]["dnsServers"]
        assert server == address

        said = ask_from(machine, server, connection_string=named.device_connection_string("press"), ca=str(named.ca))

        assert said == {
            "glibc": [address],
            "udp": [PRIVATE, address],
            "tcp": [PRIVATE, address],
            "other": "NXDOMAIN",
            "sent": True,
        }
    doors = {entry["door"] for entry in named.json("audit", "list", "--device-id", "press", "--kind", "allowed")}
    assert {door.partition(".")[0] for door in doors} == {"private:plant0-pe", "private:plant1-pe"}


def test_a_name_comes_and_goes_with_its_endpoint(
    named: RunningHub, customers: list[tuple[Namespace, Namespace]]
) -> None:
    place, machine = customers[0]
    make_network(named, "plant", f"netns:{place.name}", "10.1.0.0/24")
    make_endpoint(named, "plant", "10.1.0.5")
    assert ask_from(machine, "10.1.0.5")["glibc"] == ["10.1.0.5"]

    named.restart()
    assert ask_from(machine, "10.1.0.5")["udp"] == [PRIVATE, "10.1.0.5"]

    assert "10.1.0.5:53" in place.run("ss", "-lntuH")

    named.isthmus("network", "private-endpoint", "delete", "-n", "plant-pe")
    assert "10.1.0.5:" not in place.run("ss", "-lntuH")


def test_a_connector_serves_the_names_of_its_network(named: RunningHub, loopback_address: str, tmp_path: Path) -> None:
    connector = RunningConnector(tmp_path / "connector")
    try:
        connector.start(plant(named, loopback_address))
        assert named.json("network", "vnet", "show", "-n", "plant")["dhcpOptions"]["dnsServers"] == [loopback_address]
        assert ("udp", loopback_address, 53) in listening(connector.pid)
        assert answers(loopback_address, HOST) == [PRIVATE, loopback_address]

        named.isthmus("network", "private-dns", "zone", "create", "-n", "plant.test")
        named.isthmus(
            *("network", "private-dns", "link", "vnet", "create", "-z", "plant.test", "-n", "here", "-v", "plant"),
            *("-e", "false"),
        )
        named.isthmus(
            *("network", "private-dns", "record-set", "a", "add-record", "-z", "plant.test", "-n", "press"),
            *("-a", "10.9.0.1"),
        )
        assert answers(loopback_address, "press.plant.test") == ["10.9.0.1"]
        connector.stop()
    finally:
        connector.kill()


def test_hosts_lines_serve_a_machine_with_a_fixed_resolver(
    named: RunningHub, customers: list[tuple[Namespace, Namespace]]
) -> None:
    place, machine = customers[0]
    make_network(named, "plant", f"netns:{place.name}", "10.1.0.0/24")
    make_endpoint(named, "plant", "10.1.0.5")
    folder = Path("/etc/netns", machine.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts").write_text(export(named, "hosts"))

    assert machine.run("getent", "ahostsv4", HOST).split()[0] == "10.1.0.5"


def test_zones_and_groups_in_azs_words(named: RunningHub, loopback_address: str) -> None:
    prefix = loopback_address.rpartition(".")[0] + ".0/24"
    make_network(named, "plant", "bind", prefix)
    make_endpoint(named, "plant", loopback_address)
    dns_words = ("network", "private-dns")
    for zone in ("plant.test", "privatelink.isthmus.test"):
        named.isthmus(*dns_words, "zone", "create", "-n", zone)
        named.isthmus(*(*dns_words, "link", "vnet", "create", "-z", zone, "-n", "here", "-v", "plant", "-e", "false"))
    in_zone = ("-z", "plant.test", "-n")
    named.isthmus(*dns_words, "record-set", "a", "add-record", *in_zone, "press", "-a", "10.9.0.1")
    named.isthmus(*dns_words, "record-set", "a", "add-record", *in_zone, "press", "-a", "10.9.0.2")
    named.isthmus(*dns_words, "record-set", "a", "remove-record", *in_zone, "press", "-a", "10.9.0.1")
    named.isthmus(*dns_words, "record-set", "cname", "set-record", *in_zone, "alias", "-c", HOST)
    named.isthmus(*dns_words, "record-set", "txt", "add-record", *in_zone, "note", "-v", "one", "two")
    named.isthmus(
        *("network", "private-endpoint", "dns-zone-group", "create", "--endpoint-name", "plant-pe", "-n", "default"),
        *("--private-dns-zone", "privatelink.isthmus.test", "--zone-name", "hub"),
    )

    assert answers(loopback_address, "press.plant.test") == ["10.9.0.2"]
    assert answers(loopback_address, "alias.plant.test") == [f"{HOST}.", PRIVATE, loopback_address]
    assert answers(loopback_address, "note.plant.test", "TXT") == ['"onetwo"']
    shown = named.json(*dns_words, "record-set", "a", "show", "-z", "privatelink.isthmus.test", "-n", "hub")
    assert shown["aRecords"] == [{"ipv4Address": loopback_address}]
    sets = {(each["name"], each["type"]) for each in named.json(*dns_words, "record-set", "list", "-z", "plant.test")}
    assert ("press", "Microsoft.Network/privateDnsZones/A") in sets
    assert named.isthmus(*dns_words, "zone", "delete", "-n", "plant.test", code=1).find("is in use by the link") > 0


def test_exports_are_of_what_is_served(named: RunningHub, loopback_address: str) -> None:
    make_network(named, "plant", "bind", loopback_address.rpartition(".")[0] + ".0/24")
    make_endpoint(named, "plant", loopback_address)

    assert export(named, "hosts") == f"{loopback_address} {HOST} {PRIVATE.rstrip('.')}\n"
    assert f"host-record={PRIVATE.rstrip('.')},{loopback_address},10\n" in export(named, "dnsmasq")
    assert export(named, "zone").startswith("$ORIGIN isthmus.test.\n")
    found = corefile.answer(corefile.parse(export(named, "coredns")), HOST, "A")
    assert found is not None
    assert found[1][-1].endswith(f"IN A {loopback_address}")


def test_who_resolved_the_public_address_is_told_the_private_one(named: RunningHub, loopback_address: str) -> None:
    make_network(named, "plant", "bind", "127.0.0.0/8")
    make_endpoint(named, "plant", loopback_address)
    make_device(named, "press")
    named.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")
    device = client_of(named, named.device_connection_string("press"), connection_retry=False)

    # What a DNS server makes of the name that knows nothing of the plant.
    with resolved(HOST, named.address), pytest.raises((CredentialError, ClientError)):
        device.connect()
    device.shutdown()

    (told, *_) = named.json("explain", "--device-id", "press")
    assert told["rule"] == "network.public-access"
    assert "is in plant and resolved the public address: let it ask DNS server" in told["remedy"]
    assert f"{loopback_address}, where {HOST} is {loopback_address}" in told["remedy"]


def export(hub: RunningHub, form: str) -> str:
    return hub.isthmus("network", "private-dns", "export", "--vnet-name", "plant", "--format", form)


def answers(server: str, name: str, kind: str = "A") -> list[str]:
    said = dns.query.udp(dns.message.make_query(name, kind), server, timeout=10)
    return [record.to_text() for each in said.answer for record in each]
