"""Admission: may a peer that came in by this door, from this address, speak to this resource at all.

A connection belongs to one path, and the path decides the rule. Through a private door only the state of that door's
private endpoint connection counts, and the door must be the resource's own; when the door is in a virtual network that
was declared, the address must be one that reaches it by the declared facts. Through the public door the public switch
counts first, then the IP rules; whom the resource trusts by identity alone passes both ("trusted services"). The local
door is the owner's. Admission grants no identity: authentication follows in
every case ("IoT Hub support for virtual networks with Private Link", "Use IP filters").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from isthmus.base.errors import Hop, Refusal
from isthmus.network.door import Door, DoorKind
from isthmus.network.private_endpoints import ConnectionStatus, PrivateEndpointConnection, status_of
from isthmus.network.reach import Unreachable, may_reach
from isthmus.network.rules import DefaultAction, NetworkRules
from isthmus.network.virtual_networks import NO_FACTS, NetworkFacts


class GuardedResource(Protocol):
    """A resource as admission sees it; `name` is what the command line calls it by, `group` its group of commands."""

    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def resource_id(self) -> str: ...
    @property
    def public_network_access(self) -> bool: ...
    @property
    def rules(self) -> NetworkRules | None: ...
    @property
    def connections(self) -> tuple[PrivateEndpointConnection, ...]: ...


@dataclass(frozen=True, slots=True)
class Allow:
    """Admitted: by which door and which rule."""

    door: str
    rule: str


@dataclass(frozen=True, slots=True)
class Deny:
    """Not admitted; the refusal is for the owner."""

    refusal: Refusal


Admission = Allow | Deny


def admit(
    resource: GuardedResource,
    *,
    door: Door,
    address: str,
    built_in: bool = False,
    trusted: bool = False,
    facts: NetworkFacts = NO_FACTS,
) -> Admission:
    """Judges a peer's door and real address against a resource; `built_in` when it asks for the built-in endpoint.

    `trusted` when the peer has proved to be somebody whom the resource's public door lets in from everywhere.

    `facts` are the virtual networks that were declared. Pure: the same arguments always give the same answer.
    """
    if door.kind is DoorKind.LOCAL:
        return Allow(door.label, "network.local")
    if door.kind is DoorKind.PRIVATE:
        return _private(resource, door, address, facts)
    if trusted:
        return Allow(door.label, "network.trusted-service")
    return _public(resource, address, built_in=built_in)


def _private(resource: GuardedResource, door: Door, address: str, facts: NetworkFacts) -> Admission:
    if door.resource_id.lower() != resource.resource_id.lower():
        remedy = f"make a private endpoint for {resource.name}, or connect to whatever has this address"
        return _deny("network.wrong-door", f"{door.label} does not belong to {resource.name}", remedy)
    status = status_of(door.connection, resource.connections)
    if status is ConnectionStatus.APPROVED:
        return _from_network(door, address, facts)
    remedy = _REMEDIES[status].format(connection=door.connection, resource=resource.name)
    return _deny(f"network.private-endpoint-{status.value.lower()}", f"{door.label} is {status.value}", remedy)


def _from_network(door: Door, address: str, facts: NetworkFacts) -> Admission:
    if facts.network(door.network) is not None:
        reach = may_reach(facts, source=address, target=door.network)
        if isinstance(reach, Unreachable):
            remedy = (
                f"declare where {address} is: a prefix of {door.network}, a network that is peered with it "
                "(isthmus network vnet peering create), or a site behind its gateway "
                "(isthmus network local-gateway create)"
            )
            return _deny("network.not-in-network", f"{door.label} is in {door.network}; {reach.reason}", remedy)
    return Allow(door.label, "network.private-endpoint")


def _public(resource: GuardedResource, address: str, *, built_in: bool) -> Admission:
    if not resource.public_network_access:
        remedy = (
            f"connect through a private endpoint, or: isthmus {resource.group} update -n {resource.name} "
            "--set properties.publicNetworkAccess=Enabled"
        )
        return _deny(
            "network.public-access", f"publicNetworkAccess is Disabled; {address} came by the public door", remedy
        )
    rules = resource.rules
    if rules is None or (built_in and not rules.apply_to_built_in):
        return Allow("public", "network.public-access")
    return _by_rules(resource, rules, address)


def _by_rules(resource: GuardedResource, rules: NetworkRules, address: str) -> Admission:
    rule = rules.matching(address)
    if rule is not None:
        return Allow("public", f"network.ip-rule:{rule.name}")
    if rules.default_action is DefaultAction.ALLOW:
        return Allow("public", "network.ip-rule:default")
    remedy = f"add an IP rule for {address} to the network rules of {resource.name}"
    return _deny(
        "network.ip-rule", f"{address} is in none of {len(rules.ip_rules)} IP rules, defaultAction is Deny", remedy
    )


def _deny(rule: str, value: str, remedy: str) -> Deny:
    return Deny(Refusal(Hop.NETWORK, rule, value, remedy))


_REMEDIES: Mapping[ConnectionStatus, str] = {
    ConnectionStatus.PENDING: (
        "isthmus network private-endpoint-connection approve -n {connection} --resource-name {resource}"
    ),
    ConnectionStatus.REJECTED: "the owner of {resource} rejected it: delete the private endpoint, make a new one",
    ConnectionStatus.DISCONNECTED: (
        "{resource} has no such connection any more: delete the private endpoint, make a new one"
    ),
}
