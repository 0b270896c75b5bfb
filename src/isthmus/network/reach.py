"""Who reaches a private endpoint's network, by the declared facts.

From the network itself; from a peer, when both sides are Connected and allow access; from a network two peerings away,
when both outer networks accept traffic that the one between forwards; from a site behind the network's own gateway, or
behind a peer's that it uses. Nothing else: peering is not transitive ("Virtual network peering"). Where unrelated
networks have the same ranges, the endpoint's network decides whose an address is.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from isthmus.base.hosts import is_address, normal_address
from isthmus.network.virtual_networks import (
    LocalGateway,
    NetworkFacts,
    Peering,
    PeeringState,
    VirtualNetwork,
    holds,
)


@dataclass(frozen=True, slots=True)
class Reachable:
    """There is a way; `way` tells which, for people."""

    way: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """There is none; `reason` is a clause for people, without a full stop."""

    reason: str


Reach = Reachable | Unreachable


def may_reach(facts: NetworkFacts, *, source: str, target: str) -> Reach:
    """Whether an address, or a network by its name, reaches the private endpoints in the network `target`.

    Pure. A source that is neither an address nor a declared network is unreachable.
    """
    network = facts.network(target)
    if network is None:
        return Unreachable(f"there is no virtual network {target}")
    if is_address(source):
        return _from_address(facts, normal_address(source), network)
    origin = facts.network(source)
    if origin is None:
        return Unreachable(f"there is no virtual network {source}")
    way = _way(facts, origin, network)
    return Reachable(way) if way else Unreachable(_why_not(facts, origin, network))


def _from_address(facts: NetworkFacts, address: str, target: VirtualNetwork) -> Reach:
    address = str(ipaddress.ip_address(address.partition("%")[0]))
    if holds(target.prefixes, address):
        return Reachable(f"{address} is in {target.name}")
    origins = [network for network in facts.networks if holds(network.prefixes, address)]
    sites = [site for site in facts.gateways if holds(site.prefixes, address)]
    ways = (
        *(_way(facts, origin, target) for origin in origins),
        *(_way_of_site(facts, site, target) for site in sites),
    )
    way = next((each for each in ways if each), "")
    if way:
        return Reachable(way)
    if origins:
        # Of networks with the same ranges, the one that has most to do with the target is meant.
        likely = min(origins, key=lambda origin: _distance(facts, origin, target))
        return Unreachable(f"{address} is in {_why_not(facts, likely, target)}")
    if sites:
        return Unreachable(
            f"{address} is behind the gateway of {sites[0].network}, and {target.name} does not use that gateway"
        )
    return Unreachable(f"{address} is in no declared network and behind no declared gateway")


def _way(facts: NetworkFacts, origin: VirtualNetwork, target: VirtualNetwork) -> str:
    """How a network reaches another, empty when it does not."""
    if origin is target:
        return f"in {target.name}"
    if _sides(origin, target) is not None:
        return f"{origin.name} is peered with {target.name}"
    for between in facts.networks:
        if all(_forwards(outer, between) for outer in (origin, target)):
            return f"{between.name} may forward from {origin.name} to {target.name}"
    return ""


def _way_of_site(facts: NetworkFacts, site: LocalGateway, target: VirtualNetwork) -> str:
    if site.network.lower() == target.name.lower():
        return f"{site.name} is behind the gateway of {target.name}"
    owner = facts.network(site.network)
    sides = _sides(target, owner) if owner is not None else None
    if sides is not None and sides[0].use_remote_gateways and sides[1].allow_gateway_transit:
        return f"{site.name} is behind the gateway of {site.network}, which {target.name} uses"
    return ""


def _forwards(outer: VirtualNetwork, between: VirtualNetwork) -> bool:
    """True when the outer network takes what the other forwards; answers have to come back the same way."""
    sides = _sides(outer, between)
    return sides is not None and sides[0].allow_forwarded


def _sides(one: VirtualNetwork, other: VirtualNetwork) -> tuple[Peering, Peering] | None:
    """Both sides of a peering that carries traffic."""
    near, far = one.peering_with(other.name), other.peering_with(one.name)
    if near is None or far is None or not all(_open(side) for side in (near, far)):
        return None
    return near, far


def _open(side: Peering) -> bool:
    return side.state is PeeringState.CONNECTED and side.allow_access


def _why_not(facts: NetworkFacts, origin: VirtualNetwork, target: VirtualNetwork) -> str:
    side = origin.peering_with(target.name) or target.peering_with(origin.name)
    if side is None:
        between = [f", only both with {name}" for name in _common_peers(facts, origin, target)]
        return f"{origin.name}, which is not peered with {target.name}{between[0] if between else ''}"
    if side.state is not PeeringState.CONNECTED:
        return f"{origin.name}, whose peering with {target.name} is {side.state.value}"
    return f"{origin.name}, whose peering with {target.name} does not allow access"


def _distance(facts: NetworkFacts, origin: VirtualNetwork, target: VirtualNetwork) -> int:
    if origin.peering_with(target.name) is not None or target.peering_with(origin.name) is not None:
        return 1
    return 2 if any(_common_peers(facts, origin, target)) else 3


def _common_peers(facts: NetworkFacts, one: VirtualNetwork, other: VirtualNetwork) -> Iterator[str]:
    for between in facts.networks:
        if one.peering_with(between.name) is not None and other.peering_with(between.name) is not None:
            yield between.name
