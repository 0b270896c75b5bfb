"""Event hubs and consumer groups in ARM's form, and what of a body can be set (Microsoft.EventHub, 2024-01-01)."""

from dataclasses import replace

from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.neighbours.event_hub import (
    PARTITIONS_DEFAULT,
    PARTITIONS_MAX,
    RETENTION_HOURS_DEFAULT,
    RETENTION_HOURS_MAX,
    USER_METADATA_MAX,
    ConsumerGroup,
    EntityStatus,
    EventHub,
)
from isthmus.resources.members import Json, bad, boolean, choice, integer, known_members, mapping, text

EVENT_HUB_TYPE = "Microsoft.EventHub/namespaces/eventhubs"
DAY_HOURS = 24

_PROPERTIES = (
    *("partitionCount", "messageRetentionInDays", "retentionDescription", "status", "userMetadata"),
    *("partitionIds", "createdAt", "updatedAt", "captureDescription", "messageTimestampDescription", "identifier"),
)
_RETENTION = ("cleanupPolicy", "retentionTimeInHours", "tombstoneRetentionTimeInHours", "minCompactionLagInMins")
_CLEANUP = ("Delete", "Compact", "DeleteOrCompact")


def event_hub_id(namespace_id: str, name: str) -> str:
    """The ARM id of an event hub."""
    return f"{namespace_id}/eventhubs/{name}"


def event_hub_to_arm(event_hub: EventHub, namespace_id: str, location: str) -> dict[str, object]:
    """An event hub as `az eventhubs eventhub show` prints it."""
    return {
        "id": event_hub_id(namespace_id, event_hub.name),
        "name": event_hub.name,
        "type": EVENT_HUB_TYPE,
        "location": location,
        "etag": event_hub.etag,
        "properties": {
            "partitionCount": event_hub.partitions,
            "partitionIds": [str(number) for number in range(event_hub.partitions)],
            "messageRetentionInDays": -(-event_hub.retention_hours // DAY_HOURS),
            "retentionDescription": {
                "cleanupPolicy": "Delete",
                "retentionTimeInHours": event_hub.retention_hours,
            },
            "status": event_hub.status.value,
            "userMetadata": event_hub.user_metadata or None,
            "createdAt": iso_utc(event_hub.created_ms),
            "updatedAt": iso_utc(event_hub.updated_ms),
        },
    }


def group_to_arm(group: ConsumerGroup, event_hub_resource_id: str, location: str) -> dict[str, object]:
    """A consumer group as `az eventhubs eventhub consumer-group show` prints it."""
    return {
        "id": f"{event_hub_resource_id}/consumergroups/{group.name}",
        "name": group.name,
        "type": f"{EVENT_HUB_TYPE}/consumergroups",
        "location": location,
        "properties": {
            "userMetadata": group.user_metadata or None,
            "createdAt": iso_utc(group.created_ms),
            "updatedAt": iso_utc(group.updated_ms),
        },
    }


def apply_body(event_hub: EventHub, body: Json, *, is_new: bool) -> EventHub:
    """The event hub with what a whole body says; what it leaves out goes back to its default, save the partitions.

    Raises HubError ArgumentInvalid for what cannot be, InvalidOperation for another number of partitions, and
    NotImplemented for what is not offered: compaction and capture.
    """
    members = mapping(body.get("properties") or {}, "properties")
    known_members(members, "properties", _PROPERTIES)
    _refuse_capture(members)
    partitions = members.get("partitionCount")
    count = PARTITIONS_DEFAULT if is_new else event_hub.partitions
    if partitions is not None:
        count = integer(partitions, "properties.partitionCount", least=1, most=PARTITIONS_MAX)
    if not is_new and count != event_hub.partitions:
        message = f"{event_hub.name} has {event_hub.partitions} partitions, which stay as they were made"
        raise HubError(Code.INVALID_OPERATION, message)
    status = members.get("status")
    words = tuple(each.value for each in EntityStatus)
    return replace(
        event_hub,
        partitions=count,
        retention_hours=_retention(members),
        status=EntityStatus.ACTIVE if status is None else EntityStatus(choice(status, "properties.status", words)),
        user_metadata=metadata_of(members),
    )


def metadata_of(members: Json) -> str:
    """The `userMetadata` among the properties of a body; empty for none."""
    said = members.get("userMetadata")
    metadata = "" if said is None else text(said, "properties.userMetadata")
    if len(metadata) > USER_METADATA_MAX:
        raise bad("properties.userMetadata", f"at most {USER_METADATA_MAX} characters")
    return metadata


def _retention(members: Json) -> int:
    """Hours: of the description when there is one, else of the days."""
    described = mapping(members.get("retentionDescription") or {}, "properties.retentionDescription")
    known_members(described, "properties.retentionDescription", _RETENTION)
    policy = choice(
        described.get("cleanupPolicy") or "Delete", "properties.retentionDescription.cleanupPolicy", _CLEANUP
    )
    if policy != "Delete":
        raise HubError(Code.NOT_IMPLEMENTED, f"The cleanup policy {policy} is not offered here; Delete is")
    hours = described.get("retentionTimeInHours")
    if hours is not None:
        path = "properties.retentionDescription.retentionTimeInHours"
        return integer(hours, path, least=1, most=RETENTION_HOURS_MAX)
    days = members.get("messageRetentionInDays")
    if days is None:
        return RETENTION_HOURS_DEFAULT
    return DAY_HOURS * integer(
        days, "properties.messageRetentionInDays", least=1, most=RETENTION_HOURS_MAX // DAY_HOURS
    )


def _refuse_capture(members: Json) -> None:
    capture = mapping(members.get("captureDescription") or {}, "properties.captureDescription")
    if capture.get("enabled") and boolean(capture["enabled"], "properties.captureDescription.enabled"):
        raise HubError(Code.NOT_IMPLEMENTED, "Capture is not offered here")
