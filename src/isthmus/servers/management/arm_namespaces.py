"""Hosted namespaces in ARM's paths, the same for Event Hubs and Service Bus; what is in them has files of its own.

Types Microsoft.EventHub/namespaces and Microsoft.ServiceBus/namespaces 2024-01-01: the namespace itself, its network
rule set, its authorization rules and its private endpoint connections. Every call answers after the last session that
it concerns is cut.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import parse_if_match
from isthmus.base.ids import Ids
from isthmus.neighbours.namespace_arm import (
    RULE_SET,
    apply_namespace,
    apply_rule_set,
    namespace_to_arm,
    patch_namespace,
    rule_set_to_arm,
)
from isthmus.neighbours.neighbour import Neighbour, check_name, neighbour_host
from isthmus.neighbours.neighbours import Neighbours
from isthmus.resources.guarded import ResourceKind
from isthmus.resources.members import Json, text
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.servers.management.arm import CREATED, NO_CONTENT, Routes, change_of
from isthmus.servers.management.arm_connections import ArmConnections
from isthmus.servers.management.arm_rules import ArmRules, Owned, PoliciesRule
from isthmus.servers.management.request import Call, Reply

Prepare = Callable[[str], Awaitable[None]]
"""Makes ready for a host name what it cannot be served without; raises HubError to refuse."""


class ArmNamespaces:
    """Answers ARM calls about the namespaces of one kind; used on the event loop only."""

    def __init__(
        self,
        kind: ResourceKind,
        namespaces: Neighbours,
        endpoints: PrivateEndpoints,
        journal: Journal,
        ids: Ids,
        *,
        prepare: Prepare,
        hub_host: Callable[[], str],
    ) -> None:
        """`hub_host` gives the first hub's host name, in whose domain namespaces are."""
        self._kind = kind
        self._namespaces = namespaces
        self._journal = journal
        self._prepare = prepare
        self._hub_host = hub_host
        base = kind.value.lower()
        self.routes: Routes = {
            ("GET", base): self._list,
            ("GET", f"{base}/*"): self._show,
            ("PUT", f"{base}/*"): self._put,
            ("PATCH", f"{base}/*"): self._patch,
            ("DELETE", f"{base}/*"): self._delete,
            ("POST", f"{base.partition('/')[0]}/checknameavailability"): self._check_name,
            ("GET", f"{base}/*/networkrulesets"): self._list_rule_sets,
            ("GET", f"{base}/*/networkrulesets/*"): self._show_rule_set,
            ("PUT", f"{base}/*/networkrulesets/*"): self._put_rule_set,
            **ArmConnections(base, self._find, endpoints, journal).routes,
            **ArmRules(f"{base}/*", NamespaceRules(kind, namespaces), journal, ids).routes,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [namespace_to_arm(each) for each in self._namespaces.of(self._kind)]})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=namespace_to_arm(self._find(names[0])))

    async def _put(self, call: Call, names: tuple[str, ...]) -> Reply:
        body, present = call.json(), self._namespaces.by_name(names[0])
        if present is not None:
            return await self._update(call, names[0], lambda now: apply_namespace(now, body))
        if parse_if_match(call.if_match) is not None:
            raise HubError(Code.PRECONDITION_FAILED, f"There is no namespace {names[0]} any more, so no such etag")
        check_name(self._kind, names[0])
        await self._prepare(neighbour_host(self._kind, names[0], self._hub_host()))
        made = await self._namespaces.create(
            self._kind,
            names[0],
            location=str(body.get("location") or ""),
            rule=lambda draft: apply_namespace(draft, body),
        )
        self._changed(call, made, "created", None, namespace_to_arm(made))
        return Reply(CREATED, namespace_to_arm(made))

    async def _patch(self, call: Call, names: tuple[str, ...]) -> Reply:
        body = call.json()
        return await self._update(call, names[0], lambda now: patch_namespace(now, body))

    async def _update(self, call: Call, name: str, rule: Callable[[Neighbour], Neighbour]) -> Reply:
        present = self._find(name)
        before = namespace_to_arm(present)
        changed = await self._namespaces.change(present.name, rule, call.if_match)
        self._changed(call, changed, "updated", before, namespace_to_arm(changed))
        return Reply(value=namespace_to_arm(changed))

    async def _delete(self, call: Call, names: tuple[str, ...]) -> Reply:
        present = self._find(names[0])
        await self._namespaces.delete(present.name, call.if_match)
        self._changed(call, present, "deleted", namespace_to_arm(present), None)
        return Reply(NO_CONTENT)

    async def _check_name(self, call: Call, names: tuple[str, ...]) -> Reply:
        name = text(call.json().get("name"), "name")
        try:
            check_name(self._kind, name)
        except HubError as error:
            return _unavailable("InvalidName", error.message)
        if self._namespaces.by_name(name) is not None:
            return _unavailable("NameInUse", f"There is a namespace {name} already")
        return Reply(value={"nameAvailable": True, "reason": "None", "message": ""})

    async def _list_rule_sets(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value={"value": [rule_set_to_arm(self._find(names[0]))]})

    async def _show_rule_set(self, call: Call, names: tuple[str, ...]) -> Reply:
        _require_default(names[1])
        return Reply(value=rule_set_to_arm(self._find(names[0])))

    async def _put_rule_set(self, call: Call, names: tuple[str, ...]) -> Reply:
        _require_default(names[1])
        present, body = self._find(names[0]), call.json()
        changed = await self._namespaces.change(present.name, lambda now: apply_rule_set(now, body), call.if_match)
        before, after = rule_set_to_arm(present), rule_set_to_arm(changed)
        self._changed(call, changed, "network rule set updated", before, after)
        return Reply(value=after)

    def _find(self, name: str) -> Neighbour:
        return self._namespaces.find(self._kind, name)

    def _changed(self, call: Call, namespace: Neighbour, done: str, before: object, after: object) -> None:
        was, now = change_texts(before, after)
        change = change_of(call, namespace.name, f"namespace {namespace.name} {done}")
        self._journal.write(replace(change, before=was, after=now))


class NamespaceRules:
    """The authorization rules of namespaces themselves; an `arm_rules.Owner`."""

    def __init__(self, kind: ResourceKind, namespaces: Neighbours) -> None:
        self._kind = kind
        self._namespaces = namespaces

    def find(self, names: tuple[str, ...]) -> Owned:
        """The namespace."""
        found = self._namespaces.find(self._kind, names[0])
        kind = found.kind.value
        return Owned(found.resource_id, kind, found.name, found.host_name, "", found.policies)

    async def change(self, names: tuple[str, ...], rule: PoliciesRule) -> None:
        """Changes its policies."""
        found = self._namespaces.find(self._kind, names[0])
        await self._namespaces.change(found.name, lambda now: replace(now, policies=rule(now.policies)))


def _require_default(name: str) -> None:
    if name.lower() != RULE_SET:
        raise HubError(Code.NOT_FOUND, f"A namespace has the network rule set {RULE_SET}, and no {name}")


def _unavailable(reason: str, message: str) -> Reply:
    answer: Json = {"nameAvailable": False, "reason": reason, "message": message}
    return Reply(value=answer)
