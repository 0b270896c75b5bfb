"""The lab's file: networks, sites, hosts, and the hub, read and checked as a whole before anything is made.

TOML; unknown keys are refused. Every name is a namespace's as well: `{lab}-{name}`. Only IPv4::

    name = "factory"

    [internet]                       # nobody leaves it
    range = "203.0.113.0/24"

    [hub]                            # in a network of its own, with a public address on the internet
    hostname = "factory.isthmus.test"
    address = "203.0.113.10"
    others = ["bakery"]              # further hubs of the same server
    public = false                   # whether the public side stays open

    [networks.works]                 # a virtual network
    range = "10.20.0.0/16"
    subnet = "10.20.1.0/24"          # default: the range
    presence = "netns"               # bind, netns or connector; without it there is no private endpoint
    endpoint = "10.20.1.4"
    hub = "factory"                  # default: the first hub
    connector = "203.0.113.40"       # where a connector dials out from

    [neighbours.factorystore]        # hosted by the hub's server, closed to the public
    kind = "storage"                 # storage, eventhubs or servicebus
    network = "data"                 # where its private endpoint is; the network needs a presence
    endpoint = "10.70.0.10"
    containers = ["readings"]        # of storage; eventhubs, queues and topics of the others

    [[routes]]                       # what devices of the first hub send goes there, too, by the hub's identity
    to = "factorystore/readings"
    encoding = "json"                # of blobs: json, avro or avrodeflate

    [uploads]                        # where files of devices go
    to = "factorystore/uploads"
    relay = true                     # devices reach the hub only

    [[peerings]]
    between = ["works", "office"]

    [sites.plant]                    # on-premises, behind a network's gateway
    range = "192.168.10.0/24"
    gateway = "works"
    vpn = { site = "203.0.113.20", network = "203.0.113.30" }
    line = true                      # a private line; carries what the VPN does not

    [hosts.press-1]
    network = "plant"                # a network, a site or "internet"
    address = "192.168.10.11"
    device = true                    # the hub knows a device of that name
    reads = ["factorystore"]         # programs on it have an identity, without a secret, that may read these
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from itertools import combinations
from pathlib import Path

import msgspec

from isthmus.base.toml import parse_toml
from isthmus.lab.errors import LabError

NAME = re.compile(r"[a-z][a-z0-9-]{0,9}")
"""Interfaces are named by what they lead to, with a prefix, and Linux takes 15 bytes (IFNAMSIZ)."""

LAB_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")

NODES_MAX = 64
"""Networks, sites and hosts of a lab together: each is a namespace, and a row of the matrix."""

TRANSFER_RANGE = ipaddress.IPv4Network("100.64.0.0/16")
"""Addresses between routers, a /30 each; from the range that no customer has (RFC 6598)."""

RESERVED_FIRST = 4
"""Addresses at the start of a subnet that are nobody's; the first one after the network's is the gateway's."""

INTERNET = "internet"
HUB = "hub"

HOLDINGS = ("containers", "eventhubs", "queues", "topics")
HELD = {"storage": ("containers",), "eventhubs": ("eventhubs",), "servicebus": ("queues", "topics")}
"""What neighbours of each kind may hold."""

Network = ipaddress.IPv4Network


class Presence(StrEnum):
    """How a private endpoint is present in its network."""

    BIND = "bind"
    NETNS = "netns"
    CONNECTOR = "connector"


class InternetPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public network, which leads nowhere."""

    range: str


class HubPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server: the host name of its first hub, its public address, and the names of its further hubs."""

    hostname: str
    address: str
    others: tuple[str, ...] = ()
    public: bool = False

    @property
    def first(self) -> str:
        """The first hub's name."""
        return self.hostname.partition(".")[0]

    def host_name_of(self, hub: str) -> str:
        """`{hub}.{domain}` of any hub of the server."""
        return f"{hub}.{self.hostname.partition('.')[2]}"


class NetworkPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A virtual network of one subnet."""

    range: str
    subnet: str = ""
    presence: Presence | None = None
    endpoint: str = ""
    hub: str = ""
    connector: str = ""

    @property
    def lan(self) -> str:
        """Where its hosts are."""
        return self.subnet or self.range


class NeighbourKind(StrEnum):
    """What a neighbour is, as the command line calls it."""

    STORAGE = "storage"
    EVENT_HUBS = "eventhubs"
    SERVICE_BUS = "servicebus"


class NeighbourPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A neighbour of the hub, closed to the public, with a private endpoint and what it holds."""

    kind: NeighbourKind
    network: str
    endpoint: str
    containers: tuple[str, ...] = ()
    eventhubs: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        """What stands between its name and the hub's domain."""
        return "blob" if self.kind is NeighbourKind.STORAGE else "servicebus"

    @property
    def entities(self) -> tuple[str, ...]:
        """Everything it holds."""
        return (*self.containers, *self.eventhubs, *self.queues, *self.topics)


class RoutePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route of the first hub to what a neighbour holds, `NEIGHBOUR/ENTITY`."""

    to: str
    encoding: str = "json"

    @property
    def neighbour(self) -> str:
        """Whose."""
        return self.to.partition("/")[0]

    @property
    def entity(self) -> str:
        """What."""
        return self.to.partition("/")[2]


class UploadsPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The container for files that devices of the first hub upload, `ACCOUNT/CONTAINER`, and by which way they do."""

    to: str
    relay: bool = False


class PeeringPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two networks that are peered, both sides."""

    between: tuple[str, str]


class VpnPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where both ends of a tunnel are on the internet."""

    site: str
    network: str


class SitePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An on-premises network and its ways to the gateway of a virtual network; the VPN is preferred."""

    range: str
    gateway: str
    vpn: VpnPlan | None = None
    line: bool = False


class HostPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine in a network, in a site or on the internet; `device` registers a device of its name at the hub.

    `reads` names neighbours that programs on it may read, by an identity of the host's name that they have there.
    """

    network: str
    address: str
    device: bool = False
    reads: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lab."""

    name: str
    internet: InternetPlan
    hub: HubPlan
    networks: dict[str, NetworkPlan] = {}
    sites: dict[str, SitePlan] = {}
    hosts: dict[str, HostPlan] = {}
    peerings: tuple[PeeringPlan, ...] = ()
    neighbours: dict[str, NeighbourPlan] = {}
    routes: tuple[RoutePlan, ...] = ()
    uploads: UploadsPlan | None = None

    def lan(self, place: str) -> str:
        """The range of a network's hosts, of a site, or of the internet."""
        if place == INTERNET:
            return self.internet.range
        return self.networks[place].lan if place in self.networks else self.sites[place].range

    def peers(self, network: str) -> tuple[str, ...]:
        """The networks peered with this one."""
        pairs = (peering.between for peering in self.peerings)
        return tuple(two if one == network else one for one, two in pairs if network in (one, two))

    def sites_of(self, network: str) -> tuple[str, ...]:
        """The sites behind a network's gateway."""
        return tuple(name for name, site in self.sites.items() if site.gateway == network)

    def hub_of(self, place: str) -> str:
        """The hub that hosts of a place are customers of: their network's, or the first one."""
        network = self.sites[place].gateway if place in self.sites else place
        found = self.networks.get(network)
        return (found.hub if found is not None else "") or self.hub.first

    @property
    def endpoints(self) -> dict[str, NetworkPlan]:
        """The networks that have a private endpoint of a hub."""
        return {name: network for name, network in self.networks.items() if network.endpoint}

    def neighbours_in(self, network: str) -> tuple[str, ...]:
        """The neighbours whose private endpoints are in a network."""
        return tuple(name for name, neighbour in self.neighbours.items() if neighbour.network == network)

    @property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """The hosts whose programs have an identity, and the neighbours that it may read."""
        return {name: host.reads for name, host in self.hosts.items() if host.reads}

    def host_name_of_neighbour(self, name: str) -> str:
        """`{name}.{service}.{domain}`."""
        return f"{name}.{self.neighbours[name].domain}.{self.hub.hostname.partition('.')[2]}"


def load_plan(path: Path, name: str = "") -> Plan:
    """Reads and checks a file; `name` takes the place of the file's. Raises LabError in one sentence."""
    try:
        values = parse_toml(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise LabError(f"{path} cannot be read: {reason}.") from error
    except ValueError as error:
        raise LabError(f"{path} is not valid TOML: {error}.") from error
    try:
        plan = msgspec.convert(values | ({"name": name} if name else {}), Plan)
    except msgspec.ValidationError as error:
        raise LabError(f"{path} is not valid: {error}.") from error
    objection = next(_objections(plan), "")
    if objection:
        raise LabError(f"{path} is not valid: {objection}.")
    return plan


def gateway_address(lan: str) -> str:
    """The address of a network's router: the first of its range."""
    return str(ipaddress.IPv4Network(lan)[1])


def _objections(plan: Plan) -> Iterator[str]:
    """What is wrong, as clauses; each step may rely on those before it, because only the first one is told."""
    yield from _wrong_names(plan)
    yield from _wrong_ranges(plan)
    yield from _wrong_references(plan)
    yield from _wrong_neighbours(plan)
    yield from _overlaps(plan)
    yield from _wrong_endpoints(plan)
    yield from _wrong_addresses(plan)


def _wrong_names(plan: Plan) -> Iterator[str]:
    if not LAB_NAME.fullmatch(plan.name):
        yield f"name {plan.name!r} has to match {LAB_NAME.pattern}"
    names = [*plan.networks, *plan.sites, *plan.hosts]
    for name in names:
        if not NAME.fullmatch(name) or name in {INTERNET, HUB}:
            yield f"{name!r} cannot be a name: it has to match {NAME.pattern} and be neither internet nor hub"
    double = next((name for name, count in Counter(names).items() if count > 1), "")
    if double:
        yield f"{double} is named twice among networks, sites and hosts"
    if len(names) > NODES_MAX:
        yield f"{len(names)} networks, sites and hosts; {NODES_MAX} are allowed"
    if plan.hub.hostname.count(".") < 1:
        yield f"hub.hostname {plan.hub.hostname!r} has to be a hub's name and a domain"
    for other in plan.hub.others:
        if not NAME.fullmatch(other) or other == plan.hub.first:
            yield f"hub.others: {other!r} cannot be a further hub's name"


def _wrong_ranges(plan: Plan) -> Iterator[str]:
    ranges = [("internet.range", plan.internet.range)]
    for name, network in plan.networks.items():
        ranges += [(f"networks.{name}.range", network.range), (f"networks.{name}.subnet", network.lan)]
    ranges += [(f"sites.{name}.range", site.range) for name, site in plan.sites.items()]
    for path, text in ranges:
        block = _block(text)
        if block is None or block.prefixlen > 29:
            yield f"{path} {text!r} is no IPv4 block of at least eight addresses, written with its first one"
        elif block.overlaps(TRANSFER_RANGE):
            yield f"{path} {text} overlaps {TRANSFER_RANGE}, which the lab has its routers' links in"
    for name, network in plan.networks.items():
        if not Network(network.lan).subnet_of(Network(network.range)):
            yield f"networks.{name}.subnet {network.subnet} is not in {network.range}"


def _wrong_references(plan: Plan) -> Iterator[str]:
    hubs = {plan.hub.first, *plan.hub.others}
    for name, network in plan.networks.items():
        if network.hub and network.hub not in hubs:
            yield f"networks.{name}.hub: there is no hub {network.hub}"
    for name, site in plan.sites.items():
        if site.gateway not in plan.networks:
            yield f"sites.{name}.gateway: there is no network {site.gateway}"
        if site.vpn is None and not site.line:
            yield f"sites.{name} has neither vpn nor line"
    for peering in plan.peerings:
        missing = [name for name in peering.between if name not in plan.networks]
        if missing:
            yield f"peerings: there is no network {missing[0]}"
        if peering.between[0] == peering.between[1]:
            yield f"peerings: {peering.between[0]} is peered with itself"
    for name, host in plan.hosts.items():
        if host.network not in {INTERNET, *plan.networks, *plan.sites}:
            yield f"hosts.{name}.network: there is no network or site {host.network}"


def _wrong_neighbours(plan: Plan) -> Iterator[str]:
    for name, neighbour in plan.neighbours.items():
        if neighbour.network not in plan.networks:
            yield f"neighbours.{name}.network: there is no network {neighbour.network}"
        elif plan.networks[neighbour.network].presence is None:
            yield f"neighbours.{name}.network: {neighbour.network} needs a presence"
        wrong = [key for key in HOLDINGS if getattr(neighbour, key) and key not in HELD[neighbour.kind]]
        if wrong:
            yield f"neighbours.{name} is {neighbour.kind}, which holds no {wrong[0]}"
    for name, host in plan.hosts.items():
        missing = [each for each in host.reads if each not in plan.neighbours]
        if missing:
            yield f"hosts.{name}.reads: there is no neighbour {missing[0]}"
    targets = [(f"routes[{number}].to", route.to) for number, route in enumerate(plan.routes)]
    targets += [("uploads.to", plan.uploads.to)] if plan.uploads is not None else []
    for path, to in targets:
        owner, _, entity = to.partition("/")
        if owner not in plan.neighbours or entity not in plan.neighbours[owner].entities:
            yield f"{path}: there is no {to} among the neighbours"
    if (
        plan.uploads is not None
        and plan.neighbours[plan.uploads.to.partition("/")[0]].kind is not NeighbourKind.STORAGE
    ):
        yield f"uploads.to: {plan.uploads.to} is no container"


def _overlaps(plan: Plan) -> Iterator[str]:
    """Ranges that can reach each other must differ; those of networks without a way may be the same."""
    pairs = [frozenset(peering.between) for peering in plan.peerings]
    double = next((pair for pair, count in Counter(pairs).items() if count > 1), None)
    if double is not None:
        yield f"peerings: {' and '.join(sorted(double))} are peered twice"
    for name, network in plan.networks.items():
        near = [(name, network.range), (INTERNET, plan.internet.range)]
        near += [(peer, plan.networks[peer].range) for peer in plan.peers(name)]
        near += [(site, plan.sites[site].range) for site in plan.sites_of(name)]
        for (one, a), (two, b) in combinations(near, 2):
            if Network(a).overlaps(Network(b)):
                yield f"the ranges of {one} and {two} overlap, and {name} leads to both"


def _wrong_endpoints(plan: Plan) -> Iterator[str]:
    bound: set[str] = set()
    for name, network in plan.networks.items():
        if (network.presence is None) != (not network.endpoint) and not plan.neighbours_in(name):
            yield f"networks.{name} needs both presence and endpoint, or neither"
        if (network.presence is Presence.CONNECTOR) != bool(network.connector):
            yield f'networks.{name}.connector belongs to presence = "connector", and is needed there'
        if network.presence is Presence.BIND:
            if network.endpoint in bound:
                yield f"networks.{name}.endpoint: the hub's machine has {network.endpoint} once only; use netns"
            bound.add(network.endpoint)
        if plan.neighbours_in(name) and network.presence is not Presence.NETNS:
            yield f'networks.{name}.presence has to be "netns" where a neighbour is'


def _wrong_addresses(plan: Plan) -> Iterator[str]:
    for place, taken in _taken(plan).items():
        block = Network(plan.lan(place))
        first = 1 if place == INTERNET else RESERVED_FIRST
        for owner, text in taken:
            address = _address(text)
            if address is None or address not in block:
                yield f"{owner} {text!r} is no address of {place}, {block}"
            elif not first <= int(address) - int(block[0]) < block.num_addresses - 1:
                yield f"{owner} {text} is one of the reserved addresses of {place}"
        double = next((text for text, count in Counter(text for _, text in taken).items() if count > 1), "")
        if double:
            yield f"{double} is given twice in {place}"


def _taken(plan: Plan) -> dict[str, list[tuple[str, str]]]:
    """The addresses of each place, with the keys that give them."""
    taken: dict[str, list[tuple[str, str]]] = {INTERNET: [("hub.address", plan.hub.address)]}
    for name, network in plan.networks.items():
        taken[name] = [(f"networks.{name}.endpoint", network.endpoint)] if network.endpoint else []
        for neighbour in plan.neighbours_in(name):
            taken[name].append((f"neighbours.{neighbour}.endpoint", plan.neighbours[neighbour].endpoint))
        if network.connector:
            taken[INTERNET].append((f"networks.{name}.connector", network.connector))
    for name, site in plan.sites.items():
        taken[name] = []
        if site.vpn is not None:
            ends = {"site": site.vpn.site, "network": site.vpn.network}
            taken[INTERNET] += [(f"sites.{name}.vpn.{end}", address) for end, address in ends.items()]
    for name, host in plan.hosts.items():
        taken[host.network].append((f"hosts.{name}.address", host.address))
    return taken


def _block(text: str) -> Network | None:
    try:
        return Network(text)
    except ValueError:
        return None


def _address(text: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        return None
