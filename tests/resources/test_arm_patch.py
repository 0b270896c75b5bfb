"""Changes in ARM's form: what can be set is set, everything else is refused by its name."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.access.local_auth import LocalAuth
from isthmus.base.errors import Code, HubError
from isthmus.network.rules import DefaultAction, IpRule, NetworkRules
from isthmus.resources.arm import hub_to_arm
from isthmus.resources.arm_patch import apply_body, apply_patch
from isthmus.resources.hub import (
    FALLBACK_ROUTE,
    CloudToDeviceSettings,
    FeedbackSettings,
    Hub,
    Route,
    RouteSource,
    Sku,
    SkuName,
)
from isthmus.resources.members import mapping
from resources.test_hub import FULL, HUB
from resources.world import json_values

RULES = {"defaultAction": "Deny", "applyToBuiltInEventHubEndpoint": False, "ipRules": []}


def properties(**members: object) -> dict[str, object]:
    return {"properties": members}


def route(**members: object) -> dict[str, object]:
    usual = {
        "name": "r",
        "source": "DeviceMessages",
        "condition": "true",
        "endpointNames": ["events"],
        "isEnabled": True,
    }
    return properties(routing={"routes": [usual | members]})


@pytest.mark.parametrize("hub", [HUB, FULL])
def test_the_printed_form_sent_back_changes_nothing(hub: Hub) -> None:
    assert apply_patch(hub, hub_to_arm(hub)) == hub
    assert apply_body(hub, hub_to_arm(hub)) == hub


@pytest.mark.parametrize("word", ["Disabled", "disabled"])
def test_closes_the_public_door(word: str) -> None:
    assert not apply_patch(HUB, properties(publicNetworkAccess=word)).public_network_access
    assert apply_patch(FULL, properties(publicNetworkAccess="Enabled")).public_network_access


def test_sets_network_rules() -> None:
    rule = {"filterName": "a", "ipMask": "10.0.0.0/8"}
    rules = {"applyToBuiltInEventHubEndpoint": True, "ipRules": [rule]}
    changed = apply_patch(HUB, properties(networkRuleSets=rules))
    assert changed.rules == NetworkRules(
        DefaultAction.DENY, apply_to_built_in=True, ip_rules=(IpRule("a", "10.0.0.0/8"),)
    )
    assert apply_patch(changed, properties(networkRuleSets={"ipRules": []})).rules == NetworkRules(
        apply_to_built_in=True
    )
    assert apply_patch(changed, properties(networkRuleSets=None)).rules is None


@pytest.mark.parametrize("nothing", [None, []])
def test_no_classic_rules_are_shown_and_taken_back(nothing: object) -> None:
    assert properties_of(HUB)["ipFilterRules"] == []
    assert apply_patch(FULL, properties(ipFilterRules=nothing)) == FULL


def test_classic_rules_are_refused_with_what_to_use_instead() -> None:
    rule = {"filterName": "a", "action": "Reject", "ipMask": "10.0.0.0/8"}
    with pytest.raises(HubError, match=r"properties\.networkRuleSets") as caught:
        apply_patch(HUB, properties(ipFilterRules=[rule]))
    assert caught.value.code is Code.NOT_IMPLEMENTED


def test_sets_routes() -> None:
    changed = apply_patch(HUB, route(source="TwinChangeEvents", isEnabled="false", condition=None))
    assert changed.routes == (Route("r", RouteSource.TWIN_CHANGES, enabled=False),)
    assert apply_patch(changed, properties(routing={"routes": []})).routes == ()


def test_words_that_a_command_line_read_as_json_are_words_again() -> None:
    assert apply_patch(HUB, route(condition=True)).routes[0].condition == "true"


def test_keeps_a_condition_that_compiles_as_it_was_written() -> None:
    condition = "level = 'high' AND $body.temperature > 20"
    assert apply_patch(HUB, route(condition=condition)).routes[0].condition == condition
    changes = apply_patch(HUB, route(source="TwinChangeEvents", condition="twin_change_includes(tags)"))
    assert changes.routes[0].condition == "twin_change_includes(tags)"
    assert apply_patch(HUB, {"tags": {"hall": 3, "dry": False, "row": 1.5}}).tags == {
        "hall": "3",
        "dry": "false",
        "row": "1.5",
    }


def test_sets_the_fallback_route() -> None:
    off = {"fallbackRoute": {"isEnabled": False}}
    changed = apply_patch(HUB, properties(routing=off))
    assert not changed.fallback_route.enabled
    assert apply_patch(HUB, properties(routing={"fallbackRoute": None})) == changed
    assert apply_patch(changed, properties(routing={"fallbackRoute": {"isEnabled": True}})) == HUB


def test_sets_cloud_to_device_options_one_by_one() -> None:
    feedback = {"lockDurationAsIso8601": "PT5S", "ttlAsIso8601": "P2D"}
    settings = {"defaultTtlAsIso8601": "PT1M", "maxDeliveryCount": "100", "feedback": feedback}
    changed = apply_patch(HUB, properties(cloudToDevice=settings)).cloud_to_device
    assert changed == CloudToDeviceSettings(60_000, 100, FeedbackSettings(172_800_000, 5_000, 10))
    assert apply_patch(FULL, properties(cloudToDevice=None)).cloud_to_device == CloudToDeviceSettings()


def test_replaces_tags() -> None:
    assert apply_patch(FULL, {"tags": {"c": "d", "e": None}}).tags == {"c": "d"}
    assert apply_patch(FULL, {"tags": None}).tags == {}


@pytest.mark.parametrize("member", ["networkRuleSets", "cloudToDevice", "routing"])
def test_what_a_whole_body_leaves_out_goes_back_to_its_default(member: str) -> None:
    body: dict[str, Any] = hub_to_arm(FULL)
    del body["properties"][member]
    changed = apply_body(FULL, body)
    assert {
        "networkRuleSets": changed.rules is None,
        "cloudToDevice": changed.cloud_to_device == CloudToDeviceSettings(),
        "routing": changed.routes == () and changed.fallback_route == FALLBACK_ROUTE,
    }[member]


def test_a_whole_body_without_a_fallback_route_switches_it_off() -> None:
    body: dict[str, Any] = hub_to_arm(FULL)
    del body["properties"]["routing"]["fallbackRoute"]
    assert not apply_body(FULL, body).fallback_route.enabled


def without(value: object, *left_out: str) -> Any:
    """The JSON value as a client sends it back that drops nulls and what it holds to be read-only."""
    if isinstance(value, dict):
        return {
            name: without(each, *left_out) for name, each in value.items() if name not in left_out and each is not None
        }
    return [without(each, *left_out) for each in value] if isinstance(value, list) else value


def test_a_body_without_what_is_read_only_or_secret_changes_nothing() -> None:
    read_only = ("id", "name", "type", "hostName", "state", "provisioningState", "locations", "tier", "groupIds")
    body = without(hub_to_arm(FULL), *read_only)
    body["properties"]["routing"] = without(hub_to_arm(FULL))["properties"]["routing"]

    assert apply_body(FULL, body) == FULL


def test_policies_are_kept_whatever_a_body_shows_of_them() -> None:
    shown = [{"keyName": each.name, "primaryKey": each.primary_key} for each in FULL.policies]
    several: tuple[object, ...] = (None, shown, [{"keyName": each.name.upper()} for each in FULL.policies])
    for policies in several:
        assert apply_body(FULL, properties(authorizationPolicies=policies)).policies == FULL.policies


def test_a_connection_is_not_decided_by_the_hub_s_body() -> None:
    state = {"privateLinkServiceConnectionState": {"status": "Approved", "description": "no"}}
    with pytest.raises(HubError, match="private-endpoint-connection approve"):
        apply_body(FULL, properties(privateEndpointConnections=[{"properties": state}]))


def test_what_the_server_alone_knows_is_passed_over_in_a_whole_body() -> None:
    body: dict[str, Any] = without(hub_to_arm(FULL))
    body["systemData"] = {"createdBy": "somebody"}
    body["properties"] |= {"state": "Activating", "provisioningState": "Creating", "locations": []}
    assert apply_body(FULL, body) == FULL
    with pytest.raises(HubError, match=r"properties\.state is read-only"):
        apply_patch(FULL, properties(state="Activating"))


def test_the_switches_of_keys_are_set_and_not_put_back_by_a_body_that_does_not_know_them() -> None:
    switches = {"disableLocalAuth": True, "disableDeviceSAS": True, "disableModuleSAS": "true"}
    closed = apply_patch(FULL, properties(**switches))
    assert closed.local_auth == LocalAuth(policies=False, devices=False, modules=False)
    shown = mapping(hub_to_arm(closed)["properties"], "properties")
    assert all(shown[name] is True for name in switches)
    assert apply_body(closed, {}).local_auth == closed.local_auth
    assert apply_patch(closed, properties(disableDeviceSAS=None)).local_auth == LocalAuth(policies=False, modules=False)
    with pytest.raises(HubError, match=r"properties\.disableLocalAuth must be true or false"):
        apply_patch(FULL, properties(disableLocalAuth="yes"))


@pytest.mark.parametrize("member", ["comments", "minTlsVersion", "disableLocalAuth", "storageEndpoints", "features"])
def test_null_for_what_cannot_be_set_asks_for_what_is_so(member: str) -> None:
    assert apply_patch(FULL, properties(**{member: None})) == FULL


def test_sets_size_and_units() -> None:
    changed = apply_patch(HUB, {"sku": {"name": "b2", "capacity": 7}})
    assert (changed.sku, changed.sku.tier) == (Sku(SkuName.B2, 7), "Basic")
    assert apply_body(changed, {}).sku == changed.sku


def test_a_body_that_does_not_know_the_public_switch_does_not_open_the_door() -> None:
    body: dict[str, Any] = hub_to_arm(FULL)
    del body["properties"]["publicNetworkAccess"]
    assert not apply_body(FULL, body).public_network_access


@pytest.mark.parametrize(
    ("patch", "code", "named"),
    [
        ({"surprise": 1}, Code.ARGUMENT_INVALID, "surprise"),
        (properties(surprise=1), Code.ARGUMENT_INVALID, "properties.surprise"),
        (properties(routing={"surprise": 1}), Code.ARGUMENT_INVALID, "properties.routing.surprise"),
        (properties(cloudToDevice={"surprise": 1}), Code.ARGUMENT_INVALID, "properties.cloudToDevice.surprise"),
        ({"properties": "x"}, Code.NOT_IMPLEMENTED, "properties"),
        (properties(hostName="other"), Code.ARGUMENT_INVALID, "properties.hostName is read-only"),
        ({"name": "other"}, Code.ARGUMENT_INVALID, "name is read-only"),
        (properties(privateEndpointConnections=[1]), Code.ARGUMENT_INVALID, "private-endpoint-connection approve"),
        (properties(eventHubEndpoints={"events": {"partitionCount": 8}}), Code.ARGUMENT_INVALID, "partitionCount"),
        ({"etag": "AAAAAAAAAAE="}, Code.PRECONDITION_FAILED, "etag"),
        ({"sku": {"capacity": 0}}, Code.ARGUMENT_INVALID, "sku.capacity"),
        ({"sku": {"name": "X1"}}, Code.ARGUMENT_INVALID, "sku.name"),
        ({"sku": {"tier": "Basic"}}, Code.ARGUMENT_INVALID, "sku.tier is read-only"),
        (
            properties(authorizationPolicies=[{"keyName": "x"}]),
            Code.ARGUMENT_INVALID,
            "authorizationPolicies[0].rights",
        ),
        ({"identity": {"type": "Borrowed"}}, Code.ARGUMENT_INVALID, "identity.type"),
        ({"identity": {"type": "UserAssigned"}}, Code.ARGUMENT_INVALID, "identity.type"),
        ({"identity": {"surprise": 1}}, Code.ARGUMENT_INVALID, "identity.surprise"),
        (properties(routing={"endpoints": {"cosmosDBSqlContainers": [{}]}}), Code.NOT_IMPLEMENTED, "cosmosDB"),
        (properties(publicNetworkAccess="Off"), Code.ARGUMENT_INVALID, "Enabled, Disabled"),
        (properties(publicNetworkAccess=True), Code.ARGUMENT_INVALID, "Enabled, Disabled"),
        (properties(networkRuleSets={"ipRules": []}), Code.ARGUMENT_INVALID, "applyToBuiltInEventHubEndpoint"),
        (properties(networkRuleSets={"applyToBuiltInEventHubEndpoint": True}), Code.ARGUMENT_INVALID, "ipRules"),
        (properties(networkRuleSets=RULES | {"ipRules": [{"action": "Reject"}]}), Code.ARGUMENT_INVALID, "Allow"),
        (
            properties(networkRuleSets=RULES | {"ipRules": [{"filterName": "a", "ipMask": "x"}]}),
            Code.ARGUMENT_INVALID,
            "ipMask",
        ),
        (route(condition="temperature > 20"), Code.ARGUMENT_INVALID, "as_number"),
        (route(condition="a = 'b"), Code.ARGUMENT_INVALID, "character 5"),
        (route(condition="twin_change_includes(tags)"), Code.ARGUMENT_INVALID, "twin changes only"),
        (route(condition="$twin.labels.a = 1"), Code.ARGUMENT_INVALID, "$twin"),
        (route(source="DigitalTwinChangeEvents"), Code.NOT_IMPLEMENTED, "DigitalTwinChangeEvents"),
        (route(source="Invalid"), Code.ARGUMENT_INVALID, "routes[0].source"),
        (route(endpointNames=["storage"]), Code.ARGUMENT_INVALID, "storage"),
        (route(endpointNames=[]), Code.ARGUMENT_INVALID, "endpointNames"),
        (route(name="a b"), Code.ARGUMENT_INVALID, "routes[0].name"),
        (route(surprise=1), Code.ARGUMENT_INVALID, "surprise"),
        (properties(routing={"routes": "r"}), Code.ARGUMENT_INVALID, "routes"),
        (properties(cloudToDevice={"maxDeliveryCount": 0}), Code.ARGUMENT_INVALID, "1 to 100"),
        (properties(cloudToDevice={"maxDeliveryCount": True}), Code.ARGUMENT_INVALID, "1 to 100"),
        (properties(cloudToDevice={"defaultTtlAsIso8601": "P3D"}), Code.ARGUMENT_INVALID, "PT1M to P2D"),
        (
            properties(cloudToDevice={"feedback": {"lockDurationAsIso8601": "PT1S"}}),
            Code.ARGUMENT_INVALID,
            "PT5S to PT5M",
        ),
        ({"tags": {"a": [1]}}, Code.ARGUMENT_INVALID, "tags.a"),
    ],
)
def test_refuses_and_names_the_member(patch: dict[str, object], code: Code, named: str) -> None:
    with pytest.raises(HubError) as caught:
        apply_patch(HUB, patch)
    assert caught.value.code is code
    assert named in caught.value.message


def test_a_route_stands_once() -> None:
    routes = [{"name": name, "source": "DeviceMessages", "endpointNames": ["events"]} for name in ("r", "R")]
    with pytest.raises(HubError, match="twice"):
        apply_patch(HUB, properties(routing={"routes": routes}))


@given(body=st.dictionaries(st.sampled_from(["properties", "tags", "sku", "x"]), json_values()))
def test_no_body_breaks_the_reader(body: dict[str, object]) -> None:
    for apply in (apply_patch, apply_body):
        with suppress(HubError):
            apply(FULL, body)


def properties_of(hub: Hub) -> dict[str, Any]:
    members: dict[str, Any] = hub_to_arm(hub)
    return dict(members["properties"])
