"""What the clients of each network see of DNS, made of endpoints, resources, declared networks and private zones.

Theory of operation. A network's clients see a resource by its usual name at private endpoints that they can use: those
of the network itself where it has one, else those of networks that it reaches; of these the Approved ones, and only
where there is none the others, whose door then says why it is closed. Private zones that are linked to the network come
before that. A view is made when it is first asked for and kept until anything changes that it is made of: listeners of
changes that came later than this one find the new view.

An endpoint in no declared network counts as in a network of the name that it gives, which only its like reach.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from isthmus.base.hosts import is_address, normal_address
from isthmus.names.zone import Names, Zone, host_zones, merged, normal_name
from isthmus.network.private_endpoints import ConnectionStatus
from isthmus.network.reach import Reachable, may_reach
from isthmus.network.virtual_networks import holds
from isthmus.resources.directory import Directory
from isthmus.resources.guarded import Guarded
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.resources.private_zone import served_zone
from isthmus.resources.private_zones import PrivateZones
from isthmus.resources.virtual_networks import VirtualNetworks


@dataclass(frozen=True, slots=True)
class PrivateWay:
    """How clients of a network come to a resource: its name, its addresses there, and who answers with them."""

    network: str
    host: str
    addresses: tuple[str, ...]
    servers: tuple[str, ...]


class NetworkNames:
    """The names that every network's clients see; used on the event loop only."""

    def __init__(
        self, directory: Directory, endpoints: PrivateEndpoints, networks: VirtualNetworks, zones: PrivateZones
    ) -> None:
        self._directory = directory
        self._endpoints = endpoints
        self._networks = networks
        self._zones = zones
        self._known: dict[str, Names] = {}
        self._addresses: dict[str, dict[str, tuple[str, ...]]] = {}
        networks.serve_names_at(self._own_servers)
        directory.on_change(lambda _old, _new: self._forget())
        endpoints.on_change(lambda _old, _new: self._forget())
        networks.on_change(lambda _facts: self._forget())
        zones.on_change(self._forget)

    def names(self, network: str) -> Names:
        """What the clients of a network see; only zones of its own for one that nobody has declared."""
        key = network.lower()
        if key not in self._known:
            self._known[key] = Names(merged((*self._linked(network), *host_zones(self.addresses(network)))))
        return self._known[key]

    def addresses(self, network: str) -> Mapping[str, tuple[str, ...]]:
        """The private addresses of each resource's host names, as the clients of a network use them."""
        key = network.lower()
        if key not in self._addresses:
            found: dict[str, tuple[str, ...]] = {}
            for resource in self._directory.all():
                nearest = {each.address for each in self._nearest(network, resource)}
                if nearest:
                    found |= dict.fromkeys(resource.hosts, tuple(sorted(nearest)))
            self._addresses[key] = found
        return self._addresses[key]

    def servers(self, network: str) -> tuple[str, ...]:
        """Addresses where names are served to the clients of a network, those named for it first.

        Its own endpoints' addresses, or where it has none those of the endpoints that it reaches.
        """
        return self._networks.served(network)

    def way_of(self, address: str, resource: Guarded) -> PrivateWay | None:
        """How a client at an address comes to a resource privately; None when it is in no network from where it could.

        Also for a client of a site behind a network's gateway. Of networks with the same ranges the first counts.
        """
        if not is_address(address):
            return None
        for network in self._networks_of(normal_address(address.partition("%")[0])):
            found = self.addresses(network).get(resource.host_name)
            if found:
                return PrivateWay(network, resource.host_name, found, self.servers(network))
        return None

    def advice(self, address: str, resource: Guarded) -> str:
        """What a client that came to the public door should do instead, as a sentence; empty for one that must come so.

        A client inside a network that has a private way, and yet at the public door, has resolved the public address.
        """
        way = self.way_of(address, resource)
        if way is None:
            return ""
        return (
            f"{address} is in {way.network} and resolved the public address: let it ask DNS server {way.servers[0]}, "
            f"where {way.host} is {', '.join(way.addresses)}"
        )

    def misled(self, network: str, host: str, resolved: Iterable[str]) -> str:
        """What is wrong with the addresses that a client in a network resolved a resource's name to, as a sentence.

        Empty when all of them are private ones that the network's clients use, or when the name has none there.
        """
        private = self.addresses(network).get(normal_name(host), ())
        wrong = [address for address in map(normal_address, resolved) if address not in private]
        if not private or not wrong:
            return ""
        return (
            f"in {network}, {host} was resolved to {', '.join(wrong)}, which is the public address or a stale one: "
            f"ask DNS server {self.servers(network)[0]}, where it is {', '.join(private)}"
        )

    def _own_servers(self, network: str) -> tuple[str, ...]:
        own = [each.address for each in self._endpoints.all() if _in(each, network)]
        reached = own or [each.address for each in self._endpoints.all() if self._reaches(network, each)]
        return tuple(sorted(set(reached)))

    def _nearest(self, network: str, resource: Guarded) -> list[PrivateEndpoint]:
        ranked: dict[tuple[bool, bool], list[PrivateEndpoint]] = {}
        for endpoint in self._endpoints.all():
            status = self._endpoints.status(endpoint)
            if endpoint.target_id.lower() != resource.resource_id.lower() or status is ConnectionStatus.DISCONNECTED:
                continue
            if self._reaches(network, endpoint):
                rank = (status is not ConnectionStatus.APPROVED, not _in(endpoint, network))
                ranked.setdefault(rank, []).append(endpoint)
        return ranked[min(ranked)] if ranked else []

    def _reaches(self, network: str, endpoint: PrivateEndpoint) -> bool:
        if _in(endpoint, network):
            return True
        facts = self._networks.facts()
        if facts.network(network) is None:
            return False
        return isinstance(may_reach(facts, source=network, target=endpoint.door.network), Reachable)

    def _linked(self, network: str) -> Iterator[Zone]:
        for zone in self._zones.all():
            link = zone.link_to(network)
            if link is not None:
                yield served_zone(zone, self._zones.records(zone), link)

    def _networks_of(self, address: str) -> Iterator[str]:
        facts = self._networks.facts()
        yield from (network.name for network in facts.networks if holds(network.prefixes, address))
        yield from (site.network for site in facts.gateways if holds(site.prefixes, address))

    async def _forget(self) -> None:
        self._known.clear()
        self._addresses.clear()


def _in(endpoint: PrivateEndpoint, network: str) -> bool:
    return endpoint.door.network.lower() == network.lower()
