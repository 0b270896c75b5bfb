"""A neighbour's record: names, the firewall's own rules, whom it trusts, and its stored form."""

import base64
from dataclasses import replace

import pytest

from devices.fakes import CountedIds
from isthmus.access.principal import NAMESPACE_RIGHTS
from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.neighbours.neighbour import (
    NAMESPACES,
    ROOT_POLICY,
    Neighbour,
    check_name,
    decode_neighbour,
    encode_neighbour,
    neighbour_host,
    with_first_keys,
)
from isthmus.network.rules import DefaultAction, IpRule, NetworkRules
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.hub import hub_resource_id

HUB = hub_resource_id("plant")
SPACE = Neighbour(HubId(7), ResourceKind.EVENT_HUBS, "plant-events", "plant-events.servicebus.isthmus.test", 5)
ACCOUNT = Neighbour(HubId(8), ResourceKind.STORAGE, "plantstore", "plantstore.blob.isthmus.test", 5)
NEIGHBOUR_KINDS = [kind for kind in ResourceKind if kind in NAMESPACES | {ResourceKind.STORAGE}]


@pytest.mark.parametrize("name", ["abc", "plantstore1", "7plants", "a" * 24])
def test_names_of_accounts(name: str) -> None:
    check_name(ResourceKind.STORAGE, name)


@pytest.mark.parametrize("name", ["", "st", "St0", "st-0", "s" * 25, "späte"])
def test_what_is_no_name_of_an_account(name: str) -> None:
    with pytest.raises(HubError, match="small letters and digits"):
        check_name(ResourceKind.STORAGE, name)


@pytest.mark.parametrize("kind", [ResourceKind.EVENT_HUBS, ResourceKind.SERVICE_BUS])
def test_names_of_namespaces(kind: ResourceKind) -> None:
    for name in ("plants", "Plant-1", "p" * 50):
        check_name(kind, name)
    for name in ("plant", "-plants", "plants-", "1plants", "p" * 51, "plant.1"):
        with pytest.raises(HubError, match="beginning with a letter"):
            check_name(kind, name)


def test_hosts_are_in_the_domain_of_the_hub() -> None:
    assert neighbour_host(ResourceKind.STORAGE, "Store", "hub.isthmus.test") == "store.blob.isthmus.test"
    assert neighbour_host(ResourceKind.SERVICE_BUS, "plants", "hub.isthmus.test") == "plants.servicebus.isthmus.test"
    for nameless in ("localhost", "127.0.0.1", "::1"):
        assert neighbour_host(ResourceKind.EVENT_HUBS, "plants", nameless) == "plants.servicebus.localhost"


def test_rules_of_a_namespace_bite_only_when_there_is_one_and_those_of_an_account_always() -> None:
    deny = NetworkRules(DefaultAction.DENY)
    one = NetworkRules(DefaultAction.DENY, ip_rules=(IpRule("a", "10.0.0.1"),))
    assert replace(SPACE, network_rules=deny).rules == replace(deny, default_action=DefaultAction.ALLOW)
    assert replace(SPACE, network_rules=one).rules == one
    assert replace(ACCOUNT, network_rules=deny).rules == deny
    assert (SPACE.rules, ACCOUNT.rules) == (None, None)


@pytest.mark.parametrize(
    ("rule", "trusted"),
    [
        (HUB, True),
        (HUB.upper(), True),
        (f"{HUB.rpartition('/')[0]}/*", True),
        (f"{HUB.partition('/providers/')[0]}/*", True),
        (HUB[:-1], False),
        (f"{HUB}2", False),
        (f"{HUB}/*", False),
        (f"{HUB.partition('/resourceGroups/')[0]}/resourceGroups/other/*", False),
        ("*", False),
        ("", False),
    ],
)
def test_a_resource_rule_names_one_hub_or_all_below_a_scope(rule: str, trusted: bool) -> None:
    assert replace(ACCOUNT, resource_rules=(rule,)).trusts(HUB) is trusted


def test_trusted_services_are_hubs_whatever_their_names() -> None:
    assert replace(ACCOUNT, trusted_services=True).trusts(HUB)
    assert not ACCOUNT.trusts(HUB)


def test_a_namespace_begins_with_one_policy_and_an_account_with_two_keys() -> None:
    space, account = with_first_keys(SPACE, CountedIds()), with_first_keys(ACCOUNT, CountedIds())
    (policy,) = space.policies
    assert (policy.name, policy.rights, space.account_keys) == (ROOT_POLICY, NAMESPACE_RIGHTS, ())
    assert (account.policies, len(set(account.account_keys))) == ((), 2)
    assert [len(base64.b64decode(key)) for key in account.account_keys] == [64, 64]


def test_the_stored_form_keeps_everything_but_the_revision() -> None:
    whole = with_first_keys(replace(SPACE, trusted_services=True, tags={"a": "b"}, resource_rules=(HUB,)), CountedIds())
    assert decode_neighbour(encode_neighbour(replace(whole, revision=3)), 4) == replace(whole, revision=4)


@pytest.mark.parametrize("kind", NEIGHBOUR_KINDS)
def test_every_kind_has_a_group_words_and_a_command_to_trust_hubs(kind: ResourceKind) -> None:
    assert kind.group_id in {"namespace", "blob"}
    assert kind.word.startswith("the ")
    assert kind.command in kind.trust_command
    assert "{name}" in kind.trust_command
