"""Authorization rules of namespaces and of what is in them: named key pairs with rights, and their forms in ARM.

The same for Event Hubs and Service Bus (Microsoft.EventHub and Microsoft.ServiceBus, `AuthorizationRules`). All changes
are pure functions of a tuple of policies.
"""

import base64
import binascii
import re
from dataclasses import replace

from isthmus.access.principal import NAMESPACE_RIGHTS, Right, SharedAccessPolicy
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import Ids
from isthmus.resources.members import Json, bad, choice, items, known_members, mapping, text
from isthmus.resources.shared_access_policies import KEY_BYTES_MAX, KEY_BYTES_MIN

RULES_MAX = 12
"""Authorization rules of a namespace or entity ("Event Hubs quotas": 12)."""

RULE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")
"""1 to 50 characters (naming rules, Microsoft.EventHub/namespaces/authorizationRules)."""


RIGHTS = tuple(right for right in Right if right in NAMESPACE_RIGHTS)
"""The rights of rules, in the order in which they are told."""

Policies = tuple[SharedAccessPolicy, ...]


def find_rule(policies: Policies, name: str) -> SharedAccessPolicy | None:
    """The rule of that name, compared without case."""
    return next((policy for policy in policies if policy.name.lower() == name.lower()), None)


def require_rule(policies: Policies, name: str, owner: str) -> SharedAccessPolicy:
    """The rule of that name; raises HubError GenericNotFound, naming whose it should be."""
    found = find_rule(policies, name)
    if found is None:
        known = ", ".join(policy.name for policy in policies) or "none"
        raise HubError(Code.NOT_FOUND, f"There is no authorization rule {name}; rules of {owner}: {known}")
    return found


def put_rule(policies: Policies, name: str, rights: frozenset[Right], ids: Ids) -> Policies:
    """The policies with a rule of these rights: a new one with random keys, or the present one with its keys.

    Raises HubError ArgumentInvalid for a bad name, QuotaExceeded for one rule too many.
    """
    known = find_rule(policies, name)
    if known is not None:
        changed = replace(known, rights=rights)
        return tuple(changed if each is known else each for each in policies)
    if not RULE_NAME.fullmatch(name):
        message = f"An authorization rule has 1 to 50 letters, digits, '.', '-', '_', not at its ends: {name!r}"
        raise HubError(Code.ARGUMENT_INVALID, message)
    if len(policies) >= RULES_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"At most {RULES_MAX} authorization rules are allowed")
    return (*policies, SharedAccessPolicy(name, rights, ids.key(), ids.key()))


def remove_rule(policies: Policies, name: str, owner: str) -> Policies:
    """The policies without the rule; raises HubError GenericNotFound."""
    found = require_rule(policies, name, owner)
    return tuple(policy for policy in policies if policy is not found)


def renew_key(policies: Policies, name: str, owner: str, body: Json, ids: Ids) -> Policies:
    """The policies with one key of a rule made anew, or as the body brings it (`regenerateKeys`).

    Raises HubError GenericNotFound, or ArgumentInvalid for a body that says neither which key nor a good one.
    """
    known_members(body, "the body", ("keyType", "key"))
    which = choice(body.get("keyType"), "keyType", ("PrimaryKey", "SecondaryKey"))
    given = body.get("key")
    key = ids.key() if given is None else _checked_key(text(given, "key"))
    found = require_rule(policies, name, owner)
    primary = which == "PrimaryKey"
    changed = replace(found, primary_key=key) if primary else replace(found, secondary_key=key)
    return tuple(changed if policy is found else policy for policy in policies)


def rights_of(body: Json) -> frozenset[Right]:
    """The rights that an ARM body asks for; raises HubError ArgumentInvalid.

    Who may manage may do everything: Manage is not given without the other two.
    """
    members = mapping(body.get("properties") or {}, "properties")
    known_members(members, "properties", ("rights",))
    words = tuple(right.value for right in RIGHTS)
    named = frozenset(
        Right(choice(each, "properties.rights", words)) for each in items(members.get("rights"), "rights")
    )
    if not named:
        raise bad("properties.rights", f"some of {', '.join(words)}")
    if Right.MANAGE in named and named != frozenset(RIGHTS):
        raise bad("properties.rights", "Listen, Manage and Send where Manage is one of them")
    return named


def rule_to_arm(policy: SharedAccessPolicy, owner_id: str, owner_type: str) -> dict[str, object]:
    """A rule without its keys; `owner_id` and `owner_type` are those of what it belongs to."""
    return {
        "id": f"{owner_id}/authorizationRules/{policy.name}",
        "name": policy.name,
        "type": f"{owner_type}/authorizationRules",
        "properties": {"rights": [right.value for right in RIGHTS if right in policy.rights]},
    }


def keys_to_arm(policy: SharedAccessPolicy, host_name: str, entity: str = "") -> dict[str, object]:
    """Keys and connection strings of a rule of a namespace, or of an entity in it."""
    strings = [connection_string(host_name, policy.name, key, entity) for key in policy.keys]
    return {
        "keyName": policy.name,
        "primaryKey": policy.primary_key,
        "secondaryKey": policy.secondary_key,
        "primaryConnectionString": strings[0],
        "secondaryConnectionString": strings[1],
    }


def connection_string(host_name: str, policy: str, key: str, entity: str = "") -> str:
    """What Event Hubs and Service Bus SDKs are given to sign in with."""
    base = f"Endpoint=sb://{host_name}/;SharedAccessKeyName={policy};SharedAccessKey={key}"
    return f"{base};EntityPath={entity}" if entity else base


def _checked_key(key: str) -> str:
    try:
        decoded = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad("key", "base64") from error
    if not KEY_BYTES_MIN <= len(decoded) <= KEY_BYTES_MAX:
        raise bad("key", f"base64 of {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes")
    return key
