"""Door policies: through which doors an identity may come, beyond what admission says of everybody.

A policy names whom it concerns and the doors that are open for them: devices by their ids or by the tags of their
twins, with their modules; whoever signs with a shared access policy, devices included; the readers of a consumer group.
Whom no policy concerns, none hinders. Where several concern one caller, all of them have to allow the door, so a
further policy can only take away. Policies are judged after admission and authentication, and grant nothing. The local
door is the owner's: no policy closes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from isthmus.base.errors import Hop, Refusal
from isthmus.base.filters import Path, Primitive, equals, holds
from isthmus.network.door import Door, DoorKind

DOOR_POLICIES_MAX = 100
"""Policies of one hub: each is looked at when one of the hub's callers connects."""

POLICY_DOORS_MAX = 32
"""Doors that one policy names."""

POLICY_DEVICES_MAX = 1_000
"""Devices that one policy names; more of them have a tag in common."""

WRONG_DOOR = "policy.wrong-door"
"""The rule of what a policy refuses."""

PUBLIC = "public"
PRIVATE = "private"
PRIVATE_PREFIX = "private:"
NETWORK_PREFIX = "network:"
"""How a policy names doors: the public one, all private ones, one private endpoint, all in a virtual network."""

NO_TAGS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TagEquals:
    """One condition of a policy's query, as it is stored: a tag's path, from the twin's root, and its value."""

    path: Path
    value: Primitive

    def holds(self, tags: Mapping[str, object]) -> bool:
        """True when the tag is there, and is that."""
        return holds(equals(self.path, self.value), {"tags": tags})


@dataclass(frozen=True, slots=True)
class DoorPolicy:
    """Opens doors for one subject, and thereby closes the others.

    The subject is the one of `device_ids`, `query`, `shared_access_policy` and `consumer_group` that is not empty;
    `conditions` are what `query` means over a device's tags. `doors` are `public`, `private`, `private:{endpoint or
    connection}` and `network:{virtual network}`. A policy that is not `enabled` concerns nobody.
    """

    name: str
    doors: tuple[str, ...]
    device_ids: frozenset[str] = frozenset()
    query: str = ""
    conditions: tuple[TagEquals, ...] = ()
    shared_access_policy: str = ""
    consumer_group: str = ""
    enabled: bool = True

    @property
    def asks_for_tags(self) -> bool:
        """True when it cannot be judged without a device's tags."""
        return self.enabled and bool(self.conditions)

    def concerns(self, caller: "Caller") -> bool:
        """Whether the caller is its subject."""
        if not self.enabled:
            return False
        if self.conditions:
            return bool(caller.device_id) and all(condition.holds(caller.tags) for condition in self.conditions)
        return (
            caller.device_id in self.device_ids
            or (bool(self.shared_access_policy) and caller.shared_access_policy == self.shared_access_policy)
            or (bool(self.consumer_group) and caller.consumer_group.lower() == self.consumer_group.lower())
        )

    def opens(self, door: Door) -> bool:
        """Whether it names the door."""
        return any(is_named(door, name) for name in self.doors)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who proved who he is, as policies know him; an empty field does not apply.

    `device_id` is a module's device for a module, and `tags` are the device's; `shared_access_policy` is set for a
    device that came by a policy's key, too.
    """

    device_id: str = ""
    tags: Mapping[str, object] = field(default_factory=lambda: NO_TAGS)
    shared_access_policy: str = ""
    consumer_group: str = ""


def wrong_door(policies: Iterable[DoorPolicy], caller: Caller, door: Door) -> Refusal | None:
    """Why the caller may not come by the door: the first policy that concerns him and does not open it.

    Pure. None when there is no such policy.
    """
    if door.kind is DoorKind.LOCAL:
        return None
    for policy in policies:
        if not policy.opens(door) and policy.concerns(caller):
            return _refusal(policy, caller, door)
    return None


def ask_for_tags(policies: Iterable[DoorPolicy]) -> bool:
    """True when one of the policies cannot be judged without a device's tags."""
    return any(policy.asks_for_tags for policy in policies)


def is_named(door: Door, name: str) -> bool:
    """Whether a policy's name of a door means this one; names have no case."""
    wanted = name.lower()
    if door.kind is DoorKind.PUBLIC:
        return wanted == PUBLIC
    if wanted.startswith(NETWORK_PREFIX):
        return bool(door.network) and wanted == f"{NETWORK_PREFIX}{door.network}".lower()
    return wanted == PRIVATE or is_connection(door.connection, name)


def is_connection(connection: str, name: str) -> bool:
    """Whether `private:{endpoint or connection}` names the connection of a resource, `{endpoint}.{guid}`."""
    wanted = name.lower()
    endpoint = connection.rpartition(".")[0]
    return wanted in {f"{PRIVATE_PREFIX}{each}".lower() for each in (connection, endpoint) if each}


def _refusal(policy: DoorPolicy, caller: Caller, door: Door) -> Refusal:
    doors = ", ".join(policy.doors)
    place = f" in the network {door.network}" if door.network else ""
    value = f"{policy.name} opens {doors} for {_called(policy, caller)}, who came by {door.label}{place}"
    here = door.label if door.kind is DoorKind.PUBLIC else f"{PRIVATE_PREFIX}{door.connection.rpartition('.')[0]}"
    remedy = f"connect by {doors}, or: isthmus policy update -n {policy.name} --doors {' '.join(policy.doors)} {here}"
    return Refusal(Hop.AUTHORIZATION, WRONG_DOOR, value, remedy)


def _called(policy: DoorPolicy, caller: Caller) -> str:
    """The caller by what of him is the policy's subject."""
    if policy.consumer_group:
        return f"readers of {policy.consumer_group}"
    if policy.shared_access_policy:
        return f"the shared access policy {policy.shared_access_policy}"
    return f"the device {caller.device_id}"
