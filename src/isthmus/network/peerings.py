"""Peerings of virtual networks, and gateways that a peer may use: which changes of the facts there are.

Theory of operation. A peering is two objects, one in each network. The first is Initiated; the second makes both
Connected. When one goes, the other is Disconnected: it can only be deleted, and the pair made anew from both sides. A
peering passes on nothing: what a network is peered with, its peers do not see ("Virtual network peering").

A network may use the gateway of one peer, when that peer allows the transit and has sites behind a gateway, and the
network has none of its own. Each function returns new facts, or raises HubError and leaves everything as it was.
"""

from collections.abc import Iterator
from dataclasses import replace

from isthmus.base.errors import Code, HubError
from isthmus.network.virtual_networks import (
    LocalGateway,
    NetworkFacts,
    Peering,
    PeeringState,
    VirtualNetwork,
    check_apart,
    checked_name,
)


def put_peering(facts: NetworkFacts, network: str, peering: Peering) -> NetworkFacts:
    """Makes one side of a peering, or changes what it allows; its state follows from the other side.

    Raises HubError GenericNotFound, ArgumentInvalid (ranges that overlap, gateways that do not fit), GenericConflict,
    OperationNotAllowedInCurrentState for a side that is Disconnected, here or there.
    """
    local, remote = facts.require(network), facts.require(peering.remote)
    checked_name(peering.name, "A peering's name")
    if local is remote:
        raise HubError(Code.ARGUMENT_INVALID, f"{local.name} cannot be peered with itself")
    present = local.peering(peering.name)
    side = replace(peering, remote=remote.name)
    if present is not None:
        changed = _changed_side(local, present, side)
        return checked(facts.with_network(_with_side(local, changed)), local.name)
    if local.peering_with(remote.name) is not None:
        raise HubError(Code.CONFLICT, f"{local.name} has a peering with {remote.name} already")
    return checked(_joined(facts, local, remote, side), local.name)


def remove_peering(facts: NetworkFacts, network: str, name: str) -> NetworkFacts:
    """Deletes one side; the other is Disconnected from then on. Raises HubError GenericNotFound."""
    local = facts.require(network)
    gone = local.require_peering(name)
    kept = tuple(each for each in local.peerings if each is not gone)
    return _disconnected(facts.with_network(replace(local, peerings=kept)), local.name, [gone.remote])


def remove_network(facts: NetworkFacts, name: str) -> NetworkFacts:
    """Deletes a network; its peers' sides are Disconnected. Raises HubError GenericNotFound, InvalidOperation."""
    gone = facts.require(name)
    sites = facts.gateways_of(name)
    if sites:
        message = f"{gone.name} has the local gateway {sites[0].name}; delete that first"
        raise HubError(Code.INVALID_OPERATION, message)
    left = replace(facts, networks=tuple(each for each in facts.networks if each is not gone))
    return _disconnected(left, gone.name, [each.name for each in left.networks])


def put_gateway(facts: NetworkFacts, gateway: LocalGateway) -> NetworkFacts:
    """Declares a site behind a network's gateway, or its new ranges. Raises as `put_peering`."""
    checked_name(gateway.name, "A local gateway's name")
    network = facts.require(gateway.network)
    before = facts.gateway(gateway.name)
    changed = facts.with_gateway(replace(gateway, network=network.name))
    if before is not None and before.network != network.name:
        changed = checked(changed, before.network)
    return checked(changed, network.name)


def remove_gateway(facts: NetworkFacts, name: str) -> NetworkFacts:
    """Takes a site back; raises HubError GenericNotFound, and ArgumentInvalid while a peer uses the gateway."""
    gone = facts.require_gateway(name)
    left = replace(facts, gateways=tuple(each for each in facts.gateways if each is not gone))
    return checked(left, gone.network)


def checked(facts: NetworkFacts, changed: str) -> NetworkFacts:
    """The facts when what a changed network says, and what its peers say, fits together; raises HubError."""
    network = facts.require(changed)
    for each in (network, *peers(facts, network)):
        check_apart(_blocks_seen(facts, each))
        _check_gateways(facts, each)
    return facts


def peers(facts: NetworkFacts, network: VirtualNetwork) -> Iterator[VirtualNetwork]:
    """The networks that one is peered with, in whatever state but Disconnected."""
    for side in network.peerings:
        remote = facts.network(side.remote)
        if remote is not None and side.state is not PeeringState.DISCONNECTED:
            yield remote


def _changed_side(local: VirtualNetwork, present: Peering, wanted: Peering) -> Peering:
    if present.remote != wanted.remote:
        raise HubError(Code.CONFLICT, f"The peering {present.name} of {local.name} is with {present.remote}")
    if present.state is PeeringState.DISCONNECTED:
        raise _is_disconnected(local.name, present.name)
    return replace(wanted, name=present.name, state=present.state)


def _joined(facts: NetworkFacts, local: VirtualNetwork, remote: VirtualNetwork, side: Peering) -> NetworkFacts:
    other = remote.peering_with(local.name)
    if other is None:
        return facts.with_network(_with_side(local, replace(side, state=PeeringState.INITIATED)))
    if other.state is PeeringState.DISCONNECTED:
        raise _is_disconnected(remote.name, other.name)
    joined = facts.with_network(_with_side(local, replace(side, state=PeeringState.CONNECTED)))
    return joined.with_network(_with_side(remote, replace(other, state=PeeringState.CONNECTED)))


def _disconnected(facts: NetworkFacts, network: str, remotes: list[str]) -> NetworkFacts:
    for name in remotes:
        remote = facts.network(name)
        side = remote.peering_with(network) if remote is not None else None
        if remote is not None and side is not None:
            facts = facts.with_network(_with_side(remote, replace(side, state=PeeringState.DISCONNECTED)))
    return facts


def _with_side(network: VirtualNetwork, side: Peering) -> VirtualNetwork:
    others = (each for each in network.peerings if each.name.lower() != side.name.lower())
    return replace(network, peerings=tuple(sorted((*others, side), key=lambda each: each.name.lower())))


def _is_disconnected(network: str, name: str) -> HubError:
    message = (
        f"The peering {name} of {network} is Disconnected, and cannot become Connected: "
        f"isthmus network vnet peering delete --vnet-name {network} -n {name}, and make both sides anew"
    )
    return HubError(Code.INVALID_TRANSITION, message)


def _blocks_seen(facts: NetworkFacts, network: VirtualNetwork) -> Iterator[tuple[str, str]]:
    """All that is routed in a network: its own ranges, its peers', and its sites'."""
    for each in (network, *peers(facts, network)):
        yield from ((prefix, each.name) for prefix in each.prefixes)
    for site in facts.gateways_of(network.name):
        yield from ((prefix, site.name) for prefix in site.prefixes)


def _check_gateways(facts: NetworkFacts, network: VirtualNetwork) -> None:
    using = [
        side for side in network.peerings if side.use_remote_gateways and side.state is not PeeringState.DISCONNECTED
    ]
    if not using:
        return
    if len(using) > 1:
        names = " and ".join(side.remote for side in using)
        raise HubError(Code.ARGUMENT_INVALID, f"{network.name} may use the gateway of one peer, not of {names}")
    if facts.gateways_of(network.name):
        raise HubError(Code.ARGUMENT_INVALID, f"{network.name} has a gateway of its own and cannot use a peer's")
    remote = facts.require(using[0].remote)
    other = remote.peering_with(network.name)
    if other is None or not other.allow_gateway_transit:
        message = f"{network.name} uses the gateway of {remote.name}, whose peering does not allow gateway transit"
        raise HubError(Code.ARGUMENT_INVALID, message)
    if not facts.gateways_of(remote.name):
        raise HubError(Code.ARGUMENT_INVALID, f"{network.name} uses the gateway of {remote.name}, which has none")
