"""Queues, topics, subscriptions and rules of hosted Service Bus namespaces in ARM's paths."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.neighbours.bus import Bus, address_of
from isthmus.neighbours.bus_arm import (
    apply_members,
    entity_id,
    entity_to_arm,
    entity_type,
    rule_of_arm,
    rule_to_arm,
)
from isthmus.neighbours.bus_entities import BusEntities
from isthmus.neighbours.bus_entity import Entity, EntityKind, name_of_arm, put_rule, remove_rule, require_rule
from isthmus.neighbours.neighbour import Neighbour
from isthmus.neighbours.neighbours import Neighbours
from isthmus.queues import Counts
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.members import mapping
from isthmus.servers.management.arm import NO_CONTENT, Handler, Routes, change_of
from isthmus.servers.management.arm_rules import ArmRules, Owned, PoliciesRule
from isthmus.servers.management.request import Call, Reply

NO_MESSAGES = Counts()


class ArmServiceBus:
    """Answers ARM calls about entities; used on the event loop only."""

    def __init__(
        self, namespaces: Neighbours, entities: BusEntities, bus: Bus, journal: Journal, clock: Clock, ids: Ids
    ) -> None:
        self._namespaces = namespaces
        self._entities = entities
        self._bus = bus
        self._journal = journal
        self._clock = clock
        namespace = f"{ResourceKind.SERVICE_BUS.value.lower()}/*"
        queue, topic = f"{namespace}/queues", f"{namespace}/topics"
        subscription = f"{topic}/*/subscriptions"
        rule = f"{subscription}/*/rules"
        self.routes: Routes = {
            **self._of_kind(queue, EntityKind.QUEUE),
            **self._of_kind(topic, EntityKind.TOPIC),
            **self._of_kind(subscription, EntityKind.SUBSCRIPTION),
            ("GET", rule): self._list_rules,
            ("GET", f"{rule}/*"): self._show_rule,
            ("PUT", f"{rule}/*"): self._put_rule,
            ("DELETE", f"{rule}/*"): self._delete_rule,
            **ArmRules(f"{queue}/*", EntityRules(EntityKind.QUEUE, namespaces, entities), journal, ids).routes,
            **ArmRules(f"{topic}/*", EntityRules(EntityKind.TOPIC, namespaces, entities), journal, ids).routes,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    def _of_kind(self, collection: str, kind: EntityKind) -> dict[tuple[str, str], Handler]:
        return {
            ("GET", collection): partial(self._list, kind),
            ("GET", f"{collection}/*"): partial(self._show, kind),
            ("PUT", f"{collection}/*"): partial(self._put, kind),
            ("DELETE", f"{collection}/*"): partial(self._delete, kind),
        }

    async def _list(self, kind: EntityKind, call: Call, names: tuple[str, ...]) -> Reply:
        namespace, topic = self._namespace(names), ""
        if kind is EntityKind.SUBSCRIPTION:
            topic = self._entities.require(namespace.number, EntityKind.TOPIC, name_of_arm(names[1])).name
        found = self._entities.of(namespace.number, kind, topic)
        return Reply(value={"value": [await self._shown(namespace, each) for each in found]})

    async def _show(self, kind: EntityKind, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        return Reply(value=await self._shown(namespace, self._require(namespace, kind, names)))

    async def _put(self, kind: EntityKind, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        members = mapping(call.json().get("properties") or {}, "properties")
        *above, name = map(name_of_arm, names[1:])
        topic = self._entities.require(namespace.number, EntityKind.TOPIC, above[0]).name if above else ""
        found = [each for each in self._entities.of(namespace.number, kind, topic) if each.name.lower() == name.lower()]
        if not found:
            made = await self._entities.create(
                namespace.number, kind, name, lambda draft: apply_members(draft, members), topic=topic
            )
            shown = await self._shown(namespace, made)
            self._changed(call, namespace, f"{kind} {made.path} created", None, shown)
            return Reply(value=shown)  # the stock management client takes no other status here
        before = await self._shown(namespace, found[0])
        changed = await self._entities.change(found[0], lambda now: apply_members(now, members), call.if_match)
        after = await self._shown(namespace, changed)
        self._changed(call, namespace, f"{kind} {changed.path} updated", before, after)
        return Reply(value=after)

    async def _delete(self, kind: EntityKind, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        gone = self._require(namespace, kind, names)
        before = await self._shown(namespace, gone)
        await self._entities.delete(gone)
        self._changed(call, namespace, f"{kind} {gone.path} deleted", before, None)
        return Reply(NO_CONTENT)

    async def _list_rules(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        subscription = self._require(namespace, EntityKind.SUBSCRIPTION, names)
        shown = [_rule(namespace, subscription, rule.name) for rule in subscription.rules]
        return Reply(value={"value": shown})

    async def _show_rule(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        subscription = self._require(namespace, EntityKind.SUBSCRIPTION, names[:3])
        return Reply(value=_rule(namespace, subscription, names[3]))

    async def _put_rule(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        members = mapping(call.json().get("properties") or {}, "properties")
        rule = rule_of_arm(names[3], members, self._clock.utc_ms())
        present = self._require(namespace, EntityKind.SUBSCRIPTION, names[:3])
        before = _rule(namespace, present, rule.name) if present.rule(rule.name) is not None else None
        changed = await self._entities.change(present, lambda now: put_rule(now, rule))
        after = _rule(namespace, changed, rule.name)
        done = f"rule {rule.name} of {changed.path} {'created' if before is None else 'updated'}"
        self._changed(call, namespace, done, before, after)
        return Reply(value=after)

    async def _delete_rule(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        present = self._require(namespace, EntityKind.SUBSCRIPTION, names[:3])
        before = _rule(namespace, present, names[3])
        changed = await self._entities.change(present, lambda now: remove_rule(now, names[3]))
        self._changed(call, namespace, f"rule {names[3]} of {changed.path} deleted", before, None)
        return Reply(NO_CONTENT)

    async def _shown(self, namespace: Neighbour, entity: Entity) -> dict[str, object]:
        counts = await self._bus.counts(address_of(entity))
        dead = await self._bus.counts(address_of(entity).dead_letters) if entity.can_be_read else NO_MESSAGES
        below = len(self._entities.of(namespace.number, EntityKind.SUBSCRIPTION, entity.name))
        return entity_to_arm(entity, namespace.resource_id, namespace.location, counts, dead, below)

    def _namespace(self, names: Sequence[str]) -> Neighbour:
        return self._namespaces.find(ResourceKind.SERVICE_BUS, names[0])

    def _require(self, namespace: Neighbour, kind: EntityKind, names: Sequence[str]) -> Entity:
        *above, name = map(name_of_arm, names[1:])
        return self._entities.require(namespace.number, kind, name, above[0] if above else "")

    def _changed(self, call: Call, namespace: Neighbour, done: str, before: object, after: object) -> None:
        was, now = change_texts(before, after)
        self._journal.write(replace(change_of(call, namespace.name, done), before=was, after=now))


class EntityRules:
    """The authorization rules of queues, or of topics; an `arm_rules.Owner`."""

    def __init__(self, kind: EntityKind, namespaces: Neighbours, entities: BusEntities) -> None:
        self._kind = kind
        self._namespaces = namespaces
        self._entities = entities

    def find(self, names: tuple[str, ...]) -> Owned:
        """The queue or topic."""
        namespace = self._namespaces.find(ResourceKind.SERVICE_BUS, names[0])
        found = self._entities.require(namespace.number, self._kind, name_of_arm(names[1]))
        where = entity_id(namespace.resource_id, found)
        kind = entity_type(self._kind)
        return Owned(where, kind, namespace.name, namespace.host_name, found.name, found.policies)

    async def change(self, names: tuple[str, ...], rule: PoliciesRule) -> None:
        """Changes its policies."""
        namespace = self._namespaces.find(ResourceKind.SERVICE_BUS, names[0])
        found = self._entities.require(namespace.number, self._kind, name_of_arm(names[1]))
        await self._entities.change(found, lambda now: replace(now, policies=rule(now.policies)))


def _rule(namespace: Neighbour, subscription: Entity, name: str) -> dict[str, object]:
    where = entity_id(namespace.resource_id, subscription)
    return rule_to_arm(require_rule(subscription, name), where, namespace.location)
