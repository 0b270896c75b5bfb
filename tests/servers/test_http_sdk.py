"""The unmodified `azure-iot-hub` client against the service API."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from azure.iot.hub.auth import ConnectionStringAuthentication
from azure.iot.hub.protocol import models
from azure.iot.hub.protocol.iot_hub_gateway_service_ap_is import IotHubGatewayServiceAPIs
from msrest.exceptions import HttpOperationError

from devices.fakes import KEY, FakeDevice
from isthmus.base.clock import SystemClock
from isthmus.base.ids import DeviceRef
from isthmus.devices.ports import MethodAnswer
from servers.http_world import HOST, HttpWorld

WEIRD = "a%41b:@$',=!()*?"


@pytest.fixture
async def world() -> AsyncIterator[HttpWorld]:
    async with HttpWorld() as opened:
        opened.peer.server_name = HOST
        opened.clock.now_ms = SystemClock().utc_ms()
        yield opened


async def test_registry_twins_methods_and_queries(world: HttpWorld) -> None:
    ref = DeviceRef(world.hub.number, WEIRD)
    world.connected.devices[ref] = FakeDevice(MethodAnswer(200, b'{"ok":true}'))
    world.commands.waiting[ref] = 2
    await asyncio.to_thread(_journey, client(world))


def _journey(api: IotHubGatewayServiceAPIs) -> None:
    _registry(api)
    _twins(api)
    result = api.devices.invoke_method(WEIRD, models.CloudToDeviceMethod(method_name="m"))
    assert (result.status, result.payload) == (200, {"ok": True})
    found = api.query.get_twins(models.QuerySpecification(query="SELECT * FROM devices WHERE tags.hall = 2"))
    assert [twin.device_id for twin in found] == [WEIRD]
    assert api.cloud_to_device_messages.purge_cloud_to_device_message_queue(WEIRD).total_messages_purged == 2
    assert api.statistics.get_device_statistics().total_device_count == 1
    assert api.statistics.get_service_statistics().connected_device_count == 1
    api.devices.delete_identity(WEIRD, '"*"')
    with pytest.raises(HttpOperationError):
        api.devices.get_identity(WEIRD)


def _registry(api: IotHubGatewayServiceAPIs) -> None:
    device = api.devices.create_or_update_identity(WEIRD, models.Device(device_id=WEIRD, status="enabled"))
    key = models.SymmetricKey(primary_key=KEY, secondary_key=KEY)
    device.authentication = models.AuthenticationMechanism(type="sas", symmetric_key=key)
    changed = api.devices.create_or_update_identity(WEIRD, device, f'"{device.etag}"')
    assert changed.authentication.symmetric_key.primary_key == KEY
    assert [each.device_id for each in api.devices.get_devices(10)] == [WEIRD]
    api.modules.create_or_update_identity(WEIRD, "m", models.Module(device_id=WEIRD, module_id="m", managed_by="me"))
    assert [each.module_id for each in api.modules.get_modules_on_device(WEIRD)] == ["m"]
    assert api.modules.get_identity(WEIRD, "m").managed_by == "me"
    api.modules.delete_identity(WEIRD, "m", '"*"')


def _twins(api: IotHubGatewayServiceAPIs) -> None:
    twin = api.devices.get_twin(WEIRD)
    patch = models.Twin(tags={"hall": 2}, properties=models.TwinProperties(desired={"x": 1, "gone": None}))
    patched = api.devices.update_twin(WEIRD, patch, f'"{twin.etag}"')
    assert patched.properties.desired["x"] == 1
    patched.properties.desired["x"] = 5
    replaced = api.devices.replace_twin(WEIRD, patched, f'"{patched.etag}"')
    assert (replaced.properties.desired["x"], replaced.properties.desired["$version"]) == (5, 3)


def client(world: HttpWorld) -> IotHubGatewayServiceAPIs:
    policy = world.hub.policy("iothubowner")
    assert policy is not None
    text = f"HostName={world.authority};SharedAccessKeyName=iothubowner;SharedAccessKey={policy.primary_key}"
    return IotHubGatewayServiceAPIs(ConnectionStringAuthentication(text), f"http://{world.authority}")
