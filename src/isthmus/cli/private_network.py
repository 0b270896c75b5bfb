"""`network private-endpoint` and `network private-endpoint-connection`: the private doors."""

import re
from typing import Any

import click

from isthmus.cli.command import Group, Words
from isthmus.cli.edits import read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.private_names import private_dns, zone_group
from isthmus.cli.target import DEVICES_API, DEVICES_PROVIDER, NETWORK_API, NETWORK_PROVIDER, Target
from isthmus.cli.virtual_networks import HUB_ONLY, local_gateway, vnet

HUB_TYPE = f"{DEVICES_PROVIDER}/IotHubs"
CONNECTION_ID = re.compile(
    r"(?P<hub>/subscriptions/.+/providers/[^/]+/[^/]+/[^/]+)/privateEndpointConnections/[^/]+", re.I
)
RESOURCE_TYPES = (
    HUB_TYPE,
    "Microsoft.EventHub/namespaces",
    "Microsoft.ServiceBus/namespaces",
    "Microsoft.Storage/storageAccounts",
)
"""Kinds of what a private endpoint can lead to."""

RESOURCE_ID = re.compile(
    rf"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/(?:{'|'.join(map(re.escape, RESOURCE_TYPES))})/[^/]+", re.I
)

network = Group(
    "network",
    help="Private endpoints and the virtual networks they are in.",
    coming=(
        *("private-link-service", "nsg", "nic", "public-ip"),
        *("route-table", "vnet-gateway", "vpn-connection", "express-route", "dns", "watcher"),
    ),
)
private_endpoint = Group(
    "private-endpoint",
    help="Private endpoints: addresses inside a network that lead to one resource.",
    coming=("update", "ip-config", "asg"),
)
private_endpoint_connection = Group("private-endpoint-connection", help="The resource's side of private endpoints.")
private_link_resource = Group("private-link-resource", help="What of a resource a private endpoint can lead to.")
network.add_command(private_endpoint)
network.add_command(private_link_resource)
network.add_command(private_endpoint_connection)
network.add_command(vnet)
network.add_command(local_gateway)
network.add_command(private_dns)
private_endpoint.add_command(zone_group)

_name = click.option("--name", "-n", "endpoint", required=True, help="The private endpoint.")


@private_endpoint.command("create", hub_flags=HUB_ONLY, remote=False)
@_name
@click.option("--connection-name", required=True, help="The connection's name.")
@click.option("--private-connection-resource-id", "resource", required=True, help="Id of what it leads to.")
@click.option(
    "--group-id", "--group-ids", "groups", cls=Words, metavar="ID...", help="Part of it: iotHub, namespace or blob."
)
@click.option(
    "--ip-config",
    "--ip-configs",
    "addresses",
    cls=Words,
    metavar="name=N group-id=iotHub member-name=iotHub private-ip-address=A",
    help="The address; without it, the lowest free one of the subnet.",
)
@click.option("--manual-request", type=click.BOOL, is_flag=False, flag_value="true", help="Wait for approval.")
@click.option("--request-message", default="", help="What the one who approves reads.")
@click.option("--vnet-name", default="", help="Virtual network of the subnet.")
@click.option("--subnet", default="", help="Subnet, by name or id.")
@click.option("--location", "-l", default="", help="Where it is; any word.")
@click.option("--nic-name", default="", help="Name of its network interface.")
@click.option("--tags", cls=Words, metavar="NAME=VALUE...", help="Tags.")
def create_endpoint(target: Target, endpoint: str, manual_request: bool | None, **given: Any) -> Any:
    """Creates a private endpoint that leads to a hub, a namespace or a storage account.

    It is approved at once unless --manual-request is given.
    """
    connection = {
        "name": given["connection_name"],
        "properties": {
            "privateLinkServiceId": given["resource"],
            "groupIds": [word for group in given["groups"] for word in group],
            "requestMessage": given["request_message"],
        },
    }
    side = "manualPrivateLinkServiceConnections" if manual_request else "privateLinkServiceConnections"
    properties: dict[str, Any] = {
        side: [connection],
        "ipConfigurations": [_ip_configuration(words) for words in given["addresses"]],
    }
    if given["subnet"]:
        properties["subnet"] = {"id": _subnet_id(target, given["vnet_name"], given["subnet"])}
    if given["nic_name"]:
        properties["customNetworkInterfaceName"] = given["nic_name"]
    tags = read_pairs([word for group in given["tags"] for word in group], "--tags")
    body = {"location": given["location"] or "local", "tags": tags, "properties": properties}
    return _endpoints(target, "PUT", endpoint, body)


@private_endpoint.command("show", hub_flags=HUB_ONLY, remote=False)
@_name
def show_endpoint(target: Target, endpoint: str) -> Any:
    """Shows a private endpoint."""
    return _endpoints(target, "GET", endpoint)


@private_endpoint.command("list", hub_flags=HUB_ONLY, remote=False)
def list_endpoints(target: Target) -> Any:
    """Lists the private endpoints."""
    return _endpoints(target, "GET")["value"]


@private_endpoint.command("delete", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_name
def delete_endpoint(target: Target, endpoint: str) -> Any:
    """Deletes a private endpoint; its address answers nobody from then on."""
    return _endpoints(target, "DELETE", endpoint)


@private_endpoint.command("list-types", hub_flags=HUB_ONLY, remote=False)
@click.option("--location", "-l", default="local", show_default=True, help="Any word.")
def list_types(target: Target, location: str) -> Any:
    """Lists the kinds of resources that a private endpoint can lead to."""
    path = target.resource_id(NETWORK_PROVIDER, "locations", location) + "/availablePrivateEndpointTypes"
    return target.manage("GET", path, query={"api-version": NETWORK_API})["value"]


def _connection_options(function: Any) -> Any:
    """Either --id, or the connection's name with the resource's."""
    for option in (
        click.option("--type", "resource_type", default=HUB_TYPE, show_default=True, help="Kind of the resource."),
        click.option("--resource-name", default="", help="The resource, where --id is not given."),
        click.option("--name", "-n", "connection", default="", help="The connection, where --id is not given."),
        click.option("--id", "connection_id", default="", help="Id of the connection."),
    ):
        function = option(function)
    return function


@private_endpoint_connection.command("approve", hub_flags=HUB_ONLY, remote=False)
@_connection_options
@click.option("--description", "--rejection-description", default="", help="Why.")
def approve(target: Target, description: str, **given: str) -> Any:
    """Lets a private endpoint lead to the resource."""
    return _decide(target, "Approved", description, given)


@private_endpoint_connection.command("reject", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_connection_options
@click.option("--description", "--rejection-description", default="", help="Why.")
def reject(target: Target, description: str, **given: str) -> Any:
    """Refuses a private endpoint, approved or not; answers when its sessions are cut."""
    return _decide(target, "Rejected", description, given)


@private_endpoint_connection.command("show", hub_flags=HUB_ONLY, remote=False)
@_connection_options
def show_connection(target: Target, **given: str) -> Any:
    """Shows a connection."""
    return target.manage("GET", _connection_id(target, given), query={"api-version": DEVICES_API})


@private_endpoint_connection.command("delete", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_connection_options
@click.option("--yes", "-y", is_flag=True, help="For scripts of az; nothing is asked here.")
def delete_connection(target: Target, yes: bool, **given: str) -> Any:
    """Takes a connection away; its private endpoint stays as Disconnected."""
    return target.manage("DELETE", _connection_id(target, given), query={"api-version": DEVICES_API})


@private_endpoint_connection.command("list", hub_flags=HUB_ONLY, remote=False)
@click.option("--id", "resource_id", default="", help="Id of the resource.")
@click.option("--name", "-n", "resource_name", default="", help="The resource, where --id is not given.")
@click.option("--type", "resource_type", default=HUB_TYPE, show_default=True, help="Kind of the resource.")
def list_connections(target: Target, resource_id: str, resource_name: str, resource_type: str) -> Any:
    """Lists the connections of a resource."""
    resource = _resource_id(target, resource_id, resource_name, resource_type)
    found = target.manage("GET", f"{resource}/privateEndpointConnections", query={"api-version": DEVICES_API})
    return found["value"] if isinstance(found, dict) else found


@private_link_resource.command("list", hub_flags=HUB_ONLY, remote=False)
@click.option("--id", "resource_id", default="", help="Id of the resource.")
@click.option("--name", "-n", "resource_name", default="", help="The resource, where --id is not given.")
@click.option("--type", "resource_type", default=HUB_TYPE, show_default=True, help="Kind of the resource.")
def list_link_resources(target: Target, resource_id: str, resource_name: str, resource_type: str) -> Any:
    """Lists what of a resource a private endpoint can lead to."""
    resource = _resource_id(target, resource_id, resource_name, resource_type)
    return target.manage("GET", f"{resource}/privateLinkResources", query={"api-version": DEVICES_API})["value"]


def _endpoints(target: Target, method: str, name: str = "", body: object | None = None) -> Any:
    path = target.resource_id(NETWORK_PROVIDER, "privateEndpoints", name)
    return target.manage(method, path, body, query={"api-version": NETWORK_API})


def _ip_configuration(words: tuple[str, ...]) -> dict[str, Any]:
    given = read_pairs(words, "--ip-config")
    known = {"name", "group-id", "member-name", "private-ip-address"}
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None or "private-ip-address" not in given:
        wrong = f"does not know {unknown}" if unknown else "needs private-ip-address"
        raise CommandError(f"--ip-config {wrong}; it takes {', '.join(sorted(known))}.")
    return {
        "name": given.get("name", "ipconfig"),
        "properties": {
            "groupId": given.get("group-id", "iotHub"),
            "memberName": given.get("member-name", "iotHub"),
            "privateIPAddress": given["private-ip-address"],
        },
    }


def _subnet_id(target: Target, network_name: str, subnet: str) -> str:
    if subnet.startswith("/"):
        return subnet
    if not network_name:
        raise CommandError("A subnet's name needs its network: --vnet-name.")
    return f"{target.resource_id(NETWORK_PROVIDER, 'virtualNetworks', network_name)}/subnets/{subnet}"


def _decide(target: Target, status: str, description: str, given: dict[str, str]) -> Any:
    path = _connection_id(target, given)
    query = {"api-version": DEVICES_API}
    connection = target.manage("GET", path, query=query)
    state = connection["properties"]["privateLinkServiceConnectionState"]
    state |= {"status": status, "description": description or state.get("description") or ""}
    return target.manage("PUT", path, connection, query=query)


def _connection_id(target: Target, given: dict[str, str]) -> str:
    if given["connection_id"]:
        if not CONNECTION_ID.fullmatch(given["connection_id"]):
            raise CommandError(f"{given['connection_id']} is not the id of a private endpoint connection.")
        return given["connection_id"]
    if not given["connection"]:
        raise CommandError("Say which connection: --id, or --name with --resource-name.")
    resource = _resource_id(target, "", given["resource_name"], given["resource_type"])
    return f"{resource}/privateEndpointConnections/{given['connection']}"


def _resource_id(target: Target, resource_id: str, name: str, resource_type: str) -> str:
    if resource_id:
        if not RESOURCE_ID.fullmatch(resource_id):
            raise CommandError(f"{resource_id} is not the id of a resource that private endpoints lead to.")
        return resource_id
    kind = next((each for each in RESOURCE_TYPES if each.lower() == resource_type.lower()), None)
    if kind is None:
        raise CommandError(f"--type is one of {', '.join(RESOURCE_TYPES)}.")
    if kind != HUB_TYPE and not name:
        raise CommandError("Say which resource: --id, or its name.")
    provider, _, word = kind.partition("/")
    return target.resource_id(provider, word, name) if name else target.hub_id()
