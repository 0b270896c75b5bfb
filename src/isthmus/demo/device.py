"""A device of the demo: telemetry each second, a method, commands and a twin, on the stock azure-iot-device SDK."""

import argparse
import itertools
import json
import os
import random
import time
from pathlib import Path
from typing import Any

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse
from azure.iot.device.exceptions import ClientError

from isthmus.demo.parts import CONNECTION_STRING, resolve_privately, tell

SECONDS_BETWEEN_MESSAGES = 1.0
SECONDS_BETWEEN_TRIES = 3.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--private-address", default="")
    options = parser.parse_args()
    connection_string = os.environ[CONNECTION_STRING]
    if options.private_address:
        host = dict(part.split("=", 1) for part in connection_string.split(";"))["HostName"]
        resolve_privately(host, options.private_address)
    device = IoTHubDeviceClient.create_from_connection_string(
        connection_string,
        server_verification_cert=Path(options.ca).read_text(),
        connection_retry=False,
    )
    _listen(device)
    for number in itertools.count(1):
        _send(device, number)


def _listen(device: IoTHubDeviceClient) -> None:
    def answer(request: Any) -> None:
        tell("method", name=request.name, payload=request.payload)
        device.send_method_response(MethodResponse.create_from_method_request(request, 200, {"done": request.name}))

    def changed(patch: dict[str, Any]) -> None:
        tell("desired", patch=patch)
        device.patch_twin_reported_properties({key: value for key, value in patch.items() if key != "$version"})

    device.on_method_request_received = answer
    device.on_message_received = lambda message: tell("command", text=message.data.decode())
    device.on_twin_desired_properties_patch_received = changed
    device.on_connection_state_change = lambda: tell("connected" if device.connected else "disconnected")
    device.on_background_exception = lambda error: None


def _send(device: IoTHubDeviceClient, number: int) -> None:
    body = {"number": number, "pressure": round(random.gauss(7.5, 0.2), 2)}
    message = Message(json.dumps(body), content_encoding="utf-8", content_type="application/json")
    try:
        device.send_message(message)
    except ClientError as error:
        tell("refused", reason=type(error).__name__)
        time.sleep(SECONDS_BETWEEN_TRIES)
    else:
        tell("sent", **body)
        time.sleep(SECONDS_BETWEEN_MESSAGES)


if __name__ == "__main__":
    main()
