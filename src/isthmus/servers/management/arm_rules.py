"""Authorization rules in ARM's paths, of namespaces and of whatever in them has rules of its own.

`…/authorizationRules/{rule}`, `…/{rule}/listKeys` and `…/{rule}/regenerateKeys` of Microsoft.EventHub and
Microsoft.ServiceBus.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal, Verdict
from isthmus.access.x509 import fingerprint
from isthmus.base.ids import Ids
from isthmus.neighbours.authorization_rules import (
    Policies,
    find_rule,
    keys_to_arm,
    put_rule,
    remove_rule,
    renew_key,
    require_rule,
    rights_of,
    rule_to_arm,
)
from isthmus.servers.management.arm import Routes, change_of
from isthmus.servers.management.request import Call, Reply

PoliciesRule = Callable[[Policies], Policies]
"""A pure change of policies; raises HubError to refuse."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What has rules: its ARM id and type, the namespace it is in, the entity (empty for the namespace itself)."""

    resource_id: str
    type: str
    namespace: str
    host_name: str
    entity: str
    policies: Policies

    @property
    def name(self) -> str:
        """What the journal calls it."""
        return f"{self.namespace}/{self.entity}" if self.entity else self.namespace


class Owner(Protocol):
    """Finds and changes what has rules, by the names in a path."""

    def find(self, names: tuple[str, ...]) -> Owned:
        """What these names mean; raises HubError GenericNotFound."""

    async def change(self, names: tuple[str, ...], rule: PoliciesRule) -> None:
        """Changes its policies under compare-and-set; returns when every session obeys."""


class ArmRules:
    """Answers ARM calls about the authorization rules below one kind of path; used on the event loop only."""

    def __init__(self, base: str, owner: Owner, journal: Journal, ids: Ids) -> None:
        """`base` is the pattern of the owner's path, such as `microsoft.eventhub/namespaces/*`."""
        self._owner = owner
        self._journal = journal
        self._ids = ids
        rule = f"{base}/authorizationrules"
        self.routes: Routes = {
            ("GET", rule): self._list,
            ("GET", f"{rule}/*"): self._show,
            ("PUT", f"{rule}/*"): self._put,
            ("DELETE", f"{rule}/*"): self._delete,
            ("POST", f"{rule}/*/listkeys"): self._list_keys,
            ("POST", f"{rule}/*/regeneratekeys"): self._renew_key,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        owned = self._owner.find(names)
        shown = [rule_to_arm(policy, owned.resource_id, owned.type) for policy in owned.policies]
        return Reply(value={"value": shown})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=self._shown(names, required=True))

    async def _put(self, call: Call, names: tuple[str, ...]) -> Reply:
        rights, before = rights_of(call.json()), self._shown(names)
        await self._owner.change(names[:-1], lambda now: put_rule(now, names[-1], rights, self._ids))
        after = self._shown(names, required=True)
        self._changed(call, names, "created" if before is None else "updated", before, after)
        return Reply(value=after)

    async def _delete(self, call: Call, names: tuple[str, ...]) -> Reply:
        before, owned = self._shown(names, required=True), self._owner.find(names[:-1])
        await self._owner.change(names[:-1], lambda now: remove_rule(now, names[-1], owned.name))
        self._changed(call, names, "deleted", before, None)
        return Reply()

    async def _list_keys(self, call: Call, names: tuple[str, ...]) -> Reply:
        shown = self._keys(names)
        owned = self._owner.find(names[:-1])
        read = change_of(call, owned.namespace, f"keys of authorization rule {owned.name}/{names[-1]} read")
        self._journal.write(replace(read, verdict=Verdict.READ))
        return Reply(value=shown)

    async def _renew_key(self, call: Call, names: tuple[str, ...]) -> Reply:
        body, owned, before = call.json(), self._owner.find(names[:-1]), self._fingerprints(names)
        await self._owner.change(names[:-1], lambda now: renew_key(now, names[-1], owned.name, body, self._ids))
        which = "primary" if str(body.get("keyType")).lower() == "primarykey" else "secondary"
        self._changed(call, names, f"{which} key renewed", before, self._fingerprints(names))
        return Reply(value=self._keys(names))

    def _fingerprints(self, names: tuple[str, ...]) -> dict[str, object]:
        """What the journal may know of the keys of a rule; raises HubError GenericNotFound."""
        owned = self._owner.find(names[:-1])
        policy = require_rule(owned.policies, names[-1], owned.name)
        return {"primaryKey": fingerprint(policy.primary_key), "secondaryKey": fingerprint(policy.secondary_key)}

    def _shown(self, names: tuple[str, ...], *, required: bool = False) -> dict[str, object] | None:
        owned = self._owner.find(names[:-1])
        if required:
            require_rule(owned.policies, names[-1], owned.name)
        policy = find_rule(owned.policies, names[-1])
        return None if policy is None else rule_to_arm(policy, owned.resource_id, owned.type)

    def _keys(self, names: tuple[str, ...]) -> dict[str, object]:
        owned = self._owner.find(names[:-1])
        policy = require_rule(owned.policies, names[-1], owned.name)
        return keys_to_arm(policy, owned.host_name, owned.entity)

    def _changed(self, call: Call, names: tuple[str, ...], done: str, before: object, after: object) -> None:
        owned = self._owner.find(names[:-1])
        was, now = change_texts(before, after)
        detail = f"authorization rule {owned.name}/{names[-1]} {done}"
        self._journal.write(replace(change_of(call, owned.namespace, detail), before=was, after=now))
