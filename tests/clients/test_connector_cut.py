"""A plant whose line is cut for a minute: nothing acknowledged is lost, its devices come back by their own retry."""

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.connector import RunningConnector, plant
from support.netns import NEEDS_ROOT, Namespace, join, may_make_namespaces, namespaces
from support.sender import Sender
from support.server import RunningHub

HOST_NAME = "hub.isthmus.test"
HUB_ADDRESS, PLANT_ADDRESS, PRIVATE_ADDRESS = "10.9.0.1", "10.9.0.2", "10.20.9.4"
CUT_SECONDS = 60.0
BACK_SECONDS_MAX = 150.0
"""The hub is noticed to be gone after a minute of silence, found again within fifteen seconds, and then the device
tries again in its own time."""

pytestmark = [pytest.mark.long, pytest.mark.skipif(not may_make_namespaces(), reason=NEEDS_ROOT)]


@pytest.fixture
def networks() -> Iterator[tuple[Namespace, Namespace]]:
    """The hub's network and the plant's, with a cable between them; the private address is in the plant only."""
    with namespaces(2) as (hub_side, plant_side):
        join(hub_side, f"{HUB_ADDRESS}/30", plant_side, f"{PLANT_ADDRESS}/30")
        plant_side.ip("addr", "add", f"{PRIVATE_ADDRESS}/32", "dev", "lo")
        plant_side.name_hosts(**{HOST_NAME.replace(".", "_"): PRIVATE_ADDRESS})
        yield hub_side, plant_side


@pytest.fixture
def hub(networks: tuple[Namespace, Namespace], tmp_path: Path) -> Iterator[RunningHub]:
    running = RunningHub(
        tmp_path / "hub",
        HUB_ADDRESS,
        hostname=HOST_NAME,
        settings=f'[link]\naddresses = ["{HUB_ADDRESS}:9443"]\n',
        under=networks[0].inside([]),
    )
    try:
        running.start()
        yield running
        running.stop()
    finally:
        running.kill()


@pytest.fixture
def connector(networks: tuple[Namespace, Namespace], hub: RunningHub, tmp_path: Path) -> Iterator[RunningConnector]:
    running = RunningConnector(tmp_path / "connector", under=networks[1].inside([]))
    try:
        running.start(plant(hub, PRIVATE_ADDRESS, prefix="10.20.0.0/16"))
        yield running
        running.stop()
    finally:
        running.kill()


def test_a_line_that_is_cut_for_a_minute(
    hub: RunningHub, connector: RunningConnector, networks: tuple[Namespace, Namespace]
) -> None:
    hub_side, plant_side = networks
    hub.create_device("press")
    with Sender(Plant(hub, plant_side), "plant", "press", hub="hub") as device:
        device.acknowledge_more()
        cable = next(line.split(":")[1].split("@")[0].strip() for line in hub_side.ip("-o", "link").splitlines()[1:])
        hub_side.ip("link", "set", cable, "down")
        threading.Event().wait(CUT_SECONDS)
        before = device.acknowledged[-1]
        hub_side.ip("link", "set", cable, "up")
        device.acknowledge_more(5, BACK_SECONDS_MAX)
        assert device.acknowledged[-1] > before
        assert connector.running
    assert set(device.acknowledged) <= read_numbers(hub, "press")


@dataclass(frozen=True)
class Plant:
    """The plant's network, for a sender."""

    hub: RunningHub
    network: Namespace

    @property
    def ca(self) -> Path:
        return self.hub.ca

    def isthmus(self, *arguments: str) -> str:
        return self.hub.isthmus(*arguments)

    def within(self, node: str, command: Sequence[str]) -> list[str]:
        return self.network.inside(command)


def read_numbers(hub: RunningHub, device_id: str) -> set[int]:
    """The numbers of all messages that the hub has of a device."""
    text = hub.isthmus("monitor-events", "-d", device_id, "--et", "0", "--timeout", "2")
    return {int(number) for number in re.findall(rf"{device_id} (\d+)", text)}
