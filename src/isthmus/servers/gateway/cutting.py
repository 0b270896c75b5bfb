"""Which live sessions end because something changed: rules, doors, keys, identities.

Admission is asked again, by the same pure function that let the session in; nothing here decides anything of its own. A
change of a hub is answered after the last of its cuts.
"""

from collections.abc import Callable, Iterable

from isthmus.access.principal import Principal, PrincipalKind
from isthmus.base.errors import Code, Hop, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.devices.identity import Identity
from isthmus.network.admission import Deny, admit
from isthmus.network.virtual_networks import NetworkFacts
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.connected import Connected
from isthmus.servers.gateway.gate import secrets_of
from isthmus.servers.gateway.sessions import Session, Sessions, Where


class Cutting:
    """Listens to hubs and identities and cuts the sessions that lost their right."""

    def __init__(
        self, sessions: Sessions, connected: Connected, facts: Callable[[], NetworkFacts] = NetworkFacts
    ) -> None:
        """`facts` gives the virtual networks that are declared now; without it there are none."""
        self._sessions = sessions
        self._connected = connected
        self._facts = facts

    async def hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        """Cuts what the hub's present rules, connections and policies do not admit; returns after the last one."""
        if old is None:
            return
        await self._sessions.cut(
            lambda session: session_lost(session, new, self._facts()),
            Code.UNAUTHORIZED_ACCESS,
            where=Where(hub=old.number),
        )

    async def networks_changed(self, hubs: Iterable[Hub]) -> None:
        """Cuts, of all hubs, who does not reach his private door any more; returns after the last one."""
        for hub in hubs:
            await self.hub_changed(hub, hub)

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


def session_lost(session: Session, hub: Hub | None, facts: NetworkFacts) -> Refusal | None:
    """Why a session may not go on at its hub, and in its networks, as they are now; None when it may."""
    if hub is None:
        return Refusal(Hop.NAME, "name.unknown", "the hub was deleted", "connect to another hub")
    admission = admit(hub, door=session.door, address=session.address, built_in=session.built_in, facts=facts)
    if isinstance(admission, Deny):
        return admission.refusal
    principal = session.principal
    if principal.kind is PrincipalKind.POLICY and principal.key_fingerprint not in hub.key_fingerprints():
        return _key_gone(principal.name)
    return None


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
    return own and principal.key_fingerprint not in secrets_of(identity).fingerprints()


def _key_gone(name: str) -> Refusal:
    return Refusal(Hop.AUTHENTICATION, "auth.signature", f"the key of {name} was replaced", "use the present key")
