"""Authorization rules: rights that go together, keys that are made and brought, limits, and their forms."""

import base64

import pytest

from devices.fakes import CountedIds
from isthmus.access.principal import NAMESPACE_RIGHTS, Right
from isthmus.base.errors import Code, HubError
from isthmus.neighbours.authorization_rules import (
    RULES_MAX,
    Policies,
    keys_to_arm,
    put_rule,
    remove_rule,
    renew_key,
    require_rule,
    rights_of,
    rule_to_arm,
)

IDS = CountedIds()
SENDS = frozenset({Right.SEND})


def made(name: str = "sends", policies: Policies = ()) -> Policies:
    return put_rule(policies, name, SENDS, IDS)


def said(*rights: str) -> dict[str, object]:
    return {"properties": {"rights": list(rights)}}


def test_a_rule_keeps_its_keys_when_its_rights_change() -> None:
    (first,) = made()
    (changed,) = put_rule((first,), "SENDS", NAMESPACE_RIGHTS, IDS)
    assert (changed.name, changed.keys, changed.rights) == ("sends", first.keys, NAMESPACE_RIGHTS)
    assert remove_rule((changed,), "Sends", "it") == ()


def test_rights_are_read_without_case_and_manage_is_everything() -> None:
    assert rights_of(said("send", "Listen")) == {Right.SEND, Right.LISTEN}
    assert rights_of(said("Manage", "Send", "Listen")) == NAMESPACE_RIGHTS


@pytest.mark.parametrize("rights", [[], ["Manage"], ["Manage", "Send"], ["ServiceConnect"], ["x"], "Send", [1]])
def test_rights_that_cannot_be_are_refused(rights: object) -> None:
    with pytest.raises(HubError) as refused:
        rights_of({"properties": {"rights": rights}})
    assert refused.value.code is Code.ARGUMENT_INVALID


def test_one_key_is_renewed_at_a_time() -> None:
    policies = made()
    (old,) = policies
    (renewed,) = renew_key(policies, "sends", "it", {"keyType": "primarykey"}, IDS)
    assert (renewed.primary_key != old.primary_key, renewed.secondary_key) == (True, old.secondary_key)
    own = base64.b64encode(bytes(32)).decode()
    (brought,) = renew_key(policies, "sends", "it", {"keyType": "SecondaryKey", "key": own}, IDS)
    assert (brought.primary_key, brought.secondary_key) == (old.primary_key, own)


@pytest.mark.parametrize(
    "body", [{}, {"keyType": "x"}, {"keyType": "PrimaryKey", "key": "AA=="}, {"keyType": "PrimaryKey", "key": "ü"}]
)
def test_a_bad_renewal_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(HubError) as refused:
        renew_key(made(), "sends", "it", body, IDS)
    assert refused.value.code is Code.ARGUMENT_INVALID


def test_names_and_numbers_have_limits() -> None:
    with pytest.raises(HubError, match="1 to 50"):
        made("a/b")
    policies: Policies = ()
    for number in range(RULES_MAX):
        policies = made(f"rule-{number}", policies)
    with pytest.raises(HubError) as refused:
        made("one-more", policies)
    assert refused.value.code is Code.QUOTA_EXCEEDED
    with pytest.raises(HubError, match="rules of it: rule-0"):
        require_rule(policies, "nobody", "it")


def test_forms() -> None:
    (policy,) = made()
    shown = rule_to_arm(policy, "/ns", "Microsoft.EventHub/namespaces")
    assert shown["id"] == "/ns/authorizationRules/sends"
    assert shown["properties"] == {"rights": ["Send"]}
    keys = keys_to_arm(policy, "ns.servicebus.test", "telemetry")
    expected = f"Endpoint=sb://ns.servicebus.test/;SharedAccessKeyName=sends;SharedAccessKey={policy.primary_key}"
    assert keys["primaryConnectionString"] == f"{expected};EntityPath=telemetry"
    assert keys_to_arm(policy, "ns.servicebus.test")["primaryConnectionString"] == expected
