"""What runs inside another network namespace: a device, or an application, on the stock SDKs, told by lines.

`far_side.py device CONNECTION_STRING CA` sends each line of standard input, answers direct methods, and tells what
happens as lines of JSON. `far_side.py service CONNECTION_STRING EVENTS_STRING CA DEVICE` calls a method of the device,
reads one event of it, and tells both.
"""

import json
import sys
from pathlib import Path
from threading import Event, Lock
from typing import Any

import certifi
from azure.eventhub import EventHubConsumerClient
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.device.exceptions import ClientError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod

RETRY_SECONDS = 1
"""Between the device's own tries to connect; the SDK's default is ten."""
SENDS_MAX = 30
WAIT_SECONDS = 30

_telling = Lock()


def tell(**what: Any) -> None:
    """One line of what happened."""
    with _telling:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


def be_device(connection_string: str, ca: str) -> None:
    """Connects and obeys until standard input ends."""
    device = IoTHubDeviceClient.create_from_connection_string(
        connection_string, server_verification_cert=Path(ca).read_text(), connection_retry_interval=RETRY_SECONDS
    )

    def answer(request: Any) -> None:
        device.send_method_response(MethodResponse.create_from_method_request(request, 200, {"said": request.payload}))
        tell(method=request.name)

    connected = Event()

    def changed() -> None:
        (connected.set if device.connected else connected.clear)()
        tell(connected=device.connected)

    device.on_connection_state_change = changed
    device.on_method_request_received = answer
    device.connect()
    for line in sys.stdin:
        send(device, line.strip(), connected)
        tell(sent=line.strip())
    device.shutdown()


def send(device: IoTHubDeviceClient, text: str, connected: Event) -> None:
    """Sends until it is acknowledged: the SDK gives up a message that it is given in the moment of a cut."""
    for _ in range(SENDS_MAX):
        try:
            device.send_message(text)
            return
        except ClientError:
            connected.clear()
            connected.wait(RETRY_SECONDS)
    raise TimeoutError(text)


def be_service(connection_string: str, events: str, ca: str, device_id: str) -> None:
    """Calls `ping` of the device and reads its first event."""
    certifi.where = lambda: ca
    manager = IoTHubRegistryManager.from_connection_string(connection_string)
    result = manager.invoke_device_method(device_id, CloudToDeviceMethod(method_name="ping", payload="there?"))
    tell(status=result.status, payload=result.payload)
    read = Event()

    def received(context: Any, event: Any) -> None:
        del context
        if event is not None and not read.is_set():
            read.set()
            tell(event=event.body_as_str())
            client.close()

    client = EventHubConsumerClient.from_connection_string(events, "$Default", connection_verify=ca)
    client.receive(received, starting_position="-1", max_wait_time=WAIT_SECONDS)


if __name__ == "__main__":
    if sys.argv[1] == "device":
        be_device(*sys.argv[2:])
    else:
        be_service(*sys.argv[2:])
