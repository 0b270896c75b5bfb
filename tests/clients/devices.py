"""Devices as their owners have them: registered by the command line, connected by the stock synchronous client."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from azure.iot.device import IoTHubDeviceClient

from clients.reading import WAIT_SECONDS
from support.server import RunningHub

OTHER_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
"""A key nobody has."""


@contextmanager
def connected(hub: RunningHub, device_id: str, *, create: bool = True, **options: Any) -> Iterator[IoTHubDeviceClient]:
    """A connected client of a device that is registered first unless `create` is off; shut down afterwards."""
    if create:
        make_device(hub, device_id)
    device = client_of(hub, hub.device_connection_string(device_id), **options)
    device.connect()
    try:
        yield device
    finally:
        device.shutdown()


def client_of(hub: RunningHub, connection_string: str, **options: Any) -> IoTHubDeviceClient:
    """A client that trusts the hub's CA."""
    return IoTHubDeviceClient.create_from_connection_string(
        connection_string, server_verification_cert=hub.ca.read_text(), **options
    )


def make_device(hub: RunningHub, device_id: str) -> None:
    """Registers a device."""
    hub.json("device-identity", "create", "-d", device_id)


def identity(hub: RunningHub, device_id: str) -> dict[str, Any]:
    """The identity as the registry shows it."""
    return dict(hub.json("device-identity", "show", "-d", device_id))


def twin_of(hub: RunningHub, device_id: str) -> dict[str, Any]:
    """The twin as the registry shows it."""
    return dict(hub.json("device-twin", "show", "-d", device_id))


def key_of(connection_string: str) -> str:
    """The key that a connection string ends with."""
    return connection_string.rsplit("SharedAccessKey=", 1)[1]


def until(condition: Callable[[], object], timeout: float = WAIT_SECONDS) -> None:
    """Returns when the condition holds; asks again every twentieth of a second until the deadline."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        pause.wait(0.05)
