"""The back-end of the demo: one round of a method, a command and a desired property, on the stock azure-iot-hub SDK."""

import argparse
import os

import certifi
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from isthmus.demo.parts import CONNECTION_STRING, tell


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ca", required=True)
    parser.add_argument("--device", required=True)
    options = parser.parse_args()
    connection_string = os.environ[CONNECTION_STRING]
    # uamqp and requests read certifi's file only; `isthmus env` tells how to do the same for a whole machine.
    certifi.where = lambda: options.ca
    service = IoTHubRegistryManager.from_connection_string(connection_string)
    service.protocol.config.connection.verify = options.ca
    _invoke(service, options.device)
    _set_desired(service, options.device)
    commands = IoTHubRegistryManager.from_connection_string(_without_port(connection_string))
    commands.send_c2d_message(options.device, "lubricate the bearing", {"iothub-ack": "full"})
    tell("command-sent", device=options.device)
    commands.amqp_svc_client.disconnect_sync()


def _invoke(service: IoTHubRegistryManager, device: str) -> None:
    method = CloudToDeviceMethod(
        method_name="calibrate", payload={"axis": "z"}, response_timeout_in_seconds=10, connect_timeout_in_seconds=10
    )
    result = service.invoke_device_method(device, method)
    tell("method-answered", device=device, status=result.status, payload=result.payload)


def _set_desired(service: IoTHubRegistryManager, device: str) -> None:
    twin = service.update_twin(device, Twin(properties=TwinProperties(desired={"interval": 2})), "*")
    tell("desired-set", device=device, version=twin.properties.desired["$version"])


def _without_port(connection_string: str) -> str:
    """AMQP has a port of its own: a port after the host name is HTTPS's."""
    host, rest = connection_string.split(";", 1)
    return f"{host.split(':')[0]};{rest}"


if __name__ == "__main__":
    main()
