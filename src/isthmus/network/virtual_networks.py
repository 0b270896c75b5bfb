"""Virtual networks as declared facts: address spaces, subnets, peerings, and sites behind a gateway.

Nothing here moves a packet. The facts say how the plant is built, and `reach` tells by them which source addresses may
use a private endpoint. All of them are one value, so that a change is judged as a whole: the ranges of a network, its
peers and the sites behind its gateway never overlap. Those of networks that have nothing to do with each other may.

Five addresses of a subnet are reserved, the first four and the last, and the smallest IPv4 subnet is a /29 ("Azure
Virtual Network frequently asked questions"). Names are compared without case.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from isthmus.base.errors import Code, HubError
from isthmus.base.hosts import is_address
from isthmus.network.rules import network_of

NETWORKS_MAX = 64
"""Virtual networks of an installation; the facts are one document, which a change writes as a whole."""

SUBNETS_MAX = 256
"""Subnets of a network."""

PREFIXES_MAX = 16
"""Address ranges of a network, or of a site: admission may look at each of them."""

DNS_SERVERS_MAX = 20
"""DNS servers that are named for a network ("Azure networking limits")."""

GATEWAYS_MAX = 64
"""Sites behind gateways, over all networks."""

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?")
"""Microsoft.Network: letters, digits, dots, dashes, underscores; up to 80 characters."""

PRESENCE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
"""A network namespace's or connector's name; it is a file's name as well (ip-netns(8)), so no dot comes first."""

RESERVED_FIRST = 4
"""Addresses at the start of a subnet that are nobody's; the last one is reserved as well."""

IPV4_LENGTH_MAX = 29
"""The smallest IPv4 subnet."""

IPV6_LENGTH = 64
"""Every IPv6 subnet."""


Kind = TypeVar("Kind")


class PeeringState(StrEnum):
    """Of one side of a peering; only between two Connected sides anything passes."""

    INITIATED = "Initiated"
    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"


class PresenceKind(StrEnum):
    """How private endpoints are present in a network.

    Their addresses are on this machine, or inside a Linux network namespace of it, or at a connector that runs in the
    network and carries every connection here.
    """

    BIND = "bind"
    NETNS = "netns"
    CONNECTOR = "connector"


@dataclass(frozen=True, slots=True)
class Presence:
    """The way of one network; `name` is the namespace's or the connector's, and empty for bind."""

    kind: PresenceKind = PresenceKind.BIND
    name: str = ""

    @property
    def text(self) -> str:
        """`bind`, `netns:NAME` or `connector:NAME`."""
        return f"{self.kind.value}:{self.name}" if self.name else self.kind.value

    @property
    def place(self) -> str:
        """Where an address is looked for: empty for this machine, else as `text`; ranges of two places may overlap."""
        return "" if self.kind is PresenceKind.BIND else self.text


BIND = Presence()


@dataclass(frozen=True, slots=True)
class Subnet:
    """A range of a network; `prefix` is a CIDR block in normal form."""

    name: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Peering:
    """One side of a peering: this network's word about another; `remote` is the other's name."""

    name: str
    remote: str
    allow_access: bool = True
    allow_forwarded: bool = False
    allow_gateway_transit: bool = False
    use_remote_gateways: bool = False
    state: PeeringState = PeeringState.INITIATED


@dataclass(frozen=True, slots=True)
class VirtualNetwork:
    """A network with its ranges; `version` rises with each change and makes the etag.

    `dns_servers` are addresses (normal form) that somebody named, besides those where names are served anyway.
    """

    name: str
    prefixes: tuple[str, ...]
    subnets: tuple[Subnet, ...] = ()
    peerings: tuple[Peering, ...] = ()
    presence: Presence = BIND
    dns_servers: tuple[str, ...] = ()
    location: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    guid: str = ""
    version: int = 1

    def subnet(self, name: str) -> Subnet | None:
        """The subnet of that name, or None."""
        return next((each for each in self.subnets if each.name.lower() == name.lower()), None)

    def peering(self, name: str) -> Peering | None:
        """The peering of that name, or None."""
        return next((each for each in self.peerings if each.name.lower() == name.lower()), None)

    def peering_with(self, remote: str) -> Peering | None:
        """This network's side of the peering with another, or None."""
        return next((each for each in self.peerings if each.remote.lower() == remote.lower()), None)

    def require_subnet(self, name: str) -> Subnet:
        """As `subnet`; raises HubError GenericNotFound."""
        return _found(self.subnet(name), f"subnet {name} in {self.name}", [each.name for each in self.subnets])

    def require_peering(self, name: str) -> Peering:
        """As `peering`; raises HubError GenericNotFound."""
        return _found(self.peering(name), f"peering {name} of {self.name}", [each.name for each in self.peerings])


@dataclass(frozen=True, slots=True)
class LocalGateway:
    """A site whose ranges lie behind the gateway of a network: an on-premises network over a VPN or a private line."""

    name: str
    network: str
    prefixes: tuple[str, ...]
    gateway_address: str = ""
    location: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    guid: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """All that was declared."""

    networks: tuple[VirtualNetwork, ...] = ()
    gateways: tuple[LocalGateway, ...] = ()

    def network(self, name: str) -> VirtualNetwork | None:
        """The network of that name, or None."""
        return next((each for each in self.networks if each.name.lower() == name.lower()), None)

    def gateway(self, name: str) -> LocalGateway | None:
        """The site of that name, or None."""
        return next((each for each in self.gateways if each.name.lower() == name.lower()), None)

    def require(self, name: str) -> VirtualNetwork:
        """As `network`; raises HubError GenericNotFound."""
        return _found(self.network(name), f"virtual network {name}", [each.name for each in self.networks])

    def require_gateway(self, name: str) -> LocalGateway:
        """As `gateway`; raises HubError GenericNotFound."""
        return _found(self.gateway(name), f"local gateway {name}", [each.name for each in self.gateways])

    def gateways_of(self, network: str) -> tuple[LocalGateway, ...]:
        """The sites behind a network's gateway."""
        return tuple(each for each in self.gateways if each.network.lower() == network.lower())

    def with_network(self, network: VirtualNetwork) -> "NetworkFacts":
        """With the network in its new form, its version raised when it is not new and differs."""
        old = self.network(network.name)
        if old == network:
            return self
        new = network if old is None else replace(network, name=old.name, version=old.version + 1)
        others = (each for each in self.networks if each is not old)
        return replace(self, networks=tuple(sorted((*others, new), key=lambda each: each.name.lower())))

    def with_gateway(self, gateway: LocalGateway) -> "NetworkFacts":
        """As `with_network`, for a site."""
        old = self.gateway(gateway.name)
        if old == gateway:
            return self
        new = gateway if old is None else replace(gateway, name=old.name, version=old.version + 1)
        others = (each for each in self.gateways if each is not old)
        return replace(self, gateways=tuple(sorted((*others, new), key=lambda each: each.name.lower())))


NO_FACTS = NetworkFacts()


def parse_presence(text: str) -> Presence:
    """The presence that a text names; raises HubError ArgumentInvalid."""
    kind, _, name = text.partition(":")
    if text == PresenceKind.BIND:
        return BIND
    if kind not in (PresenceKind.NETNS, PresenceKind.CONNECTOR) or not PRESENCE_NAME.fullmatch(name):
        message = f"presence is bind, netns:NAME or connector:NAME, with 1 to 64 letters, digits, - _ .; not {text!r}"
        raise HubError(Code.ARGUMENT_INVALID, message)
    return Presence(PresenceKind(kind), name)


def checked_name(name: str, what: str) -> str:
    """The name; raises HubError ArgumentInvalid when none of `what` can have it. An address is no name."""
    if not NAME.fullmatch(name) or is_address(name):
        message = f"{what} has 1 to 80 letters, digits, dots, dashes and underscores, and is no address; not {name!r}"
        raise HubError(Code.ARGUMENT_INVALID, message)
    return name


def checked_prefix(prefix: str, path: str) -> str:
    """A CIDR block in normal form; raises HubError ArgumentInvalid naming the member, also for set host bits."""
    try:
        network = network_of(prefix)
    except ValueError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"{path} {prefix!r} is no CIDR block") from error
    given = prefix.partition("/")[0]
    if ipaddress.ip_address(given) != network.network_address:
        raise HubError(Code.ARGUMENT_INVALID, f"{path} {prefix} has host bits; the block is {network}")
    return str(network)


def checked_network(network: VirtualNetwork) -> VirtualNetwork:
    """The network when its ranges and subnets fit together; raises HubError ArgumentInvalid saying what does not."""
    checked_name(network.name, "A virtual network's name")
    if not 1 <= len(network.prefixes) <= PREFIXES_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"addressSpace has 1 to {PREFIXES_MAX} addressPrefixes")
    if len(network.subnets) > SUBNETS_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"{len(network.subnets)} subnets; {SUBNETS_MAX} are allowed")
    names = [checked_name(subnet.name, "A subnet's name").lower() for subnet in network.subnets]
    if len(set(names)) < len(names):
        raise HubError(Code.ARGUMENT_INVALID, f"two subnets of {network.name} have one name")
    for subnet in network.subnets:
        _check_subnet(network, subnet)
    for blocks in (network.prefixes, [subnet.prefix for subnet in network.subnets]):
        check_apart([(block, network.name) for block in blocks])
    return network


def check_apart(blocks: Iterable[tuple[str, str]]) -> None:
    """Raises HubError ArgumentInvalid, naming two blocks and whose they are, when two of them overlap."""
    ordered = sorted(blocks, key=_place)
    for (one, owner), (other, other_owner) in pairwise(ordered):
        if network_of(one).overlaps(network_of(other)):
            raise HubError(Code.ARGUMENT_INVALID, f"{one} of {owner} and {other} of {other_owner} overlap")


def holds(prefixes: Iterable[str], address: str) -> bool:
    """True when an address in normal form lies in one of the blocks."""
    parsed = ipaddress.ip_address(address)
    return any(parsed in network_of(prefix) for prefix in prefixes)


def first_free(subnet: Subnet, is_taken: Callable[[str], bool]) -> str:
    """The lowest address of a subnet that may be given out and is not taken; raises HubError QuotaExceeded."""
    network = network_of(subnet.prefix)
    for offset in range(RESERVED_FIRST, network.num_addresses - 1):
        address = str(network[offset])
        if not is_taken(address):
            return address
    raise HubError(Code.QUOTA_EXCEEDED, f"The subnet {subnet.name} ({subnet.prefix}) has no free address")


def check_usable(subnet: Subnet, address: str) -> None:
    """Raises HubError ArgumentInvalid when an address (normal form) is not of the subnet, or reserved in it."""
    network, parsed = network_of(subnet.prefix), ipaddress.ip_address(address)
    if parsed not in network:
        raise HubError(Code.ARGUMENT_INVALID, f"{address} is not in the subnet {subnet.name} ({subnet.prefix})")
    offset = int(parsed) - int(network.network_address)
    if offset < RESERVED_FIRST or offset == network.num_addresses - 1:
        message = f"{address} is reserved in {subnet.prefix}: the first four addresses and the last are nobody's"
        raise HubError(Code.ARGUMENT_INVALID, message)


def _check_subnet(network: VirtualNetwork, subnet: Subnet) -> None:
    block = network_of(subnet.prefix)
    if block.version == 4 and block.prefixlen > IPV4_LENGTH_MAX:
        raise HubError(
            Code.ARGUMENT_INVALID, f"{subnet.prefix} is too small: a subnet is a /{IPV4_LENGTH_MAX} at least"
        )
    if block.version == 6 and block.prefixlen != IPV6_LENGTH:
        raise HubError(Code.ARGUMENT_INVALID, f"{subnet.prefix} is not a /{IPV6_LENGTH}, as every IPv6 subnet is")
    spaces = [network_of(prefix) for prefix in network.prefixes]
    # Two CIDR blocks overlap only when one holds the other.
    if not any(space.overlaps(block) and space.prefixlen <= block.prefixlen for space in spaces):
        message = f"The subnet {subnet.name} ({subnet.prefix}) is not inside {', '.join(network.prefixes)}"
        raise HubError(Code.ARGUMENT_INVALID, message)


def _place(block: tuple[str, str]) -> tuple[int, int, int]:
    network = network_of(block[0])
    return network.version, int(network.network_address), network.prefixlen


def _found(found: Kind | None, what: str, known: Sequence[str]) -> Kind:
    if found is None:
        raise HubError(Code.NOT_FOUND, f"There is no {what}; known: {', '.join(known) or 'none'}")
    return found
