"""Who reaches whom: one table over a plant with peers, sites, a forwarder, and a customer with the same ranges."""

import pytest

from isthmus.network.admission import Allow, Deny, admit
from isthmus.network.door import Door, DoorKind
from isthmus.network.peerings import put_peering, remove_peering
from isthmus.network.reach import Reachable, Unreachable, may_reach
from isthmus.network.virtual_networks import NetworkFacts
from network.facts import facts_of, peered, side, site
from network.test_admission import HUB_ID, OPEN


def plant() -> NetworkFacts:
    """line—core—office in a row; core's sites used by line; two more spokes of a forwarding core; a customer apart."""
    facts = facts_of(
        line="10.1.0.0/16",
        core="10.2.0.0/16",
        office="10.3.0.0/16",
        east="10.4.0.0/16",
        west="10.5.0.0/16",
        half="10.6.0.0/16",
        shy="10.7.0.0/16",
        left="10.8.0.0/16",
        customer="10.1.0.0/16",
        cousin="10.3.0.0/16",
    )
    facts = site(facts, "core", "works", "192.168.0.0/16", "fd01::/48")
    facts = put_peering(facts, "core", side("core", "line", transit=True))
    facts = put_peering(facts, "line", side("line", "core", remote_gateways=True))
    facts = peered(facts, "core", "office")
    facts = peered(facts, "core", "east", forwarded=True)
    facts = peered(facts, "core", "west", forwarded=True)
    facts = put_peering(facts, "core", side("core", "half"))
    facts = peered(facts, "core", "shy", access=False)
    facts = remove_peering(peered(facts, "core", "left"), "core", "core-to-left")
    return peered(facts, "customer", "cousin")


FACTS = plant()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("10.1.0.9", "line"),
        ("::ffff:10.1.0.9", "LINE"),
        ("line", "line"),
        ("10.2.0.9", "line"),
        ("10.1.0.9", "core"),
        ("core", "office"),
        ("10.3.0.9", "core"),
        ("192.168.7.7", "core"),
        ("fd01::7", "core"),
        ("192.168.7.7", "line"),
        ("10.4.0.9", "west"),
        ("west", "east"),
        ("10.1.0.9", "customer"),
        ("10.3.0.9", "customer"),
        ("customer", "cousin"),
    ],
)
def test_reaches(source: str, target: str) -> None:
    assert isinstance(may_reach(FACTS, source=source, target=target), Reachable)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("10.1.0.9", "office", "line, which is not peered with office, only both with core"),
        ("office", "line", "office, which is not peered with line, only both with core"),
        ("10.4.0.9", "office", "east, which is not peered with office"),
        ("10.3.0.9", "line", "office, which is not peered with line"),
        ("10.2.0.9", "half", "core, whose peering with half is Initiated"),
        ("10.6.0.9", "core", "half, whose peering with core is Initiated"),
        ("10.7.0.9", "core", "shy, whose peering with core"),
        ("core", "shy", "does not allow access"),
        ("10.8.0.9", "core", "left, whose peering with core is Disconnected"),
        ("192.168.7.7", "office", "behind the gateway of core, and office does not use that gateway"),
        ("192.168.7.7", "customer", "behind the gateway of core"),
        ("10.2.0.9", "customer", "core, which is not peered with customer"),
        ("line", "customer", "line, which is not peered with customer"),
        ("198.51.100.1", "line", "in no declared network"),
        ("2001:db8::1", "line", "in no declared network"),
        ("nowhere", "line", "no virtual network nowhere"),
        ("10.1.0.9", "nowhere", "no virtual network nowhere"),
    ],
)
def test_does_not_reach_and_says_why(source: str, target: str, reason: str) -> None:
    reach = may_reach(FACTS, source=source, target=target)
    assert isinstance(reach, Unreachable)
    assert reason in reach.reason


@pytest.mark.parametrize("shut", ["east", "west", "core"])
def test_forwarding_needs_both_outer_networks_and_nothing_of_the_one_between(shut: str) -> None:
    remotes = ("east", "west") if shut == "core" else ("core",)
    facts = FACTS
    for remote in remotes:
        facts = put_peering(facts, shut, side(shut, remote))
    expected = Reachable if shut == "core" else Unreachable
    assert isinstance(may_reach(facts, source="10.4.0.9", target="west"), expected)


def private(network: str) -> Door:
    return Door(DoorKind.PRIVATE, HUB_ID, "approved", network)


@pytest.mark.parametrize(
    ("network", "address", "admitted"),
    [
        ("line", "10.1.0.9", True),
        ("line", "192.168.7.7", True),
        ("line", "10.3.0.9", False),
        ("office", "10.1.0.9", False),
        ("line", "", False),
        ("undeclared", "198.51.100.1", True),
        ("", "198.51.100.1", True),
    ],
)
def test_a_private_door_admits_who_reaches_its_network(network: str, address: str, *, admitted: bool) -> None:
    admission = admit(OPEN, door=private(network), address=address, facts=FACTS)
    if admitted:
        assert admission == Allow("private:approved", "network.private-endpoint")
        return
    assert isinstance(admission, Deny)
    assert admission.refusal.rule == "network.not-in-network"
    assert network in admission.refusal.value
    assert "isthmus network vnet peering create" in admission.refusal.remedy


def test_a_door_that_is_not_approved_says_that_first() -> None:
    door = Door(DoorKind.PRIVATE, HUB_ID, "pending", "line")
    admission = admit(OPEN, door=door, address="198.51.100.1", facts=FACTS)
    assert isinstance(admission, Deny)
    assert admission.refusal.rule == "network.private-endpoint-pending"
