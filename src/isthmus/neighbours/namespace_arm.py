"""Namespaces of both kinds in ARM's form, and what of a body can be set.

Shapes: Microsoft.EventHub/namespaces 2024-01-01, Microsoft.ServiceBus/namespaces 2024-01-01, and their
`networkRuleSets/default`. What a whole body leaves out goes back to its default, save what would open a door.
"""

from dataclasses import replace

from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.neighbours.neighbour import Neighbour
from isthmus.network.rules import DefaultAction, IpRule, NetworkRules, checked_rules, network_of
from isthmus.resources.arm import connection_to_arm
from isthmus.resources.members import Json, bad, boolean, choice, items, known_members, mapping, tags_of, text

SKUS = ("Basic", "Standard", "Premium")
RULE_SET = "default"
"""The name of the only network rule set of a namespace."""

HTTPS_PORT = 443

_BODY = frozenset(
    {"id", "name", "type", "location", "tags", "etag", "sku", "properties", "identity", "systemData", "kind"}
)
_FIXED: Json = {
    "minimumTlsVersion": "1.2",
    "isAutoInflateEnabled": False,
    "maximumThroughputUnits": 0,
    "kafkaEnabled": False,
    "zoneRedundant": False,
    "premiumMessagingPartitions": 0,
    "encryption": None,
    "alternateName": None,
    "clusterArmId": None,
    "geoDataReplication": None,
}
"""Members that have one value here; a client may say it, or nothing."""

_READ_ONLY = frozenset(
    {"provisioningState", "status", "createdAt", "updatedAt", "serviceBusEndpoint", "metricId"}
    | {"privateEndpointConnections"}
)
_SET = frozenset({"publicNetworkAccess", "disableLocalAuth"})


def namespace_to_arm(namespace: Neighbour) -> dict[str, object]:
    """A namespace as a client reads it; without keys."""
    created = iso_utc(namespace.created_ms)
    return {
        "id": namespace.resource_id,
        "name": namespace.name,
        "type": namespace.kind.value,
        "location": namespace.location,
        "tags": dict(namespace.tags),
        "etag": namespace.etag,
        "sku": {"name": namespace.sku, "tier": namespace.sku, "capacity": 1},
        "properties": {
            "provisioningState": "Succeeded",
            "status": "Active",
            "createdAt": created,
            "updatedAt": created,
            "serviceBusEndpoint": f"https://{namespace.host_name}:{HTTPS_PORT}/",
            "metricId": f"{namespace.resource_id.split('/')[2]}:{namespace.name.lower()}",
            "publicNetworkAccess": _access(namespace),
            "disableLocalAuth": not namespace.local_auth.policies,
            "minimumTlsVersion": "1.2",
            "zoneRedundant": False,
            "privateEndpointConnections": [connection_to_arm(namespace, each) for each in namespace.connections],
        },
    }


def apply_namespace(namespace: Neighbour, body: Json) -> Neighbour:
    """The namespace with what a whole body says; raises HubError ArgumentInvalid, NotImplemented.

    A body that does not name `publicNetworkAccess` or `disableLocalAuth` leaves them as they are: who does not know
    them must not open a door.
    """
    known_members(body, "the body", _BODY)
    if body.get("identity"):
        raise HubError(Code.NOT_IMPLEMENTED, "A namespace has no identity here")
    members = mapping(body.get("properties") or {}, "properties")
    known_members(members, "properties", (*_SET, *_READ_ONLY, *_FIXED))
    for name, only in _FIXED.items():
        if members.get(name) not in (None, only):
            raise HubError(Code.NOT_IMPLEMENTED, f"properties.{name} cannot be {members[name]!r} here")
    size = mapping(body.get("sku") or {}, "sku")
    sku = namespace.sku if size.get("name") is None else choice(size["name"], "sku.name", SKUS)
    tags = tags_of(body.get("tags"))
    return _with_switches(replace(namespace, sku=sku, tags=tags), members)


def patch_namespace(namespace: Neighbour, body: Json) -> Neighbour:
    """As `apply_namespace`, for a fragment: what it leaves out stays."""
    return apply_namespace(namespace, body if "tags" in body else {**body, "tags": dict(namespace.tags)})


def rule_set_to_arm(namespace: Neighbour) -> dict[str, object]:
    """The network rule set as a client reads it; a namespace that was given none lets everybody in."""
    rules = namespace.network_rules or NetworkRules(DefaultAction.ALLOW)
    return {
        "id": f"{namespace.resource_id}/networkRuleSets/{RULE_SET}",
        "name": RULE_SET,
        "type": f"{namespace.kind.value}/networkRuleSets",
        "properties": {
            "publicNetworkAccess": _access(namespace),
            "defaultAction": rules.default_action.value,
            "trustedServiceAccessEnabled": namespace.trusted_services,
            "ipRules": [{"ipMask": rule.mask, "action": "Allow"} for rule in rules.ip_rules],
            "virtualNetworkRules": [],
        },
    }


def apply_rule_set(namespace: Neighbour, body: Json) -> Neighbour:
    """The namespace with the network rule set that a body says; raises HubError ArgumentInvalid, NotImplemented."""
    members = mapping(body.get("properties") or {}, "properties")
    names = ("publicNetworkAccess", "defaultAction", "trustedServiceAccessEnabled", "ipRules", "virtualNetworkRules")
    known_members(members, "properties", (*names, "provisioningState"))
    if items(members.get("virtualNetworkRules"), "properties.virtualNetworkRules"):
        remedy = "declare a private endpoint, or give the addresses as IP rules"
        raise HubError(Code.NOT_IMPLEMENTED, f"properties.virtualNetworkRules are not offered here: {remedy}")
    action = choice(members.get("defaultAction") or "Allow", "properties.defaultAction", ("Allow", "Deny"))
    rules = tuple(_ip_rule(each) for each in items(members.get("ipRules"), "properties.ipRules"))
    trusted = members.get("trustedServiceAccessEnabled")
    changed = replace(
        namespace,
        network_rules=checked_rules(NetworkRules(DefaultAction(action), ip_rules=rules)),
        trusted_services=trusted is not None and boolean(trusted, "properties.trustedServiceAccessEnabled"),
    )
    return _with_switches(changed, members)


def _with_switches(namespace: Neighbour, members: Json) -> Neighbour:
    access, keys_off = members.get("publicNetworkAccess"), members.get("disableLocalAuth")
    changed = namespace
    if access is not None:
        said = choice(access, "properties.publicNetworkAccess", ("Enabled", "Disabled"))
        changed = replace(changed, public_network_access=said == "Enabled")
    if keys_off is not None:
        takes = not boolean(keys_off, "properties.disableLocalAuth")
        changed = replace(changed, local_auth=replace(changed.local_auth, policies=takes))
    return changed


def _ip_rule(value: object) -> IpRule:
    members = mapping(value, "properties.ipRules")
    known_members(members, "properties.ipRules", ("ipMask", "action"))
    choice(members.get("action") or "Allow", "properties.ipRules.action", ("Allow",))
    mask = text(members.get("ipMask"), "properties.ipRules.ipMask")
    try:
        network_of(mask)
    except ValueError as error:
        raise bad("properties.ipRules.ipMask", f"an address or a CIDR block, and {mask!r} is none") from error
    return IpRule(mask, mask)


def _access(namespace: Neighbour) -> str:
    return "Enabled" if namespace.public_network_access else "Disabled"
