"""One place of the grid: a device, a service and a reader on the official SDKs, as a process inside a namespace.

Takes its task as JSON from standard input and prints, as JSON, what came of each cell: `ok`, or the error's name. The
hub's usual name is all it has; the namespace resolves it. Nothing here waits for longer than the task says.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import certifi
from azure.eventhub import EventData, EventHubConsumerClient, TransportType
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

LARGE = 200_000


@dataclass(frozen=True)
class Task:
    """What a place does; `seconds` is the patience of a step that waits for another."""

    ca: str
    device: str
    service: str
    events: str
    device_id: str
    mark: str
    seconds: float = 30.0


@dataclass
class Meetings:
    """What reached whom, told between the threads of the SDKs."""

    commands: list[bytes] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    grown: threading.Condition = field(default_factory=threading.Condition)

    def note(self, act: Callable[[], Any]) -> None:
        """Changes something and wakes those who wait."""
        with self.grown:
            act()
            self.grown.notify_all()

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        """Raises TimeoutError when the condition does not hold in time."""
        with self.grown:
            if not self.grown.wait_for(condition, seconds):
                raise TimeoutError


def trust(ca: str) -> None:
    """Requests and uamqp read certifi's file alone; `isthmus env` tells users to add the CA there."""
    os.environ["REQUESTS_CA_BUNDLE"] = ca
    certifi.where = lambda: ca


def run(task: Task) -> dict[str, str]:
    """Plays all cells and gives their outcomes."""
    trust(task.ca)
    outcomes: dict[str, str] = {}
    met = Meetings()
    ca = Path(task.ca).read_text()
    device = IoTHubDeviceClient.create_from_connection_string(
        task.device, server_verification_cert=ca, connection_retry=False
    )
    try:
        attempt(outcomes, "device mqtt 8883", lambda: send(device, f"{task.mark} mqtt"))
        listen(device, met)
        attempt(outcomes, "service https 443", lambda: invoke(task))
        attempt(outcomes, "service amqp 5671", lambda: command(task, met))
    finally:
        device.shutdown()
    attempt(outcomes, "device websocket 443", lambda: send_by_websocket(task, ca))
    attempt(outcomes, "reader amqp 5671", lambda: read(task, {f"{task.mark} mqtt", f"{task.mark} websocket"}))
    attempt(outcomes, "reader websocket 443", lambda: look_by_websocket(task))
    return outcomes


def attempt(outcomes: dict[str, str], cell: str, act: Callable[[], object]) -> None:
    """Notes what came of a cell."""
    try:
        act()
    except Exception as error:
        outcomes[cell] = type(error).__name__
    else:
        outcomes[cell] = "ok"


def send(device: Any, text: str) -> None:
    """Sends a message, and one that no single packet of any way can carry."""
    device.connect()
    device.send_message(text)
    device.send_message("-" * LARGE)


def listen(device: Any, met: Meetings) -> None:
    """Answers methods and keeps commands; without effect on a device that is not connected."""

    def answer(request: Any) -> None:
        device.send_method_response(MethodResponse.create_from_method_request(request, 200, {"heard": request.payload}))

    if device.connected:
        device.on_method_request_received = answer
        device.on_message_received = lambda message: met.note(lambda: met.commands.append(message.data))


def invoke(task: Task) -> None:
    """Patches the twin and calls a method, which the device of this very place answers."""
    service = IoTHubRegistryManager.from_connection_string(task.service)
    twin = service.update_twin(task.device_id, Twin(properties=TwinProperties(desired={"mark": task.mark})), "*")
    assert twin.properties.desired["mark"] == task.mark
    method = CloudToDeviceMethod(method_name="hear", payload=[1], response_timeout_in_seconds=10)
    assert service.invoke_device_method(task.device_id, method).payload == {"heard": [1]}


def command(task: Task, met: Meetings) -> None:
    """Sends a command over AMQP, which the device receives."""
    service = IoTHubRegistryManager.from_connection_string(task.service)
    try:
        service.send_c2d_message(task.device_id, task.mark)
    finally:
        service.amqp_svc_client.disconnect_sync()
    met.wait(lambda: task.mark.encode() in met.commands, task.seconds)


def send_by_websocket(task: Task, ca: str) -> None:
    device = IoTHubDeviceClient.create_from_connection_string(
        task.device, server_verification_cert=ca, websockets=True, connection_retry=False
    )
    try:
        send(device, f"{task.mark} websocket")
    finally:
        device.shutdown()


def read(task: Task, wanted: set[str]) -> None:
    """Reads the built-in endpoint from its beginning until the place's messages have come."""
    met, failures = Meetings(), list[Exception]()

    def took(context: Any, events: list[EventData]) -> None:
        met.note(lambda: met.read.update(event.body_as_str() for event in events))

    def failed(context: Any, error: Exception) -> None:
        met.note(lambda: failures.append(error))

    client = EventHubConsumerClient.from_connection_string(
        task.events, "$Default", connection_verify=task.ca, retry_total=0
    )
    receiving = threading.Thread(
        target=client.receive_batch,
        kwargs={"on_event_batch": took, "on_error": failed, "starting_position": "-1"},
        daemon=True,
    )
    receiving.start()
    try:
        met.wait(lambda: wanted <= met.read or bool(failures), task.seconds)
    finally:
        client.close()
    if failures and not wanted <= met.read:
        raise failures[0]


def look_by_websocket(task: Task) -> None:
    client = EventHubConsumerClient.from_connection_string(
        task.events,
        "$Default",
        connection_verify=task.ca,
        retry_total=0,
        transport_type=TransportType.AmqpOverWebsocket,
    )
    with client:
        assert client.get_eventhub_properties()["partition_ids"]


def main() -> None:
    outcomes = run(Task(**json.load(sys.stdin)))
    sys.stdout.write(json.dumps(outcomes) + "\n")
    sys.stdout.flush()
    # Threads that the SDKs have left behind hold nobody up.
    os._exit(0)


if __name__ == "__main__":
    main()
