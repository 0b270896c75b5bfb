"""Stock SDKs through a connector that is killed, cut off, renewed, revoked: devices come back by their own retry."""

import gc
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.device.exceptions import ClientError, CredentialError, OperationCancelled
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod

from clients.devices import connected, until
from clients.forward_proxy import forward_proxy
from clients.names import resolved
from clients.reading import EventCollector
from support.connector import RunningConnector, plant, token_for
from support.server import RunningHub

PATIENT: dict[str, Any] = {"connection_retry": True, "connection_retry_interval": 1}
RENEWED_AFTER_SECONDS = 8
CUT_SECONDS = 3.0


@pytest.fixture
def hub(make_hub: Callable[..., RunningHub], settings: str) -> RunningHub:
    return make_hub(settings=settings)


@pytest.fixture
def settings() -> str:
    """The hub's configuration file."""
    return ""


@pytest.fixture
def private_address(loopback_addresses: Callable[[], str]) -> str:
    return loopback_addresses()


@pytest.fixture
def connectors(tmp_path: Path) -> Iterator[Callable[..., RunningConnector]]:
    """Makes connectors; those that run at the end must end in order."""
    made: list[RunningConnector] = []

    def make(*options: str) -> RunningConnector:
        connector = RunningConnector(tmp_path / f"connector{len(made)}", options=options)
        made.append(connector)
        return connector

    yield make
    gc.collect()  # msrest forgets its connections open, and a connector that ends waits for them
    try:
        for connector in made:
            if connector.running:
                connector.stop()
    finally:
        for connector in made:
            connector.kill()


@pytest.fixture
def connector(hub: RunningHub, private_address: str, connectors: Callable[..., RunningConnector]) -> RunningConnector:
    """A connector that listens for the hub's private endpoint; the public door is closed."""
    made = connectors()
    made.start(plant(hub, private_address))
    close_public(hub)
    return made


def test_telemetry_commands_and_reading_go_through_it(
    hub: RunningHub, connector: RunningConnector, private_address: str
) -> None:
    with inside(hub, private_address) as stack:
        device = stack.enter_context(connected(hub, "press", **PATIENT))
        device.on_method_request_received = lambda request: device.send_method_response(answer(request))
        reader = collect(hub, stack)
        device.send_message("x" * 200_000)
        assert reader.of_device("press")[0].body_as_str() == "x" * 200_000
        service = IoTHubRegistryManager.from_connection_string(hub.connection_string())
        result = service.invoke_device_method("press", CloudToDeviceMethod(method_name="stop", payload={"now": True}))
        assert result.payload == {"did": "stop"}
        service.amqp_svc_client.disconnect_sync()
    shown = hub.json("connector", "show", "-n", "plant")
    assert shown["connected"]
    with pytest.raises((CredentialError, ClientError)), connected(hub, "outside", connection_retry=False):
        pass


def test_a_device_survives_the_connector_that_is_killed(
    hub: RunningHub, connector: RunningConnector, private_address: str
) -> None:
    with inside(hub, private_address) as stack:
        device = stack.enter_context(connected(hub, "press", **PATIENT))
        reader = collect(hub, stack)
        send(device, "before")
        connector.kill()
        until(lambda: not device.connected)
        connector.start()
        send(device, "after")
        assert [event.body_as_str() for event in reader.of_device("press", 2)] == ["before", "after"]


@pytest.mark.parametrize("end", [RunningHub.stop, RunningHub.kill], ids=["stopped", "killed"])
def test_a_device_survives_the_hub_that_is_restarted(
    hub: RunningHub, connector: RunningConnector, private_address: str, end: Callable[[RunningHub], None]
) -> None:
    with inside(hub, private_address) as stack:
        device = stack.enter_context(connected(hub, "press", **PATIENT))
        send(device, "before")
        end(hub)
        until(lambda: not device.connected)
        hub.start()
        send(device, "after")
        assert connector.running
        reader = collect(hub, stack)
        assert [event.body_as_str() for event in reader.of_device("press", 2)] == ["before", "after"]


def test_all_goes_through_a_forward_proxy_and_survives_a_cut(
    hub: RunningHub,
    private_address: str,
    connectors: Callable[..., RunningConnector],
    loopback_addresses: Callable[[], str],
) -> None:
    with forward_proxy(loopback_addresses()) as proxy, inside(hub, private_address) as stack:
        connector = connectors("--proxy", f"http://{proxy.address}:{proxy.port}")
        connector.start(plant(hub, private_address))
        device = stack.enter_context(connected(hub, "press", **PATIENT))
        send(device, "before")
        proxy.hold()
        sending = threading.Thread(target=send, args=(device, "meanwhile"))
        sending.start()
        sending.join(CUT_SECONDS)
        assert sending.is_alive()
        proxy.release()
        sending.join()
        reader = collect(hub, stack)
        assert [event.body_as_str() for event in reader.of_device("press", 2)] == ["before", "meanwhile"]
        assert set(proxy.targets) == {f"{hub.address}:9443"}
        # Enrolment, control, and lines of which each carries one connection.
        assert len(proxy.targets) > 3


@pytest.mark.parametrize("settings", [f"[link]\ncertificate_hours = {RENEWED_AFTER_SECONDS * 1.5 / 3600}"])
def test_a_certificate_is_renewed_while_a_device_is_connected(
    hub: RunningHub, connector: RunningConnector, private_address: str
) -> None:
    with inside(hub, private_address) as stack:
        drops: list[bool] = []
        device = stack.enter_context(connected(hub, "press", **PATIENT))
        device.on_connection_state_change = lambda: drops.append(device.connected)
        first = hub.json("connector", "show", "-n", "plant")["certificateSerial"]
        until(lambda: hub.json("connector", "show", "-n", "plant")["certificateSerial"] != first)
        second = hub.json("connector", "show", "-n", "plant")["certificateSerial"]
        until(lambda: hub.json("connector", "show", "-n", "plant")["certificateSerial"] != second)
        # The first certificate has expired by now.
        send(device, "still here")
        with connected(hub, "fresh", **PATIENT) as fresh:
            send(fresh, "new here")
        assert drops == []


def test_a_revoked_connector_ends_and_takes_its_devices_with_it(
    hub: RunningHub, connector: RunningConnector, private_address: str
) -> None:
    with inside(hub, private_address) as stack:
        cut = threading.Event()
        device = stack.enter_context(connected(hub, "press", connection_retry=False))
        device.on_connection_state_change = lambda: cut.set() if not device.connected else None
        hub.isthmus("connector", "revoke", "-n", "plant")
        assert cut.wait(5.0)
    assert connector.wait(10.0) == 1
    assert "isthmus: The hub refuses this connector: " in connector.words().splitlines()[-1]
    connector.launch()
    assert connector.wait(20.0) == 1
    assert "Traceback" not in connector.words()


def test_a_token_lets_one_connector_in(
    hub: RunningHub, private_address: str, connectors: Callable[..., RunningConnector]
) -> None:
    token = plant(hub, private_address)
    first, second = connectors(), connectors()
    first.start(token)
    second.launch(token)
    assert second.wait(20.0) == 1
    assert "The hub refuses the enrolment" in second.words().splitlines()[-1]
    assert token not in second.words()
    first.stop()
    second.start(token_for(hub))


def test_an_endpoint_that_goes_takes_its_devices_with_it_and_one_that_comes_is_listened_for(
    hub: RunningHub, connector: RunningConnector, private_address: str, loopback_addresses: Callable[[], str]
) -> None:
    added = loopback_addresses()
    hub.isthmus(
        *("network", "private-endpoint", "create", "-n", "second", "--connection-name", "second"),
        *("--group-id", "iotHub", "--private-connection-resource-id", hub.json("iot", "hub", "show")["id"]),
        *("--vnet-name", "plant", "--subnet", "line"),
        *("--ip-config", "name=second", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={added}"),
    )
    with inside(hub, private_address) as stack:
        device = stack.enter_context(connected(hub, "press", connection_retry=False))
        cut = threading.Event()
        device.on_connection_state_change = lambda: cut.set() if not device.connected else None
        with resolved(hub.host_name, added):
            other = stack.enter_context(connected(hub, "drill", **PATIENT))
        hub.isthmus("network", "private-endpoint", "delete", "-n", "plant")
        assert cut.wait(5.0)
        send(other, "untouched")


def test_descriptors_do_not_grow(hub: RunningHub, connector: RunningConnector, private_address: str) -> None:
    context = ssl.create_default_context(cafile=str(hub.ca))

    def visit(count: int) -> None:
        for _ in range(count):
            with (
                socket.create_connection((private_address, hub.ready["ports"]["https"])) as opened,
                context.wrap_socket(opened, server_hostname=hub.host_name) as secured,
            ):
                secured.sendall(b"GET /devices HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert secured.recv(12) == b"HTTP/1.1 401"

    visit(5)
    until(lambda: hub.json("connector", "show", "-n", "plant")["carriedConnections"] == 0)
    before = descriptors(connector)
    visit(100)
    until(lambda: descriptors(connector) <= before + 2)


@contextmanager
def inside(hub: RunningHub, address: str) -> Iterator[ExitStack]:
    """While it lasts, this process's SDKs find the hub at its private address; what is entered ends before."""
    with resolved(hub.host_name, address), ExitStack() as stack:
        yield stack


def collect(hub: RunningHub, stack: ExitStack) -> EventCollector:
    collector = EventCollector(hub.events_connection_string(), str(hub.ca))
    stack.callback(collector.close)
    return collector


def send(device: IoTHubDeviceClient, text: str) -> None:
    """Sends until the hub has acknowledged, as an application has to."""
    while True:
        try:
            device.send_message(text)
            return
        except CredentialError:
            raise
        except (ClientError, OperationCancelled):
            until(lambda: device.connected)


def answer(request: Any) -> Any:
    return MethodResponse.create_from_method_request(request, 200, {"did": request.name})


def close_public(hub: RunningHub) -> None:
    hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")


def descriptors(connector: RunningConnector) -> int:
    return len(list(Path(f"/proc/{connector.pid}/fd").iterdir()))
