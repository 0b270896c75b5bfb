"""`network vnet`, its subnets and peerings, and `network local-gateway`: how the plant's networks are declared.

As in `az network`, what is printed is flat: a resource's properties stand beside its name. `--presence` is ours, and so
is `local-gateway create --vnet-name`, which says what `az` says with a gateway and a connection of its own.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from isthmus.cli.command import Group, Words, three_state
from isthmus.cli.edits import Edits, read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.identities import edit_options
from isthmus.cli.target import NETWORK_API, NETWORK_PROVIDER, Target

HUB_ONLY = ("--hub-name",)
ADDRESS_PREFIX_DEFAULT = "10.0.0.0/16"
SUBNET_BITS_DEFAULT = 24
"""The subnet of a new network when only its name is given: its first /24, as `az` has it."""

vnet = Group(
    "vnet",
    help="Virtual networks: address ranges that are declared, to decide who may use a private endpoint.",
    coming=("check-ip-address", "list-available-ips", "list-endpoint-services", "tap", "wait"),
)
subnet = Group("subnet", help="Subnets of a virtual network.", coming=("list-available-delegations", "wait"))
peering = Group("peering", help="Peerings of virtual networks; each has two sides.", coming=("sync", "wait"))
local_gateway = Group(
    "local-gateway", help="Sites whose ranges lie behind a virtual network's gateway.", coming=("update", "wait")
)
vnet.add_command(subnet)
vnet.add_command(peering)

_network_name = click.option("--name", "-n", "name", required=True, help="The virtual network.")
_in_network = click.option("--vnet-name", "network", required=True, help="The virtual network.")
_subnet_name = click.option("--name", "-n", "name", required=True, help="The subnet.")
_peering_name = click.option("--name", "-n", "name", required=True, help="The peering.")
_gateway_name = click.option("--name", "-n", "name", required=True, help="The local gateway.")
_location = click.option("--location", "-l", default="", help="Where it is; any word.")
_tags = click.option("--tags", cls=Words, metavar="NAME=VALUE...", help="Tags.")


def _prefixes(*flags: str) -> Callable[[Any], Any]:
    return click.option("prefixes", *flags, cls=Words, metavar="CIDR...", help="Address ranges.")


_presence = click.option(
    "--presence",
    default="",
    metavar="bind|netns:NAME|connector:NAME",
    help="How endpoints are present in it: on this machine, in a network namespace, at a connector.",
)


_servers = click.option(
    "servers",
    "--dns-servers",
    cls=Words,
    metavar="ADDRESS...",
    help="Addresses that answer DNS queries, besides those of private endpoints.",
)


def _peering_flags(function: Any) -> Any:
    """What one side of a peering allows."""
    for flag, name, help_text in (
        ("--use-remote-gateways", "useRemoteGateways", "Use the other's gateway."),
        ("--allow-gateway-transit", "allowGatewayTransit", "The other may use this network's gateway."),
        ("--allow-forwarded-traffic", "allowForwardedTraffic", "Take what the other forwards from further networks."),
        ("--allow-vnet-access", "allowVirtualNetworkAccess", "The two reach each other, when both sides say so."),
    ):
        function = three_state(flag, name.lower(), help=help_text)(function)
    return function


_PEERING_MEMBERS = (
    *("allowForwardedTraffic", "allowGatewayTransit"),
    *("allowVirtualNetworkAccess", "useRemoteGateways"),
)


@vnet.command("create", hub_flags=HUB_ONLY, remote=False)
@_network_name
@_prefixes("--address-prefixes", "--address-prefix")
@click.option("--subnet-name", default="", help="A first subnet.")
@click.option("subnets", "--subnet-prefixes", "--subnet-prefix", cls=Words, metavar="CIDR", help="Its address range.")
@_presence
@_servers
@_location
@_tags
def create_network(target: Target, name: str, subnet_name: str, presence: str, location: str, **given: Any) -> Any:
    """Declares a virtual network, with a first subnet where one is named."""
    prefixes = _words(given["prefixes"]) or [ADDRESS_PREFIX_DEFAULT]
    subnet_prefixes = _words(given["subnets"])
    if subnet_prefixes and not subnet_name:
        raise CommandError("--subnet-prefixes needs a name: --subnet-name.")
    if subnet_name and not subnet_prefixes:
        subnet_prefixes = [_first_subnet(prefixes[0])]
    members: dict[str, Any] = {"addressSpace": {"addressPrefixes": prefixes}}
    if subnet_name:
        members["subnets"] = [{"name": subnet_name, "properties": {"addressPrefixes": subnet_prefixes}}]
    if presence:
        members["presence"] = presence
    if given["servers"]:
        members["dhcpOptions"] = {"dnsServers": _servers_of(given)}
    body = {"location": location or "local", "tags": _read_tags(given["tags"]), "properties": members}
    return {"newVNet": flat(_call(target, "PUT", _network_path(target, name), body))}


@vnet.command("list", hub_flags=HUB_ONLY, remote=False)
def list_networks(target: Target) -> Any:
    """Lists the virtual networks."""
    return flat(_call(target, "GET", _network_path(target))["value"])


@vnet.command("show", hub_flags=HUB_ONLY, remote=False)
@_network_name
def show_network(target: Target, name: str) -> Any:
    """Shows a virtual network with its subnets and peerings."""
    return flat(_call(target, "GET", _network_path(target, name)))


@vnet.command("update", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_network_name
@_prefixes("--address-prefixes")
@_presence
@_servers
@edit_options
def update_network(target: Target, name: str, presence: str, **given: Any) -> Any:
    """Changes a virtual network; answers when every session obeys."""
    path = _network_path(target, name)
    network = flat(_call(target, "GET", path))
    etag = str(network["etag"]).removeprefix("W/").strip('"')
    if given["prefixes"]:
        network["addressSpace"] = {"addressPrefixes": _words(given["prefixes"])}
    if presence:
        network["presence"] = presence
    if given["servers"]:
        network["dhcpOptions"] = {"dnsServers": _servers_of(given)}
    _edits(given).apply(network)
    members = network | {"subnets": [_nested(each) for each in network.get("subnets") or []]}
    body = {"location": network["location"], "tags": network.get("tags"), "properties": members}
    return flat(target.manage("PUT", path, body, etag=etag, query={"api-version": NETWORK_API}))


@vnet.command("delete", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_network_name
def delete_network(target: Target, name: str) -> Any:
    """Deletes a virtual network without private endpoints; its peers' sides are Disconnected."""
    return _call(target, "DELETE", _network_path(target, name))


@subnet.command("create", hub_flags=HUB_ONLY, remote=False)
@_in_network
@_subnet_name
@_prefixes("--address-prefixes", "--address-prefix")
def create_subnet(target: Target, network: str, name: str, prefixes: Any) -> Any:
    """Declares a subnet, of a /29 at least; its first four addresses and the last are nobody's."""
    body = {"properties": {"addressPrefixes": _words(prefixes)}}
    return flat(_call(target, "PUT", _below(target, network, "subnets", name), body))


@subnet.command("list", hub_flags=HUB_ONLY, remote=False)
@_in_network
def list_subnets(target: Target, network: str) -> Any:
    """Lists the subnets of a virtual network."""
    return flat(_call(target, "GET", _below(target, network, "subnets"))["value"])


@subnet.command("show", hub_flags=HUB_ONLY, remote=False)
@_in_network
@_subnet_name
def show_subnet(target: Target, network: str, name: str) -> Any:
    """Shows a subnet with the private endpoints in it."""
    return flat(_call(target, "GET", _below(target, network, "subnets", name)))


@subnet.command("update", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_in_network
@_subnet_name
@_prefixes("--address-prefixes", "--address-prefix")
@edit_options
def update_subnet(target: Target, network: str, name: str, **given: Any) -> Any:
    """Changes a subnet that no private endpoint is in."""
    path = _below(target, network, "subnets", name)
    found = flat(_call(target, "GET", path))
    if given["prefixes"]:
        del found["addressPrefix"]
        found["addressPrefixes"] = _words(given["prefixes"])
    _edits(given).apply(found)
    return flat(_call(target, "PUT", path, {"properties": found}))


@subnet.command("delete", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_in_network
@_subnet_name
def delete_subnet(target: Target, network: str, name: str) -> Any:
    """Deletes a subnet that no private endpoint is in."""
    return _call(target, "DELETE", _below(target, network, "subnets", name))


@peering.command("create", hub_flags=HUB_ONLY, remote=False)
@_in_network
@_peering_name
@click.option("--remote-vnet", required=True, help="The other virtual network, by name or id.")
@_peering_flags
def create_peering(target: Target, network: str, name: str, remote_vnet: str, **given: Any) -> Any:
    """Makes one side of a peering: Initiated, until the other network has its side as well."""
    remote = remote_vnet if remote_vnet.startswith("/") else _network_path(target, remote_vnet)
    members = {member: bool(given[member.lower()]) for member in _PEERING_MEMBERS}
    body = {"properties": members | {"remoteVirtualNetwork": {"id": remote}}}
    return flat(_call(target, "PUT", _below(target, network, "virtualNetworkPeerings", name), body))


@peering.command("list", hub_flags=HUB_ONLY, remote=False)
@_in_network
def list_peerings(target: Target, network: str) -> Any:
    """Lists the peerings of a virtual network."""
    return flat(_call(target, "GET", _below(target, network, "virtualNetworkPeerings"))["value"])


@peering.command("show", hub_flags=HUB_ONLY, remote=False)
@_in_network
@_peering_name
def show_peering(target: Target, network: str, name: str) -> Any:
    """Shows one side of a peering."""
    return flat(_call(target, "GET", _below(target, network, "virtualNetworkPeerings", name)))


@peering.command("update", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_in_network
@_peering_name
@_peering_flags
@edit_options
def update_peering(target: Target, network: str, name: str, **given: Any) -> Any:
    """Changes what one side of a peering allows; answers when every session obeys."""
    path = _below(target, network, "virtualNetworkPeerings", name)
    side = flat(_call(target, "GET", path))
    said = {member: given[member.lower()] for member in _PEERING_MEMBERS}
    side |= {member: value for member, value in said.items() if value is not None}
    _edits(given).apply(side)
    return flat(_call(target, "PUT", path, {"properties": side}))


@peering.command("delete", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_in_network
@_peering_name
def delete_peering(target: Target, network: str, name: str) -> Any:
    """Deletes one side of a peering; the other is Disconnected, and has to be deleted before both are made anew."""
    return _call(target, "DELETE", _below(target, network, "virtualNetworkPeerings", name))


@local_gateway.command("create", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_gateway_name
@click.option("--vnet-name", "network", required=True, help="The virtual network whose gateway leads there.")
@click.option("prefixes", "--local-address-prefixes", cls=Words, metavar="CIDR...", help="Address ranges of the site.")
@click.option("--gateway-ip-address", default="", help="The site's end of the VPN or line; kept as said.")
@_location
@_tags
def create_gateway(target: Target, name: str, network: str, gateway_ip_address: str, **given: Any) -> Any:
    """Declares an on-premises site behind the gateway of a virtual network, or its new ranges."""
    members: dict[str, Any] = {
        "localNetworkAddressSpace": {"addressPrefixes": _words(given["prefixes"])},
        "virtualNetwork": {"id": network if network.startswith("/") else _network_path(target, network)},
        "gatewayIpAddress": gateway_ip_address,
    }
    body = {"location": given["location"] or "local", "tags": _read_tags(given["tags"]), "properties": members}
    return flat(_call(target, "PUT", _gateway_path(target, name), body))


@local_gateway.command("list", hub_flags=HUB_ONLY, remote=False)
def list_gateways(target: Target) -> Any:
    """Lists the sites behind gateways."""
    return flat(_call(target, "GET", _gateway_path(target))["value"])


@local_gateway.command("show", hub_flags=HUB_ONLY, remote=False)
@_gateway_name
def show_gateway(target: Target, name: str) -> Any:
    """Shows a site behind a gateway."""
    return flat(_call(target, "GET", _gateway_path(target, name)))


@local_gateway.command("delete", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_gateway_name
def delete_gateway(target: Target, name: str) -> Any:
    """Deletes a site; sessions that came from there end."""
    return _call(target, "DELETE", _gateway_path(target, name))


def flat(value: Any) -> Any:
    """ARM's form as `az network` prints it: properties beside the name, with the resource group of each id."""
    if isinstance(value, list):
        return [flat(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    members = {name: flat(each) for name, each in value.items() if name != "properties"}
    if isinstance(value.get("properties"), Mapping):
        members |= flat(value["properties"])
    group = str(members.get("id", "")).partition("/resourceGroups/")[2].partition("/")[0]
    return members | ({"resourceGroup": group} if group else {})


def _nested(member: dict[str, Any]) -> dict[str, Any]:
    return {"name": member.get("name"), "properties": member}


def _edits(given: Mapping[str, Any]) -> Edits:
    return Edits(given["to_set"], given["to_add"], given["to_remove"])


def _words(groups: Iterable[Iterable[str]]) -> list[str]:
    return [word for group in groups for word in group]


def _servers_of(given: Mapping[str, Any]) -> list[str]:
    """The servers that are named; an empty word names none, as in `az`."""
    return [word for word in _words(given["servers"]) if word]


def _read_tags(groups: Iterable[Iterable[str]]) -> dict[str, str]:
    return read_pairs(_words(groups), "--tags")


def _first_subnet(prefix: str) -> str:
    try:
        network = ipaddress.ip_network(prefix)
    except ValueError as error:
        raise CommandError(f"--address-prefixes takes CIDR blocks, and {prefix} is none.") from error
    bits = SUBNET_BITS_DEFAULT if network.version == 4 else 64
    return f"{network.network_address}/{max(bits, network.prefixlen)}"


def _network_path(target: Target, name: str = "") -> str:
    return target.resource_id(NETWORK_PROVIDER, "virtualNetworks", name)


def _gateway_path(target: Target, name: str = "") -> str:
    return target.resource_id(NETWORK_PROVIDER, "localNetworkGateways", name)


def _below(target: Target, network: str, kind: str, name: str = "") -> str:
    path = f"{_network_path(target, network)}/{kind}"
    return f"{path}/{name}" if name else path


def _call(target: Target, method: str, path: str, body: object | None = None) -> Any:
    return target.manage(method, path, body, query={"api-version": NETWORK_API})
