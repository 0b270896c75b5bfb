"""Door policies of a hub: pure changes of the hub record, and their ARM form.

A policy is refused when it can only be a mistake: a shared access policy, consumer group, endpoint or network that is
not there would lock nobody in, or everybody out. Device ids may be those of devices to come.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import Comparison, Constant, Field, Filter, Order, Undefined, fields, terms_of
from isthmus.base.ids import ID_PATTERN
from isthmus.network.door_policies import (
    DOOR_POLICIES_MAX,
    NETWORK_PREFIX,
    POLICY_DEVICES_MAX,
    POLICY_DOORS_MAX,
    PRIVATE,
    PRIVATE_PREFIX,
    PUBLIC,
    DoorPolicy,
    TagEquals,
    is_connection,
)
from isthmus.network.virtual_networks import NetworkFacts
from isthmus.query.search import compile_search
from isthmus.resources.consumer_groups import find_group
from isthmus.resources.hub import Hub
from isthmus.resources.members import Json, bad, boolean, items, known_members, mapping, text

POLICY_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
"""1 to 64 characters, as names of routes and endpoints."""

SUBJECTS = ("deviceIds", "query", "sharedAccessPolicy", "consumerGroup")
"""Whom a policy concerns: one of these."""


def find_door_policy(hub: Hub, name: str) -> DoorPolicy | None:
    """The policy of that name, compared without case."""
    return next((policy for policy in hub.door_policies if policy.name.lower() == name.lower()), None)


def require_door_policy(hub: Hub, name: str) -> DoorPolicy:
    """As `find_door_policy`; raises HubError GenericNotFound."""
    found = find_door_policy(hub, name)
    if found is None:
        known = ", ".join(policy.name for policy in hub.door_policies) or "none"
        message = f"There is no door policy {name}; policies of {hub.name}: {known}"
        if hub.policy(name) is not None:
            message += f". The shared access policy of that name: isthmus iot hub policy show -n {name}"
        raise HubError(Code.NOT_FOUND, message)
    return found


def put_door_policy(hub: Hub, policy: DoorPolicy, facts: NetworkFacts) -> Hub:
    """The hub with the policy, in place of one of the same name.

    Raises HubError ArgumentInvalid when what the policy names is not there, QuotaExceeded.
    """
    _check_subject(hub, policy)
    for door in policy.doors:
        _check_door(hub, door, facts)
    present = find_door_policy(hub, policy.name)
    others = [each for each in hub.door_policies if each is not present]
    if len(others) >= DOOR_POLICIES_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"A hub has at most {DOOR_POLICIES_MAX} door policies")
    named = policy if present is None else replace(policy, name=present.name)
    return replace(hub, door_policies=tuple(sorted([*others, named], key=lambda each: each.name.lower())))


def remove_door_policy(hub: Hub, name: str) -> Hub:
    """The hub without the policy; raises HubError GenericNotFound."""
    gone = require_door_policy(hub, name)
    return replace(hub, door_policies=tuple(each for each in hub.door_policies if each is not gone))


def parse_door_policy(name: str, body: Json) -> DoorPolicy:
    """The policy that an ARM body asks for; raises HubError ArgumentInvalid, also for a query that is not supported."""
    if not POLICY_NAME.fullmatch(name):
        raise bad("name", "1 to 64 letters, digits, dots, dashes and underscores")
    properties = mapping(body.get("properties"), "properties")
    known_members(properties, "properties", (*SUBJECTS, "doors", "enabled"))
    if sum(bool(properties.get(member)) for member in SUBJECTS) != 1:
        raise HubError(Code.ARGUMENT_INVALID, f"A door policy concerns one of {', '.join(SUBJECTS)}")
    query = text(properties.get("query") or "", "properties.query")
    return DoorPolicy(
        name=name,
        doors=_doors(properties.get("doors")),
        device_ids=_device_ids(properties.get("deviceIds")),
        query=query,
        conditions=tag_conditions(query) if query else (),
        shared_access_policy=text(properties.get("sharedAccessPolicy") or "", "properties.sharedAccessPolicy"),
        consumer_group=text(properties.get("consumerGroup") or "", "properties.consumerGroup"),
        enabled=boolean(properties.get("enabled", True), "properties.enabled"),
    )


def door_policy_to_arm(hub: Hub, policy: DoorPolicy) -> dict[str, object]:
    """The policy as its owner reads it; its etag is the hub's."""
    return {
        "id": f"{hub.resource_id}/doorPolicies/{policy.name}",
        "name": policy.name,
        "type": "Microsoft.Devices/IotHubs/doorPolicies",
        "etag": hub.etag,
        "properties": {
            "deviceIds": sorted(policy.device_ids),
            "query": policy.query,
            "sharedAccessPolicy": policy.shared_access_policy,
            "consumerGroup": policy.consumer_group,
            "doors": list(policy.doors),
            "enabled": policy.enabled,
        },
    }


def tag_conditions(query: str) -> tuple[TagEquals, ...]:
    """What a query means over a device's tags: a whole query over devices, or only its condition.

    Raises HubError ArgumentInvalid for what is no equality, and for what is no tag: the rest of a twin is written by
    the device itself, and who is bound must not loosen his own bonds.
    """
    whole = query.lstrip()[:6].upper() == "SELECT"
    search = compile_search(query if whole else f"SELECT * FROM devices WHERE {query}")
    if search.modules or search.columns:
        raise HubError(Code.ARGUMENT_INVALID, "The query of a door policy is SELECT * FROM devices WHERE …")
    asked = list(fields(search.where))
    other = next((path for path in asked if path[0] != "tags" or len(path) == 1), None)
    if other is not None or not asked:
        about = ".".join(map(str, other)) if other is not None else "every device"
        message = f"The query of a door policy asks for tags only, such as tags.site = 'plant1', not for {about}"
        raise HubError(Code.ARGUMENT_INVALID, message)
    return tuple(map(_tag_equals, terms_of(search.where)))


def _tag_equals(term: Filter) -> TagEquals:
    match term:
        case Comparison(Order.EQUAL, Field(path), Constant(value)) if not isinstance(value, Undefined):
            return TagEquals(path, value)
        case _:
            message = "The query of a door policy has equalities of tags joined by AND, such as tags.site = 'plant1'"
            raise HubError(Code.ARGUMENT_INVALID, message)


def _doors(value: object) -> tuple[str, ...]:
    doors = tuple(dict.fromkeys(text(each, "properties.doors") for each in items(value, "properties.doors")))
    if not 1 <= len(doors) <= POLICY_DOORS_MAX:
        raise bad("properties.doors", f"1 to {POLICY_DOORS_MAX} doors")
    return doors


def _device_ids(value: object) -> frozenset[str]:
    ids = [text(each, "properties.deviceIds") for each in items(value, "properties.deviceIds")]
    wrong = next((each for each in ids if not ID_PATTERN.fullmatch(each)), None)
    if wrong is not None:
        raise bad("properties.deviceIds", f"ids of devices; {wrong!r} cannot be one")
    if len(ids) > POLICY_DEVICES_MAX:
        raise bad("properties.deviceIds", f"at most {POLICY_DEVICES_MAX} ids; give the devices a tag in common instead")
    return frozenset(ids)


def _check_subject(hub: Hub, policy: DoorPolicy) -> None:
    name = policy.shared_access_policy
    if name and hub.policy(name) is None:
        raise _missing("shared access policy", name, (each.name for each in hub.policies))
    group = policy.consumer_group
    if group and find_group(hub, group) is None:
        raise _missing("consumer group", group, hub.consumer_groups)


def _check_door(hub: Hub, door: str, facts: NetworkFacts) -> None:
    wanted = door.lower()
    if wanted in (PUBLIC, PRIVATE):
        return
    if wanted.startswith(NETWORK_PREFIX):
        if facts.network(door[len(NETWORK_PREFIX) :]) is None:
            raise _missing("door", door, (f"{NETWORK_PREFIX}{each.name}" for each in facts.networks))
    elif not any(is_connection(each.name, door) for each in hub.connections):
        endpoints = (f"{PRIVATE_PREFIX}{each.name.rpartition('.')[0]}" for each in hub.connections)
        raise _missing("door", door, (PUBLIC, PRIVATE, *endpoints))


def _missing(what: str, name: str, known: Iterable[str]) -> HubError:
    return HubError(Code.ARGUMENT_INVALID, f"There is no {what} {name} here; there are: {', '.join(known) or 'none'}")
