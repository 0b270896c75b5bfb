"""Virtual networks, subnets, peerings and local gateways in ARM's form, read and written.

Members of Azure's that mean nothing here are ignored when read, as for private endpoints; a member that would promise
something that is not there yet is refused. Shapes: Microsoft.Network/virtualNetworks, localNetworkGateways.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import replace

from isthmus.base.errors import Code, HubError
from isthmus.base.etags import twin_etag
from isthmus.base.hosts import is_address, normal_address
from isthmus.network.virtual_networks import (
    BIND,
    DNS_SERVERS_MAX,
    LocalGateway,
    NetworkFacts,
    Peering,
    Presence,
    Subnet,
    VirtualNetwork,
    checked_prefix,
    parse_presence,
)
from isthmus.resources.hub import GROUP_PATH, LOCATION
from isthmus.resources.members import Json, bad, boolean, items, mapping, text

NETWORK_TYPE = "Microsoft.Network/virtualNetworks"
GATEWAY_TYPE = "Microsoft.Network/localNetworkGateways"
SUBNET_ID = re.compile(r"/.*/virtualNetworks/(?P<network>[^/]+)/subnets/(?P<subnet>[^/]+)", re.IGNORECASE)
NETWORK_ID = re.compile(r"/.*/virtualNetworks/(?P<network>[^/]+)", re.IGNORECASE)
Occupants = Callable[[str, str], tuple[str, ...]]
"""Resource ids of the private endpoints in a network's subnet, both by name."""


def network_id(name: str) -> str:
    """The ARM id of the virtual network of that name."""
    return f"{GROUP_PATH}/providers/{NETWORK_TYPE}/{name}"


def subnet_id(network: str, subnet: str) -> str:
    """The ARM id of a subnet."""
    return f"{network_id(network)}/subnets/{subnet}"


def parse_subnet_id(resource_id: str) -> tuple[str, str]:
    """Names of network and subnet in an ARM id; two empty ones when it is none of a subnet."""
    found = SUBNET_ID.fullmatch(resource_id)
    return (found["network"], found["subnet"]) if found is not None else ("", "")


def network_to_arm(
    network: VirtualNetwork, facts: NetworkFacts, occupants: Occupants, servers: Collection[str] = ()
) -> dict[str, object]:
    """The network with its subnets and peerings; `servers` answer DNS queries in it. `presence` is a member of ours."""
    return {
        "id": network_id(network.name),
        "name": network.name,
        "type": NETWORK_TYPE,
        "location": network.location,
        "tags": dict(network.tags),
        "etag": _etag(network.version),
        "properties": {
            "addressSpace": {"addressPrefixes": list(network.prefixes)},
            "dhcpOptions": {"dnsServers": list(servers)},
            "enableDdosProtection": False,
            "presence": network.presence.text,
            "provisioningState": "Succeeded",
            "resourceGuid": network.guid,
            "subnets": [subnet_to_arm(network, subnet, occupants) for subnet in network.subnets],
            "virtualNetworkPeerings": [peering_to_arm(network, side, facts) for side in network.peerings],
        },
    }


def subnet_to_arm(network: VirtualNetwork, subnet: Subnet, occupants: Occupants) -> dict[str, object]:
    """A subnet with the private endpoints in it."""
    return {
        "id": subnet_id(network.name, subnet.name),
        "name": subnet.name,
        "type": f"{NETWORK_TYPE}/subnets",
        "etag": _etag(network.version),
        "properties": {
            "addressPrefix": subnet.prefix,
            "delegations": [],
            "privateEndpointNetworkPolicies": "Disabled",
            "privateEndpoints": [{"id": each} for each in occupants(network.name, subnet.name)],
            "privateLinkServiceNetworkPolicies": "Enabled",
            "provisioningState": "Succeeded",
        },
    }


def peering_to_arm(network: VirtualNetwork, side: Peering, facts: NetworkFacts) -> dict[str, object]:
    """One side of a peering; the other network's ranges are empty when it is gone."""
    remote = facts.network(side.remote)
    return {
        "id": f"{network_id(network.name)}/virtualNetworkPeerings/{side.name}",
        "name": side.name,
        "type": f"{NETWORK_TYPE}/virtualNetworkPeerings",
        "etag": _etag(network.version),
        "properties": {
            "allowForwardedTraffic": side.allow_forwarded,
            "allowGatewayTransit": side.allow_gateway_transit,
            "allowVirtualNetworkAccess": side.allow_access,
            "doNotVerifyRemoteGateways": False,
            "peeringState": side.state.value,
            "peeringSyncLevel": "FullyInSync",
            "provisioningState": "Succeeded",
            "remoteAddressSpace": {"addressPrefixes": list(remote.prefixes) if remote is not None else []},
            "remoteVirtualNetwork": {"id": network_id(side.remote)},
            "useRemoteGateways": side.use_remote_gateways,
        },
    }


def gateway_to_arm(gateway: LocalGateway) -> dict[str, object]:
    """A site; `virtualNetwork`, a member of ours, is the network behind whose gateway it lies."""
    return {
        "id": f"{GROUP_PATH}/providers/{GATEWAY_TYPE}/{gateway.name}",
        "name": gateway.name,
        "type": GATEWAY_TYPE,
        "location": gateway.location,
        "tags": dict(gateway.tags),
        "etag": _etag(gateway.version),
        "properties": {
            "gatewayIpAddress": gateway.gateway_address,
            "localNetworkAddressSpace": {"addressPrefixes": list(gateway.prefixes)},
            "provisioningState": "Succeeded",
            "resourceGuid": gateway.guid,
            "virtualNetwork": {"id": network_id(gateway.network)},
        },
    }


def parse_network(
    name: str, body: Json, present: VirtualNetwork | None, served: Collection[str] = ()
) -> VirtualNetwork:
    """The network that a whole body asks for; what it is peered with, and its guid, are those of the present one.

    `served` are addresses where names are served in it anyway: a body that was read and is sent back names them, and
    they do not become named ones by that. Raises HubError ArgumentInvalid, NotImplemented.
    """
    properties = mapping(body.get("properties"), "properties")
    _check_peerings(properties, present)
    return VirtualNetwork(
        name=name if present is None else present.name,
        prefixes=_prefixes(properties.get("addressSpace"), "properties.addressSpace"),
        subnets=tuple(_subnet(each) for each in items(properties.get("subnets"), "properties.subnets")),
        peerings=present.peerings if present is not None else (),
        presence=_presence(properties.get("presence"), present),
        dns_servers=_servers(properties, {*served} - {*(present.dns_servers if present is not None else ())}),
        location=text(body.get("location") or LOCATION, "location"),
        tags=_tags(body),
        guid=present.guid if present is not None else "",
        version=present.version if present is not None else 1,
    )


def parse_subnet(name: str, body: Json) -> Subnet:
    """The subnet that a body asks for: one range, as `addressPrefix` or the only one of `addressPrefixes`."""
    properties = mapping(body.get("properties"), "properties")
    several = items(properties.get("addressPrefixes"), "properties.addressPrefixes")
    given = properties.get("addressPrefix") or (several[0] if len(several) == 1 else None)
    if given is None:
        raise bad("properties.addressPrefix", f"one address range of the subnet {name}")
    return Subnet(name, checked_prefix(text(given, "properties.addressPrefix"), "addressPrefix"))


def parse_peering(name: str, body: Json) -> Peering:
    """One side of a peering; `allowVirtualNetworkAccess` is true unless said otherwise."""
    properties = mapping(body.get("properties"), "properties")
    remote = mapping(properties.get("remoteVirtualNetwork"), "properties.remoteVirtualNetwork")
    return Peering(
        name,
        _network_of(remote.get("id"), "properties.remoteVirtualNetwork.id"),
        allow_access=_flag(properties, "allowVirtualNetworkAccess", usual=True),
        allow_forwarded=_flag(properties, "allowForwardedTraffic"),
        allow_gateway_transit=_flag(properties, "allowGatewayTransit"),
        use_remote_gateways=_flag(properties, "useRemoteGateways"),
    )


def parse_gateway(name: str, body: Json, present: LocalGateway | None) -> LocalGateway:
    """The site that a whole body asks for."""
    properties = mapping(body.get("properties"), "properties")
    address = text(properties.get("gatewayIpAddress") or "", "properties.gatewayIpAddress")
    if address and not is_address(address):
        raise bad("properties.gatewayIpAddress", "an IPv4 or IPv6 address")
    network = mapping(properties.get("virtualNetwork"), "properties.virtualNetwork")
    asked = LocalGateway(
        name=name,
        network=_network_of(network.get("id"), "properties.virtualNetwork.id"),
        prefixes=_prefixes(properties.get("localNetworkAddressSpace"), "properties.localNetworkAddressSpace"),
        gateway_address=normal_address(address),
        location=text(body.get("location") or LOCATION, "location"),
        tags=_tags(body),
    )
    if present is None:
        return asked
    return replace(asked, name=present.name, guid=present.guid, version=present.version)


def _prefixes(space: object, path: str) -> tuple[str, ...]:
    given = items(mapping(space, path).get("addressPrefixes"), f"{path}.addressPrefixes")
    if not given:
        raise bad(f"{path}.addressPrefixes", "one address range at least")
    return tuple(checked_prefix(text(each, f"{path}.addressPrefixes"), "addressPrefixes") for each in given)


def _subnet(value: object) -> Subnet:
    members = mapping(value, "properties.subnets[]")
    return parse_subnet(text(members.get("name"), "properties.subnets[].name"), members)


def _presence(value: object, present: VirtualNetwork | None) -> Presence:
    """A body that does not say keeps what there is: Azure's own clients do not know the member."""
    if not value:
        return present.presence if present is not None else BIND
    return parse_presence(text(value, "properties.presence"))


def _check_peerings(properties: Json, present: VirtualNetwork | None) -> None:
    """A body that was read and is sent back names the peerings there are; they are changed one by one."""
    given = items(properties.get("virtualNetworkPeerings"), "properties.virtualNetworkPeerings")
    path = "properties.virtualNetworkPeerings[]"
    names = {text(mapping(each, path).get("name"), f"{path}.name") for each in given}
    known = {side.name for side in present.peerings} if present is not None else set()
    if names and names != known:
        message = "properties.virtualNetworkPeerings is read-only: use network vnet peering create and delete"
        raise HubError(Code.ARGUMENT_INVALID, message)


def _servers(properties: Json, served: Collection[str]) -> tuple[str, ...]:
    options, path = mapping(properties.get("dhcpOptions") or {}, "properties.dhcpOptions"), "dhcpOptions.dnsServers"
    given = [text(each, path) for each in items(options.get("dnsServers"), path)]
    if len(given) > DNS_SERVERS_MAX or not all(is_address(each) and "%" not in each for each in given):
        raise bad(f"properties.{path}", f"at most {DNS_SERVERS_MAX} IPv4 or IPv6 addresses")
    normal = dict.fromkeys(map(normal_address, given))
    return tuple(each for each in normal if each not in served)


def _network_of(value: object, path: str) -> str:
    found = NETWORK_ID.fullmatch(text(value, path))
    if found is None:
        raise bad(path, "the id of a virtual network")
    return found["network"]


def _flag(properties: Json, name: str, *, usual: bool = False) -> bool:
    value = properties.get(name)
    return usual if value is None else boolean(value, f"properties.{name}")


def _tags(body: Json) -> dict[str, str]:
    return {tag: text(value, f"tags.{tag}") for tag, value in mapping(body.get("tags") or {}, "tags").items()}


def _etag(version: int) -> str:
    return f'W/"{twin_etag(version)}"'
