"""Shared access policies of a hub, as a body in ARM's form asks for them.

A list replaces the list: a policy that it leaves out ends, and what ends takes its sessions with it. A key that is not
given, or null, stays as it is; a policy that was not there gets random ones. So a list that was read without keys and
is sent back changes nothing, and a roll gives one new key of the two (Microsoft.Devices/IotHubs,
`SharedAccessSignatureAuthorizationRule`).
"""

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from isthmus.access.principal import Right, SharedAccessPolicy
from isthmus.base.errors import Code, HubError
from isthmus.resources.members import Json, bad, items, known_members, mapping, text

POLICIES_MAX = 16
"""Policies of a hub ("IoT Hub quotas and throttling")."""

SERVICE_POLICIES_MAX = 10
"""Those of them that have ServiceConnect (the same)."""

KEY_BYTES_MIN = 16
KEY_BYTES_MAX = 64
"""Decoded length of a key, as of a device's."""

POLICY_NAME = re.compile(r"[A-Za-z0-9!._-]{1,64}")
"""What needs no encoding in a token or a connection string."""

HUB_RIGHTS = (Right.REGISTRY_READ, Right.REGISTRY_WRITE, Right.SERVICE_CONNECT, Right.DEVICE_CONNECT)
"""Rights that a hub's policies may have."""

MEMBERS = ("keyName", "primaryKey", "secondaryKey", "rights")


def with_policies(present: Sequence[SharedAccessPolicy], value: object, path: str) -> tuple[SharedAccessPolicy, ...]:
    """The policies that a list asks for; a key that is to be made is empty (`completed_policies`).

    Raises HubError ArgumentInvalid for a bad member or a name that is there twice, QuotaExceeded above the limits.
    """
    known = {policy.name.lower(): policy for policy in present}
    wanted = [_policy(each, f"{path}[{number}]", known) for number, each in enumerate(items(value, path))]
    names = [policy.name.lower() for policy in wanted]
    double = next((policy.name for policy in wanted if names.count(policy.name.lower()) > 1), None)
    if double is not None:
        raise HubError(Code.ARGUMENT_INVALID, f"{path} has two policies {double}; names have no case")
    if len(wanted) > POLICIES_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"A hub has at most {POLICIES_MAX} policies")
    if sum(Right.SERVICE_CONNECT in policy.rights for policy in wanted) > SERVICE_POLICIES_MAX:
        message = f"At most {SERVICE_POLICIES_MAX} policies of a hub have {Right.SERVICE_CONNECT.value}"
        raise HubError(Code.QUOTA_EXCEEDED, message)
    return tuple(wanted)


def completed_policies(
    policies: tuple[SharedAccessPolicy, ...], new_key: Callable[[], str]
) -> tuple[SharedAccessPolicy, ...]:
    """The policies with keys where they have none yet; the same object when all have."""
    if all(all(policy.keys) for policy in policies):
        return policies
    return tuple(
        replace(policy, primary_key=policy.primary_key or new_key(), secondary_key=policy.secondary_key or new_key())
        for policy in policies
    )


def told_difference(before: Sequence[SharedAccessPolicy], after: Sequence[SharedAccessPolicy]) -> str:
    """What a change made of the policies, without a key, for the journal; empty for nothing."""
    old, new = ({policy.name: policy for policy in each} for each in (before, after))
    gone = [f"policy {name} deleted" for name in old if name not in new]
    made = [f"policy {name} created" for name in new if name not in old]
    kept = [_told_change(old[name], policy) for name, policy in new.items() if name in old]
    return ", ".join(each for each in (*gone, *made, *kept) if each)


def _told_change(before: SharedAccessPolicy, after: SharedAccessPolicy) -> str:
    if before == after:
        return ""
    if before.keys == (after.secondary_key, after.primary_key) != after.keys:
        return f"keys of policy {after.name} swapped"
    pairs = (("primary key", *_both(before, after, 0)), ("secondary key", *_both(before, after, 1)))
    changed = [word for word, have, want in pairs if have != want]
    changed += ["rights"] if before.rights != after.rights else []
    return f"{' and '.join(changed)} of policy {after.name} changed" if changed else ""


def _both(before: SharedAccessPolicy, after: SharedAccessPolicy, number: int) -> tuple[str, str]:
    return before.keys[number], after.keys[number]


def _policy(value: object, path: str, known: dict[str, SharedAccessPolicy]) -> SharedAccessPolicy:
    members = mapping(value, path)
    known_members(members, path, MEMBERS)
    name = text(members.get("keyName"), f"{path}.keyName")
    if not POLICY_NAME.fullmatch(name):
        raise bad(f"{path}.keyName", "1 to 64 letters, digits, dashes, dots, underscores or exclamation marks")
    present = known.get(name.lower(), SharedAccessPolicy(name, frozenset(), "", ""))
    rights = members.get("rights")
    return SharedAccessPolicy(
        present.name,
        present.rights if rights is None and present.rights else _rights(rights, f"{path}.rights"),
        _key(members, "primaryKey", path) or present.primary_key,
        _key(members, "secondaryKey", path) or present.secondary_key,
    )


def _rights(value: object, path: str) -> frozenset[Right]:
    said = [word.strip() for word in text(value, path).split(",") if word.strip()]
    known = {right.value.lower(): right for right in HUB_RIGHTS}
    if not said or any(word.lower() not in known for word in said):
        raise bad(path, f"some of {', '.join(HUB_RIGHTS)}, joined by commas")
    return frozenset(known[word.lower()] for word in said)


def _key(members: Json, name: str, path: str) -> str:
    """A key that is given; empty for one that is not."""
    value = members.get(name)
    key = "" if value is None else text(value, f"{path}.{name}")
    try:
        length = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if key and not KEY_BYTES_MIN <= length <= KEY_BYTES_MAX:
        raise bad(f"{path}.{name}", f"{KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes in base64")
    return key
