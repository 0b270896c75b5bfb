"""A device: telemetry each second, a direct method, commands, and a twin, on the official azure-iot-device SDK.

Needs what `isthmus env --device-id ID` prints; ends with Ctrl-C.
"""

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse


def main() -> None:
    device = IoTHubDeviceClient.create_from_connection_string(
        os.environ["IOTHUB_DEVICE_CONNECTION_STRING"],
        server_verification_cert=Path(os.environ["IOTHUB_CA_CERTIFICATE"]).read_text(),
    )
    interval = {"seconds": 1.0}

    def answer(request: Any) -> None:
        print(f"method {request.name} {request.payload}", flush=True)
        device.send_method_response(MethodResponse.create_from_method_request(request, 200, {"done": request.name}))

    def obey(desired: dict[str, Any]) -> None:
        print(f"desired {desired}", flush=True)
        interval["seconds"] = float(desired.get("interval", interval["seconds"]))
        device.patch_twin_reported_properties({"interval": interval["seconds"]})

    device.on_method_request_received = answer
    device.on_message_received = lambda message: print(f"command {message.data.decode()}", flush=True)
    device.on_twin_desired_properties_patch_received = obey
    obey(device.get_twin()["desired"])  # what was wished while this device was away
    for number in itertools.count(1):
        message = Message(json.dumps({"number": number}), content_encoding="utf-8", content_type="application/json")
        message.custom_properties["line"] = "2"
        device.send_message(message)  # returns when the hub has it on disk
        print(f"sent {number}", flush=True)
        time.sleep(interval["seconds"])


if __name__ == "__main__":
    main()
