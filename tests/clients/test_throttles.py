"""Rates as the stock clients meet them, and as the owner finds out who was held back."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from azure.iot.device import IoTHubDeviceClient, Message
from azure.iot.hub import IoTHubRegistryManager

from clients.devices import client_of, connected, key_of, make_device, until
from clients.sas import sas_token
from support.loopback import Loopback
from support.server import RunningHub

HUB_SETTINGS = """
[throttles]
device_messages_per_second = 20
[throttles.rates]
twin_reads = 1
queries = 0.05
commands = 0.1
"""

MESSAGES = 60


def test_a_device_that_is_too_fast_is_slowed_loses_nothing_and_is_explained(hub: RunningHub, device_id: str) -> None:
    with connected(hub, device_id) as device:
        senders = [threading.Thread(target=device.send_message, args=(Message(str(n)),)) for n in range(MESSAGES)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(30)
        assert not any(sender.is_alive() for sender in senders)
        assert device.connected
    (told,) = [each for each in hub.json("explain", "-d", device_id) if each["rule"] == "limit.device-rate"]
    assert (told["verdict"], told["hop"]) == ("delayed", "limit")
    assert "was delayed, limit: limit.device-rate" in hub.isthmus("explain", "-d", device_id)


def test_a_throttled_query_is_told_when_to_come_again(service: IoTHubRegistryManager, hub: RunningHub) -> None:
    statuses = []
    token = sas_token(hub.host_name, key_of(hub.connection_string()), "iothubowner")
    for _ in range(5):
        answer = requests.post(
            f"https://{hub.host_name}/devices/query",
            params={"api-version": "2021-04-12"},
            json={"query": "SELECT * FROM devices"},
            headers={"Authorization": token},
            timeout=30,
        )
        statuses.append(answer.status_code)
    assert statuses[:3] == [200, 200, 200]
    assert statuses[3:] == [429, 429]
    assert answer.headers["iothub-errorcode"] == "ThrottlingException"
    assert int(answer.headers["Retry-After"]) >= 1
    tracking_id = answer.json()["ExceptionMessage"].removeprefix("Tracking ID:")
    assert "limit.hub-rate" in hub.isthmus("explain", tracking_id)
    assert 'isthmus_throttle_refused_total{operation="queries"} 2.0' in hub.isthmus("metrics")


def test_the_service_client_waits_as_it_is_told_and_comes_again(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    make_device(hub, device_id)
    for _ in range(3):
        assert service.get_twin(device_id).device_id == device_id
    assert 'isthmus_throttle_refused_total{operation="twin_reads"} 0.0' not in hub.isthmus("metrics")


def test_the_service_client_is_refused_a_command_too_many(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    make_device(hub, device_id)
    for number in range(6):
        service.send_c2d_message(device_id, str(number))
    with pytest.raises(Exception, match="C2D message send failure"):
        service.send_c2d_message(device_id, "one too many")
    refused = hub.json("explain", "--since", "1m")
    assert "limit.hub-rate" in {each["rule"] for each in refused}


def test_a_day_s_messages_are_counted_over_a_restart_and_the_rest_is_refused(tmp_path: Path) -> None:
    with Loopback() as loopback:
        hub = RunningHub(tmp_path, loopback.take(), settings="[throttles]\ndaily_messages = 3\n")
        try:
            hub.start()
            connection = hub.create_device("press")
            with _device(hub, connection) as device:
                device.send_message(Message("1"))
                device.send_message(Message("2"))
            hub.stop()
            hub.start()
            with _device(hub, connection) as device:
                device.send_message(Message("3"))
                (messages,) = [each for each in _quotas(hub) if each["name"] == "TotalMessages"]
                assert (messages["currentValue"], messages["maxValue"]) == (3, 3)
                dropped = threading.Event()
                device.on_connection_state_change = lambda: dropped.set() if not device.connected else None
                threading.Thread(target=_send, args=(device, "4"), daemon=True).start()
                assert dropped.wait(30)
            until(lambda: hub.json("explain", "-d", "press"))
            assert hub.json("explain", "-d", "press")[0]["rule"] == "limit.daily-messages"
            hub.stop()
        finally:
            hub.kill()


@contextmanager
def _device(hub: RunningHub, connection_string: str) -> Iterator[IoTHubDeviceClient]:
    device = client_of(hub, connection_string, connection_retry=False)
    device.connect()
    try:
        yield device
    finally:
        device.shutdown()


def _send(device: IoTHubDeviceClient, text: str) -> None:
    """Sends what is not acknowledged."""
    with suppress(Exception):
        device.send_message(Message(text))


def _quotas(hub: RunningHub) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(hub.isthmus("iot", "hub", "show-quota-metrics", "--output", "json"))
    return found
