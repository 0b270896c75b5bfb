"""Entities and rules of Service Bus namespaces in ARM's form, and what of a body can be set (Microsoft.ServiceBus).

The administration client's descriptions have the same members by the same names, and are read by the same rules.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.neighbours.bus_durations import format_bus_duration, parse_bus_duration
from isthmus.neighbours.bus_entity import (
    DELIVERY_COUNT_MAX,
    LOCK_MS_MAX,
    LOCK_MS_MIN,
    MEGABYTES,
    TTL_MS_MIN,
    Entity,
    EntityKind,
    arm_name,
    new_entity,
)
from isthmus.neighbours.bus_rules import Facts, FilterKind, FilterValue, Rule
from isthmus.neighbours.event_hub import EntityStatus
from isthmus.queues import NO_LIMIT, Counts
from isthmus.resources.members import Json, bad, boolean, choice, integer, known_members, mapping, text

MESSAGE_KILOBYTES: Final = 1_024
"""The largest message, or batch, that the AMQP engine takes."""

NAMESPACE_TYPE: Final = "Microsoft.ServiceBus/namespaces"

COLLECTIONS: Mapping[EntityKind, str] = MappingProxyType(
    {EntityKind.QUEUE: "queues", EntityKind.TOPIC: "topics", EntityKind.SUBSCRIPTION: "subscriptions"}
)
"""The segment of an ARM id before the name of an entity."""

_SHARED = ("status", "userMetadata", "defaultMessageTimeToLive", "autoDeleteOnIdle", "enableBatchedOperations")
_OF_LOCKS = ("lockDuration", "maxDeliveryCount", "deadLetteringOnMessageExpiration", "requiresSession")
_OF_SIZE = ("maxSizeInMegabytes", "maxMessageSizeInKilobytes", "requiresDuplicateDetection", "enablePartitioning")
_FORWARDS = ("forwardTo", "forwardDeadLetteredMessagesTo")
_TOLD = (
    *("countDetails", "createdAt", "updatedAt", "accessedAt", "sizeInBytes", "messageCount", "subscriptionCount"),
    *("duplicateDetectionHistoryTimeWindow", "enableExpress", "supportOrdering", "location"),
    *("isClientAffine", "clientAffineProperties", "deadLetteringOnFilterEvaluationExceptions"),
)
MEMBERS: Mapping[EntityKind, tuple[str, ...]] = MappingProxyType(
    {
        EntityKind.QUEUE: (*_SHARED, *_OF_LOCKS, *_OF_SIZE, *_FORWARDS, *_TOLD),
        EntityKind.TOPIC: (*_SHARED, *_OF_SIZE, *_TOLD),
        EntityKind.SUBSCRIPTION: (*_SHARED, *_OF_LOCKS, *_FORWARDS, *_TOLD),
    }
)
"""Members that a description may have, whether they are set or only told."""

_NOT_OFFERED = ("requiresSession", "requiresDuplicateDetection", "enablePartitioning", "isClientAffine")

_CORRELATION: Final = (
    *(("correlationId", "correlation_id"), ("messageId", "message_id"), ("to", "to"), ("replyTo", "reply_to")),
    *(("label", "label"), ("sessionId", "session_id"), ("replyToSessionId", "reply_to_session_id")),
    ("contentType", "content_type"),
)
_RULE = ("filterType", "action", "sqlFilter", "correlationFilter")


def entity_id(namespace_id: str, entity: Entity) -> str:
    """The ARM id of an entity."""
    above = f"/topics/{arm_name(entity.topic)}" if entity.topic else ""
    return f"{namespace_id}{above}/{COLLECTIONS[entity.kind]}/{arm_name(entity.name)}"


def entity_type(kind: EntityKind) -> str:
    """The ARM type of entities of a kind."""
    above = "topics/" if kind is EntityKind.SUBSCRIPTION else ""
    return f"{NAMESPACE_TYPE}/{above}{COLLECTIONS[kind]}"


def entity_to_arm(
    entity: Entity, namespace_id: str, location: str, counts: Counts, dead: Counts, subscriptions: int
) -> dict[str, object]:
    """An entity as `az servicebus queue|topic|topic subscription show` prints it."""
    return {
        "id": entity_id(namespace_id, entity),
        "name": entity.name,
        "type": entity_type(entity.kind),
        "location": location,
        "etag": entity.etag,
        "properties": members_of(entity) | _counted(entity, counts, dead, subscriptions),
    }


def members_of(entity: Entity) -> dict[str, object]:
    """What is set of an entity, by the names of its members."""
    members: dict[str, object] = {
        "status": entity.status.value,
        "userMetadata": entity.user_metadata or None,
        "defaultMessageTimeToLive": format_bus_duration(entity.ttl_ms),
        "autoDeleteOnIdle": format_bus_duration(NO_LIMIT),
        "enableBatchedOperations": True,
    }
    if entity.can_be_read:
        members |= {
            "lockDuration": format_bus_duration(entity.lock_ms),
            "maxDeliveryCount": entity.max_delivery_count,
            "deadLetteringOnMessageExpiration": entity.dead_letters_expired,
            "requiresSession": False,
        }
    if entity.kind is not EntityKind.SUBSCRIPTION:
        members |= {
            "maxSizeInMegabytes": entity.max_megabytes,
            "maxMessageSizeInKilobytes": MESSAGE_KILOBYTES,
            "requiresDuplicateDetection": False,
            "duplicateDetectionHistoryTimeWindow": "PT10M",
            "enablePartitioning": False,
            "enableExpress": False,
        }
    return members


def apply_members(entity: Entity, members: Json) -> Entity:
    """The entity with what a whole description says; what it leaves out goes back to its default.

    Raises HubError ArgumentInvalid for what cannot be, NotImplemented for sessions, duplicate detection, partitioning,
    forwarding and deletion of idle entities.
    """
    known_members(members, "properties", MEMBERS[entity.kind])
    _refuse(members)
    base = new_entity(entity.namespace, entity.kind, entity.name, topic=entity.topic, now_ms=0)
    status = members.get("status") or EntityStatus.ACTIVE.value
    words = tuple(each.value for each in EntityStatus)
    return replace(
        entity,
        status=EntityStatus(choice(status, "properties.status", words)),
        user_metadata=text(members.get("userMetadata") or "", "properties.userMetadata"),
        ttl_ms=_duration(members, "defaultMessageTimeToLive", base.ttl_ms, TTL_MS_MIN, NO_LIMIT),
        lock_ms=_duration(members, "lockDuration", base.lock_ms, LOCK_MS_MIN, LOCK_MS_MAX),
        max_delivery_count=_integer(members, "maxDeliveryCount", base.max_delivery_count, 1, DELIVERY_COUNT_MAX),
        max_megabytes=_integer(members, "maxSizeInMegabytes", base.max_megabytes, 1, MEGABYTES[-1]),
        dead_letters_expired=_boolean(members, "deadLetteringOnMessageExpiration"),
    )


def rule_to_arm(rule: Rule, subscription_id: str, location: str) -> dict[str, object]:
    """A rule as `az servicebus topic subscription rule show` prints it."""
    properties: dict[str, object] = {"filterType": _FILTER_TYPES[rule.kind], "action": {}}
    if rule.kind is FilterKind.CORRELATION:
        wanted = {name: getattr(rule.wanted, field) for name, field in _CORRELATION}
        properties["correlationFilter"] = wanted | {"properties": dict(rule.wanted.properties)}
    else:
        expression = "1=1" if rule.kind is FilterKind.TRUE else "1=0"
        properties["sqlFilter"] = {"sqlExpression": expression, "compatibilityLevel": 20}
    return {
        "id": f"{subscription_id}/rules/{rule.name}",
        "name": rule.name,
        "type": f"{entity_type(EntityKind.SUBSCRIPTION)}/rules",
        "location": location,
        "properties": properties,
    }


def rule_of_arm(name: str, members: Json, now_ms: int) -> Rule:
    """The rule that the properties of a body describe; raises HubError ArgumentInvalid, or NotImplemented for SQL."""
    known_members(members, "properties", _RULE)
    action = mapping(members.get("action") or {}, "properties.action")
    if action.get("sqlExpression"):
        raise _no_sql("Rule actions are")
    correlation = members.get("correlationFilter")
    kind = members.get("filterType") or ("CorrelationFilter" if correlation else "SqlFilter")
    kind = choice(kind, "properties.filterType", ("SqlFilter", "CorrelationFilter"))
    if kind == "CorrelationFilter":
        return Rule(name, FilterKind.CORRELATION, _wanted(mapping(correlation or {}, _FILTER_PATH)), now_ms)
    sql = mapping(members.get("sqlFilter") or {}, "properties.sqlFilter")
    expression = text(sql.get("sqlExpression") or "1=1", "properties.sqlFilter.sqlExpression")
    return Rule(name, filter_of_sql(expression), created_ms=now_ms)


def filter_of_sql(expression: str) -> FilterKind:
    """The filter that an SQL expression stands for: of SQL, only everything and nothing is offered."""
    match "".join(expression.split()):
        case "1=1":
            return FilterKind.TRUE
        case "1=0":
            return FilterKind.FALSE
    raise _no_sql("SQL filters other than 1=1 and 1=0 are")


_FILTER_TYPES: Final = MappingProxyType(
    {
        FilterKind.TRUE: "SqlFilter",
        FilterKind.FALSE: "SqlFilter",
        FilterKind.CORRELATION: "CorrelationFilter",
    }
)
_FILTER_PATH: Final = "properties.correlationFilter"


def _wanted(members: Json) -> Facts:
    known_members(members, _FILTER_PATH, (*(name for name, _ in _CORRELATION), "properties", "requiresPreprocessing"))
    given = {
        field: text(members[name], f"{_FILTER_PATH}.{name}")
        for name, field in _CORRELATION
        if members.get(name) is not None
    }
    properties = mapping(members.get("properties") or {}, f"{_FILTER_PATH}.properties")
    return Facts(**given, properties={name: _simple(value) for name, value in properties.items()})


def _simple(value: object) -> FilterValue:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise bad(f"{_FILTER_PATH}.properties", "texts, numbers and booleans")


def _counted(entity: Entity, counts: Counts, dead: Counts, subscriptions: int) -> dict[str, object]:
    """What is only told: times and numbers of messages."""
    told: dict[str, object] = {
        "createdAt": iso_utc(entity.created_ms),
        "updatedAt": iso_utc(entity.updated_ms),
        "accessedAt": iso_utc(entity.updated_ms),
        "countDetails": {
            "activeMessageCount": counts.active + counts.deferred,
            "deadLetterMessageCount": dead.all,
            "scheduledMessageCount": counts.scheduled,
            "transferMessageCount": 0,
            "transferDeadLetterMessageCount": 0,
        },
    }
    if entity.kind is not EntityKind.SUBSCRIPTION:
        told["sizeInBytes"] = counts.size + dead.size
    if entity.kind is EntityKind.TOPIC:
        told["subscriptionCount"] = subscriptions
    else:
        told["messageCount"] = counts.all + dead.all
    return told


def _refuse(members: Json) -> None:
    for name in _NOT_OFFERED:
        if _boolean(members, name):
            raise HubError(Code.NOT_IMPLEMENTED, f"{name} is not offered here")
    if _boolean(members, "enableExpress"):
        raise HubError(Code.NOT_IMPLEMENTED, "enableExpress is not offered here: what is accepted is on disk")
    _integer(members, "maxMessageSizeInKilobytes", MESSAGE_KILOBYTES, MESSAGE_KILOBYTES, MESSAGE_KILOBYTES)
    for name in _FORWARDS:
        if members.get(name):
            raise HubError(Code.NOT_IMPLEMENTED, f"{name}: forwarding is not offered here")
    if _duration(members, "autoDeleteOnIdle", NO_LIMIT, 1, NO_LIMIT) < NO_LIMIT:
        raise HubError(Code.NOT_IMPLEMENTED, "autoDeleteOnIdle is not offered here: entities stay until deleted")


def _duration(members: Json, name: str, default: int, least: int, most: int) -> int:
    value = members.get(name)
    if value is None:
        return default
    found = parse_bus_duration(text(value, f"properties.{name}"))
    if found is None or not least <= found <= most:
        limits = f"{format_bus_duration(least)} to {format_bus_duration(most)}"
        raise bad(f"properties.{name}", f"a duration of {limits}")
    return found


def _integer(members: Json, name: str, default: int, least: int, most: int) -> int:
    value = members.get(name)
    return default if value is None else integer(value, f"properties.{name}", least=least, most=most)


def _boolean(members: Json, name: str) -> bool:
    value = members.get(name)
    return False if value is None else boolean(value, f"properties.{name}")


def _no_sql(what: str) -> HubError:
    return HubError(Code.NOT_IMPLEMENTED, f"{what} not offered here; use a correlation filter")
