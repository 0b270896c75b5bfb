"""IP rules."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.network.rules import IP_RULES_MAX, IpRule, NetworkRules, checked_ip_rule, checked_rules


@pytest.mark.parametrize(
    ("mask", "address", "allowed"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.7", "10.0.0.7", True),
        ("10.0.0.9/24", "10.0.0.200", True),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("2001:db8::/32", "10.0.0.1", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("0.0.0.0/0", "not an address", False),
    ],
)
def test_a_mask_holds_addresses(mask: str, address: str, *, allowed: bool) -> None:
    assert IpRule("r", mask).allows(address) is allowed


@pytest.mark.parametrize(
    ("name", "mask"), [("", "10.0.0.1"), ("x" * 129, "10.0.0.1"), ("a b", "10.0.0.1"), ("a", "ten")]
)
def test_a_bad_rule_is_refused(name: str, mask: str) -> None:
    with pytest.raises(HubError) as caught:
        checked_ip_rule(name, mask)
    assert caught.value.code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize(
    "names", [["office", "Office"], [str(number) for number in range(IP_RULES_MAX + 1)]], ids=["twice", "too many"]
)
def test_a_bad_rule_set_is_refused(names: list[str]) -> None:
    with pytest.raises(HubError) as caught:
        checked_rules(NetworkRules(ip_rules=tuple(checked_ip_rule(name, "10.0.0.1") for name in names)))
    assert caught.value.code is Code.ARGUMENT_INVALID
