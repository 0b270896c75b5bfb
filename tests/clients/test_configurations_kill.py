"""`kill -9` in the middle of a rollout: it goes on after the next start, and writes each twin once."""

from collections.abc import Callable

import pytest
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import Configuration, ConfigurationContent, ExportImportDevice, QuerySpecification

from clients.devices import until
from support.server import RunningHub

BULK = 100
ROLLOUT_SECONDS_MAX = 120.0


@pytest.fixture
def hub(make_hub: Callable[..., RunningHub]) -> RunningHub:
    return make_hub(forked=True)


def test_a_rollout_that_was_killed_goes_on_and_writes_each_twin_once(hub: RunningHub) -> None:
    killed_rollout(hub, devices=800, deaths=2)


@pytest.mark.long
def test_a_rollout_that_was_killed_often_writes_each_twin_once(hub: RunningHub) -> None:
    killed_rollout(hub, devices=20_000, deaths=20)


def killed_rollout(hub: RunningHub, *, devices: int, deaths: int) -> None:
    service = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    manager = IoTHubConfigurationManager.from_connection_string(hub.connection_string())
    for first in range(0, devices, BULK):
        batch = [ExportImportDevice(id=f"d{first + n:05}", import_mode="create") for n in range(BULK)]
        assert service.bulk_create_or_update_devices(batch).is_successful
    content = ConfigurationContent(device_content={"properties.desired.x": {"y": 1}})
    manager.create_configuration(Configuration(id="c", content=content, target_condition="*"))
    until(lambda: applied(manager) > 0, ROLLOUT_SECONDS_MAX)
    for _ in range(deaths):
        hub.kill()
        hub.restart()
    until(lambda: applied(manager) == devices, ROLLOUT_SECONDS_MAX)
    assert desired(service) == {2: devices}
    manager.delete_configuration("c")
    hub.kill()
    hub.restart()
    until(lambda: desired(service) == {3: devices}, ROLLOUT_SECONDS_MAX)
    assert not names(service, "SELECT deviceId FROM devices WHERE is_defined(properties.desired.x)")
    assert not names(service, "SELECT deviceId FROM devices WHERE is_defined(configurations)")


def applied(manager: IoTHubConfigurationManager) -> int:
    return int(manager.get_configuration("c").system_metrics.results.get("appliedCount", 0))


def desired(service: IoTHubRegistryManager) -> dict[int, int]:
    """How many devices have which version of their desired properties."""
    counted = {
        version: len(names(service, f"SELECT deviceId FROM devices WHERE properties.desired.$version = {version}"))
        for version in range(1, 6)
    }
    return {version: count for version, count in counted.items() if count}


def names(service: IoTHubRegistryManager, text: str) -> list[str]:
    found: list[str] = []
    continuation = None
    while True:
        page = service.query_iot_hub(QuerySpecification(query=text), continuation, 100)
        found += [row.device_id for row in page.items]
        continuation = page.continuation_token
        if continuation is None:
            return found
