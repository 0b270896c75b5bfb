"""Keys of policies, devices and modules before stock SDKs: rolled with overlap, switched off, and given new by ARM."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.eventhub.exceptions import EventHubError
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.mgmt.iothub.models import SharedAccessSignatureAuthorizationRule
from msrest.exceptions import HttpOperationError

from clients.devices import client_of, make_device, until
from clients.managing import GROUP, MANAGEMENT_OPTIONS, Managing, told
from clients.reading import EventCollector
from support.server import RunningHub

HUB_OPTIONS = MANAGEMENT_OPTIONS
KEPT_OUT = ("--disable-device-sas", "false", "--disable-module-sas", "false", "--disable-local-auth", "false")


@pytest.fixture(autouse=True)
def keys_taken(hub: RunningHub) -> Iterator[None]:
    """Every key is taken again after a test."""
    yield
    hub.isthmus("iot", "hub", "update", *KEPT_OUT)


def test_a_device_s_session_on_the_removed_key_ends_and_on_the_kept_one_lives(hub: RunningHub, device_id: str) -> None:
    make_device(hub, device_id)
    with online(hub, device_id, "secondary") as (device, lost):
        renewed = hub.json("iot", "hub", "device-identity", "renew-key", "-d", device_id, "--kt", "primary")
        device.send_message("still here")
        assert not lost.is_set()
        keys = renewed["authentication"]["symmetricKey"]
        hub.isthmus("iot", "hub", "device-identity", "renew-key", "-d", device_id, "--kt", "swap")
        device.send_message("swapped")
        hub.isthmus("iot", "hub", "device-identity", "renew-key", "-d", device_id, "--kt", "primary")
        assert lost.wait(10)
    with online(hub, device_id, "secondary") as (device, lost):
        assert keys["primaryKey"] in hub.isthmus("connection-string", "-d", device_id, "--kt", "secondary")
        device.send_message("by the key that was kept")


def test_a_module_s_key_is_renewed_and_its_session_ends(hub: RunningHub, device_id: str) -> None:
    make_device(hub, device_id)
    hub.isthmus("module-identity", "create", "-d", device_id, "-m", "vision")
    string = hub.device_connection_string(device_id, "vision")
    module = IoTHubModuleClient.create_from_connection_string(
        string, server_verification_cert=hub.ca.read_text(), connection_retry=False
    )
    lost = threading.Event()
    module.on_connection_state_change = lambda: None if module.connected else lost.set()
    module.connect()
    try:
        hub.isthmus("iot", "hub", "module-identity", "renew-key", "-d", device_id, "-m", "vision", "--kt", "secondary")
        module.send_message("still here")
        hub.isthmus("iot", "hub", "module-identity", "renew-key", "-d", device_id, "-m", "vision", "--kt", "primary")
        assert lost.wait(10)
    finally:
        module.shutdown()


def test_a_device_s_keys_are_renewed_by_the_stock_service_client(
    hub: RunningHub, service: IoTHubRegistryManager, device_id: str
) -> None:
    make_device(hub, device_id)
    with online(hub, device_id, "secondary") as (device, lost):
        shown = service.get_device(device_id)
        second = shown.authentication.symmetric_key.secondary_key
        new = "bmV3IGtleSBvZiB0aGUgZGV2aWNlLCAzMiBieXRlcyE="
        service.update_device_with_sas(device_id, shown.etag, new, second, "enabled")
        device.send_message("still here")
        shown = service.get_device(device_id)
        service.update_device_with_sas(device_id, shown.etag, new, new, "enabled")
        assert lost.wait(10)


def test_a_policy_is_made_rolled_with_overlap_and_deleted(hub: RunningHub, device_id: str) -> None:
    make_device(hub, device_id)
    made = hub.json(
        *("iot", "hub", "policy", "create", "-n", "dashboard", "--permissions", "RegistryRead", "ServiceConnect")
    )
    assert made["rights"] == "RegistryRead, ServiceConnect"
    string = "HostName={};SharedAccessKeyName=dashboard;SharedAccessKey={}".format
    on_primary, on_secondary = (
        IoTHubRegistryManager.from_connection_string(string(hub.address, made[key]))
        for key in ("primaryKey", "secondaryKey")
    )
    assert on_primary.get_device(device_id).device_id == on_secondary.get_device(device_id).device_id
    (listed,) = hub.json("iot", "hub", "policy", "renew-key", "-n", "dashboard", "--rk", "primary", "--dry-run")
    assert (listed["principal"], listed["rule"]) == ("policy:dashboard", "auth.signature")
    renewed = hub.json("iot", "hub", "policy", "renew-key", "-n", "dashboard", "--rk", "primary")
    assert renewed["secondaryKey"] == made["secondaryKey"]
    assert renewed["primaryKey"] != made["primaryKey"]
    with pytest.raises(HttpOperationError):
        on_primary.get_device(device_id)
    assert newest(hub)["rule"] == "auth.signature"
    assert on_secondary.get_device(device_id).device_id == device_id
    told_of = [each["detail"] for each in hub.json("explain", "--all", "--top", "20")]
    assert any("primary key of policy dashboard changed" in each for each in told_of), told_of
    gone = hub.json("iot", "hub", "policy", "delete", "-n", "dashboard", "--dry-run")
    assert {(each["principal"], each["rule"]) for each in gone} == {("policy:dashboard", "auth.unknown-policy")}
    hub.isthmus("iot", "hub", "policy", "delete", "-n", "dashboard")
    with pytest.raises(HttpOperationError):
        on_secondary.get_device(device_id)
    assert newest(hub)["rule"] == "auth.unknown-policy"
    assert "There is a policy Service already" in hub.isthmus(
        *("iot", "hub", "policy", "create", "-n", "Service", "--permissions", "ServiceConnect"), code=1
    )


def test_a_reader_on_the_removed_key_of_a_policy_is_cut_and_one_on_the_kept_key_reads_on(
    hub: RunningHub, device_id: str
) -> None:
    made = hub.json("iot", "hub", "policy", "create", "-n", "reading", "--permissions", "ServiceConnect")
    hub.isthmus("iot", "hub", "consumer-group", "create", "--name", "second")
    strings = {
        kind: hub.isthmus("connection-string", "--events", "--policy", "reading", "--kt", kind).strip()
        for kind in ("primary", "secondary")
    }
    removed = EventCollector(strings["primary"], str(hub.ca), retry_total=0)
    kept = EventCollector(strings["secondary"], str(hub.ca), consumer_group="second")
    try:
        with online(hub, device_id, create=True) as (device, _):
            device.send_message("one")
            removed.of_device(device_id)
            kept.of_device(device_id)
            hub.isthmus("iot", "hub", "policy", "renew-key", "-n", "reading", "--rk", "primary")
            assert isinstance(removed.wait_for_error(), EventHubError)
            device.send_message("two")
            kept.of_device(device_id, 2)
        assert not kept.errors
    finally:
        removed.close()
        kept.close()
    assert made["secondaryKey"] in strings["secondary"]


def test_policies_are_made_rolled_and_deleted_by_the_stock_management_client(hub: RunningHub, owner: Managing) -> None:
    hubs, where = owner.iothub.iot_hub_resource, (GROUP, owner.hub_name)
    shown = hubs.get(*where)
    shown.properties.authorization_policies.append(
        SharedAccessSignatureAuthorizationRule(key_name="arm", rights="RegistryRead, ServiceConnect")
    )
    put = hubs.begin_create_or_update(*where, shown, if_match=shown.etag).result()
    assert {each.key_name for each in put.properties.authorization_policies} >= {"iothubowner", "arm"}
    before = {each.key_name: each for each in hubs.list_keys(*where)}
    assert len({before["arm"].primary_key, before["arm"].secondary_key} - {None, ""}) == 2
    # As `az iot hub policy renew-key` does it: all policies with their keys, one of them new.
    shown = hubs.get(*where)
    shown.properties.authorization_policies = list(before.values())
    before["arm"].primary_key = "bmV3IGtleSBvZiB0aGUgcG9saWN5LCAzMiBieXRlcyE="
    hubs.begin_create_or_update(*where, shown, if_match=shown.etag).result()
    after = hubs.get_keys_for_key_name(*where, "arm")
    assert (after.primary_key, after.secondary_key) == (before["arm"].primary_key, before["arm"].secondary_key)
    shown = hubs.get(*where)
    kept = [each for each in shown.properties.authorization_policies if each.key_name != "arm"]
    shown.properties.authorization_policies = kept
    hubs.begin_create_or_update(*where, shown, if_match=shown.etag).result()
    with pytest.raises(HttpResponseError) as gone:
        hubs.get_keys_for_key_name(*where, "arm")
    assert told(gone.value)[0] == 404
    assert hub.json("iot", "hub", "policy", "show", "-n", "service")["primaryKey"] == before["service"].primary_key


def test_devices_without_keys_are_cut_refused_and_explained(hub: RunningHub, owner: Managing, device_id: str) -> None:
    make_device(hub, device_id)
    with online(hub, device_id) as (device, lost):
        device.send_message("before")
        (listed,) = [
            each
            for each in hub.json("iot", "hub", "update", "--disable-device-sas", "--dry-run")
            if each["device"] == device_id
        ]
        assert (listed["rule"], listed["live"]) == ("auth.device-sas", True)
        hubs = owner.iothub.iot_hub_resource
        shown = hubs.get(GROUP, owner.hub_name)
        shown.properties.disable_device_sas = True
        put = hubs.begin_create_or_update(GROUP, owner.hub_name, shown, if_match=shown.etag).result()
        assert (put.properties.disable_device_sas, put.properties.disable_local_auth) == (True, False)
        assert lost.wait(10)
    refused = client_of(hub, hub.device_connection_string(device_id), connection_retry=False)
    with pytest.raises(CredentialError):
        refused.connect()
    refused.shutdown()
    explained = newest(hub, "--device-id", device_id)
    assert (explained["rule"], "disableDeviceSAS is true" in explained["value"]) == ("auth.device-sas", True)


def test_services_without_local_auth_come_by_no_key(hub: RunningHub, service: IoTHubRegistryManager) -> None:
    assert service.get_service_statistics() is not None
    hub.isthmus("iot", "hub", "update", "--set", "properties.disableLocalAuth=true")
    with pytest.raises(HttpOperationError) as refused:
        service.get_service_statistics()
    assert refused.value.response.status_code == 401
    assert newest(hub)["rule"] == "auth.local-auth"
    hub.isthmus("device-identity", "list")
    hub.isthmus("iot", "hub", "update", "--disable-local-auth", "false")
    assert service.get_service_statistics() is not None


def test_a_service_s_amqp_connection_ends_when_local_auth_is_switched_off(
    hub: RunningHub, service: IoTHubRegistryManager, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    make_device(hub, device_id)
    reader = collect(retry_total=0)
    service.send_c2d_message(device_id, "before")
    with online(hub, device_id) as (device, lost):
        device.send_message("read")
        reader.of_device(device_id)
        hub.isthmus("iot", "hub", "update", "--disable-local-auth")
        reader.wait_for_error()
        device.send_message("devices go on")
        assert not lost.is_set()
    with pytest.raises(Exception, match=r".*"):
        service.send_c2d_message(device_id, "after")
    assert hub.json("device-identity", "show", "-d", device_id)["cloudToDeviceMessageCount"] == 1


@contextmanager
def online(
    hub: RunningHub, device_id: str, key_type: str = "primary", *, create: bool = False
) -> Iterator[tuple[IoTHubDeviceClient, threading.Event]]:
    """A connected device that does not come back by itself, and what tells that it was cut."""
    if create:
        make_device(hub, device_id)
    string = hub.isthmus("connection-string", "-d", device_id, "--kt", key_type).strip()
    device = client_of(hub, string, connection_retry=False)
    lost = threading.Event()
    device.on_connection_state_change = lambda: None if device.connected else lost.set()
    device.connect()
    until(lambda: device.connected)
    try:
        yield device, lost
    finally:
        device.shutdown()


def newest(hub: RunningHub, *which: str) -> dict[str, Any]:
    """The newest refusal."""
    found: dict[str, Any] = hub.json("explain", *which, "--top", "1")[0]
    return found
