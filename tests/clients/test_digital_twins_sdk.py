"""Plug and Play: a device on azure-iot-device that follows a model, and azure-iot-hub's DigitalTwinClient."""

from typing import Any

import pytest
from azure.iot.device import MethodResponse
from azure.iot.hub import DigitalTwinClient, IoTHubRegistryManager
from msrest.exceptions import HttpOperationError

from clients.devices import connected, make_device, until
from support.server import RunningHub

MODEL = "dtmi:com:example:TemperatureController;2"


@pytest.fixture
def twins(hub: RunningHub) -> DigitalTwinClient:
    return DigitalTwinClient.from_connection_string(hub.connection_string())


def test_a_digital_twin_is_what_the_device_reports_and_what_is_desired(
    hub: RunningHub, twins: DigitalTwinClient, service: IoTHubRegistryManager, device_id: str
) -> None:
    with connected(hub, device_id, product_info=MODEL) as device:
        patches: list[dict[str, Any]] = []
        device.on_twin_desired_properties_patch_received = patches.append
        assert service.get_twin(device_id).additional_properties["modelId"] == MODEL
        device.patch_twin_reported_properties({"serial": "a1", "thermostat1": {"__t": "c", "max": 67.5}})
        twin = twins.get_digital_twin(device_id)
        assert (twin["$dtId"], twin["serial"], twin["thermostat1"]["max"]) == (device_id, "a1", 67.5)
        assert twin["$metadata"]["$model"] == MODEL
        twins.update_digital_twin(device_id, [{"op": "add", "path": "/target", "value": 42}])
        twins.update_digital_twin(device_id, [{"op": "add", "path": "/thermostat1/limit", "value": 5}])
        wanted = [{"target": 42, "$version": 2}, {"thermostat1": {"__t": "c", "limit": 5}, "$version": 3}]
        until(lambda: patches == wanted)
        device.patch_twin_reported_properties({"target": {"value": 42, "ac": 200, "av": 2, "ad": "done"}})
    twin = twins.get_digital_twin(device_id)
    assert twin["target"] == 42
    told = twin["$metadata"]["target"]
    assert (told["desiredValue"], told["desiredVersion"], told["ackCode"], told["ackDescription"]) == (
        42,
        2,
        200,
        "done",
    )
    assert twin["thermostat1"]["$metadata"]["limit"]["desiredValue"] == 5
    found = hub.json("query", "-q", f"SELECT deviceId FROM devices WHERE modelId = '{MODEL}'")
    assert {"deviceId": device_id} in found
    with pytest.raises(HttpOperationError) as stale:
        twins.update_digital_twin(device_id, [{"op": "add", "path": "/target", "value": 1}], "AAAAAAAAAAE=")
    assert stale.value.response.status_code == 412
    with pytest.raises(HttpOperationError) as wrong:
        twins.update_digital_twin(device_id, [{"op": "add", "path": "target", "value": 1}])
    assert wrong.value.response.headers["iothub-errorcode"] == "InvalidDigitalTwinPatchPath"


def test_commands_of_the_model_and_of_a_component_are_methods(
    hub: RunningHub, twins: DigitalTwinClient, device_id: str
) -> None:
    with connected(hub, device_id, product_info=MODEL) as device:
        device.on_method_request_received = lambda asked: device.send_method_response(
            MethodResponse.create_from_method_request(asked, 201, {"name": asked.name, "got": asked.payload})
        )
        assert twins.invoke_command(device_id, "reboot", 5) == {"name": "reboot", "got": 5}
        answer = twins.invoke_component_command(device_id, "thermostat1", "report", {"since": "x"}, 10, 20)
        assert answer == {"name": "thermostat1*report", "got": {"since": "x"}}
        raw = twins.protocol.digital_twin.invoke_root_level_command(device_id, "reboot", {}, raw=True)
        assert raw.headers["x-ms-command-statuscode"] == 201
        assert raw.headers["x-ms-request-id"]
    make_device(hub, f"{device_id}-away")
    with pytest.raises(HttpOperationError) as away:
        twins.invoke_command(f"{device_id}-away", "reboot", "now")
    assert (away.value.response.status_code, away.value.response.headers["iothub-errorcode"]) == (
        404,
        "DeviceNotOnline",
    )
