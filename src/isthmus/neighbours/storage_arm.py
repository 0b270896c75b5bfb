"""Storage accounts and their containers in ARM's form, and what of a body can be set.

Shape: Microsoft.Storage/storageAccounts 2023-05-01. What a body leaves out stays, as Azure has it for accounts; a new
one lets trusted services past its firewall unless it is told otherwise, and has no firewall until it is given one.
"""

from collections.abc import Sequence
from dataclasses import replace

from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import Ids
from isthmus.base.places import TENANT
from isthmus.neighbours.account_keys import KEY_NAMES
from isthmus.neighbours.blob.blob import Container, etag_text
from isthmus.neighbours.neighbour import Neighbour, account_key
from isthmus.network.rules import DefaultAction, IpRule, NetworkRules, checked_rules, network_of
from isthmus.resources.arm import connection_to_arm
from isthmus.resources.members import Json, bad, boolean, choice, items, known_members, mapping, tags_of, text

RESOURCE_RULES_MAX = 200
"""Resource instances that a firewall lets in ("Azure Storage firewall", limitations)."""

BYPASSES = ("None", "Logging", "Metrics", "AzureServices")
SKUS = ("Standard_LRS", "Standard_GRS", "Standard_RAGRS", "Standard_ZRS", "Premium_LRS", "Standard_GZRS")

_BODY = frozenset(
    {"id", "name", "type", "location", "tags", "etag", "sku", "kind", "properties", "identity", "systemData"}
)
_FIXED: Json = {
    "allowBlobPublicAccess": False,
    "supportsHttpsTrafficOnly": True,
    "minimumTlsVersion": "TLS1_2",
    "accessTier": "Hot",
    "isHnsEnabled": False,
    "isSftpEnabled": False,
    "isLocalUserEnabled": False,
    "isNfsV3Enabled": False,
    "allowCrossTenantReplication": False,
    "defaultToOAuthAuthentication": False,
}
"""Members that have one value here; a client may say it, or nothing."""

_READ_ONLY = frozenset(
    {"provisioningState", "creationTime", "primaryLocation", "statusOfPrimary", "primaryEndpoints", "encryption"}
    | {"privateEndpointConnections", "keyCreationTime"}
)
_SET = frozenset({"publicNetworkAccess", "allowSharedKeyAccess", "networkAcls"})


def account_to_arm(account: Neighbour, endpoint: str) -> dict[str, object]:
    """An account as a client reads it, without keys; `endpoint` is the address of its blobs."""
    created = iso_utc(account.created_ms)
    return {
        "id": account.resource_id,
        "name": account.name,
        "type": account.kind.value,
        "kind": "StorageV2",
        "location": account.location,
        "tags": dict(account.tags),
        "etag": account.etag,
        "sku": {"name": _sku(account), "tier": _sku(account).partition("_")[0]},
        "properties": {
            "provisioningState": "Succeeded",
            "creationTime": created,
            "keyCreationTime": dict.fromkeys(KEY_NAMES, created),
            "primaryLocation": account.location,
            "statusOfPrimary": "available",
            "primaryEndpoints": {"blob": endpoint},
            "publicNetworkAccess": "Enabled" if account.public_network_access else "Disabled",
            "allowSharedKeyAccess": account.local_auth.policies,
            "networkAcls": _acls_to_arm(account),
            "privateEndpointConnections": [connection_to_arm(account, each) for each in account.connections],
            **_FIXED,
        },
    }


def new_account(draft: Neighbour, body: Json) -> Neighbour:
    """A new account with what a body says."""
    return apply_account(replace(draft, trusted_services=True), body)


def apply_account(account: Neighbour, body: Json) -> Neighbour:
    """The account with what a body says, the rest as it was; raises HubError ArgumentInvalid, NotImplemented."""
    known_members(body, "the body", _BODY)
    if mapping(body.get("identity") or {}, "identity").get("type", "None") != "None":
        raise HubError(Code.NOT_IMPLEMENTED, "A storage account has no identity here")
    choice(body.get("kind") or "StorageV2", "kind", ("StorageV2",))
    members = mapping(body.get("properties") or {}, "properties")
    known_members(members, "properties", (*_SET, *_READ_ONLY, *_FIXED))
    for name, only in _FIXED.items():
        if members.get(name) not in (None, only):
            raise HubError(Code.NOT_IMPLEMENTED, f"properties.{name} cannot be {members[name]!r} here")
    size = mapping(body.get("sku") or {}, "sku")
    changed = account
    if size.get("name") is not None:
        changed = replace(changed, sku=choice(size["name"], "sku.name", SKUS))
    if "tags" in body:
        changed = replace(changed, tags=tags_of(body["tags"]))
    return _with_access(changed, members)


def keys_to_arm(account: Neighbour) -> dict[str, object]:
    """The keys of an account."""
    created = iso_utc(account.created_ms)
    named = zip(KEY_NAMES, account.account_keys, strict=True)
    return {
        "keys": [
            {"keyName": name, "value": value, "permissions": "FULL", "creationTime": created} for name, value in named
        ]
    }


def renew_account_key(account: Neighbour, body: Json, ids: Ids) -> Neighbour:
    """The account with one of its keys made anew; raises HubError ArgumentInvalid."""
    place = KEY_NAMES.index(choice(body.get("keyName"), "keyName", KEY_NAMES))
    keys = list(account.account_keys)
    keys[place] = account_key(ids)
    return replace(account, account_keys=tuple(keys))


def container_to_arm(account: Neighbour, container: Container) -> dict[str, object]:
    """A container as a client reads it."""
    return {
        "id": f"{account.resource_id}/blobServices/default/containers/{container.name}",
        "name": container.name,
        "type": f"{account.kind.value}/blobServices/containers",
        "etag": etag_text(container.etag),
        "properties": {
            "publicAccess": "None",
            "leaseStatus": "Unlocked",
            "leaseState": "Available",
            "lastModifiedTime": iso_utc(container.modified_ms),
            "hasImmutabilityPolicy": False,
            "hasLegalHold": False,
            "metadata": dict(container.metadata),
        },
    }


def _with_access(account: Neighbour, members: Json) -> Neighbour:
    changed, access, keys = account, members.get("publicNetworkAccess"), members.get("allowSharedKeyAccess")
    if access is not None:
        said = choice(access, "properties.publicNetworkAccess", ("Enabled", "Disabled"))
        changed = replace(changed, public_network_access=said == "Enabled")
    if keys is not None:
        takes = boolean(keys, "properties.allowSharedKeyAccess")
        changed = replace(changed, local_auth=replace(changed.local_auth, policies=takes))
    if members.get("networkAcls") is not None:
        changed = _with_acls(changed, mapping(members["networkAcls"], "properties.networkAcls"))
    return changed


def _with_acls(account: Neighbour, acls: Json) -> Neighbour:
    """A rule set is written as a whole: what it leaves out is empty, `bypass` what Azure has where nothing is said."""
    path = "properties.networkAcls"
    names = ("bypass", "defaultAction", "ipRules", "ipv6Rules", "virtualNetworkRules", "resourceAccessRules")
    known_members(acls, path, names)
    if items(acls.get("virtualNetworkRules"), f"{path}.virtualNetworkRules"):
        remedy = "declare a private endpoint, or give the addresses as IP rules"
        raise HubError(Code.NOT_IMPLEMENTED, f"{path}.virtualNetworkRules are not offered here: {remedy}")
    action = choice(acls.get("defaultAction") or "Allow", f"{path}.defaultAction", ("Allow", "Deny"))
    said = [*items(acls.get("ipRules"), f"{path}.ipRules"), *items(acls.get("ipv6Rules"), f"{path}.ipv6Rules")]
    rules = tuple(_ip_rule(each, f"{path}.ipRules") for each in said)
    return replace(
        account,
        network_rules=checked_rules(NetworkRules(DefaultAction(action), ip_rules=rules)),
        trusted_services="AzureServices" in _bypasses(acls.get("bypass"), f"{path}.bypass"),
        resource_rules=_resource_rules(items(acls.get("resourceAccessRules"), f"{path}.resourceAccessRules")),
    )


def _acls_to_arm(account: Neighbour) -> dict[str, object]:
    rules = account.network_rules or NetworkRules(DefaultAction.ALLOW)
    return {
        "bypass": "AzureServices" if account.trusted_services else "None",
        "defaultAction": rules.default_action.value,
        "ipRules": [{"value": rule.mask, "action": "Allow"} for rule in rules.ip_rules],
        "virtualNetworkRules": [],
        "resourceAccessRules": [{"tenantId": TENANT, "resourceId": each} for each in account.resource_rules],
    }


def _bypasses(value: object, path: str) -> set[str]:
    said = "AzureServices" if value is None else text(value, path)
    return {choice(word.strip(), path, BYPASSES) for word in said.split(",") if word.strip()}


def _ip_rule(value: object, path: str) -> IpRule:
    members = mapping(value, path)
    known_members(members, path, ("value", "action"))
    choice(members.get("action") or "Allow", f"{path}.action", ("Allow",))
    mask = text(members.get("value"), f"{path}.value")
    try:
        network_of(mask)
    except ValueError as error:
        raise bad(f"{path}.value", f"an address or a CIDR block, and {mask!r} is none") from error
    return IpRule(mask, mask)


def _resource_rules(values: Sequence[object]) -> tuple[str, ...]:
    path = "properties.networkAcls.resourceAccessRules"
    if len(values) > RESOURCE_RULES_MAX:
        raise bad(path, f"at most {RESOURCE_RULES_MAX} rules")
    rules = []
    for value in values:
        members = mapping(value, path)
        known_members(members, path, ("tenantId", "resourceId"))
        if members.get("tenantId") not in (None, TENANT):
            raise bad(f"{path}.tenantId", f"{TENANT}: rules are for resources of this installation")
        resource_id = text(members.get("resourceId"), f"{path}.resourceId")
        if not resource_id.startswith("/subscriptions/"):
            raise bad(f"{path}.resourceId", "the ARM id of a resource, which may end in /*")
        rules.append(resource_id)
    return tuple(rules)


def _sku(account: Neighbour) -> str:
    return account.sku if account.sku in SKUS else SKUS[0]
