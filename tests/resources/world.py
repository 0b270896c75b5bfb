"""Hubs and private endpoints over a state in memory, and listeners that remember."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from devices.fakes import CountedIds, StandingClock
from isthmus.backends.memory import MemoryState
from isthmus.base.state import State
from isthmus.network.private_endpoints import GROUP_ID
from isthmus.resources.directory import Directory
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.network_names import NetworkNames
from isthmus.resources.private_endpoint import PrivateEndpoint
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.resources.private_zone import zone_id
from isthmus.resources.private_zones import PrivateZones
from isthmus.resources.virtual_network_arm import network_id
from isthmus.resources.virtual_networks import VirtualNetworks

HOST = "hub.example.test"


@dataclass
class World:
    """One process's resources; a second one over the same `state` is a restart, or a rival."""

    state: State = field(default_factory=MemoryState)
    objection: str = ""
    clock: StandingClock = field(default_factory=StandingClock)
    ids: CountedIds = field(default_factory=CountedIds)
    told: list[tuple[Hub | None, Hub | None]] = field(default_factory=list)
    bound: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hubs = Hubs(self.state, self.clock, self.ids)
        self.networks = VirtualNetworks(self.state, self.ids)
        directory = Directory(self.hubs)
        self.endpoints = PrivateEndpoints(self.state, directory, self.ids, lambda *_: self.objection, self.networks)
        self.zones = PrivateZones(self.state, self.ids, directory, self.endpoints, self.networks)
        self.names = NetworkNames(directory, self.endpoints, self.networks, self.zones)
        self.hubs.on_change(self._hub_changed)
        self.endpoints.on_change(self._endpoint_changed)

    async def loaded(self) -> "World":
        await self.hubs.load()
        await self.networks.load()
        await self.endpoints.load()
        await self.zones.load()
        self.bound = [endpoint.address for endpoint in self.endpoints.all()]
        return self

    async def with_hub(self, name: str = "hub") -> "World":
        await self.hubs.create(name, host_name=f"{name}.example.test", partitions=4)
        return self

    async def _hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        self.told.append((old, new))

    async def _endpoint_changed(self, old: PrivateEndpoint | None, new: PrivateEndpoint | None) -> None:
        if old is not None:
            self.bound.remove(old.address)
        if new is not None:
            self.bound.append(new.address)


def endpoint_body(
    target_id: str, address: str, *, manual: bool = False, message: str = "", group: str = GROUP_ID
) -> dict[str, object]:
    """The ARM body that asks for a private endpoint at an address, leading to a hub, or to what has another group."""
    link = {
        "name": "connection",
        "properties": {"privateLinkServiceId": target_id, "groupIds": [group], "requestMessage": message},
    }
    configuration = {
        "name": "ipconfig",
        "properties": {"groupId": group, "memberName": group, "privateIPAddress": address},
    }
    side = "manualPrivateLinkServiceConnections" if manual else "privateLinkServiceConnections"
    return {"properties": {side: [link], "ipConfigurations": [configuration]}}


def in_subnet(body: dict[str, object], subnet: str, *, dynamic: bool = False) -> dict[str, object]:
    """The same body in a subnet, by its id; `dynamic` without an address."""
    properties = body["properties"]
    assert isinstance(properties, dict)
    placed = properties | {"subnet": {"id": subnet}}
    return body | {"properties": placed | {"ipConfigurations": []} if dynamic else placed}


def network_body(*prefixes: str, **subnets: str) -> dict[str, Any]:
    """The ARM body of a network with these ranges, and subnets of one range each."""
    members = [{"name": name, "properties": {"addressPrefix": prefix}} for name, prefix in subnets.items()]
    return {"properties": {"addressSpace": {"addressPrefixes": list(prefixes)}, "subnets": members}}


def peering_body(remote: str, **members: object) -> dict[str, Any]:
    """The ARM body of one side of a peering."""
    return {"properties": {"remoteVirtualNetwork": {"id": network_id(remote)}} | members}


def site_body(network: str, *prefixes: str) -> dict[str, Any]:
    """The ARM body of a site behind a network's gateway."""
    space = {"addressPrefixes": list(prefixes)}
    return {"properties": {"localNetworkAddressSpace": space, "virtualNetwork": {"id": network_id(network)}}}


def line_body(prefix: str) -> dict[str, Any]:
    """The ARM body of a subnet."""
    return {"properties": {"addressPrefix": prefix}}


def link_body(network: str, **members: object) -> dict[str, Any]:
    """The ARM body of a link of a private DNS zone to a network."""
    return {"properties": {"virtualNetwork": {"id": network_id(network)}, "registrationEnabled": False} | members}


def group_body(**zones: str) -> dict[str, Any]:
    """The ARM body of a zone group, with zones by their names in it."""
    configs = [{"name": name, "properties": {"privateDnsZoneId": zone_id(zone)}} for name, zone in zones.items()]
    return {"properties": {"privateDnsZoneConfigs": configs}}


MEMBERS = st.sampled_from(
    [
        *(
            "networkRuleSets",
            "ipRules",
            "cloudToDevice",
            "feedback",
            "routing",
            "routes",
            "name",
            "source",
            "properties",
        ),
        *("endpointNames", "privateLinkServiceConnections", "ipConfigurations", "groupIds", "privateIPAddress", "x"),
    ]
)


def json_values() -> st.SearchStrategy[object]:
    """JSON of any shape, mostly with members that mean something."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(MEMBERS, inner), max_leaves=20)
