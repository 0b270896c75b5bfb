"""Declared networks for tests: made the way users make them, so that the rules have passed them."""

from isthmus.network.peerings import put_gateway, put_peering
from isthmus.network.virtual_networks import (
    NO_FACTS,
    LocalGateway,
    NetworkFacts,
    Peering,
    Subnet,
    VirtualNetwork,
    checked_network,
)


def network(name: str, *prefixes: str, subnets: tuple[tuple[str, str], ...] = ()) -> VirtualNetwork:
    """A checked network."""
    return checked_network(VirtualNetwork(name, prefixes, tuple(Subnet(*subnet) for subnet in subnets)))


def facts_of(**networks: str) -> NetworkFacts:
    """Networks of one range each, by name."""
    facts = NO_FACTS
    for name, prefix in networks.items():
        facts = facts.with_network(network(name, prefix))
    return facts


def side(local: str, remote: str, *, access: bool = True, forwarded: bool = False, transit: bool = False,
         remote_gateways: bool = False) -> Peering:  # fmt: skip
    """One side of a peering, named `{local}-to-{remote}`."""
    return Peering(f"{local}-to-{remote}", remote, access, forwarded, transit, remote_gateways)


def peered(facts: NetworkFacts, one: str, other: str, *, access: bool = True, forwarded: bool = False) -> NetworkFacts:
    """With both sides of a peering."""
    facts = put_peering(facts, one, side(one, other, access=access, forwarded=forwarded))
    return put_peering(facts, other, side(other, one, forwarded=forwarded))


def site(facts: NetworkFacts, network_name: str, name: str, *prefixes: str) -> NetworkFacts:
    """With a site behind a network's gateway."""
    return put_gateway(facts, LocalGateway(name, network_name, prefixes))
