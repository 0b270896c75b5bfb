"""azure-mgmt-iothub, unchanged: hubs read, changed, made and deleted; what a token may do, and how long."""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.mgmt.iothub.models import (
    CloudToDeviceProperties,
    EventHubProperties,
    IotHubDescription,
    IotHubProperties,
    IotHubSkuInfo,
    MessagingEndpointProperties,
    NetworkRuleSetIpRule,
    NetworkRuleSetProperties,
    StorageEndpointProperties,
)

from clients.devices import connected, make_device
from clients.managing import GROUP, MANAGEMENT_OPTIONS, PORT, Managing, make_token, managing, told
from clients.reading import WAIT_SECONDS
from support.server import RunningHub

HUB_OPTIONS = MANAGEMENT_OPTIONS


def test_hubs_are_listed_and_read(owner: Managing) -> None:
    hubs = owner.iothub.iot_hub_resource
    shown = hubs.get(GROUP, owner.hub_name)
    assert [each.name for each in hubs.list_by_subscription()] == [owner.hub_name]
    assert [each.id for each in hubs.list_by_resource_group(GROUP)] == [owner.hub_id]
    assert (shown.properties.state, shown.properties.provisioning_state) == ("Active", "Succeeded")
    assert shown.properties.event_hub_endpoints["events"].partition_ids == ["0", "1", "2", "3"]
    assert {each.primary_key for each in shown.properties.authorization_policies} == {None}


def test_what_was_read_can_be_put_back_and_loses_nothing(hub: RunningHub, owner: Managing) -> None:
    hubs = owner.iothub.iot_hub_resource
    keys = {each.key_name: each.primary_key for each in hubs.list_keys(GROUP, owner.hub_name)}
    for rounds in range(2):
        shown = hubs.get(GROUP, owner.hub_name)
        if rounds:
            shown.properties.authorization_policies = None
        put = hubs.begin_create_or_update(GROUP, owner.hub_name, shown, if_match=shown.etag).result()
        assert put.etag == shown.etag
    assert {each.key_name: each.primary_key for each in hubs.list_keys(GROUP, owner.hub_name)} == keys
    assert hubs.get_keys_for_key_name(GROUP, owner.hub_name, "service").primary_key == keys["service"]
    noted = hub.json("explain", "--all", "--top", "5")
    assert {"token:owner"} == {each["principal"] for each in noted if each["detail"].startswith("keys of")}


def test_public_access_and_rules_are_changed_and_cut_who_is_not_admitted(hub: RunningHub, owner: Managing) -> None:
    hubs = owner.iothub.iot_hub_resource
    with connected(hub, "outside", connection_retry=False) as device:
        cut = threading.Event()
        device.on_connection_state_change = lambda: cut.set() if not device.connected else None
        shown = hubs.get(GROUP, owner.hub_name)
        shown.properties.public_network_access = "Disabled"
        closed = hubs.begin_create_or_update(GROUP, owner.hub_name, shown, if_match=shown.etag).result()
        assert closed.properties.public_network_access == "Disabled"
        assert cut.wait(1)
    rule = NetworkRuleSetIpRule(filter_name="plant", ip_mask="127.0.0.0/8")
    closed.properties.public_network_access = "Enabled"
    closed.properties.network_rule_sets = NetworkRuleSetProperties(
        apply_to_built_in_event_hub_endpoint=True, ip_rules=[rule]
    )
    opened = hubs.begin_create_or_update(GROUP, owner.hub_name, closed, if_match=closed.etag).result()
    assert opened.properties.network_rule_sets.default_action == "Deny"
    with connected(hub, "outside", create=False):
        pass
    changes = [each for each in hub.json("explain", "--all") if each["detail"] == "hub updated"]
    assert (changes[0]["principal"], changes[0]["door"], changes[0]["address"]) == (
        *("token:owner", "management", "127.0.0.1"),
    )
    assert changes[0]["after"]["properties"]["publicNetworkAccess"] == "Enabled"


def test_a_hub_that_somebody_changed_is_not_overwritten(owner: Managing) -> None:
    hubs = owner.iothub.iot_hub_resource
    stale = hubs.get(GROUP, owner.hub_name)
    tagged = hubs.begin_update(GROUP, owner.hub_name, {"tags": {"line": str(time.time())}}).result()
    assert tagged.tags["line"]
    with pytest.raises(HttpResponseError) as refused:
        hubs.begin_create_or_update(GROUP, owner.hub_name, stale, if_match=stale.etag).result()
    assert told(refused.value) == (412, "PreconditionFailed")


def test_a_hub_is_made_and_deleted_by_pollers(hub: RunningHub, owner: Managing) -> None:
    hubs = owner.iothub.iot_hub_resource
    assert hubs.check_name_availability({"name": "second"}).name_available
    made = hubs.begin_create_or_update(GROUP, "second", a_new_hub()).result()
    assert (made.sku.name, made.sku.tier, made.sku.capacity) == ("S2", "Standard", 3)
    assert made.properties.event_hub_endpoints["events"].partition_count == 2
    assert made.properties.cloud_to_device.max_delivery_count == 7
    assert made.properties.routing.fallback_route.is_enabled
    taken = hubs.check_name_availability({"name": "SECOND"})
    assert (taken.name_available, taken.reason) == (False, "AlreadyExists")
    assert hubs.check_name_availability({"name": "no"}).reason == "Invalid"
    hubs.begin_delete(GROUP, "second").result()
    with pytest.raises(ResourceNotFoundError) as gone:
        hubs.get(GROUP, "second")
    assert told(gone.value) == (404, "ResourceNotFound")
    tracking_id = gone.value.response.headers["x-ms-request-id"]
    (explained,) = hub.json("explain", tracking_id)
    assert (explained["principal"], explained["hub"]) == ("token:owner", "second")


def test_what_a_hub_cannot_do_is_refused_by_its_name(owner: Managing) -> None:
    hubs = owner.iothub.iot_hub_resource
    shown = hubs.get(GROUP, owner.hub_name)
    shown.properties.comments = "not kept"
    with pytest.raises(HttpResponseError, match="comments") as refused:
        hubs.begin_create_or_update(GROUP, owner.hub_name, shown, if_match=shown.etag).result()
    assert told(refused.value) == (501, "NotImplemented")


def test_a_container_for_files_is_given_and_its_key_never_shown(hub: RunningHub, owner: Managing) -> None:
    hubs = owner.iothub.iot_hub_resource
    string = "DefaultEndpointsProtocol=https;AccountName=plant;AccountKey=c2VjcmV0;EndpointSuffix=example.test"
    shown = hubs.get(GROUP, owner.hub_name)
    shown.properties.storage_endpoints = {
        "$default": StorageEndpointProperties(
            sas_ttl_as_iso8601="PT2H", connection_string=string, container_name="uploads"
        )
    }
    shown.properties.enable_file_upload_notifications = True
    given = hubs.begin_create_or_update(GROUP, owner.hub_name, shown, if_match=shown.etag).result()
    hub.isthmus("iot", "hub", "update", "--fileupload-relay", "true")

    again = hubs.get(GROUP, owner.hub_name)
    again.tags = {"files": "yes"}
    kept = hubs.begin_create_or_update(GROUP, owner.hub_name, again, if_match=again.etag).result()
    endpoint = kept.properties.storage_endpoints["$default"]
    assert endpoint.connection_string == string.replace("c2VjcmV0", "****")
    assert (endpoint.container_name, endpoint.authentication_type) == ("uploads", "keyBased")
    assert endpoint.sas_ttl_as_iso8601 == timedelta(hours=2)
    assert given.properties.enable_file_upload_notifications
    there = hub.json("iot", "hub", "show")["properties"]["storageEndpoints"]["$default"]
    assert there["relay"], "a client that does not know a member leaves it as it is"
    assert "c2VjcmV0" not in hub.isthmus("explain", "--all", "--output", "json")
    kept.properties.storage_endpoints["$default"] = StorageEndpointProperties(connection_string="", container_name="")
    kept.properties.enable_file_upload_notifications = False
    hubs.begin_create_or_update(GROUP, owner.hub_name, kept, if_match=kept.etag).result()


def test_consumer_groups_come_and_go(owner: Managing) -> None:
    hubs, where = owner.iothub.iot_hub_resource, (GROUP, owner.hub_name, "events")
    made = hubs.create_event_hub_consumer_group(*where, "shift", {"properties": {"name": "shift"}})
    assert made.name == hubs.get_event_hub_consumer_group(*where, "shift").name == "shift"
    assert {each.name for each in hubs.list_event_hub_consumer_groups(*where)} == {"$Default", "shift"}
    hubs.delete_event_hub_consumer_group(*where, "shift")
    assert [each.name for each in hubs.list_event_hub_consumer_groups(*where)] == ["$Default"]


def test_counts_sizes_quotas_and_health_are_told(hub: RunningHub, owner: Managing) -> None:
    make_device(hub, "counted")
    hub.isthmus("device-identity", "update", "-d", "counted", "--set", "status=disabled")
    hubs, name = owner.iothub.iot_hub_resource, owner.hub_name
    counts = hubs.get_stats(GROUP, name)
    assert counts.disabled_device_count == 1
    assert counts.total_device_count == counts.enabled_device_count + 1
    assert {each.sku.name for each in hubs.get_valid_skus(GROUP, name)} == {"F1", "S1", "S2", "S3", "B1", "B2", "B3"}
    (quota,) = hubs.get_quota_metrics(GROUP, name)
    assert (quota.name, quota.current_value, quota.max_value) == (
        *("TotalDeviceCount", counts.total_device_count, 1_000_000),
    )
    (health,) = hubs.get_endpoint_health(GROUP, name)
    assert (health.endpoint_id, health.health_status) == ("events", "healthy")
    (usage,) = owner.iothub.resource_provider_common.get_subscription_quota().value
    assert (usage.current_value, usage.limit) == (1, 64)
    assert "Microsoft.Devices/iothubs/listkeys/action" in {each.name for each in owner.iothub.operations.list()}
    assert [each.name for each in owner.iothub.private_link_resources.list(GROUP, name).value] == ["iotHub"]
    assert owner.iothub.private_link_resources.get(GROUP, name, "iotHub").properties.group_id == "iotHub"


def test_a_reader_reads_and_changes_nothing(hub: RunningHub) -> None:
    with managing(hub, make_token(hub, "reader", "Reader")) as reader:
        hubs = reader.iothub.iot_hub_resource
        shown = hubs.get(GROUP, reader.hub_name)
        refusals: tuple[Callable[[], object], ...] = (
            lambda: hubs.begin_create_or_update(GROUP, reader.hub_name, shown, if_match=shown.etag),
            lambda: list(hubs.list_keys(GROUP, reader.hub_name)),
            lambda: hubs.begin_delete(GROUP, reader.hub_name),
        )
        for refused in refusals:
            with pytest.raises(HttpResponseError) as error:
                refused()
            assert told(error.value) == (403, "AuthorizationFailed")
    explained = hub.json("explain", "--top", "3")
    assert {(each["rule"], each["principal"]) for each in explained} == {("auth.role", "token:reader")}


def test_a_token_reaches_its_scope_and_no_further(hub: RunningHub, owner: Managing) -> None:
    hubs = owner.iothub.iot_hub_resource
    hubs.begin_create_or_update(GROUP, "other", a_new_hub()).result()
    with managing(hub, make_token(hub, "scoped", "Contributor", "--scope", owner.hub_id)) as scoped:
        mine = scoped.iothub.iot_hub_resource
        assert [each.name for each in mine.list_by_subscription()] == [owner.hub_name]
        assert mine.begin_update(GROUP, owner.hub_name, {"tags": {"a": "b"}}).result().tags == {"a": "b"}
        refusals: tuple[Callable[[], object], ...] = (
            lambda: mine.get(GROUP, "other"),
            lambda: mine.get("elsewhere", "other"),
            lambda: mine.begin_create_or_update(GROUP, "third", a_new_hub()),
            lambda: scoped.network.virtual_networks.begin_create_or_update(GROUP, "plant", {"location": "local"}),
        )
        for refused in refusals:
            with pytest.raises(HttpResponseError) as error:
                refused()
            assert told(error.value) == (403, "AuthorizationFailed")
    hubs.begin_delete(GROUP, "other").result()


def test_a_bad_or_expired_token_hears_the_same_and_the_owner_reads_why(hub: RunningHub, owner: Managing) -> None:
    brief = make_token(hub, "brief", "Owner", "--expires-in", "1s")
    deadline = time.monotonic() + WAIT_SECONDS
    answers = set()
    while time.monotonic() < deadline and "auth.expired" not in rules_of(hub):
        answers.add(raw(hub, "GET", owner.hub_id + "?api-version=2023-06-30", brief))
    answers.add(raw(hub, "GET", owner.hub_id + "?api-version=2023-06-30", "nonsense"))
    answers.add(raw(hub, "GET", owner.hub_id + "?api-version=2023-06-30", ""))
    refusals = {answer for answer in answers if answer[0] != 200}
    assert len(refusals) == 1
    (status, code, challenge), *_ = refusals
    assert (status, code) == (401, "InvalidAuthenticationToken")
    assert challenge.startswith("Bearer ")
    assert {"auth.expired", "auth.unknown-token", "auth.missing"} <= rules_of(hub)
    with managing(hub, "nonsense") as stranger, pytest.raises(ClientAuthenticationError):
        stranger.iothub.iot_hub_resource.get(GROUP, owner.hub_name)


def test_a_deleted_token_ends_its_connections(hub: RunningHub, owner: Managing) -> None:
    token = make_token(hub, "leaving")
    connection = http.client.HTTPSConnection(hub.address, PORT, timeout=WAIT_SECONDS, context=trusting(hub))
    connection.request("GET", "/hubs", headers={"Authorization": f"Bearer {token}"})
    assert connection.getresponse().read()
    assert connection.sock is not None
    hub.isthmus("token", "delete", "--name", "leaving")
    assert connection.sock.recv(1) == b""
    connection.close()
    assert raw(hub, "GET", "/hubs", token)[0] == 401
    assert "leaving" not in {each["name"] for each in hub.json("token", "list")}


def test_a_token_may_delete_itself_and_hears_that_it_did(hub: RunningHub) -> None:
    token = make_token(hub, "tired")
    assert raw(hub, "DELETE", "/tokens/tired", token)[0] == 204
    assert raw(hub, "GET", "/hubs", token)[0] == 401


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "MissingApiVersionParameter"),
        ("?api-version=now", 400, "InvalidApiVersionParameter"),
        ("?api-version=2031-12-24-preview", 200, ""),
    ],
)
def test_any_version_that_looks_like_one_will_do(
    hub: RunningHub, owner: Managing, query: str, status: int, code: str
) -> None:
    token = make_token(hub, f"version{status}{len(query)}", "Reader")
    assert raw(hub, "GET", owner.hub_id.upper() + query, token)[:2] == (status, code)


def test_a_token_s_text_is_nowhere_but_with_its_holder(hub: RunningHub) -> None:
    token = make_token(hub, "canary")
    assert raw(hub, "GET", "/hubs", token)[0] == 200
    assert raw(hub, "GET", "/hubs/any/devices", token)[0] == 501
    hub.isthmus("token", "delete", "--name", "canary")
    assert raw(hub, "GET", "/hubs", token)[0] == 401
    told = hub.isthmus("explain", "--all", "--top", "50", "--output", "json") + hub.isthmus("metrics")
    places = [each for each in hub.data.rglob("*") if each.is_file()]
    assert any(each.name.startswith("state.db") for each in places)
    for text in (told.encode(), hub.log.read_bytes(), *(each.read_bytes() for each in places)):
        assert token.encode() not in text


def test_devices_are_not_reached_by_a_management_token(hub: RunningHub) -> None:
    token = make_token(hub, "curious")
    assert raw(hub, "GET", "/hubs/any/devices", token)[:2] == (501, "NotImplemented")
    assert raw(hub, "POST", "/hubs/any/messages/devicebound", token)[:2] == (501, "NotImplemented")


def a_new_hub() -> IotHubDescription:
    """The body of the service's own documentation: whatever it asks for that is the default anyway is taken."""
    properties = IotHubProperties(
        cloud_to_device=CloudToDeviceProperties(max_delivery_count=7),
        enable_data_residency=False,
        enable_file_upload_notifications=False,
        event_hub_endpoints={"events": EventHubProperties(retention_time_in_days=1, partition_count=2)},
        features="None",
        ip_filter_rules=[],
        messaging_endpoints={
            "fileNotifications": MessagingEndpointProperties(
                lock_duration_as_iso8601="PT1M", ttl_as_iso8601="PT1H", max_delivery_count=10
            )
        },
        min_tls_version="1.2",
        storage_endpoints={
            "$default": StorageEndpointProperties(sas_ttl_as_iso8601="PT1H", connection_string="", container_name="")
        },
    )
    return IotHubDescription(location="local", sku=IotHubSkuInfo(name="S2", capacity=3), properties=properties)


def raw(hub: RunningHub, method: str, target: str, token: str) -> tuple[int, str, str]:
    """Status, ARM's code and the challenge of an answer; no token is shown for an empty one."""
    connection = http.client.HTTPSConnection(hub.address, PORT, timeout=WAIT_SECONDS, context=trusting(hub))
    try:
        connection.request(method, target, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        body: Any = json.loads(answer.read() or b"{}")
        error: Mapping[str, str] = body.get("error", {}) if isinstance(body, dict) else {}
        return answer.status, error.get("code", ""), answer.headers.get("WWW-Authenticate", "")
    finally:
        connection.close()


def trusting(hub: RunningHub) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(hub.ca))


def rules_of(hub: RunningHub) -> set[str]:
    return {each["rule"] for each in hub.json("explain", "--top", "20")}
