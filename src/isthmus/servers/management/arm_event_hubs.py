"""Event hubs of hosted namespaces in ARM's paths: `…/namespaces/{n}/eventhubs/{e}`, their consumer groups and rules.

What is made is answered 200, as Microsoft.EventHub does: the stock client takes no other status here.
"""

from dataclasses import replace

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.neighbours.event_hub import EventHub, put_group, remove_group, require_group
from isthmus.neighbours.event_hub_arm import (
    EVENT_HUB_TYPE,
    apply_body,
    event_hub_id,
    event_hub_to_arm,
    group_to_arm,
    metadata_of,
)
from isthmus.neighbours.event_hubs import EventHubs
from isthmus.neighbours.neighbour import Neighbour
from isthmus.neighbours.neighbours import Neighbours
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.members import known_members, mapping
from isthmus.servers.management.arm import NO_CONTENT, Routes, change_of
from isthmus.servers.management.arm_rules import ArmRules, Owned, PoliciesRule
from isthmus.servers.management.request import Call, Reply

_GROUP_PROPERTIES = ("userMetadata", "createdAt", "updatedAt")


class ArmEventHubs:
    """Answers ARM calls about event hubs; used on the event loop only."""

    def __init__(self, namespaces: Neighbours, event_hubs: EventHubs, journal: Journal, clock: Clock, ids: Ids) -> None:
        self._namespaces = namespaces
        self._event_hubs = event_hubs
        self._journal = journal
        self._clock = clock
        event_hub = f"{ResourceKind.EVENT_HUBS.value.lower()}/*/eventhubs"
        group = f"{event_hub}/*/consumergroups"
        self.routes: Routes = {
            ("GET", event_hub): self._list,
            ("GET", f"{event_hub}/*"): self._show,
            ("PUT", f"{event_hub}/*"): self._put,
            ("DELETE", f"{event_hub}/*"): self._delete,
            ("GET", group): self._list_groups,
            ("GET", f"{group}/*"): self._show_group,
            ("PUT", f"{group}/*"): self._put_group,
            ("DELETE", f"{group}/*"): self._delete_group,
            **ArmRules(f"{event_hub}/*", EventHubRules(namespaces, event_hubs), journal, ids).routes,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        return Reply(value={"value": [_shown(namespace, each) for each in self._event_hubs.of(namespace.number)]})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        return Reply(value=_shown(namespace, self._event_hubs.require(namespace.number, names[1])))

    async def _put(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace, body = self._namespace(names), call.json()
        present = self._event_hubs.find(namespace.number, names[1])
        if present is None:
            made = await self._event_hubs.create(
                namespace.number, names[1], lambda draft: apply_body(draft, body, is_new=True)
            )
            self._changed(call, namespace, f"event hub {made.name} created", None, _shown(namespace, made))
            return Reply(value=_shown(namespace, made))
        changed = await self._event_hubs.change(
            namespace.number, present.name, lambda now: apply_body(now, body, is_new=False), call.if_match
        )
        before, after = _shown(namespace, present), _shown(namespace, changed)
        self._changed(call, namespace, f"event hub {changed.name} updated", before, after)
        return Reply(value=after)

    async def _delete(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        gone = self._event_hubs.require(namespace.number, names[1])
        await self._event_hubs.delete(namespace.number, gone.name)
        self._changed(call, namespace, f"event hub {gone.name} deleted", _shown(namespace, gone), None)
        return Reply(NO_CONTENT)

    async def _list_groups(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        event_hub = self._event_hubs.require(namespace.number, names[1])
        return Reply(value={"value": [_group(namespace, event_hub, each.name) for each in event_hub.groups]})

    async def _show_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        return Reply(value=_group(namespace, self._event_hubs.require(namespace.number, names[1]), names[2]))

    async def _put_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        members = mapping(call.json().get("properties") or {}, "properties")
        known_members(members, "properties", _GROUP_PROPERTIES)
        metadata, now_ms = metadata_of(members), self._clock.utc_ms()
        present = self._event_hubs.require(namespace.number, names[1])
        before = _group(namespace, present, names[2]) if present.group(names[2]) else None
        changed = await self._event_hubs.change(
            namespace.number, names[1], lambda now: put_group(now, names[2], user_metadata=metadata, now_ms=now_ms)
        )
        after = _group(namespace, changed, names[2])
        done = f"consumer group {names[2]} of {changed.name} {'created' if before is None else 'updated'}"
        self._changed(call, namespace, done, before, after)
        return Reply(value=after)

    async def _delete_group(self, call: Call, names: tuple[str, ...]) -> Reply:
        namespace = self._namespace(names)
        before = _group(namespace, self._event_hubs.require(namespace.number, names[1]), names[2])
        changed = await self._event_hubs.change(namespace.number, names[1], lambda now: remove_group(now, names[2]))
        self._changed(call, namespace, f"consumer group {names[2]} of {changed.name} deleted", before, None)
        return Reply(NO_CONTENT)

    def _namespace(self, names: tuple[str, ...]) -> Neighbour:
        return self._namespaces.find(ResourceKind.EVENT_HUBS, names[0])

    def _changed(self, call: Call, namespace: Neighbour, done: str, before: object, after: object) -> None:
        was, now = change_texts(before, after)
        self._journal.write(replace(change_of(call, namespace.name, done), before=was, after=now))


class EventHubRules:
    """The authorization rules of event hubs; an `arm_rules.Owner`."""

    def __init__(self, namespaces: Neighbours, event_hubs: EventHubs) -> None:
        self._namespaces = namespaces
        self._event_hubs = event_hubs

    def find(self, names: tuple[str, ...]) -> Owned:
        """The event hub."""
        namespace = self._namespaces.find(ResourceKind.EVENT_HUBS, names[0])
        found = self._event_hubs.require(namespace.number, names[1])
        where = event_hub_id(namespace.resource_id, found.name)
        return Owned(where, EVENT_HUB_TYPE, namespace.name, namespace.host_name, found.name, found.policies)

    async def change(self, names: tuple[str, ...], rule: PoliciesRule) -> None:
        """Changes its policies."""
        namespace = self._namespaces.find(ResourceKind.EVENT_HUBS, names[0])
        await self._event_hubs.change(namespace.number, names[1], lambda now: replace(now, policies=rule(now.policies)))


def _shown(namespace: Neighbour, event_hub: EventHub) -> dict[str, object]:
    return event_hub_to_arm(event_hub, namespace.resource_id, namespace.location)


def _group(namespace: Neighbour, event_hub: EventHub, name: str) -> dict[str, object]:
    where = event_hub_id(namespace.resource_id, event_hub.name)
    return group_to_arm(require_group(event_hub, name), where, namespace.location)
