"""Stock clients over WebSocket on port 443, straight and through an HTTP forward proxy."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.eventhub import EventHubConsumerClient, TransportType
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.iot.device import Message, MethodResponse, ProxyOptions
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from uamqp import TransportType as UamqpTransportType

from clients.devices import client_of, connected, make_device, until
from clients.forward_proxy import forward_proxy
from clients.reading import WAIT_SECONDS, EventCollector
from support.server import RunningHub


@pytest.fixture
def websocket_service(hub: RunningHub) -> Iterator[IoTHubRegistryManager]:
    """The stock service client, whose AMQP goes over WebSocket."""
    manager = IoTHubRegistryManager.from_connection_string(
        hub.connection_string(), transport_type=UamqpTransportType.AmqpOverWebsocket
    )
    yield manager
    manager.amqp_svc_client.disconnect_sync()


def test_telemetry_of_all_sizes_arrives(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    message = Message("hot", message_id="m1")
    message.custom_properties = {"alert": "true"}
    with connected(hub, device_id, websockets=True) as device:
        device.send_message(message)
        device.send_message(Message(b""))
        device.send_message(Message(b"x" * 260_000))
    first, empty, large = reader.of_device(device_id, 3)
    assert first.body_as_str() == "hot"
    assert first.properties == {b"alert": b"true"}
    assert b"".join(empty.body) == b""
    assert len(b"".join(large.body)) == 260_000


def test_commands_methods_and_twins(hub: RunningHub, device_id: str, service: IoTHubRegistryManager) -> None:
    received: list[Message] = []
    patches: list[dict[str, Any]] = []
    with connected(hub, device_id, websockets=True) as device:
        device.on_message_received = received.append
        device.on_twin_desired_properties_patch_received = patches.append
        device.on_method_request_received = lambda request: device.send_method_response(
            MethodResponse.create_from_method_request(request, 207, {"echo": request.payload})
        )
        service.send_c2d_message(device_id, "stop the press", {"messageId": "c1"})
        until(lambda: received)
        assert (received[0].data, received[0].message_id) == (b"stop the press", "c1")
        method = CloudToDeviceMethod(method_name="set", payload=3, response_timeout_in_seconds=20)
        method.connect_timeout_in_seconds = 10
        result = service.invoke_device_method(device_id, method)
        assert (result.status, result.payload) == (207, {"echo": 3})
        device.patch_twin_reported_properties({"speed": 3})
        assert device.get_twin()["reported"] == {"speed": 3, "$version": 2}
        desired = Twin(properties=TwinProperties(desired={"interval": 5}))
        service.update_twin(device_id, desired, service.get_twin(device_id).etag)
        until(lambda: patches)
        assert patches == [{"interval": 5, "$version": 2}]


def test_the_journal_tells_what_came_over_websocket(hub: RunningHub, device_id: str) -> None:
    with connected(hub, device_id, websockets=True):
        pass
    told = hub.json("explain", "--device-id", device_id, "--all")
    (admission,) = [decision for decision in told if decision["verdict"] == "allowed"]
    assert (admission["plane"], admission["detail"]) == ("mqtt", "websocket")


def test_events_are_read(hub: RunningHub, device_id: str) -> None:
    with connected(hub, device_id, websockets=True) as device:
        for number in range(20):
            device.send_message(str(number))
    seen: list[str] = []
    complete = threading.Event()

    def take(context: Any, events: list[Any]) -> None:
        seen.extend(
            event.body_as_str()
            for event in events
            if event.system_properties[b"iothub-connection-device-id"] == device_id.encode()
        )
        if len(seen) == 20:
            complete.set()

    client = websocket_consumer(hub)
    assert client.get_eventhub_properties()["partition_ids"] == ["0", "1", "2", "3"]
    receiving = threading.Thread(
        target=client.receive_batch, kwargs={"on_event_batch": take, "starting_position": "-1"}, daemon=True
    )
    receiving.start()
    assert complete.wait(WAIT_SECONDS)
    client.close()
    receiving.join(WAIT_SECONDS)
    assert seen == [str(number) for number in range(20)]


def test_a_service_sends_commands(hub: RunningHub, device_id: str, websocket_service: IoTHubRegistryManager) -> None:
    received: list[bytes] = []
    with connected(hub, device_id) as device:
        device.on_message_received = lambda message: received.append(message.data)
        for number in range(3):
            websocket_service.send_c2d_message(device_id, f"command {number}", {})
        until(lambda: len(received) == 3)
    assert received == [b"command 0", b"command 1", b"command 2"]


def test_a_device_and_a_reader_behind_a_forward_proxy(
    hub: RunningHub, device_id: str, loopback_address: str, collect: Callable[..., EventCollector]
) -> None:
    with forward_proxy(loopback_address) as proxy:
        options = ProxyOptions(proxy_type="HTTP", proxy_addr=proxy.address, proxy_port=proxy.port)
        with connected(hub, device_id, websockets=True, proxy_options=options) as device:
            device.send_message("from behind the proxy")
            received: list[bytes] = []
            device.on_message_received = lambda message: received.append(message.data)
            hub.isthmus("c2d-message", "send", "-d", device_id, "--da", "and back")
            until(lambda: received == [b"and back"])
        with websocket_consumer(hub, http_proxy={"proxy_hostname": proxy.address, "proxy_port": proxy.port}) as client:
            assert client.get_eventhub_properties()["eventhub_name"]
    assert set(proxy.targets) == {f"{hub.host_name}:443"}
    assert len(proxy.targets) >= 2
    (event,) = collect().of_device(device_id)
    assert event.body_as_str() == "from behind the proxy"


async def test_the_asynchronous_clients_do_the_same(hub: RunningHub, device_id: str) -> None:
    await asyncio.to_thread(make_device, hub, device_id)
    device = AsyncDeviceClient.create_from_connection_string(
        await asyncio.to_thread(hub.device_connection_string, device_id),
        server_verification_cert=hub.ca.read_text(),
        websockets=True,
    )
    await device.send_message("from a coroutine")
    await device.shutdown()
    seen = asyncio.Event()

    async def take(context: Any, event: Any) -> None:
        if event.body_as_str() == "from a coroutine":
            seen.set()

    client = AsyncConsumerClient.from_connection_string(
        await asyncio.to_thread(hub.events_connection_string),
        "$Default",
        transport_type=TransportType.AmqpOverWebsocket,
        connection_verify=str(hub.ca),
    )
    async with client:
        receiving = asyncio.ensure_future(client.receive(take, starting_position="-1"))
        await asyncio.wait_for(seen.wait(), WAIT_SECONDS)
        # Left to itself it sleeps out its turn of load balancing, half a minute, before it notices the end.
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


def test_closing_the_public_side_cuts_and_refuses_websockets(hub: RunningHub, device_id: str) -> None:
    make_device(hub, device_id)
    with connected(hub, device_id, create=False, websockets=True, connection_retry=False) as device:
        cut = threading.Event()
        device.on_connection_state_change = lambda: cut.set() if not device.connected else None
        set_public(hub, "Disabled")
        try:
            assert cut.wait(WAIT_SECONDS)
            late = client_of(hub, hub.device_connection_string(device_id), websockets=True, connection_retry=False)
            with pytest.raises(CredentialError):
                late.connect()
            late.shutdown()
            with pytest.raises(Exception, match=r"."), websocket_consumer(hub, retry_total=0) as reader:
                reader.get_eventhub_properties()
        finally:
            set_public(hub, "Enabled")
    refused = hub.json("explain", "--device-id", device_id)
    assert {(entry["plane"], entry["rule"], entry["detail"]) for entry in refused} == {
        ("mqtt", "network.public-access", "websocket")
    }
    with connected(hub, device_id, create=False, websockets=True) as device:
        device.send_message("open again")


def set_public(hub: RunningHub, value: str) -> None:
    hub.isthmus("iot", "hub", "update", "--set", f"properties.publicNetworkAccess={value}", "--force")


def websocket_consumer(hub: RunningHub, **options: Any) -> EventHubConsumerClient:
    """A reader of the built-in endpoint over WebSocket."""
    return EventHubConsumerClient.from_connection_string(
        hub.events_connection_string(),
        "$Default",
        transport_type=TransportType.AmqpOverWebsocket,
        connection_verify=str(hub.ca),
        **{"retry_total": 1} | options,
    )
