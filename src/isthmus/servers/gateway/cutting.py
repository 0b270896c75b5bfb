"""Which live sessions end because something changed: rules, doors, door policies, keys, identities, tags.

Admission and door policies are asked again, by the same pure functions that let the session in; nothing here decides
anything of its own. A change of a hub is answered after the last of its cuts. Tags are read before they are judged by,
for all connected devices of the hub; a device that enters meanwhile was judged by the gate, and one whose tags change
meanwhile is judged when that is committed.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from isthmus.access.certificate_chain import authority_lost
from isthmus.access.local_auth import key_lost
from isthmus.access.principal import Principal, PrincipalKind, SharedAccessPolicy
from isthmus.base.errors import Code, Hop, Refusal
from isthmus.base.ids import DeviceRef, HubId, is_probe
from isthmus.devices.identity import AuthenticationType, Identity
from isthmus.neighbours.account_keys import account_key_lost
from isthmus.neighbours.neighbour import Neighbour
from isthmus.network.admission import Deny, admit
from isthmus.network.door_policies import NO_TAGS, ask_for_tags, wrong_door
from isthmus.network.dry_run import RESOURCE_GONE
from isthmus.network.virtual_networks import NetworkFacts
from isthmus.resources.guarded import Guarded, ResourceKind
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_reader import Readers
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.gate import Bearers, NoBearers, Tags, Untagged, caller_of, secrets_of
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.sessions import Session, Sessions, Where

Policies = tuple[SharedAccessPolicy, ...]

TAGS_BATCH = 64
"""Twins read between two turns of the loop, some 15 µs each."""


class Cutting:
    """Listens to hubs and identities and cuts the sessions that lost their right."""

    def __init__(
        self,
        sessions: Sessions,
        connected: Connected,
        facts: Callable[[], NetworkFacts] = NetworkFacts,
        *,
        tags: Tags | None = None,
        hub_of: Callable[[HubId], Hub | None] = lambda number: None,
        readers: Readers | None = None,
        bearers: Bearers | None = None,
        parts: Callable[[Guarded], Iterable[Policies]] = lambda resource: (),
    ) -> None:
        """`facts` gives the virtual networks that are declared now; without it there are none, as without the rest.

        `parts` gives the policies of each part of a resource that has some of its own.
        """
        self._sessions = sessions
        self._connected = connected
        self._facts = facts
        self._tags = tags or Untagged()
        self._hub_of = hub_of
        self._readers = readers
        self._bearers = bearers or NoBearers()
        self._parts = parts

    async def hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        """Cuts what the hub's present rules, connections and policies do not admit; returns after the last one."""
        if old is None:
            return
        await self._judge_admission(old.number, new)
        if new is None or new.identity != old.identity:
            await self.identities_changed()
        if new is None:
            return
        if self._readers is not None and (new.door_policies or new.consumer_groups != old.consumer_groups):
            self._readers.judge_again(new)
        if new.door_policies:
            await self._judge_policies(new)

    async def neighbour_changed(self, old: Guarded | None, new: Guarded | None) -> None:
        """Cuts what a neighbour's present rules, connections and keys do not admit; returns after the last one."""
        if old is not None:
            await self._judge_admission(old.number, new)

    async def identities_changed(self) -> None:
        """Cuts identities that have ended, or lost a role by which they came; returns after the last one."""
        await self._sessions.cut(lambda session: self._bearers.lost(session.principal), Code.UNAUTHORIZED_ACCESS)

    async def networks_changed(self, resources: Iterable[Guarded]) -> None:
        """Cuts, of all resources, who does not reach his private door any more; returns after the last one."""
        for resource in resources:
            await self._judge_admission(resource.number, resource)

    def tags_changed(self, ref: DeviceRef, tags: Mapping[str, object]) -> None:
        """Cuts a device, with its modules, that a policy binds to other doors now that it has these tags."""
        hub = self._hub_of(ref.hub)
        if hub is None or ref.module_id or not ask_for_tags(hub.door_policies):
            return
        for session in self._sessions.find(Where(hub=ref.hub, device_id=ref.device_id)):
            refusal = policy_lost(session, hub, tags)
            if refusal is not None:
                session.cut(refusal, Code.UNAUTHORIZED_ACCESS)

    async def _judge_admission(self, number: HubId, resource: Guarded | None) -> None:
        await self._sessions.cut(
            lambda session: session_lost(
                session, resource, self._facts(), () if resource is None else self._parts(resource)
            ),
            Code.UNAUTHORIZED_ACCESS,
            where=Where(hub=number),
        )

    async def _judge_policies(self, hub: Hub) -> None:
        tags = await self._tags_of_all(hub) if ask_for_tags(hub.door_policies) else {}

        def judge(session: Session) -> Refusal | None:
            return policy_lost(session, hub, tags.get(session.device.partition("/")[0], NO_TAGS))

        await self._sessions.cut(judge, Code.UNAUTHORIZED_ACCESS, where=Where(hub=hub.number))

    async def _tags_of_all(self, hub: Hub) -> dict[str, Mapping[str, object]]:
        """The tags of all connected devices, the loop given back between batches."""
        found: dict[str, Mapping[str, object]] = {}
        wanted = {session.device.partition("/")[0] for session in self._sessions.all(hub.number) if session.device}
        for number, device_id in enumerate(wanted):
            found[device_id] = await self._tags.tags(DeviceRef(hub.number, device_id))
            if number % TAGS_BATCH == TAGS_BATCH - 1:
                await asyncio.sleep(0)
        return found

    def identity_changed(self, ref: DeviceRef, old: Identity | None, new: Identity | None) -> None:
        """Cuts a device that was disabled, deleted or made anew, with its modules, and sessions whose key is gone."""
        if old is None:
            return
        refusal = identity_lost(ref, old, new)
        for connected, session in self._connected.below(ref):
            if refusal is not None:
                session.cut(refusal, Code.DEVICE_NOT_FOUND)
            elif connected == ref and new is not None and _uses_lost_key(session.principal, new):
                session.cut(_key_gone(ref.name), Code.UNAUTHORIZED_ACCESS)
        self._cut_requests(ref, new, refusal)

    def _cut_requests(self, ref: DeviceRef, new: Identity | None, refusal: Refusal | None) -> None:
        """Requests under way of a device, which is not connected by them, or of its modules."""
        for session in self._sessions.find(Where(hub=ref.hub, device_id=ref.device_id)):
            own = session.device == ref.name
            if session.plane is not Plane.HTTPS or not (own or not ref.module_id):
                continue
            if refusal is not None:
                session.cut(refusal, Code.UNAUTHORIZED_ACCESS)
            elif own and new is not None and _uses_lost_key(session.principal, new):
                session.cut(_key_gone(ref.name), Code.UNAUTHORIZED_ACCESS)


def session_lost(
    session: Session, resource: Guarded | None, facts: NetworkFacts, parts: Iterable[Policies] = ()
) -> Refusal | None:
    """Why a session may not go on at its resource, and in its networks, as they are now; None when it may.

    `parts` are the policies of each part of the resource that has some of its own.
    """
    if resource is None:
        return RESOURCE_GONE
    principal = session.principal
    admission = admit(
        resource,
        door=session.door,
        address=session.address,
        built_in=session.built_in,
        trusted=bool(principal.acts_for) and resource.trusts(principal.acts_for),
        facts=facts,
    )
    if isinstance(admission, Deny):
        return admission.refusal
    if isinstance(resource, Neighbour) and resource.kind is ResourceKind.STORAGE:
        return account_key_lost(resource, principal)
    if isinstance(resource, Hub) and principal.by_authority:
        return authority_lost(principal.key_fingerprint, principal.name, resource.certificates)
    return None if is_probe(session.device) else _key_lost(principal, resource, parts)


def _key_lost(principal: Principal, resource: Guarded, parts: Iterable[Policies]) -> Refusal | None:
    """Names of policies are unique in a part only: one part that has the key is enough."""
    refusal = key_lost(principal, resource.policies, resource.local_auth, resource.group)
    if refusal is None or any(key_lost(principal, each, resource.local_auth) is None for each in parts):
        return None
    return refusal


def policy_lost(session: Session, hub: Hub, tags: Mapping[str, object]) -> Refusal | None:
    """Why the hub's door policies do not let a session go on, its device's tags being these; None when they do."""
    caller = caller_of(session.principal, session.device.partition("/")[0], tags)
    return wrong_door(hub.door_policies, caller, session.door)


def identity_lost(ref: DeviceRef, old: Identity, new: Identity | None) -> Refusal | None:
    """Why the device, and all modules below it, may not go on; None when the identity is still itself and enabled."""
    if new is None or new.generation_id != old.generation_id:
        remedy = f"isthmus device-identity create -d {ref.device_id}"
        return Refusal(Hop.AUTHENTICATION, "auth.unknown-device", f"{ref.name} was deleted", remedy)
    if not new.enabled:
        remedy = f"isthmus device-identity update -d {ref.device_id} --set status=enabled"
        return Refusal(Hop.AUTHENTICATION, "auth.disabled", f"{ref.name} is disabled", remedy)
    return None


def _uses_lost_key(principal: Principal, identity: Identity) -> bool:
    own = principal.kind is not PrincipalKind.POLICY
    if principal.by_authority:
        # The hub has the certificate that vouched; of the identity only its method counts.
        return identity.authentication.type is not AuthenticationType.CERTIFICATE_AUTHORITY
    return own and principal.key_fingerprint not in secrets_of(identity).fingerprints()


def _key_gone(name: str) -> Refusal:
    return Refusal(Hop.AUTHENTICATION, "auth.signature", f"the key of {name} was replaced", "use the present key")
