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
        ("0.0.0.0/0", "198.51.100.1", True),
        ("::/0", "198.51.100.1", False),
        ("::/0", "2001:db8::1", True),
        ("10.0.0.0/32", "10.0.0.1", False),
        ("10.0.0.0/31", "10.0.0.1", True),
        ("2001:db8::7", "2001:0DB8:0:0:0:0:0:7", True),
        ("2001:db8::7/128", "2001:db8::8", False),
        ("::ffff:10.0.0.0/104", "10.255.0.1", True),
        ("::ffff:10.0.0.7", "10.0.0.7", True),
        ("::ffff:10.0.0.0/104", "11.0.0.1", False),
        ("10.0.0.0/8", "", False),
        ("0.0.0.0/0", "not an address", False),
    ],
)
def test_a_mask_holds_addresses(mask: str, address: str, *, allowed: bool) -> None:
    assert IpRule("r", mask).allows(address) is allowed


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        *[(name, "10.0.0.1") for name in ("", "x" * 129, "a b", "a\n", "caf\u00e9", "a/b", "a|b")],
        *[("a", mask) for mask in ("ten", "", "10.0.0", "10.0.0.256", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1")],
        *[("a", mask) for mask in ("10.0.0.0/0.0.0.255", "10.0.0.0/255.0.0.0", "2001:db8::/129", "10.0.0.1-10.0.0.9")],
    ],
)
def test_a_bad_rule_is_refused(name: str, mask: str) -> None:
    with pytest.raises(HubError) as caught:
        checked_ip_rule(name, mask)
    assert caught.value.code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize("name", ["a", "x" * 128, "-:.+%_#*?!(),=@;'", "line.4"])
def test_a_name_may_have_the_characters_of_the_documentation(name: str) -> None:
    assert checked_ip_rule(name, "10.0.0.0/8") == IpRule(name, "10.0.0.0/8")


def test_rules_have_no_order_and_any_of_them_allows() -> None:
    wide, narrow = IpRule("wide", "10.0.0.0/8"), IpRule("narrow", "10.20.0.0/16")
    for rules in ((wide, narrow), (narrow, wide)):
        for address, matches in (("10.20.0.1", True), ("10.30.0.1", True), ("11.0.0.1", False)):
            assert (NetworkRules(ip_rules=rules).matching(address) is not None) is matches


def test_a_hundred_rules_are_allowed() -> None:
    rules = NetworkRules(ip_rules=tuple(IpRule(str(number), f"10.0.{number}.0/24") for number in range(IP_RULES_MAX)))
    assert checked_rules(rules).matching("10.0.99.1") == IpRule("99", "10.0.99.0/24")


@pytest.mark.parametrize(
    "names", [["office", "Office"], [str(number) for number in range(IP_RULES_MAX + 1)]], ids=["twice", "too many"]
)
def test_a_bad_rule_set_is_refused(names: list[str]) -> None:
    with pytest.raises(HubError) as caught:
        checked_rules(NetworkRules(ip_rules=tuple(checked_ip_rule(name, "10.0.0.1") for name in names)))
    assert caught.value.code is Code.ARGUMENT_INVALID
