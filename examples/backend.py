"""A back-end: a method, a desired property, a command and a query, on the official azure-iot-hub SDK.

Needs what `isthmus env` prints, and the device's name: `python backend.py press-1`.
"""

import os
import sys

import certifi
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, QuerySpecification, Twin, TwinProperties

# This SDK and the AMQP library under it trust certifi's file alone. Where the CA was appended to that file, as
# `isthmus env` tells, this line is not needed.
certifi.where = lambda: os.environ["IOTHUB_CA_CERTIFICATE"]


def main() -> None:
    device = sys.argv[1]
    connection_string = os.environ["IOTHUB_CONNECTION_STRING"]
    hub = IoTHubRegistryManager.from_connection_string(connection_string)

    method = CloudToDeviceMethod(method_name="calibrate", payload={"axis": "z"}, connect_timeout_in_seconds=10)
    result = hub.invoke_device_method(device, method)
    print(f"method {result.status} {result.payload}")

    twin = hub.update_twin(device, Twin(properties=TwinProperties(desired={"interval": 0.5})), "*")
    print(f"desired version {twin.properties.desired['$version']}")

    commands = IoTHubRegistryManager.from_connection_string(without_port(connection_string))
    commands.send_c2d_message(device, "lubricate the bearing", {"iothub-ack": "full"})
    commands.amqp_svc_client.disconnect_sync()
    print("command sent")

    answer = hub.query_iot_hub(QuerySpecification(query="SELECT * FROM devices WHERE connectionState = 'Connected'"))
    print(f"connected {[each.device_id for each in answer.items]}")


def without_port(connection_string: str) -> str:
    """Commands travel over AMQP, which has a port of its own: one behind the host name is that of HTTPS."""
    host, _, rest = connection_string.partition(";")
    return f"{host.partition(':')[0]};{rest}"


if __name__ == "__main__":
    main()
