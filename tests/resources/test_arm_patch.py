"""Changes in ARM's form: what can be set is set, everything else is refused by its name."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.network.rules import DefaultAction, IpRule, NetworkRules
from isthmus.resources.arm import hub_to_arm
from isthmus.resources.arm_patch import apply_body, apply_patch
from isthmus.resources.hub import CloudToDeviceSettings, FeedbackSettings, Hub, Route, RouteSource
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
        "routing": changed.routes == () and not changed.fallback_route.enabled,
    }[member]


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
        ({"sku": {"capacity": 2}}, Code.NOT_IMPLEMENTED, "sku.capacity"),
        ({"identity": {"type": "SystemAssigned"}}, Code.NOT_IMPLEMENTED, "identity.type"),
        (properties(disableLocalAuth=True), Code.NOT_IMPLEMENTED, "disableLocalAuth"),
        (properties(routing={"endpoints": {"eventHubs": [{}]}}), Code.NOT_IMPLEMENTED, "eventHubs"),
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
        (route(condition="$twin.tags.a = 1"), Code.NOT_IMPLEMENTED, "$twin"),
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
