"""Automatic device management by the azure-iot-hub and azure-iothub clients, with devices on azure-iot-device."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from azure.iot.device import IoTHubModuleClient
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    ConfigurationQueriesTestInput,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

from clients.devices import connected, until
from clients.node import node
from support.server import RunningHub


@pytest.fixture
def manager(hub: RunningHub) -> IoTHubConfigurationManager:
    return IoTHubConfigurationManager.from_connection_string(hub.connection_string())


def test_connected_devices_hear_of_the_configuration_with_the_highest_priority(
    hub: RunningHub, manager: IoTHubConfigurationManager, service: IoTHubRegistryManager, device_id: str
) -> None:
    patches: list[dict[str, Any]] = []
    with connected(hub, device_id) as device:
        device.on_twin_desired_properties_patch_received = patches.append
        service.update_twin(device_id, Twin(tags={"site": device_id, "floor": 3}))
        condition = f"tags.site = '{device_id}'"
        low = made(manager, f"{device_id}-low", {"properties.desired.chiller": {"temperature": 66}}, condition)
        until(lambda: {"chiller": {"temperature": 66}, "$version": 2} in patches)
        high_condition = f"{condition} AND tags.floor IN [3, 4]"
        high = made(
            manager, f"{device_id}-high", {"properties.desired.chiller": {"temperature": 4}}, high_condition, priority=9
        )
        until(lambda: {"chiller": {"temperature": 4}, "$version": 3} in patches)
        until(lambda: statuses(service, device_id) == {low.id: "Targeted", high.id: "Applied"})
        service.update_twin(device_id, Twin(tags={"floor": 5}))
        until(lambda: {"chiller": {"temperature": 66}, "$version": 4} in patches)
        manager.delete_configuration(low.id)
        manager.delete_configuration(high.id, high.etag)
        until(lambda: {"chiller": None, "$version": 5} in patches)
        until(lambda: statuses(service, device_id) == {})
    assert service.get_twin(device_id).properties.desired.get("chiller") is None


def test_a_device_that_does_not_take_the_settings_is_explained(
    hub: RunningHub, manager: IoTHubConfigurationManager, service: IoTHubRegistryManager, device_id: str
) -> None:
    service.create_device_with_sas(device_id, "", "", "enabled")
    full = {f"k{number}": "x" * 4_000 for number in range(8)}
    service.update_twin(device_id, Twin(tags={"site": device_id}, properties=TwinProperties(desired=full)))
    content = {"properties.desired.more": "y" * 4_000}
    made(manager, f"{device_id}-big", content, f"tags.site = '{device_id}'")
    until(lambda: statuses(service, device_id) == {f"{device_id}-big": "Targeted"})
    assert "contract.configuration" in hub.isthmus("explain", "--device-id", device_id)


def test_metrics_are_counted_and_can_be_asked_by_their_queries(
    hub: RunningHub, manager: IoTHubConfigurationManager, service: IoTHubRegistryManager, device_id: str
) -> None:
    for number in range(3):
        service.create_device_with_sas(f"{device_id}-{number}", "", "", "enabled")
        service.update_twin(f"{device_id}-{number}", Twin(tags={"site": device_id, "n": number}))
    metrics = ConfigurationMetrics(
        queries={"few": f"SELECT deviceId FROM devices WHERE tags.site = '{device_id}' AND tags.n > 0"}
    )
    content = {"properties.desired.x": 1}
    body = made(manager, f"{device_id}-m", content, f"tags.site = '{device_id}'", metrics=metrics)
    assert set(body.system_metrics.queries) == {"targetedCount", "appliedCount"}
    until(lambda: manager.get_configuration(body.id).system_metrics.results == {"targetedCount": 3, "appliedCount": 3})
    assert manager.get_configuration(body.id).metrics.results == {"few": 2}
    for query in manager.get_configuration(body.id).system_metrics.queries.values():
        assert len(hub.json("query", "-q", query)) == 3
    listed = {each.id: each for each in manager.get_configurations(20)}
    assert listed[body.id].system_metrics.results["appliedCount"] == 3
    assert len(manager.get_configurations(1)) == 1


def test_what_may_be_written_and_what_may_not(manager: IoTHubConfigurationManager, device_id: str) -> None:
    config_id, content = f"{device_id}-r", {"properties.desired.x": 1}
    first = made(manager, config_id, content, "tags.never = 1", labels={"k": "v"})
    assert (first.etag, first.priority, first.labels, first.schema_version) == ("MQ==", 0, {"k": "v"}, "1.0")
    assert first.content.device_content == content
    assert refusal(lambda: made(manager, config_id, content)) == (409, "ConfigurationAlreadyExists")
    first.priority = 5
    second = manager.update_configuration(first, first.etag)
    assert (second.priority, second.etag, second.created_time_utc) == (5, "Mg==", first.created_time_utc)
    assert refusal(lambda: manager.update_configuration(first, first.etag)) == (412, "PreconditionFailed")
    second.content = ConfigurationContent(device_content={"properties.desired.x": 2})
    assert refusal(lambda: manager.update_configuration(second, "*")) == (
        400,
        "CannotModifyImmutableConfigurationContent",
    )
    wrong = f"{device_id}-wrong"
    for body, code in (
        ({"content": {"properties.reported.x": 1}}, "InvalidConfigurationContent"),
        ({"content": content, "condition": "tags.a = "}, "InvalidConfigurationTargetCondition"),
        (
            {"content": content, "metrics": ConfigurationMetrics(queries={"m": "select"})},
            "InvalidConfigurationCustomMetricsQuery",
        ),
    ):
        assert refusal(lambda body=body: made(manager, wrong, **body)) == (400, code)  # type: ignore[misc]
    assert refusal(lambda: made(manager, "Capital", content)) == (400, "ArgumentInvalid")
    unknown = Configuration(id="nobody", content=ConfigurationContent(device_content=content))
    assert refusal(lambda: manager.update_configuration(unknown, "*")) == (404, "ConfigurationNotFound")
    assert refusal(lambda: manager.delete_configuration(config_id, "MQ==")) == (412, "PreconditionFailed")
    manager.delete_configuration(config_id, second.etag)
    assert refusal(lambda: manager.get_configuration(config_id)) == (404, "ConfigurationNotFound")


def test_queries_are_tried_before_they_are_used(manager: IoTHubConfigurationManager) -> None:
    asked = ConfigurationQueriesTestInput(
        target_condition="tags.site = 'x' AND NOT",
        custom_metric_queries={"good": "SELECT deviceId FROM devices", "bad": "SELECT FROM"},
    )
    told = manager.test_configuration_queries(asked)
    assert told.target_condition_error
    assert set(told.custom_metric_query_errors) == {"bad"}
    asked.target_condition = "FROM devices.modules WHERE tags.site = 'x'"
    assert manager.test_configuration_queries(asked).target_condition_error is None


def test_content_is_applied_to_an_edge_device(
    hub: RunningHub, manager: IoTHubConfigurationManager, service: IoTHubRegistryManager, device_id: str
) -> None:
    edge_device(service, device_id)
    patched = threading.Event()
    manager.apply_configuration_on_edge_device(device_id, edge_content("camera", rate=5))
    assert sorted(each.module_id for each in service.get_modules(device_id)) == ["$edgeAgent", "$edgeHub", "camera"]
    agent = service.get_module_twin(device_id, "$edgeAgent")
    assert set(agent.properties.desired["modules"]) == {"camera"}
    module = IoTHubModuleClient.create_from_connection_string(
        hub.device_connection_string(device_id, "camera"), server_verification_cert=hub.ca.read_text()
    )
    module.on_twin_desired_properties_patch_received = lambda patch: patched.set() if patch.get("rate") == 6 else None
    module.connect()
    try:
        manager.apply_configuration_on_edge_device(device_id, edge_content("camera", rate=6))
        assert patched.wait(30)
    finally:
        module.shutdown()
    manager.apply_configuration_on_edge_device(device_id, edge_content("other", rate=1))
    assert sorted(each.module_id for each in service.get_modules(device_id)) == ["$edgeAgent", "$edgeHub", "other"]
    service.create_device_with_sas(f"{device_id}-leaf", "", "", "enabled")
    apply = lambda: manager.apply_configuration_on_edge_device(f"{device_id}-leaf", edge_content("camera", rate=1))  # noqa: E731
    assert refusal(apply) == (400, "ArgumentInvalid")


def test_a_deployment_reaches_the_modules_of_edge_devices(
    manager: IoTHubConfigurationManager, service: IoTHubRegistryManager, device_id: str
) -> None:
    edge_device(service, device_id)
    service.create_device_with_sas(f"{device_id}-leaf", "", "", "enabled")
    for name in (device_id, f"{device_id}-leaf"):
        service.update_twin(name, Twin(tags={"site": device_id}))
    deployment = Configuration(
        id=f"{device_id}-d",
        schema_version="1.0",
        content=edge_content("camera", rate=5),
        target_condition=f"tags.site = '{device_id}' OR tags.site = 'nowhere'",
        priority=1,
    )
    made_deployment = manager.create_configuration(deployment)
    assert set(made_deployment.system_metrics.queries) == {
        "targetedCount", "appliedCount", "reportedSuccessfulCount", "reportedFailedCount",
    }  # fmt: skip
    wanted = {"targetedCount": 1, "appliedCount": 1, "reportedSuccessfulCount": 0, "reportedFailedCount": 0}
    until(lambda: manager.get_configuration(deployment.id).system_metrics.results == wanted)
    assert service.get_module_twin(device_id, "camera").properties.desired["rate"] == 5
    layer = Configuration(
        id=f"{device_id}-layer",
        content=ConfigurationContent(
            modules_content={
                "$edgeAgent": {"properties.desired.modules.extra": {"version": "1"}},
                "camera": {"properties.desired.more": 7},
            }
        ),
        target_condition=f"tags.site = '{device_id}'",
        priority=2,
    )
    manager.create_configuration(layer)
    until(lambda: service.get_module_twin(device_id, "camera").properties.desired.get("more") == 7)
    agent = service.get_module_twin(device_id, "$edgeAgent")
    assert set(agent.properties.desired["modules"]) == {"camera", "extra"}
    assert statuses(service, device_id, "$edgeAgent") == {deployment.id: "Applied", layer.id: "Applied"}
    for name in (deployment.id, layer.id):
        manager.delete_configuration(name)
    until(lambda: statuses(service, device_id, "$edgeAgent") == {})
    until(lambda: "rate" not in service.get_module_twin(device_id, "camera").properties.desired)


def test_the_node_client_manages_configurations(
    hub: RunningHub, service: IoTHubRegistryManager, device_id: str
) -> None:
    edge_device(service, device_id)
    told = node("configurations.cjs", hub.connection_string(), device_id, ca=hub.ca, names={})
    assert told == {
        "created": ["MQ==", "1.0"],
        "got": ["appliedCount", "targetedCount"],
        "forced": 3,
        "conditional": 4,
        "stale": "InvalidEtagError",
        "listed": True,
        "modules": ["$edgeAgent", "$edgeHub", "camera"],
        "removed": "Error",
    }


def test_rights_are_those_of_the_registry(hub: RunningHub, device_id: str) -> None:
    read = IoTHubConfigurationManager.from_connection_string(hub.connection_string("registryRead"))
    assert isinstance(read.get_configurations(), list)
    assert refusal(lambda: made(read, device_id, {"properties.desired.x": 1}))[0] == 401
    service_only = IoTHubConfigurationManager.from_connection_string(hub.connection_string("service"))
    assert refusal(service_only.get_configurations)[0] == 401


def made(
    manager: IoTHubConfigurationManager,
    config_id: str,
    content: dict[str, Any],
    condition: str = "tags.never = 1",
    **more: Any,
) -> Any:
    return manager.create_configuration(
        Configuration(
            id=config_id,
            schema_version="1.0",
            content=ConfigurationContent(device_content=content),
            target_condition=condition,
            **more,
        )
    )


def refusal(call: Callable[[], object]) -> tuple[int, str]:
    """Status and code of the answer."""
    with pytest.raises(HttpOperationError) as refused:
        call()
    response = refused.value.response
    return response.status_code, response.headers["iothub-errorcode"]


def statuses(service: IoTHubRegistryManager, device_id: str, module_id: str = "") -> dict[str, str]:
    twin = service.get_module_twin(device_id, module_id) if module_id else service.get_twin(device_id)
    configurations = twin.additional_properties.get("configurations", {})
    return {name: each["status"] for name, each in configurations.items()}


def edge_device(service: IoTHubRegistryManager, device_id: str) -> None:
    service.create_device_with_sas(device_id, "", "", "enabled", iot_edge=True)


def edge_content(module_id: str, **desired: Any) -> ConfigurationContent:
    agent = {
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25"}},
        "modules": {module_id: {"version": "1.0", "type": "docker", "status": "running", "settings": {"image": "x"}}},
    }
    return ConfigurationContent(
        modules_content={
            "$edgeAgent": {"properties.desired": agent},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
            module_id: {"properties.desired": desired},
        }
    )
