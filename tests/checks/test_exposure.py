"""Everything an installation listens at stands in the exposure matrix, in every process and network namespace.

What listens is asked of the kernel here once more, by other means than the product's: `ip netns exec` and `/proc`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from support.connector import RunningConnector, plant
from support.listening import listening
from support.namespace_helper import RunningHelper, as_nobody, may_run_as_nobody, own
from support.netns import NEEDS_ROOT, Namespace, join, may_make_namespaces, namespaces
from support.server import RunningHub

NEEDS = pytest.mark.skipif(not may_make_namespaces(), reason=NEEDS_ROOT)
SETTINGS = """
[metrics]
address = "{address}"
port = 9464
[management]
port = 9465
"""
ROGUE = """
import os, socket, sys
rogue = socket.create_server((sys.argv[1], int(sys.argv[2])))
rogue.set_inheritable(True)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Starts a command with a listening socket that it does not know of."""
ROGUE_PORT = 7_777

Row = dict[str, Any]
Found = tuple[str, str, str, int]
"""Place, protocol, address and port."""


@pytest.fixture
def hub(tmp_path: Path, loopback_addresses: Callable[[], str]) -> Iterator[RunningHub]:
    address = loopback_addresses()
    running = RunningHub(
        tmp_path / "hub", address, hostname="hub.isthmus.test", settings=SETTINGS.format(address=address)
    )
    try:
        running.start()
        yield running
        running.stop()
    finally:
        running.kill()


def test_every_socket_of_a_hub_is_a_row_and_answers_as_it_should(hub: RunningHub, loopback_address: str) -> None:
    hub.isthmus(*endpoint(hub, "bound", loopback_address))
    rows = matrix(hub)
    assert {place(row) for row in rows} == {("", *each) for each in listening(hub.pid)}
    planes = {(row["plane"], row["door"].partition(":")[0]): row["observed"] for row in rows}
    assert planes == {
        ("mqtt", "public"): "stranger CONNACK 5 (auth.malformed)",
        ("amqp", "public"): "stranger SASL auth, key SASL ok",
        ("https", "public"): "stranger 401, key 200",
        ("mqtt", "private"): "stranger CONNACK 5 (auth.malformed)",
        ("amqp", "private"): "stranger SASL auth, key SASL ok",
        ("https", "private"): "stranger 401, key 200",
        ("names", "private"): "answers NOERROR",
        ("metrics", "public"): "stranger 200",
        ("management", "management"): "stranger 401",
        ("management", "local"): f"mode 0600, user {os.getuid()}",
    }


def test_a_closed_public_side_refuses_the_key_too_on_every_plane(hub: RunningHub) -> None:
    hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled", "--force")
    observed = {row["plane"]: row["observed"] for row in matrix(hub) if row["hub"]}
    assert observed == {
        "mqtt": "stranger CONNACK 5 (network.public-access)",
        "amqp": "stranger SASL auth, key SASL auth",
        "https": "stranger 401, key 401",
    }


def test_a_pending_endpoint_lets_nobody_in(hub: RunningHub, loopback_address: str) -> None:
    hub.isthmus(*endpoint(hub, "asked", loopback_address, "--manual-request", "true"))
    private = [row for row in matrix(hub) if row["hub"] and row["door"].startswith("private:")]
    assert {row["expected"] for row in private} == {"refuses all: network.private-endpoint-pending"}
    assert {row["who"] for row in private} == {"nobody: Pending"}


def test_a_socket_that_the_hub_does_not_know_of_is_found(tmp_path: Path, loopback_addresses: Callable[[], str]) -> None:
    address, elsewhere = loopback_addresses(), loopback_addresses()
    under = (sys.executable, "-c", ROGUE, elsewhere, str(ROGUE_PORT))
    running = RunningHub(tmp_path / "other", address, under=under)
    try:
        running.start()
        different = [row for row in matrix(running, code=1) if row["verdict"] != "as expected"]
        assert [place(row) for row in different] == [("", "tcp", elsewhere, ROGUE_PORT)], different
        assert (different[0]["expected"], different[0]["observed"]) == ("nothing", "accepts connections")
        assert different[0]["process"] == f"process {running.pid}"
    finally:
        running.kill()


@NEEDS
def test_every_socket_of_all_processes_and_namespaces_is_in_the_matrix(
    hub: RunningHub, tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    with ExitStack() as stack:
        first, second, *clients = stack.enter_context(namespaces(4))
        for each, client in zip((first, second), clients, strict=True):
            give_network(hub, each, client)
        connector = RunningConnector(tmp_path / "connector")
        stack.callback(connector.kill)
        far = loopback_addresses()
        connector.start(plant(hub, far))
        hub.isthmus(*endpoint(hub, "bound", loopback_addresses()))

        rows = matrix(hub)

        here = {found for pid in family(hub.pid) for found in everywhere(pid, [first, second])}
        there = {("connector:plant", *found) for found in listening(connector.pid)}
        assert {place(row) for row in rows} == here | there
        places = {row["place"] for row in rows}
        assert places == {"", f"netns:{first.name}", f"netns:{second.name}", "connector:plant"}
        assert {row["plane"] for row in rows} == {"mqtt", "amqp", "https", "names", "metrics", "management", "link"}
        (link,) = {row["observed"] for row in rows if row["plane"] == "link"}
        assert link == "TLS ends: tlsv13 alert certificate required"
        apart = {row["observed"] for row in rows if row["place"].startswith("netns:")}
        assert apart == {"unreachable: invalid argument", "listens; not asked from here"}, (
            "no way leads there from here"
        )


@NEEDS
def test_a_socket_in_a_namespace_that_the_hub_does_not_know_of_is_found(
    tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    """The hub lives in one namespace, and brings a socket of another."""
    with namespaces(1) as (elsewhere,):
        under = elsewhere.inside([sys.executable, "-c", ROGUE, "127.0.0.1", str(ROGUE_PORT)])
        home = f"--net=/proc/{os.getpid()}/ns/net"
        running = RunningHub(tmp_path / "other", loopback_addresses(), under=(*under, which("nsenter"), home))
        try:
            running.start()
            different = [row for row in matrix(running, code=1) if row["verdict"] != "as expected"]
            assert [place(row) for row in different] == [(f"netns:{elsewhere.name}", "tcp", "127.0.0.1", ROGUE_PORT)], (
                different
            )
        finally:
            running.kill()


@NEEDS
def test_a_helper_of_its_own_is_a_row_and_its_sockets_are_looked_for(loopback_address: str) -> None:
    if not may_run_as_nobody():
        pytest.skip("the user nobody cannot read this checkout")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="isthmus-test-")))
        folder.chmod(0o755)
        plant_network, client = stack.enter_context(namespaces(2))
        helper = RunningHelper(folder, "--namespace", plant_network.name, "--address", "10.1.0.0/24")
        helper.start()
        stack.callback(helper.kill)
        home = folder / "nobody"
        home.mkdir()
        own(home)
        settings = f'[network]\nhelper = "{helper.socket}"\n'
        running = RunningHub(home, loopback_address, hostname="hub.isthmus.test", settings=settings, under=as_nobody())
        stack.callback(running.kill)
        running.start()
        give_network(running, plant_network, client)
        rows = matrix(running)
        found = everywhere(running.pid, [plant_network]) | everywhere(helper.pid, [plant_network])
        assert {place(row) for row in rows} == found
        (row,) = [row for row in rows if row["process"] == "namespace helper"]
        assert (row["address"], row["who"]) == (str(helper.socket), "the users it was told")
        assert row["observed"] == "mode 0666, user 0"


def matrix(hub: RunningHub, *, code: int = 0) -> list[Row]:
    done = hub.run("check", "exposure", "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    rows: list[Row] = json.loads(done.stdout)
    return rows


def place(row: Row) -> Found:
    return row["place"], row["protocol"], row["address"], row["port"]


def endpoint(hub: RunningHub, name: str, address: str, *more: str) -> tuple[str, ...]:
    """The command that makes a private endpoint at an address."""
    return (
        *("network", "private-endpoint", "create", "-n", name, "--connection-name", name, "--group-id", "iotHub"),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"]),
        *("--ip-config", f"name={name}", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={address}"),
        *more,
    )


def give_network(hub: RunningHub, namespace: Namespace, client: Namespace) -> None:
    """A network in a namespace, with an endpoint; all customers have the same range."""
    join(namespace, "10.1.0.1/24", client, "10.1.0.2/24")
    hub.isthmus(
        *("network", "vnet", "create", "-n", namespace.name, "--presence", f"netns:{namespace.name}"),
        *("--address-prefixes", "10.1.0.0/24", "--subnet-name", "line", "--subnet-prefixes", "10.1.0.0/24"),
    )
    subnet = ("--vnet-name", namespace.name, "--subnet", "line")
    hub.isthmus(*endpoint(hub, namespace.name, "10.1.0.5", *subnet))


def everywhere(pid: int, others: list[Namespace]) -> set[Found]:
    """What a process listens at, here and in other namespaces."""
    found = {("", *each) for each in listening(pid)}
    inodes = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    for namespace in others:
        for table in ("tcp", "tcp6", "udp", "udp6"):
            for fields in map(str.split, namespace.run("cat", f"/proc/net/{table}").splitlines()[1:]):
                if f"socket:[{fields[9]}]" in inodes and fields[3] in ("0A", "07"):
                    found.add((f"netns:{namespace.name}", table[:3], *ipv4(fields[1])))
    return found


def ipv4(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    return ".".join(str(byte) for byte in reversed(bytes.fromhex(address))), int(port, 16)


def family(pid: int) -> list[int]:
    """The process and its children, of which no more generations are expected."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def which(command: str) -> str:
    return subprocess.run(["which", command], capture_output=True, text=True, check=True).stdout.strip()
