"""An entity of a hosted Service Bus namespace: queue, topic or subscription; its record, stored form and pure rules.

An entity's number is that of its lock-queue and is never given twice. The stored form is JSON with the field names of
this file; a field is only ever added, with a default.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from isthmus.access.principal import SharedAccessPolicy
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import twin_etag
from isthmus.base.ids import HubId
from isthmus.neighbours.bus_rules import DEFAULT_RULE, RULES_MAX, Rule, check_rule
from isthmus.neighbours.event_hub import EntityStatus
from isthmus.queues import NO_LIMIT, DeadLetter, Outcome, QueuePolicy

ENTITIES_MAX = 1_000
"""Queues and topics of a namespace ("Service Bus quotas", Premium: 1,000 a messaging unit)."""

SUBSCRIPTIONS_MAX = 2_000
"""Subscriptions of a topic ("Service Bus quotas")."""

LOCK_MS_MAX = 300_000
"""The longest lock (Microsoft.ServiceBus, `lockDuration`)."""

LOCK_MS_MIN = 5_000
"""The shortest lock."""

DELIVERY_COUNT_MAX = 2_000
"""The most deliveries a message may be given before it is dead-lettered."""

MEGABYTES = (1_024, 2_048, 3_072, 4_096, 5_120, 10_240, 20_480, 40_960, 81_920)
"""Sizes a queue or topic may have (Microsoft.ServiceBus, `maxSizeInMegabytes`)."""

MESSAGES_MAX: Final = 1_000_000
"""Messages of one queue or subscription: each takes some 400 bytes of memory. The next is refused as over the quota."""

TTL_MS_MIN = 1_000
"""The shortest life of a message that an entity may have for its default."""

USER_METADATA_MAX = 1_024
"""Characters of an entity's metadata (Microsoft.ServiceBus, `userMetadata`)."""

ENTITY_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?")
"""1 to 260 characters (naming rules, Microsoft.ServiceBus/namespaces/queues and topics)."""

SUBSCRIPTION_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")
"""1 to 50 characters (naming rules, Microsoft.ServiceBus/namespaces/topics/subscriptions)."""

SUBSCRIPTIONS: Final = "Subscriptions"
"""The segment between a topic and a subscription; no queue or topic has it in its name."""


class EntityKind(StrEnum):
    """What an entity is."""

    QUEUE = "queue"
    TOPIC = "topic"
    SUBSCRIPTION = "subscription"


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity of a namespace; a snapshot that never changes. `revision` is the state's, and makes the etag.

    `namespace` is the namespace's number, `topic` the name of the topic that a subscription belongs to. Times are
    milliseconds since the epoch, lives and locks milliseconds. `policies` are a queue's or topic's own authorization
    rules; those of the namespace hold besides. `rules` say what a subscription gets.
    """

    number: HubId
    namespace: HubId
    kind: EntityKind
    name: str
    topic: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    status: EntityStatus = EntityStatus.ACTIVE
    lock_ms: int = 60_000
    ttl_ms: int = NO_LIMIT
    max_delivery_count: int = 10
    max_megabytes: int = 1_024
    dead_letters_expired: bool = False
    user_metadata: str = ""
    policies: tuple[SharedAccessPolicy, ...] = ()
    rules: tuple[Rule, ...] = ()
    revision: int = 0

    @property
    def etag(self) -> str:
        return twin_etag(self.revision)

    @property
    def path(self) -> str:
        """The entity's address in its namespace."""
        return path_of(self.topic, self.name)

    @property
    def can_be_read(self) -> bool:
        """True for what has messages of its own to receive."""
        return self.kind is not EntityKind.TOPIC

    def rule(self, name: str) -> Rule | None:
        """The rule of that name, compared without case."""
        return next((rule for rule in self.rules if rule.name.lower() == name.lower()), None)


def arm_name(name: str) -> str:
    """The name in an ARM id, where a slash would begin another segment."""
    return name.replace("/", "~")


def name_of_arm(segment: str) -> str:
    """The name that a segment of an ARM id means."""
    return segment.replace("~", "/")


EntityRule = Callable[[Entity], Entity]
"""A pure change of an entity; raises HubError to refuse."""


def path_of(topic: str, name: str) -> str:
    """`queue`, `topic`, or `topic/Subscriptions/subscription`."""
    return f"{topic}/{SUBSCRIPTIONS}/{name}" if topic else name


def encode_entity(entity: Entity) -> bytes:
    """The stored form; the revision is the store's and stays out."""
    return msgspec.json.encode(replace(entity, revision=0), order="deterministic")


def decode_entity(body: bytes, revision: int) -> Entity:
    """The entity of a stored form; raises `msgspec.DecodeError` on damage."""
    return replace(msgspec.json.decode(body, type=Entity), revision=revision)


def new_entity(namespace: HubId, kind: EntityKind, name: str, *, topic: str = "", now_ms: int) -> Entity:
    """A draft without a number, with the defaults of its kind; raises HubError ArgumentInvalid for a bad name."""
    rules = (Rule(DEFAULT_RULE, created_ms=now_ms),) if kind is EntityKind.SUBSCRIPTION else ()
    check_name(kind, name)
    return Entity(HubId(0), namespace, kind, name, topic=topic, created_ms=now_ms, updated_ms=now_ms, rules=rules)


def check_name(kind: EntityKind, name: str) -> None:
    """Raises HubError ArgumentInvalid when an entity of that kind cannot have that name."""
    if kind is EntityKind.SUBSCRIPTION:
        if not SUBSCRIPTION_NAME.fullmatch(name):
            raise HubError(
                Code.ARGUMENT_INVALID, f"A subscription has 1 to 50 letters, digits, '.', '-', '_': {name!r}"
            )
        return
    segments = name.lower().split("/")
    if not ENTITY_NAME.fullmatch(name) or SUBSCRIPTIONS.lower() in segments or "" in segments:
        message = f"A {kind} has 1 to 260 letters, digits, '.', '-', '_', '/', not at its ends: {name!r}"
        raise HubError(Code.ARGUMENT_INVALID, message)


def check_entity(entity: Entity) -> Entity:
    """The entity, if its numbers can be; raises HubError ArgumentInvalid."""
    _within("lockDuration in ms", entity.lock_ms, LOCK_MS_MIN, LOCK_MS_MAX)
    _within("defaultMessageTimeToLive in ms", entity.ttl_ms, TTL_MS_MIN, NO_LIMIT)
    _within("maxDeliveryCount", entity.max_delivery_count, 1, DELIVERY_COUNT_MAX)
    _within("characters of userMetadata", len(entity.user_metadata), 0, USER_METADATA_MAX)
    if entity.max_megabytes not in MEGABYTES:
        offered = ", ".join(map(str, MEGABYTES))
        raise HubError(Code.ARGUMENT_INVALID, f"maxSizeInMegabytes is one of {offered}, not {entity.max_megabytes}")
    return entity


def put_rule(entity: Entity, rule: Rule) -> Entity:
    """The subscription with the rule, which takes the place of one of the same name.

    Raises HubError ArgumentInvalid for a rule that cannot be, QuotaExceeded for one too many.
    """
    check_rule(rule)
    known = entity.rule(rule.name)
    if known is not None:
        kept = replace(rule, name=known.name, created_ms=known.created_ms)
        return replace(entity, rules=tuple(kept if each is known else each for each in entity.rules))
    if len(entity.rules) >= RULES_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"A subscription has at most {RULES_MAX} rules")
    return replace(entity, rules=(*entity.rules, rule))


def require_rule(entity: Entity, name: str) -> Rule:
    """The rule of that name; raises HubError GenericNotFound."""
    found = entity.rule(name)
    if found is None:
        known = ", ".join(rule.name for rule in entity.rules) or "none"
        raise HubError(Code.NOT_FOUND, f"There is no rule {name}; rules of {entity.path}: {known}")
    return found


def remove_rule(entity: Entity, name: str) -> Entity:
    """The subscription without the rule; raises HubError GenericNotFound."""
    found = require_rule(entity, name)
    return replace(entity, rules=tuple(rule for rule in entity.rules if rule is not found))


def queue_policy(entity: Entity) -> QueuePolicy:
    """What holds for the messages of an entity.

    Dead letters stay until somebody takes them ("Overview of Service Bus dead-letter queues"). What a topic holds waits
    for its time only, and has none.
    """
    outcomes = {Outcome.REJECTED, Outcome.DELIVERY_COUNT_EXCEEDED}
    if entity.dead_letters_expired:
        outcomes.add(Outcome.EXPIRED)
    dead = QueuePolicy(
        depth_max=NO_LIMIT,
        ttl_ms=NO_LIMIT,
        lock_ms=entity.lock_ms,
        delivery_count_max=NO_LIMIT,
        lock_expiry_counts=True,
    )
    return QueuePolicy(
        depth_max=MESSAGES_MAX,
        ttl_ms=entity.ttl_ms,
        lock_ms=entity.lock_ms,
        delivery_count_max=entity.max_delivery_count if entity.can_be_read else NO_LIMIT,
        lock_expiry_counts=entity.can_be_read,
        bytes_max=entity.max_megabytes * 1_048_576,
        dead_letter=DeadLetter(frozenset(outcomes), dead) if entity.can_be_read else None,
    )


def _within(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise HubError(Code.ARGUMENT_INVALID, f"{what} is {least} to {most}, not {value}")
