"""`mosquitto_pub`, `mosquitto_sub` and `curl` with a SAS token, and nothing else."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from clients.reading import EventCollector
from clients.sas import sas_token
from support.server import RunningHub

needs_mosquitto = pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="mosquitto-clients is not installed")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.mark.rule("MQTT-7.0.0-2", "MQTT-7.1.1-1")
@needs_mosquitto
def test_mosquitto_pub_sends_telemetry(hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]) -> None:
    reader = collect()
    topic = f"devices/{device_id}/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8&level=high"
    subprocess.run([*mosquitto(hub, device_id, "mosquitto_pub"), "-t", topic, "-m", '{"a":1}'], check=True, timeout=30)
    (event,) = reader.of_device(device_id)
    assert event.body_as_str() == '{"a":1}'
    assert event.properties == {b"level": b"high"}
    assert event.system_properties[b"content-type"] == b"application/json"


@pytest.mark.rule("MQTT-7.0.0-2")
@needs_mosquitto
def test_mosquitto_sub_receives_commands(hub: RunningHub, device_id: str) -> None:
    command = mosquitto(hub, device_id, "mosquitto_sub")
    hub.isthmus("c2d-message", "send", "-d", device_id, "--data", "hello", "--props", "a=1", "--mid", "m1")
    done = subprocess.run(
        [*command, "-t", f"devices/{device_id}/messages/devicebound/#", "-C", "1", "-v", "-W", "20"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    topic, payload = done.stdout.strip().split(" ", 1)
    assert payload == "hello"
    assert topic.startswith(f"devices/{device_id}/messages/devicebound/%24.mid=m1&%24.to=")
    assert topic.endswith("&a=1")


@needs_curl
def test_curl_reads_and_writes_the_registry(hub: RunningHub, device_id: str) -> None:
    status, body = curl(hub, "GET", f"/devices/{device_id}")
    assert status == 404
    assert body["Message"].startswith("ErrorCode:DeviceNotFound;")
    assert "Tracking ID:" in body["ExceptionMessage"]
    status, body = curl(hub, "PUT", f"/devices/{device_id}", json.dumps({"deviceId": device_id}))
    assert status == 200
    assert body["authentication"]["type"] == "sas"
    assert curl(hub, "GET", f"/twins/{device_id}")[1]["properties"]["desired"]["$version"] == 1


@needs_curl
def test_curl_sends_as_a_device_and_receives_a_command(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    key = hub.create_device(device_id).rsplit("SharedAccessKey=", 1)[1]
    messages = f"https://{hub.host_name}/devices/{device_id}/messages"
    version = "api-version=2021-04-12"
    words = [
        *("curl", "--silent", "--fail", "--cacert", str(hub.ca)),
        *("--header", f"Authorization: {sas_token(f'{hub.host_name}/devices/{device_id}', key)}"),
    ]

    def run(*more: str) -> str:
        return subprocess.run([*words, *more], check=True, capture_output=True, text=True, timeout=30).stdout

    send = ("--header", "iothub-contenttype: application/json", "--header", "iothub-app-line: 2")
    assert run(f"{messages}/events?{version}", *send, "--data", '{"pressure":7.4}') == ""
    (event,) = reader.of_device(device_id)
    assert (event.body_as_str(), event.properties, event.content_type) == (
        '{"pressure":7.4}',
        {b"line": b"2"},
        "application/json",
    )
    hub.isthmus("c2d-message", "send", "-d", device_id, "--data", "lubricate the bearing")
    head, _, body = run("--include", f"{messages}/devicebound?{version}").partition("\n\n")
    assert body == "lubricate the bearing"
    (lock,) = re.findall(r'^ETag: "([^"]+)"', head, re.MULTILINE)
    assert run("--request", "DELETE", f"{messages}/devicebound/{lock}?{version}") == ""
    assert "204" in run("--include", f"{messages}/devicebound?{version}").splitlines()[0]


def mosquitto(hub: RunningHub, device_id: str, program: str) -> list[str]:
    key = hub.create_device(device_id).rsplit("SharedAccessKey=", 1)[1]
    return [
        *(program, "-h", hub.address, "-p", "8883", "--cafile", str(hub.ca), "-q", "1", "-V", "mqttv311"),
        *("-i", device_id, "-u", f"{hub.host_name}/{device_id}/?api-version=2021-04-12"),
        *("-P", sas_token(f"{hub.host_name}/devices/{device_id}", key)),
    ]


def curl(hub: RunningHub, verb: str, path: str, body: str = "") -> tuple[int, dict[str, Any]]:
    key = hub.connection_string().rsplit("SharedAccessKey=", 1)[1]
    command = [
        *("curl", "-sS", "--cacert", str(hub.ca), "-X", verb, "-w", "\n%{http_code}"),
        *("-H", f"Authorization: {sas_token(hub.host_name, key, 'iothubowner')}"),
        f"https://{hub.host_name}{path}?api-version=2021-04-12",
    ]
    if body:
        command += ["-H", "Content-Type: application/json", "-d", body]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    text, status = done.stdout.rsplit("\n", 1)
    return int(status), json.loads(text)
