"""The consumer's side of a private endpoint: an address in a network that leads to one resource.

The record does not hold a state: Approved, Pending and Rejected are the resource's to say, and an endpoint whose
connection is not there any more is Disconnected. So the two sides cannot contradict each other.
"""

import re
from dataclasses import dataclass, field, replace

import msgspec

from isthmus.base.errors import Code, HubError
from isthmus.base.etags import twin_etag
from isthmus.base.hosts import is_address, normal_address
from isthmus.network.door import Door, DoorKind
from isthmus.network.private_endpoints import GROUP_ID, ConnectionStatus
from isthmus.resources.guarded import Guarded, ResourceKind
from isthmus.resources.hub import GROUP_PATH, LOCATION
from isthmus.resources.members import Json, bad, choice, items, mapping, text
from isthmus.resources.virtual_network_arm import parse_subnet_id

ENDPOINT_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
"""Microsoft.Network/privateEndpoints: up to 64 characters."""

MESSAGE_CHARACTERS_MAX = 140
"""`requestMessage` ("Restricted to 140 chars", Microsoft.Network/privateEndpoints)."""


@dataclass(frozen=True, slots=True)
class PrivateEndpoint:
    """A private endpoint.

    `place` is its network's (`Presence.place`): the address belongs to the endpoint in that place alone. `target_id` is
    the resource's ARM id; `link_name` is how the consumer calls the connection, `connection` how the resource does
    (unique for ever). `address` is in normal form; it stays for life, also when it is `dynamic`: chosen
    from the subnet because nobody named one.
    """

    name: str
    target_id: str
    link_name: str
    address: str
    manual: bool = False
    request_message: str = ""
    connection: str = ""
    subnet_id: str = ""
    configuration_name: str = ""
    interface_name: str = ""
    location: str = LOCATION
    tags: dict[str, str] = field(default_factory=dict)
    guid: str = ""
    dynamic: bool = False
    place: str = ""
    group_id: str = GROUP_ID
    revision: int = 0

    @property
    def resource_id(self) -> str:
        """The ARM id."""
        return endpoint_resource_id(self.name)

    @property
    def door(self) -> Door:
        """The door that sockets at its address come in by."""
        return Door(DoorKind.PRIVATE, self.target_id, self.connection, parse_subnet_id(self.subnet_id)[0])


def endpoint_resource_id(name: str) -> str:
    """The ARM id of the private endpoint of that name."""
    return f"{GROUP_PATH}/providers/Microsoft.Network/privateEndpoints/{name}"


def encode_endpoint(endpoint: PrivateEndpoint) -> bytes:
    """The stored form; the revision is the store's and stays out."""
    return msgspec.json.encode(replace(endpoint, revision=0), order="deterministic")


def decode_endpoint(body: bytes, revision: int) -> PrivateEndpoint:
    """The endpoint of a stored form; raises `msgspec.DecodeError` on damage."""
    return replace(msgspec.json.decode(body, type=PrivateEndpoint), revision=revision)


def same_request(one: PrivateEndpoint, other: PrivateEndpoint) -> bool:
    """True when both were asked for in the same words, tags apart."""
    return _asked(one) == _asked(other)


def parse_endpoint(name: str, body: Json) -> PrivateEndpoint:
    """The endpoint that an ARM body asks for, not yet connected; members of Azure's without meaning here are ignored.

    Raises HubError ArgumentInvalid. Shape: Microsoft.Network/privateEndpoints.
    """
    if not ENDPOINT_NAME.fullmatch(name):
        raise bad("name", "1 to 64 letters, digits, dots, dashes and underscores")
    properties = mapping(body.get("properties"), "properties")
    link, manual = _link(properties)
    asked = mapping(link.get("properties"), "privateLinkServiceConnection.properties")
    message = text(asked.get("requestMessage") or "", "requestMessage")
    if len(message) > MESSAGE_CHARACTERS_MAX:
        raise bad("requestMessage", f"at most {MESSAGE_CHARACTERS_MAX} characters")
    group = _group(items(asked.get("groupIds"), "groupIds"))
    configurations = items(properties.get("ipConfigurations"), "ipConfigurations")
    subnet = _subnet_id(properties.get("subnet"))
    dynamic = bool(subnet) and not configurations
    configuration_name, address = ("", "") if dynamic else _configuration(configurations, group)
    return PrivateEndpoint(
        name=name,
        target_id=text(asked.get("privateLinkServiceId"), "privateLinkServiceId"),
        link_name=text(link.get("name"), "privateLinkServiceConnection.name"),
        address=address,
        manual=manual,
        request_message=message,
        subnet_id=subnet,
        configuration_name=configuration_name,
        interface_name=text(properties.get("customNetworkInterfaceName") or "", "customNetworkInterfaceName"),
        location=text(body.get("location") or LOCATION, "location"),
        tags={tag: text(value, f"tags.{tag}") for tag, value in mapping(body.get("tags") or {}, "tags").items()},
        dynamic=dynamic,
        group_id=group,
    )


def check_group(endpoint: PrivateEndpoint, kind: ResourceKind) -> None:
    """Raises HubError ArgumentInvalid when a resource of that kind has no such group."""
    if endpoint.group_id.lower() != kind.group_id.lower():
        raise bad("groupIds", f"an array of {kind.group_id}, what {kind.word} can be connected by")


def endpoint_to_arm(
    endpoint: PrivateEndpoint, target: Guarded | None, status: ConnectionStatus, description: str
) -> dict[str, object]:
    """The endpoint as its owner reads it; `target` is what it leads to, None when that is gone."""
    link = {
        "name": endpoint.link_name,
        "properties": {
            "groupIds": [endpoint.group_id],
            "privateLinkServiceConnectionState": {
                "actionsRequired": "None",
                "description": description,
                "status": status.value,
            },
            "privateLinkServiceId": endpoint.target_id,
            "provisioningState": "Succeeded",
            "requestMessage": endpoint.request_message,
        },
    }
    return {
        "id": endpoint.resource_id,
        "name": endpoint.name,
        "type": "Microsoft.Network/privateEndpoints",
        "location": endpoint.location,
        "tags": dict(endpoint.tags),
        "etag": twin_etag(endpoint.revision),
        "properties": {
            "customDnsConfigs": [{"fqdn": host, "ipAddresses": [endpoint.address]} for host in target.hosts]
            if target
            else [],
            "customNetworkInterfaceName": endpoint.interface_name,
            "ipConfigurations": [] if endpoint.dynamic else [_configuration_to_arm(endpoint)],
            "ipVersionType": "IPv6" if ":" in endpoint.address else "IPv4",
            "manualPrivateLinkServiceConnections": [link] if endpoint.manual else [],
            "networkInterfaces": [],
            "privateLinkServiceConnections": [] if endpoint.manual else [link],
            "provisioningState": "Succeeded",
            "resourceGuid": endpoint.guid,
            "subnet": {"id": endpoint.subnet_id} if endpoint.subnet_id else None,
        },
    }


def _configuration_to_arm(endpoint: PrivateEndpoint) -> dict[str, object]:
    return {
        "name": endpoint.configuration_name,
        "properties": {
            "groupId": endpoint.group_id,
            "memberName": endpoint.group_id,
            "privateIPAddress": endpoint.address,
        },
    }


def _asked(endpoint: PrivateEndpoint) -> PrivateEndpoint:
    return replace(
        endpoint,
        connection="",
        guid="",
        place="",
        tags={},
        revision=0,
        target_id=endpoint.target_id.lower(),
        group_id=endpoint.group_id.lower(),
        subnet_id=endpoint.subnet_id.lower(),
        address="" if endpoint.dynamic else endpoint.address,
    )


def _link(properties: Json) -> tuple[Json, bool]:
    automatic = items(properties.get("privateLinkServiceConnections"), "privateLinkServiceConnections")
    manual = items(properties.get("manualPrivateLinkServiceConnections"), "manualPrivateLinkServiceConnections")
    links = [*automatic, *manual]
    if len(links) != 1:
        raise bad("privateLinkServiceConnections and manualPrivateLinkServiceConnections", "one connection together")
    return mapping(links[0], "privateLinkServiceConnections[0]"), bool(manual)


def _group(groups: list[object]) -> str:
    if len(groups) != 1 or not isinstance(groups[0], str) or not groups[0]:
        raise bad("groupIds", "an array of the one thing of the resource to connect to, such as iotHub")
    return groups[0]


def _configuration(configurations: list[object], group: str) -> tuple[str, str]:
    """Name and address of the only IP configuration; without a subnet nobody gives one out."""
    if len(configurations) != 1:
        message = (
            "One address on this machine is needed, or a subnet to take one from: "
            f"--ip-config name=ip group-id={group} member-name={group} private-ip-address=ADDRESS"
        )
        raise HubError(Code.ARGUMENT_INVALID, message)
    configuration = mapping(configurations[0], "ipConfigurations[0]")
    properties = mapping(configuration.get("properties"), "ipConfigurations[0].properties")
    for member in ("groupId", "memberName"):
        choice(properties.get(member) or group, f"ipConfigurations[0].{member}", (group,))
    address = text(properties.get("privateIPAddress"), "privateIPAddress")
    if not is_address(address):
        raise bad("privateIPAddress", "an IPv4 or IPv6 address")
    return text(configuration.get("name") or "ipconfig", "ipConfigurations[0].name"), normal_address(address)


def _subnet_id(value: object) -> str:
    if value is None:
        return ""
    return text(mapping(value, "subnet").get("id") or "", "subnet.id")
