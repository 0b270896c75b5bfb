"""A disk that is really full, with stock clients: nothing is acknowledged, it is said everywhere, and it goes on."""

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from azure.iot.device import IoTHubDeviceClient

from clients.devices import client_of, key_of, make_device, until
from clients.reading import EventCollector
from clients.sas import sas_token
from clients.test_device_https import HttpsDevice
from support.server import RunningHub

DISK_BYTES = 24 * 1024 * 1024
BODY_BYTES = 16 * 1024
"""More than a page that is there already may take."""
SEND_SECONDS = 60.0


@pytest.fixture
def hub(tmp_path: Path, loopback_address: str) -> Iterator[RunningHub]:
    """A hub whose data folder is a disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a disk of its own for a test")
    hub = RunningHub(tmp_path, loopback_address)
    hub.data.mkdir()
    mounted = _run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "isthmus-test", str(hub.data))
    if mounted.returncode:
        pytest.skip(f"no disk of its own can be mounted here: {mounted.stderr.strip()}")
    try:
        hub.start()
        yield hub
    finally:
        hub.kill()
        _run("umount", "--lazy", str(hub.data))


@pytest.fixture
def collector(hub: RunningHub) -> Iterator[EventCollector]:
    collector = EventCollector(hub.events_connection_string(), str(hub.ca))
    yield collector
    collector.close()


@pytest.fixture
def device(hub: RunningHub) -> Iterator[IoTHubDeviceClient]:
    make_device(hub, "d1")
    device = client_of(hub, hub.device_connection_string("d1"), connection_retry_interval=1)
    device.connect()
    yield device
    device.shutdown()


def test_a_full_disk_stops_acknowledgements_and_everything_goes_on_when_there_is_room(
    hub: RunningHub, device: IoTHubDeviceClient, collector: EventCollector
) -> None:
    over_https = HttpsDevice(hub, "d1", sas_token(f"{hub.host_name}/devices/d1", _key(hub)))
    device.send_message(_body("before"))
    assert over_https.send(_body("https before").encode()).status_code == 204
    with ThreadPoolExecutor(1) as sender:
        with _filled(hub.data / "ballast"):
            sending = sender.submit(device.send_message, _body("while it is full"))
            until(lambda: _metric(hub, 'isthmus_log_ok{log="log"}') == 0)
            refused = over_https.send(_body("https refused").encode())
            health = hub.run("health")
            assert (refused.status_code, sending.done()) == (503, False)
            assert health.returncode == 1
            assert "the log cannot be written: No space left on device" in health.stdout + health.stderr
        sending.result(SEND_SECONDS)

    assert over_https.send(_body("https after").encode()).status_code == 204
    device.send_message(_body("after"))
    events = collector.of_device("d1", 5)
    names = list(dict.fromkeys(json.loads(event.body_as_str())["name"] for event in events))
    assert names == ["before", "https before", "while it is full", "https after", "after"]
    until(lambda: hub.run("health").returncode == 0)
    assert "limit.disk" in hub.isthmus("explain", "--since", "10m", "--output", "json")
    hub.restart()
    assert json.loads(hub.isthmus("log", "verify", "--output", "json"))["whole"]


@contextmanager
def _filled(ballast: Path) -> Iterator[None]:
    """Takes all that is left of the disk, and gives it back."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1024 * 1024, 4096):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        yield
    finally:
        ballast.unlink()


def _body(name: str) -> str:
    return json.dumps({"name": name, "filling": "x" * BODY_BYTES})


def _key(hub: RunningHub) -> str:
    return key_of(hub.device_connection_string("d1"))


def _metric(hub: RunningHub, name: str) -> float:
    lines = (line.rpartition(" ") for line in hub.isthmus("metrics").splitlines() if not line.startswith("#"))
    return next(float(value) for each, _, value in lines if each == name)


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
