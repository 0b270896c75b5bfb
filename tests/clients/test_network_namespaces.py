"""Private endpoints inside real network namespaces: stock SDKs in a plant's network, which has no way but to them.

The hub is in the machine's own namespace with its public side closed; clients have no default route, so that what they
reach is what they are joined to.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from clients.devices import until
from clients.far import far_device, far_service
from support.loopback import Loopback
from support.namespace_helper import RunningHelper, as_nobody, may_run_as_nobody, own
from support.netns import NEEDS_ROOT, Namespace, add_namespace, join, may_make_namespaces, namespaces
from support.server import RunningHub

pytestmark = pytest.mark.skipif(not may_make_namespaces(), reason=NEEDS_ROOT)

HOST = "hub.isthmus.test"
ADDRESS = "10.1.0.5"
ADDED = "10.1.0.5/32"
PORTS = (443, 8883, 5671)
CONNECT_SECONDS = 1.0
"""Across a cable that is not there; an address that nobody has answers with nothing at all."""
WITHIN_SECONDS = 1.0
"""A change is in force when its command answers; the rest is the way of a byte to the client."""


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with TemporaryDirectory(prefix="isthmus-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def hub(open_folder: Path) -> Iterator[RunningHub]:
    """A hub that runs as root, with its public side closed."""
    with Loopback() as loopback:
        running = RunningHub(open_folder / "root", loopback.take(), hostname=HOST)
        try:
            running.start()
            running.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled", "--force")
            yield running
            running.stop()
        finally:
            running.kill()


class Plant:
    """A customer's network: its namespace, one of a client in it, and an endpoint of the hub at `ADDRESS`."""

    def __init__(self, hub: RunningHub, network: Namespace, client: Namespace) -> None:
        self.hub, self.network, self.client = hub, network, client
        self.name = network.name
        join(network, "10.1.0.1/24", client, "10.1.0.2/24")
        client.name_hosts(hub_isthmus_test=ADDRESS)

    def declare(self) -> None:
        self.hub.isthmus(
            *("network", "vnet", "create", "-n", self.name, "--presence", f"netns:{self.name}"),
            *("--address-prefixes", "10.1.0.0/24", "--subnet-name", "line", "--subnet-prefixes", "10.1.0.0/24"),
        )

    def open(self, code: int = 0) -> str:
        """Makes the endpoint; returns what the command printed."""
        return self.hub.isthmus(
            *("network", "private-endpoint", "create", "-n", self.name, "--connection-name", self.name),
            *("--private-connection-resource-id", self.hub.json("iot", "hub", "show")["id"], "--group-id", "iotHub"),
            *("--ip-config", "name=ip", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={ADDRESS}"),
            *("--vnet-name", self.name, "--subnet", "line"),
            code=code,
        )

    def close(self) -> None:
        """Deletes the endpoint."""
        self.hub.isthmus("network", "private-endpoint", "delete", "-n", self.name)

    def forget(self) -> None:
        """Deletes what of it is there."""
        names = [each["name"] for each in self.hub.json("network", "private-endpoint", "list")]
        if self.name in names:
            self.close()
        self.hub.isthmus("network", "vnet", "delete", "-n", self.name)

    def reaches(self, port: int) -> bool:
        """True when the client gets a TCP connection."""
        said = f"import socket; socket.create_connection(({ADDRESS!r}, {port}), {CONNECT_SECONDS})"
        return subprocess.run(self.client.inside([sys.executable, "-c", said]), capture_output=True).returncode == 0


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Plant]:
    """A customer."""
    with opened_plant(hub) as made:
        yield made


@pytest.fixture
def other_plant(hub: RunningHub) -> Iterator[Plant]:
    """Another one with the same ranges and the same addresses."""
    with opened_plant(hub) as made:
        yield made


@contextmanager
def opened_plant(hub: RunningHub) -> Iterator[Plant]:
    with namespaces(2) as (network, client):
        made = Plant(hub, network, client)
        made.declare()
        try:
            made.open()
            yield made
        finally:
            made.forget()


def test_devices_and_services_come_in_by_the_usual_name(hub: RunningHub, plant: Plant, device_id: str) -> None:
    with far_device(plant.client, hub, device_id) as device:
        device.send("from the plant")
        with far_service(plant.client, hub, device_id) as service:
            service.heard(status=200, payload={"said": "there?"})
            device.heard(method="ping")
            service.wait(lambda told: "event" in told)
    admitted = admission_of(hub, device_id)
    assert admitted["door"].startswith(f"private:{plant.name}.")
    assert (admitted["verdict"], admitted["address"]) == ("allowed", "10.1.0.2")


def test_two_customers_with_the_same_addresses_do_not_notice_each_other(
    hub: RunningHub, plant: Plant, other_plant: Plant, device_id: str
) -> None:
    one, two = plant, other_plant
    with (
        far_device(one.client, hub, f"{device_id}-1") as first,
        far_device(two.client, hub, f"{device_id}-2") as second,
    ):
        first.send("one")
        second.send("two")
        for number, each in enumerate((one, two), 1):
            assert admission_of(hub, f"{device_id}-{number}")["door"].startswith(f"private:{each.name}.")
        lost = first.heard(connected=True)
        one.close()
        first.heard(connected=False, after=lost)
        second.send("two again")
        assert not one.reaches(8883)
        assert two.reaches(8883)


def test_deleting_closes_listeners_and_every_socket_within_a_second(
    hub: RunningHub, plant: Plant, device_id: str
) -> None:
    """One of a device, and one that has said nothing yet: only the first one has a session to cut."""
    assert plant.network.addresses() == {"10.1.0.1/24", ADDED}
    silent = f"""
import socket
with socket.create_connection(({ADDRESS!r}, 8883), 5) as silent:
    print("in", flush=True)
    silent.settimeout(30)
    try:
        print("out", silent.recv(1), flush=True)
    except ConnectionResetError:
        print("out", flush=True)
"""
    with (
        far_device(plant.client, hub, device_id) as device,
        subprocess.Popen(
            plant.client.inside([sys.executable, "-c", silent]), stdout=subprocess.PIPE, text=True
        ) as calling,
    ):
        assert calling.stdout is not None
        assert calling.stdout.readline() == "in\n"
        connected = device.heard(connected=True)
        plant.close()
        until(lambda: calling.poll() is not None, WITHIN_SECONDS)
        assert calling.stdout.readline().startswith("out")
        device.heard(connected=False, after=connected)
    assert not any(plant.reaches(port) for port in PORTS)
    assert plant.network.addresses() == {"10.1.0.1/24"}


def test_an_address_that_was_there_before_stays(hub: RunningHub, plant: Plant) -> None:
    plant.close()
    plant.network.ip("addr", "add", "10.1.0.5/24", "dev", "lo")
    plant.open()
    plant.close()
    assert "10.1.0.5/24" in plant.network.addresses()


def test_a_network_that_is_not_joined_reaches_nothing(hub: RunningHub, plant: Plant) -> None:
    """Closed by having no route, whatever the hub would say."""
    with namespaces(1) as (stranger,):
        said = f"import socket; socket.create_connection(({ADDRESS!r}, 8883), 5)"
        done = subprocess.run(stranger.inside([sys.executable, "-c", said]), capture_output=True, text=True)
        assert "Network is unreachable" in done.stderr


def test_a_restarted_hub_is_back_in_every_network(
    hub: RunningHub, plant: Plant, other_plant: Plant, device_id: str
) -> None:
    one, two = plant, other_plant
    with far_device(one.client, hub, device_id) as device:
        device.send("before")
        hub.stop()
        assert one.network.addresses() == two.network.addresses() == {"10.1.0.1/24"}
        hub.start()
        device.send("after a stop")
        hub.restart()
        device.send("after a kill")
        assert two.reaches(8883)
        assert one.network.addresses() == two.network.addresses() == {"10.1.0.1/24", ADDED}


def test_a_killed_helper_is_replaced_and_nobody_notices(hub: RunningHub, plant: Plant, device_id: str) -> None:
    with far_device(plant.client, hub, device_id) as device:
        (helper,) = children(hub.pid)
        os.kill(helper, signal.SIGKILL)
        device.send("without a helper")
        assert plant.reaches(443)
        until(lambda: children(hub.pid) not in ([], [helper]))
        assert json_health(hub)["ok"]
    plant.close()
    assert plant.network.addresses() == {"10.1.0.1/24"}


def test_a_namespace_that_comes_late_is_listened_in(hub: RunningHub, plant: Plant) -> None:
    hub.stop()
    plant.network.remove()
    hub.start()
    reason = f"{plant.name}: There is no network namespace {plant.name}: ip netns add {plant.name}."
    assert f"private-endpoints ({reason})" in hub.isthmus("health", code=1)

    add_namespace(plant.name)
    join(plant.network, "10.1.0.1/24", plant.client, "10.1.0.2/24")

    until(lambda: json_health(hub)["ok"])
    assert plant.reaches(8883)


def test_a_namespace_made_anew_under_its_name_is_noticed(hub: RunningHub, plant: Plant, device_id: str) -> None:
    with far_device(plant.client, hub, device_id) as device:
        plant.network.remove()
        add_namespace(plant.name)
        join(plant.network, "10.1.0.1/24", plant.client, "10.1.0.2/24")
        until(lambda: plant.reaches(8883))
        device.send("to the new one")


def test_a_namespace_that_is_not_there_is_refused_with_the_remedy(hub: RunningHub, plant: Plant) -> None:
    plant.close()
    plant.network.remove()
    refused = plant.open(code=1)
    assert refused == (
        f"isthmus: {ADDRESS} cannot be listened on. There is no network namespace {plant.name}: "
        f"ip netns add {plant.name}.\n"
    )
    assert plant.name not in [each["name"] for each in hub.json("network", "private-endpoint", "list")]


def test_an_endpoint_whose_port_is_taken_leaves_nothing_behind(hub: RunningHub, plant: Plant) -> None:
    plant.close()
    said = "import socket; s = socket.create_server(('0.0.0.0', 8883)); print('in', flush=True); s.accept()"
    with subprocess.Popen(plant.network.inside([sys.executable, "-c", said]), stdout=subprocess.PIPE) as taking:
        assert taking.stdout is not None
        taking.stdout.readline()
        refused = plant.open(code=1)
        taking.kill()
    assert f"Port 8883 at {ADDRESS} is in use there: stop what listens, or choose another address." in refused
    assert plant.network.addresses() == {"10.1.0.1/24"}
    plant.open()


@pytest.fixture
def nobodys(open_folder: Path) -> Iterator[RunningHub]:
    """A hub without any right, which is told where a helper would be."""
    if not may_run_as_nobody():
        pytest.skip("the user nobody cannot read this checkout")
    with Loopback() as loopback:
        folder = open_folder / "nobody"
        folder.mkdir()
        own(folder)
        running = RunningHub(
            folder,
            loopback.take(),
            hostname=HOST,
            settings=f'[network]\nhelper = "{open_folder / "helper.sock"}"\n',
            under=as_nobody(),
        )
        try:
            running.start()
            yield running
        finally:
            running.kill()


def test_a_hub_without_rights_has_a_helper(nobodys: RunningHub, open_folder: Path, device_id: str) -> None:
    with ExitStack() as stack:
        one, client = stack.enter_context(namespaces(2))
        plant = Plant(nobodys, one, client)
        plant.declare()
        assert "The namespace helper is not at" in plant.open(code=1)
        helper = RunningHelper(open_folder, "--namespace", one.name, "--address", "10.1.0.0/24")
        helper.start()
        stack.callback(helper.kill)
        plant.open()
        device = stack.enter_context(far_device(client, nobodys, device_id))
        device.send("through a passed socket")
        assert plant.reaches(443), "the helper may bind what the hub may not"
        assert plant.reaches(8443)

        helper.stop()
        device.send("while the helper is away")
        until(lambda: not json_health(nobodys)["ok"])
        assert "not well: namespaces (The namespace helper" in nobodys.isthmus("health", code=1)
        helper.start()
        until(lambda: json_health(nobodys)["ok"])
        nobodys.restart()
        device.send("after the hub was killed")
        plant.close()
        assert plant.network.addresses() == {"10.1.0.1/24"}


def test_a_hub_without_rights_and_without_a_helper_says_what_it_needs(open_folder: Path) -> None:
    if not may_run_as_nobody():
        pytest.skip("the user nobody cannot read this checkout")
    folder = open_folder / "alone"
    folder.mkdir()
    own(folder)
    with Loopback() as loopback, namespaces(2) as (one, client):
        alone = RunningHub(folder, loopback.take(), hostname=HOST, under=as_nobody())
        try:
            alone.start()
            plant = Plant(alone, one, client)
            plant.declare()
            assert plant.open(code=1) == (
                f"isthmus: {ADDRESS} cannot be listened on. Network namespaces and addresses need root: start isthmus "
                "namespace-helper as root, and name its socket in network.helper of the configuration.\n"
            )
            assert json_health(alone)["ok"]
        finally:
            alone.kill()


def test_a_hub_adds_addresses_to_its_own_machine_when_it_is_told_to(open_folder: Path, device_id: str) -> None:
    """The hub's machine is a namespace here; its interface owns the subnet, so the address goes there."""
    with namespaces(2) as (machine, client):
        join(machine, "10.1.0.1/24", client, "10.1.0.2/24")
        client.name_hosts(hub_isthmus_test=ADDRESS)
        own_hub = RunningHub(
            open_folder / "bind",
            "127.0.0.1",
            hostname=HOST,
            settings="[network]\nadd_addresses = true\n",
            under=machine.inside([]),
        )
        try:
            own_hub.start()
            create = (
                *("network", "private-endpoint", "create", "-n", "plant", "--connection-name", "plant"),
                *("--private-connection-resource-id", own_hub.json("iot", "hub", "show")["id"]),
                *("--group-id", "iotHub", "--ip-config", "name=ip", "group-id=iotHub", "member-name=iotHub"),
                f"private-ip-address={ADDRESS}",
            )
            own_hub.isthmus(*create)
            assert machine.addresses() == {"10.1.0.1/24", ADDED}
            with far_device(client, own_hub, device_id) as device:
                device.send("to an address that was added")
                own_hub.restart()
                device.send("after a kill")
            own_hub.isthmus("network", "private-endpoint", "delete", "-n", "plant")
            assert machine.addresses() == {"10.1.0.1/24"}
            own_hub.isthmus(*create)
            own_hub.stop()
            assert machine.addresses() == {"10.1.0.1/24"}
        finally:
            own_hub.kill()


def admission_of(hub: RunningHub, device_id: str) -> dict[str, str]:
    """What the journal says of a device's last connection."""
    told = hub.json("explain", "--all", "--device-id", device_id)
    return next(dict(each) for each in told if each["rule"] == "network.private-endpoint")


def json_health(hub: RunningHub) -> dict[str, object]:
    """Health as the management socket tells it, well or not."""
    connection = HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(hub.data / "management.sock"))
    try:
        connection.request("GET", "/health")
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    tasks = Path("/proc", str(pid), "task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
