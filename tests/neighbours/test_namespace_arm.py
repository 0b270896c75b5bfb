"""Namespaces and their network rule sets in ARM's form: what can be set, what stays, what is refused."""

from dataclasses import replace

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.neighbours.namespace_arm import (
    apply_namespace,
    apply_rule_set,
    namespace_to_arm,
    patch_namespace,
    rule_set_to_arm,
)
from isthmus.neighbours.neighbour import Neighbour
from isthmus.network.rules import DefaultAction
from isthmus.resources.guarded import ResourceKind

EVENTS = Neighbour(HubId(2), ResourceKind.EVENT_HUBS, "plant-events", "plant-events.servicebus.example.test", 1_000)


def properties(shown: dict[str, object]) -> dict[str, object]:
    found = shown["properties"]
    assert isinstance(found, dict)
    return found


def test_what_was_read_and_is_sent_back_changes_nothing() -> None:
    namespace = replace(EVENTS, tags={"a": "b"}, sku="Premium", public_network_access=False, trusted_services=True)
    namespace = apply_rule_set(
        namespace, {"properties": {"defaultAction": "Deny", "ipRules": [{"ipMask": "10.0.0.0/8"}]}}
    )
    assert apply_namespace(namespace, namespace_to_arm(namespace)) == namespace
    assert apply_rule_set(namespace, rule_set_to_arm(namespace)) == namespace


def test_a_body_that_names_no_door_opens_none() -> None:
    closed = apply_namespace(EVENTS, {"properties": {"publicNetworkAccess": "Disabled", "disableLocalAuth": True}})
    assert (closed.public_network_access, closed.local_auth.policies) == (False, False)
    again = apply_namespace(replace(closed, tags={"a": "b"}), {})
    assert (again.public_network_access, again.local_auth.policies, again.tags) == (False, False, {})
    assert patch_namespace(replace(closed, tags={"a": "b"}), {}).tags == {"a": "b"}
    assert apply_rule_set(closed, {}).public_network_access is False


def test_a_rule_set_is_set_as_a_whole() -> None:
    body = {
        "properties": {
            "publicNetworkAccess": "Enabled",
            "defaultAction": "Deny",
            "trustedServiceAccessEnabled": True,
            "ipRules": [{"ipMask": "10.0.0.0/8", "action": "Allow"}, {"ipMask": "2001:db8::1"}],
        }
    }
    changed = apply_rule_set(EVENTS, body)
    assert changed.rules is not None
    assert (changed.trusted_services, changed.rules.default_action) == (True, DefaultAction.DENY)
    assert [rule.allows("10.1.2.3") for rule in changed.rules.ip_rules] == [True, False]
    shown = properties(rule_set_to_arm(changed))
    assert shown["ipRules"] == [
        {"ipMask": "10.0.0.0/8", "action": "Allow"},
        {"ipMask": "2001:db8::1", "action": "Allow"},
    ]
    assert properties(rule_set_to_arm(apply_rule_set(changed, {})))["trustedServiceAccessEnabled"] is False


def test_deny_without_a_rule_lets_everybody_in_as_the_real_service_does() -> None:
    changed = apply_rule_set(EVENTS, {"properties": {"defaultAction": "Deny"}})
    assert changed.rules is not None
    assert changed.rules.default_action is DefaultAction.ALLOW
    assert properties(rule_set_to_arm(changed))["defaultAction"] == "Deny"


def test_a_namespace_says_where_it_is() -> None:
    shown = namespace_to_arm(EVENTS)
    assert str(shown["id"]).endswith("/providers/Microsoft.EventHub/namespaces/plant-events")
    assert properties(shown)["serviceBusEndpoint"] == "https://plant-events.servicebus.example.test:443/"
    assert not any("key" in name.lower() for name in properties(shown))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"properties": {"kafkaEnabled": True}}, Code.NOT_IMPLEMENTED),
        ({"properties": {"minimumTlsVersion": "1.0"}}, Code.NOT_IMPLEMENTED),
        ({"properties": {"zoneRedundant": True}}, Code.NOT_IMPLEMENTED),
        ({"identity": {"type": "SystemAssigned"}}, Code.NOT_IMPLEMENTED),
        ({"properties": {"publicNetworkAccess": "SecuredByPerimeter"}}, Code.ARGUMENT_INVALID),
        ({"properties": {"unknown": 1}}, Code.ARGUMENT_INVALID),
        ({"sku": {"name": "Huge"}}, Code.ARGUMENT_INVALID),
        ({"tags": {str(number): "x" for number in range(51)}}, Code.ARGUMENT_INVALID),
        ({"unknown": 1}, Code.ARGUMENT_INVALID),
    ],
)
def test_what_a_namespace_cannot_be_is_refused(body: dict[str, object], code: Code) -> None:
    with pytest.raises(HubError) as refused:
        apply_namespace(EVENTS, body)
    assert refused.value.code is code


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"ipRules": [{"ipMask": "10.0.0.0/99"}]}, Code.ARGUMENT_INVALID),
        ({"ipRules": [{"ipMask": "10.0.0.1"}, {"ipMask": "10.0.0.1"}]}, Code.ARGUMENT_INVALID),
        ({"ipRules": [{"ipMask": "10.0.0.1", "action": "Reject"}]}, Code.ARGUMENT_INVALID),
        ({"ipRules": [{"address": "10.0.0.1"}]}, Code.ARGUMENT_INVALID),
        ({"virtualNetworkRules": [{"subnet": {"id": "x"}}]}, Code.NOT_IMPLEMENTED),
        ({"defaultAction": "Maybe"}, Code.ARGUMENT_INVALID),
    ],
)
def test_what_a_rule_set_cannot_be_is_refused(members: dict[str, object], code: Code) -> None:
    with pytest.raises(HubError) as refused:
        apply_rule_set(EVENTS, {"properties": members})
    assert refused.value.code is code
