"""A plan as Linux has it: namespaces, bridges, cables, addresses, routes and tunnels. Pure.

A network or a site is a namespace that forwards, with a bridge its hosts are plugged into; a host is a namespace with
one cable. A peering and a private line are a cable between two of them. The internet is a bridge that forwards nothing.

The ends of a VPN have namespaces of their own on the internet. A tunnel's device is made there and then moved into
the router, while its UDP socket stays ("Routing & Network Namespaces", wireguard.com/netns): so no namespace has both
a private network and the internet, and nobody out there can ask a gateway to forward. The pod of a connector has
both, and does not forward.
"""

import hashlib
import ipaddress
from dataclasses import dataclass

from isthmus.lab.plan import HUB, INTERNET, TRANSFER_RANGE, Plan, Presence, SitePlan, gateway_address
from isthmus.lab.reach import reached_endpoints, reached_neighbours

LAN = "lan"
"""The bridge of a router."""

METRIC_VPN = 10
METRIC_LINE = 20
"""The lower one is preferred while its route is there."""

ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, slots=True)
class Node:
    """A namespace: `forwards` makes it a router, `hosts` is its own /etc/hosts, where it has no name server.

    `low_ports` lets anybody in it bind ports below 1024, as Kubernetes lets pods
    (`net.ipv4.ip_unprivileged_port_start`).
    """

    name: str
    forwards: bool = False
    low_ports: bool = False
    hosts: str = ""


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge of a node; `address` with its prefix length, empty for none."""

    node: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Plug:
    """One end of a cable: either an address of its own, or plugged into the node's bridge."""

    node: str
    interface: str
    address: str = ""

    @property
    def bridged(self) -> bool:
        """True when it is a port of the bridge."""
        return not self.address


@dataclass(frozen=True, slots=True)
class Route:
    """Where a node sends what; without `via`, straight out of the interface."""

    node: str
    destination: str
    interface: str
    via: str = ""
    metric: int = 0


@dataclass(frozen=True, slots=True)
class TunnelEnd:
    """One end: `device` is the name it is made with, one on a machine, `interface` the one it has in the router."""

    outside: str
    router: str
    device: str
    interface: str
    outer: str
    inner: str
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A WireGuard tunnel between a site and a network's gateway."""

    site: str
    ends: tuple[TunnelEnd, TunnelEnd]

    def routes(self, end: TunnelEnd) -> tuple[Route, ...]:
        """What an end sends through the tunnel while it is alive."""
        far = self.far(end).inner
        return tuple(Route(end.router, each, end.interface, far, METRIC_VPN) for each in end.destinations)

    def far(self, end: TunnelEnd) -> TunnelEnd:
        """The other end."""
        return self.ends[1] if end is self.ends[0] else self.ends[0]


@dataclass(frozen=True, slots=True)
class Layout:
    """All of it, in the order it is made."""

    nodes: tuple[Node, ...]
    bridges: tuple[Bridge, ...]
    cables: tuple[tuple[Plug, Plug], ...]
    routes: tuple[Route, ...]
    tunnels: tuple[Tunnel, ...]


def layout_of(plan: Plan) -> Layout:
    """Lays a checked plan out."""
    return _Drawing(plan).layout()


def namespace_of(lab: str, node: str) -> str:
    """The namespace of a node."""
    return f"{lab}-{node}"


def pod_of(network: str) -> str:
    """The node a network's connector runs in."""
    return f"{network}.pod"


class _Drawing:
    """Collects the parts of one layout."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._nodes: list[Node] = []
        self._bridges: list[Bridge] = []
        self._cables: list[tuple[Plug, Plug]] = []
        self._routes: list[Route] = []
        self._tunnels: list[Tunnel] = []
        self._transfers = TRANSFER_RANGE.subnets(new_prefix=30)

    def layout(self) -> Layout:
        self._internet()
        for name in (*self._plan.networks, *self._plan.sites):
            self._router(name)
        for name in self._plan.endpoints:
            self._endpoint(name)
        for peering in self._plan.peerings:
            self._peering(*peering.between)
        for name, site in self._plan.sites.items():
            self._site(name, site)
        for name in self._plan.hosts:
            self._host(name)
        parts = (self._nodes, self._bridges, self._cables, self._routes)
        nodes, bridges, cables, routes = parts
        return Layout(tuple(nodes), tuple(bridges), tuple(cables), tuple(routes), tuple(self._tunnels))

    def _internet(self) -> None:
        self._nodes.append(Node(INTERNET))
        self._bridges.append(Bridge(INTERNET))
        self._nodes.append(Node(HUB))
        self._plug_in(HUB, INTERNET, self._plan.hub.address, interface=INTERNET, port=HUB)

    def _router(self, name: str) -> None:
        self._nodes.append(Node(name, forwards=True))
        self._bridges.append(Bridge(name, _with_length(gateway_address(self._plan.lan(name)), self._plan.lan(name))))

    def _endpoint(self, name: str) -> None:
        network = self._plan.networks[name]
        if network.presence is Presence.BIND:
            self._bound(name, network.endpoint)
        if network.presence is Presence.CONNECTOR:
            pod = pod_of(name)
            self._nodes.append(Node(pod, low_ports=True, hosts=_outside_names(self._plan, INTERNET)))
            self._plug_in(pod, name, network.endpoint, interface="eth0", port="pod")
            self._default_route(pod, name)
            self._plug_in(pod, INTERNET, network.connector, interface=INTERNET, port=name)

    def _bound(self, name: str, address: str) -> None:
        """The endpoint's address as a /32 of the hub's own machine, and the ways back to those who may come."""
        lan, near = self._plan.lan(name), [self._plan.networks[name].range]
        near += [self._plan.networks[peer].range for peer in self._plan.peers(name)]
        near += [self._plan.sites[site].range for site in self._plan.sites_of(name)]
        self._cables.append((Plug(HUB, name, f"{address}/32"), Plug(name, HUB)))
        self._routes.append(Route(HUB, lan, name))
        self._routes += [Route(HUB, each, name, gateway_address(lan)) for each in near if each != lan]

    def _peering(self, one: str, two: str) -> None:
        near, far = self._transfer()
        self._cables.append((Plug(one, f"to-{two}", f"{near}/30"), Plug(two, f"to-{one}", f"{far}/30")))
        self._routes.append(Route(one, self._plan.networks[two].range, f"to-{two}", far))
        self._routes.append(Route(two, self._plan.networks[one].range, f"to-{one}", near))

    def _site(self, name: str, site: SitePlan) -> None:
        there = self._plan.networks[site.gateway].range
        if site.vpn is not None:
            inner = self._transfer()
            at_site = self._end(f"{name}.vpn", name, "vpn", site.vpn.site, inner[0], there)
            outside = f"{site.gateway}.vpn-{name}"
            at_network = self._end(outside, site.gateway, f"vpn-{name}", site.vpn.network, inner[1], site.range)
            self._tunnels.append(Tunnel(name, (at_site, at_network)))
            self._plug_in(at_site.outside, INTERNET, site.vpn.site, interface=INTERNET, port=name)
            self._plug_in(at_network.outside, INTERNET, site.vpn.network, interface=INTERNET, port=f"vpn-{name}")
        if site.line:
            near, far = self._transfer()
            port = f"line-{name}"
            self._cables.append((Plug(name, "line", f"{near}/30"), Plug(site.gateway, port, f"{far}/30")))
            self._routes.append(Route(name, there, "line", far, METRIC_LINE))
            self._routes.append(Route(site.gateway, site.range, port, near, METRIC_LINE))

    def _end(self, outside: str, router: str, interface: str, outer: str, inner: str, there: str) -> TunnelEnd:
        self._nodes.append(Node(outside))
        digest = hashlib.sha256(f"{self._plan.name}/{outside}".encode()).hexdigest()
        return TunnelEnd(outside, router, f"wg{digest[:10]}", interface, outer, inner, (there,))

    def _host(self, name: str) -> None:
        host = self._plan.hosts[name]
        self._nodes.append(Node(name, hosts=_outside_names(self._plan, host.network)))
        self._plug_in(name, host.network, host.address, interface="eth0", port=name)
        if host.network != INTERNET:
            self._default_route(name, host.network)

    def _plug_in(self, node: str, place: str, address: str, *, interface: str, port: str) -> None:
        self._cables.append((Plug(node, interface, _with_length(address, self._plan.lan(place))), Plug(place, port)))

    def _default_route(self, node: str, place: str) -> None:
        self._routes.append(Route(node, ANYWHERE, "eth0", gateway_address(self._plan.lan(place))))

    def _transfer(self) -> tuple[str, str]:
        near, far = next(self._transfers).hosts()
        return str(near), str(far)


def _with_length(address: str, block: str) -> str:
    return f"{address}/{ipaddress.IPv4Network(block).prefixlen}"


def _outside_names(plan: Plan, place: str) -> str:
    """What the internet's DNS says, the public address, for every hub and neighbour that has no private one there."""
    names = [] if reached_endpoints(plan, place) else [plan.hub.first, *plan.hub.others]
    names = [plan.hub.host_name_of(hub) for hub in names]
    reached = reached_neighbours(plan, place)
    names += [plan.host_name_of_neighbour(each) for each in plan.neighbours if each not in reached]
    lines = [f"{plan.hub.address} {name}" for name in names]
    return "".join(f"{line}\n" for line in ("127.0.0.1 localhost", *lines)) if lines else ""
