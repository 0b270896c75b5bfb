"""Who should reach what: the expected half of the matrix, from the plan alone.

A host reaches a private endpoint from the endpoint's network itself, from a network that is peered with it, and from a
site behind its gateway; peering is not transitive. It reaches the hub's public address from the internet only, because
nothing else in a lab leads there. The hub is not asked: what it and the kernel do is the observed half.
"""

from dataclasses import dataclass
from enum import StrEnum

from isthmus.lab.plan import INTERNET, NetworkPlan, Plan, Presence


class Verdict(StrEnum):
    """What becomes of a client with a valid credential; `closed` where nobody listens."""

    OPEN = "open"
    REFUSED = "refused"
    CLOSED = "closed"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One host's try at one address, as a customer of `hub`; `target` names the address for people.

    `by_name` when it is what the hub's usual name means there. `expected` is for the planes of the hub, `link` for the
    link door.
    """

    host: str
    place: str
    hub: str
    address: str
    target: str
    by_name: bool
    expected: Verdict
    link: Verdict


def attempts(plan: Plan) -> list[Attempt]:
    """What every host tries."""
    return [attempt for host in plan.hosts for attempt in attempts_of(plan, host)]


def attempts_of(plan: Plan, host: str) -> list[Attempt]:
    """What a host tries: its hub's usual name, the public address, and each private address there is."""
    place = plan.hosts[host].network
    hub = plan.hub_of(place)
    usual = usual_address(plan, place, hub)
    targets = {plan.hub.address: "public"}
    for name in (*reached_endpoints(plan, place), *plan.endpoints):
        targets.setdefault(plan.networks[name].endpoint, name)
    ordered = sorted(targets.items(), key=lambda target: target[0] != usual)
    return [
        Attempt(
            host=host,
            place=place,
            hub=hub,
            address=address,
            target=target,
            by_name=address == usual,
            expected=_expected(plan, place, hub, address),
            link=_expected_of_link(plan, place, hub, address),
        )
        for address, target in ordered
    ]


def usual_address(plan: Plan, place: str, hub: str) -> str:
    """What a hub's usual name means in a place: a private endpoint that it reaches, else the public address."""
    reached = (plan.networks[name] for name in reached_endpoints(plan, place))
    return next((network.endpoint for network in reached if _hub_of(plan, network) == hub), plan.hub.address)


def reached_endpoints(plan: Plan, place: str) -> tuple[str, ...]:
    """The networks whose private endpoints are reached from a place, its own first."""
    return tuple(name for name in _near(plan, place) if name in plan.endpoints)


def reached_neighbours(plan: Plan, place: str) -> tuple[str, ...]:
    """The neighbours whose private endpoints are reached from a place."""
    return tuple(neighbour for network in _near(plan, place) for neighbour in plan.neighbours_in(network))


def _near(plan: Plan, place: str) -> tuple[str, ...]:
    """The networks that a place leads to: its own or its gateway's, and for a network those it is peered with."""
    network = plan.sites[place].gateway if place in plan.sites else place
    return (network,) if place in plan.sites or place == INTERNET else (network, *plan.peers(network))


def _expected(plan: Plan, place: str, hub: str, address: str) -> Verdict:
    if address == plan.hub.address:
        if place != INTERNET:
            return Verdict.UNREACHABLE
        return Verdict.OPEN if plan.hub.public else Verdict.REFUSED
    found = [plan.networks[name] for name in reached_endpoints(plan, place)]
    endpoint = next((network for network in found if network.endpoint == address), None)
    if endpoint is None:
        return Verdict.UNREACHABLE
    return Verdict.OPEN if _hub_of(plan, endpoint) == hub else Verdict.REFUSED


def _expected_of_link(plan: Plan, place: str, hub: str, address: str) -> Verdict:
    """The link door opens with the first connector, and then refuses everybody without a connector's certificate."""
    if _expected(plan, place, hub, address) is Verdict.UNREACHABLE:
        return Verdict.UNREACHABLE
    connectors = any(network.presence is Presence.CONNECTOR for network in plan.networks.values())
    return Verdict.REFUSED if address == plan.hub.address and connectors else Verdict.CLOSED


def _hub_of(plan: Plan, network: NetworkPlan) -> str:
    return network.hub or plan.hub.first
