"""A hosted event hub as a resource: its record, its stored form, and the pure rules of its names and numbers.

An event hub's number is the number of its stream in the log, and is never given twice: what a deleted event hub leaves
in the log is nobody's, and goes with the log's retention. The stored form is JSON with the field names of this file; a
field is only ever added, with a default.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from isthmus.access.principal import SharedAccessPolicy
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import twin_etag
from isthmus.base.ids import HubId
from isthmus.base.partitioning import partition_of

EVENT_HUBS_MAX = 100
"""Event hubs of a namespace ("Azure Event Hubs quotas and limits", Premium)."""

PARTITIONS_MAX = 100
"""Partitions of an event hub (the same)."""

PARTITIONS_DEFAULT = 4
"""Partitions of an event hub whose owner says nothing (`az eventhubs eventhub create`)."""

CONSUMER_GROUPS_MAX = 100
"""Consumer groups of an event hub, the default one included ("Azure Event Hubs quotas and limits", Premium)."""

RETENTION_HOURS_MAX = 90 * 24
"""How long events can be kept at most (the same); the log's own retention may be shorter."""

RETENTION_HOURS_DEFAULT = 7 * 24
"""How long events are kept when the owner says nothing (`az eventhubs eventhub create`)."""

USER_METADATA_MAX = 1_024
"""Characters of the metadata of an event hub or consumer group (Microsoft.EventHub, `userMetadata`)."""

DEFAULT_GROUP = "$Default"
"""The consumer group every event hub has; it cannot be deleted."""

EVENT_HUB_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,254}[A-Za-z0-9])?")
"""1 to 256 characters (naming rules, Microsoft.EventHub/namespaces/eventhubs)."""

GROUP_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")
"""1 to 50 characters (naming rules, Microsoft.EventHub/namespaces/eventhubs/consumergroups)."""

HOUR_MS = 3_600_000


class EntityStatus(StrEnum):
    """Whether an entity takes and gives events."""

    ACTIVE = "Active"
    DISABLED = "Disabled"
    SEND_DISABLED = "SendDisabled"
    RECEIVE_DISABLED = "ReceiveDisabled"

    @property
    def sends(self) -> bool:
        """True when senders are let in."""
        return self in (EntityStatus.ACTIVE, EntityStatus.RECEIVE_DISABLED)

    @property
    def receives(self) -> bool:
        """True when receivers are let in."""
        return self in (EntityStatus.ACTIVE, EntityStatus.SEND_DISABLED)


@dataclass(frozen=True, slots=True)
class ConsumerGroup:
    """A named independent reading of an event hub; times are milliseconds since the epoch."""

    name: str
    user_metadata: str = ""
    created_ms: int = 0
    updated_ms: int = 0


@dataclass(frozen=True, slots=True)
class EventHub:
    """One event hub of a namespace; a snapshot that never changes. `revision` is the state's, and makes the etag.

    `number` is its stream in the log, `namespace` the number of the namespace. `policies` are its own authorization
    rules; those of the namespace hold besides.
    """

    number: HubId
    namespace: HubId
    name: str
    partitions: int = PARTITIONS_DEFAULT
    created_ms: int = 0
    updated_ms: int = 0
    retention_hours: int = RETENTION_HOURS_DEFAULT
    status: EntityStatus = EntityStatus.ACTIVE
    user_metadata: str = ""
    groups: tuple[ConsumerGroup, ...] = (ConsumerGroup(DEFAULT_GROUP),)
    policies: tuple[SharedAccessPolicy, ...] = ()
    revision: int = 0

    @property
    def etag(self) -> str:
        return twin_etag(self.revision)

    def partition_of(self, key: str) -> int:
        """The partition that events with a key go to."""
        return partition_of(key, self.partitions)

    def group(self, name: str) -> ConsumerGroup | None:
        """The consumer group of that name, compared without case."""
        return next((group for group in self.groups if group.name.lower() == name.lower()), None)

    def kept_since_ms(self, now_ms: int) -> int:
        """Events that were enqueued before this moment are not given to anybody any more."""
        return now_ms - self.retention_hours * HOUR_MS


EventHubRule = Callable[[EventHub], EventHub]
"""A pure change of an event hub; raises HubError to refuse."""


def encode_event_hub(event_hub: EventHub) -> bytes:
    """The stored form; the revision is the store's and stays out."""
    return msgspec.json.encode(replace(event_hub, revision=0), order="deterministic")


def decode_event_hub(body: bytes, revision: int) -> EventHub:
    """The event hub of a stored form; raises `msgspec.DecodeError` on damage."""
    return replace(msgspec.json.decode(body, type=EventHub), revision=revision)


def check_event_hub_name(name: str) -> None:
    """Raises HubError ArgumentInvalid when an event hub cannot have that name."""
    if not EVENT_HUB_NAME.fullmatch(name):
        message = f"An event hub has 1 to 256 letters, digits, '.', '-', '_', not at its ends: {name!r}"
        raise HubError(Code.ARGUMENT_INVALID, message)


def put_group(event_hub: EventHub, name: str, *, user_metadata: str, now_ms: int) -> EventHub:
    """The event hub with the group, as it is when nothing of it changes.

    Raises HubError ArgumentInvalid for a bad name, QuotaExceeded for one group too many.
    """
    known = event_hub.group(name)
    if known is not None:
        if known.user_metadata == user_metadata:
            return event_hub
        changed = replace(known, user_metadata=user_metadata, updated_ms=now_ms)
        return replace(event_hub, groups=tuple(changed if each is known else each for each in event_hub.groups))
    if not GROUP_NAME.fullmatch(name):
        raise HubError(Code.ARGUMENT_INVALID, f"A consumer group has 1 to 50 letters, digits, '.', '-', '_': {name!r}")
    if len(event_hub.groups) >= CONSUMER_GROUPS_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"An event hub has at most {CONSUMER_GROUPS_MAX} consumer groups")
    return replace(event_hub, groups=(*event_hub.groups, ConsumerGroup(name, user_metadata, now_ms, now_ms)))


def remove_group(event_hub: EventHub, name: str) -> EventHub:
    """The event hub without the group; raises HubError GenericNotFound, or InvalidOperation for the default one."""
    found = require_group(event_hub, name)
    if found.name == DEFAULT_GROUP:
        raise HubError(Code.INVALID_OPERATION, f"The consumer group {DEFAULT_GROUP} cannot be deleted")
    return replace(event_hub, groups=tuple(group for group in event_hub.groups if group != found))


def require_group(event_hub: EventHub, name: str) -> ConsumerGroup:
    """The consumer group of that name; raises HubError GenericNotFound."""
    found = event_hub.group(name)
    if found is None:
        known = ", ".join(group.name for group in event_hub.groups)
        raise HubError(Code.NOT_FOUND, f"There is no consumer group {name}; groups of {event_hub.name}: {known}")
    return found
