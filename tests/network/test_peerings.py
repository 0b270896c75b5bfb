"""Peerings have two sides, pass on nothing, and a gateway is shared only where both want it."""

from dataclasses import replace

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.network.peerings import checked, put_peering, remove_gateway, remove_network, remove_peering
from isthmus.network.virtual_networks import NetworkFacts, Peering, PeeringState
from network.facts import facts_of, network, peered, side, site

AB = facts_of(a="10.1.0.0/16", b="10.2.0.0/16", c="10.3.0.0/16")


def state(facts: NetworkFacts, local: str, remote: str) -> PeeringState | None:
    found = facts.require(local).peering_with(remote)
    return found.state if found is not None else None


def test_the_first_side_is_initiated_and_the_second_connects_both() -> None:
    one = put_peering(AB, "a", side("a", "b"))
    assert (state(one, "a", "b"), state(one, "b", "a")) == (PeeringState.INITIATED, None)
    both = put_peering(one, "b", side("b", "a"))
    assert (state(both, "a", "b"), state(both, "b", "a")) == (PeeringState.CONNECTED, PeeringState.CONNECTED)


def test_deleting_one_side_disconnects_the_other_for_good() -> None:
    facts = remove_peering(peered(AB, "a", "b"), "a", "a-to-b")
    assert (state(facts, "a", "b"), state(facts, "b", "a")) == (None, PeeringState.DISCONNECTED)
    for attempt in (("a", side("a", "b")), ("b", side("b", "a", forwarded=True))):
        with pytest.raises(HubError, match="Disconnected") as caught:
            put_peering(facts, *attempt)
        assert caught.value.code is Code.INVALID_TRANSITION
    anew = peered(remove_peering(facts, "b", "b-to-a"), "a", "b")
    assert state(anew, "a", "b") is PeeringState.CONNECTED


def test_deleting_an_initiated_side_leaves_nothing() -> None:
    assert remove_peering(put_peering(AB, "a", side("a", "b")), "a", "A-TO-B").require("a").peerings == ()


def test_deleting_a_network_disconnects_its_peers() -> None:
    facts = remove_network(peered(AB, "a", "b"), "a")
    assert facts.network("a") is None
    assert state(facts, "b", "a") is PeeringState.DISCONNECTED
    with pytest.raises(HubError, match="Disconnected"):
        put_peering(facts.with_network(network("a", "10.1.0.0/16")), "a", side("a", "b"))


def test_what_a_side_allows_can_be_changed_and_its_state_stays() -> None:
    facts = put_peering(peered(AB, "a", "b"), "a", side("a", "b", access=False, forwarded=True))
    changed = facts.require("a").require_peering("a-to-b")
    assert (changed.allow_access, changed.allow_forwarded, changed.state) == (False, True, PeeringState.CONNECTED)
    with pytest.raises(HubError) as caught:
        put_peering(facts, "a", Peering("a-to-b", "c"))
    assert caught.value.code is Code.CONFLICT


@pytest.mark.parametrize(
    ("local", "remote", "code"),
    [("a", "a", Code.ARGUMENT_INVALID), ("a", "none", Code.NOT_FOUND), ("none", "a", Code.NOT_FOUND)],
)
def test_a_peering_needs_two_networks(local: str, remote: str, code: Code) -> None:
    with pytest.raises(HubError) as caught:
        put_peering(AB, local, side(local, remote))
    assert caught.value.code is code


def test_two_networks_have_one_peering() -> None:
    with pytest.raises(HubError) as caught:
        put_peering(peered(AB, "a", "b"), "a", side("second", "b"))
    assert caught.value.code is Code.CONFLICT


def test_ranges_that_meet_must_not_overlap() -> None:
    facts = facts_of(a="10.1.0.0/16", twin="10.1.128.0/17", b="10.2.0.0/16", double="10.2.0.0/17")
    with pytest.raises(HubError, match=r"of a and .* of twin overlap"):
        put_peering(facts, "a", side("a", "twin"))
    with pytest.raises(HubError, match="overlap"):
        put_peering(put_peering(facts, "a", side("a", "b")), "a", side("a", "double"))
    with pytest.raises(HubError, match="overlap"):
        site(facts, "a", "plant", "10.1.7.0/24")
    with pytest.raises(HubError, match="overlap"):
        site(peered(facts, "a", "b"), "a", "plant", "10.2.7.0/24")
    both = peered(facts, "a", "b")
    grown = both.with_network(replace(both.require("b"), prefixes=("10.0.0.0/8",)))
    with pytest.raises(HubError, match="overlap"):
        checked(grown, "b")


def test_a_spoke_uses_the_gateway_of_its_hub() -> None:
    facts = site(AB, "a", "plant", "192.168.0.0/16")
    facts = put_peering(facts, "a", side("a", "b", transit=True))
    facts = put_peering(facts, "b", side("b", "a", remote_gateways=True))
    assert state(facts, "b", "a") is PeeringState.CONNECTED
    with pytest.raises(HubError, match="does not allow gateway transit"):
        put_peering(facts, "a", side("a", "b"))
    with pytest.raises(HubError, match="has none"):
        remove_gateway(facts, "plant")
    with pytest.raises(HubError, match="gateway of its own"):
        site(facts, "b", "depot", "172.16.0.0/16")
    left = remove_gateway(remove_peering(facts, "a", "a-to-b"), "plant")
    assert left.gateways == ()


def test_a_gateway_is_used_only_where_it_is_offered() -> None:
    with pytest.raises(HubError, match="does not allow gateway transit"):
        put_peering(AB, "b", side("b", "a", remote_gateways=True))
    offered = put_peering(AB, "a", side("a", "b", transit=True))
    with pytest.raises(HubError, match="which has none"):
        put_peering(offered, "b", side("b", "a", remote_gateways=True))


def test_only_one_peers_gateway_is_used() -> None:
    facts = site(site(AB, "a", "plant", "192.168.0.0/16"), "b", "depot", "172.16.0.0/16")
    for hub in ("a", "b"):
        facts = put_peering(facts, hub, side(hub, "c", transit=True))
    facts = put_peering(facts, "c", side("c", "a", remote_gateways=True))
    with pytest.raises(HubError, match="one peer"):
        put_peering(facts, "c", side("c", "b", remote_gateways=True))


def test_a_network_with_a_site_stays() -> None:
    with pytest.raises(HubError, match="local gateway plant") as caught:
        remove_network(site(AB, "a", "plant", "192.168.0.0/16"), "a")
    assert caught.value.code is Code.INVALID_OPERATION


def test_a_site_moves_to_another_network() -> None:
    facts = site(site(AB, "a", "plant", "192.168.0.0/16"), "b", "plant", "192.168.0.0/17")
    assert (facts.gateways_of("a"), len(facts.gateways_of("b"))) == ((), 1)
    assert facts.require_gateway("plant").version == 2
