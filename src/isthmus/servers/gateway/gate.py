"""The order of the front door, the same on every plane: name, admission, authentication, policies; and the journal.

Theory of operation. A pump first calls `resolve` with every name the peer gave; all of them must mean one hub. Then it
calls `device`, `policy`, `token` or `plain` with what the peer showed. There the registry is asked, the credentials are
checked, and admission is judged against the hub as it is *after* the last wait, so that a door closed meanwhile is
closed. A denial by admission is answered only after the credentials were checked and exactly as a wrong key is: a
stranger learns neither that a device exists nor that another door would let it in. The same holds for a private door of
another hub. Last come the hub's door policies; they may ask for the device's tags, which are read before anything is
judged, whether or not there is such a device, and what they refuse looks like a wrong key, too. When one of these calls
has returned, nothing was awaited since the verdict: a pump that enters its session into the index before it awaits
again cannot be missed by a cut.

All four raise HubError; the pump answers in its protocol's words, after it has called `refused`, which journals, counts
and logs, and gives the tracking id for the answer.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from isthmus.access import sas
from isthmus.access.access_tokens import is_bearer
from isthmus.access.authenticate import (
    DeviceSecrets,
    Evidence,
    Guard,
    Method,
    Subject,
    authenticate_device,
    authenticate_policy,
)
from isthmus.access.journal import Decision, Journal, Verdict, asked_of_group
from isthmus.access.local_auth import ALL_KEYS
from isthmus.access.principal import Principal, PrincipalKind, SharedAccessPolicy
from isthmus.access.refusals import denied, unauthorized
from isthmus.base import sas_token
from isthmus.base.clock import Clock
from isthmus.base.errors import Hop, HubError, Refusal
from isthmus.base.hosts import is_unnamed, normal_host
from isthmus.base.ids import DeviceRef, Ids, TrackingId, is_probe
from isthmus.base.sas_token import decode_key
from isthmus.devices.identity import Identity
from isthmus.network.admission import Allow, Deny, admit
from isthmus.network.door import Door, DoorKind
from isthmus.network.door_policies import NO_TAGS, Caller, ask_for_tags, wrong_door
from isthmus.network.virtual_networks import NetworkFacts
from isthmus.resources.directory import Directory
from isthmus.resources.guarded import Guarded, ResourceKind
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.plain import PlainUser, of_policy
from isthmus.servers.gateway.plane import Plane

EVENT_HUBS_FORMS: Sequence[sas.KeyForm] = (sas.key_text, decode_key)
"""Event Hubs SDKs sign with the key's text where IoT Hub's sign with the bytes that it encodes."""

NOBODY = Principal(PrincipalKind.ACCOUNT, "", frozenset(), "", "")
"""Who proved nothing."""

WITH_AMQP = frozenset({ResourceKind.HUB, ResourceKind.EVENT_HUBS, ResourceKind.SERVICE_BUS})

logger = logging.getLogger(__name__)


class Peer(Protocol):
    """What the gate looks at in a `Connection`."""

    @property
    def connection_id(self) -> str: ...
    @property
    def door(self) -> Door: ...
    @property
    def peer_address(self) -> str: ...
    @property
    def server_name(self) -> str: ...
    @property
    def host_names(self) -> tuple[str, ...]:
        """More names of the hub that came before the protocol's own: a WebSocket's Host header."""

    @property
    def carrier(self) -> str:
        """What carries the protocol above TLS, `websocket`; empty for nothing."""

    @property
    def peer_chain(self) -> tuple[bytes, ...]: ...
    def made_progress(self) -> None: ...


class Identities(Protocol):
    """The registry, as far as the gate asks it."""

    async def get(self, ref: DeviceRef) -> Identity | None:
        """The identity, or None."""


class Tags(Protocol):
    """The tags of devices, as far as the gate asks them."""

    async def tags(self, ref: DeviceRef) -> Mapping[str, object]:
        """The committed tags of a device; none when there is no such device."""


class Bearers(Protocol):
    """Whose bearer tokens are; `resources.bearer_tokens.BearerTokens` says so."""

    async def prepare(self, text: str) -> None:
        """Makes ready to prove a token; to be awaited before `prove`, raises nothing."""

    def prove(self, resource: Guarded, text: str) -> Principal:
        """The principal of a token; raises HubError IotHubUnauthorizedAccess."""

    def lost(self, principal: Principal) -> Refusal | None:
        """Why somebody may not go on; None when he may."""


class NoBearers:
    """No token is anybody's."""

    async def prepare(self, text: str) -> None:
        return

    def prove(self, resource: Guarded, text: str) -> Principal:
        raise unauthorized("auth.bearer-issuer", "a bearer token", "send a SAS token of a shared access policy")

    def lost(self, principal: Principal) -> Refusal | None:
        return None


class Untagged:
    """Nobody has tags."""

    async def tags(self, ref: DeviceRef) -> Mapping[str, object]:
        return NO_TAGS


class Counters(Protocol):
    """Metrics of the door."""

    def admitted(self, plane: str) -> None:
        """One more admitted connection."""

    def refused(self, plane: str, rule: str) -> None:
        """One more refusal; rules are a closed set of names."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who came in, to what, by which door; `rule` let the peer in, `scope` is the path its credential covers.

    An empty scope is all of it. `identity` is set when the peer is a device or module, also by a policy's token.
    """

    resource: Guarded
    principal: Principal
    identity: Identity | None
    door: Door
    address: str
    rule: str = ""
    scope: tuple[str, ...] = ()

    @property
    def hub(self) -> Hub:
        """The resource, for who was let in to a hub."""
        assert isinstance(self.resource, Hub), "asked of somebody who came to a neighbour"
        return self.resource

    def covers(self, path: str) -> bool:
        """True when the credential covers a path of the resource, `devices/{device}` or `{entity}/…`, by segments."""
        return sas.covers(self.scope, sas.resource_of(f"/{path.strip('/')}").path)


class Gate:
    """The front door's judgement; built once and used on the event loop only."""

    def __init__(
        self,
        directory: Directory,
        identities: Identities,
        journal: Journal,
        counters: Counters,
        clock: Clock,
        ids: Ids,
        *,
        facts: Callable[[], NetworkFacts] = NetworkFacts,
        tags: Tags | None = None,
        bearers: Bearers | None = None,
        advice: Callable[[str, Guarded], str] = lambda address, resource: "",
        digest: sas.Hmac = sas_token.hmac_sha256,
        probe_refused: Callable[[str, Refusal], None] = lambda device_id, refusal: None,
    ) -> None:
        """`facts` gives the virtual networks that are declared now; without it there are none, as without the rest.

        `probe_refused` hears why a door refused a probe.

        `advice` says what a peer at the public door should do instead, who could have come privately; else nothing.
        """
        self._directory = directory
        self._identities = identities
        self._journal = journal
        self._counters = counters
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._tags = tags or Untagged()
        self._bearers = bearers or NoBearers()
        self._advice = advice
        self._digest = digest
        self._probe_refused = probe_refused

    def find(self, connection: Peer, plane: Plane, *names: str) -> Guarded:
        """The one resource that SNI, the names of what carries the protocol, and all `names` mean.

        Names are host names with or without port, in any case. A bare address, `localhost` and an empty name name
        nobody, unless they are a resource's; when nobody is named it is what the private door leads to, else the only
        hub. Raises HubError IotHubUnauthorizedAccess with rule `name.unknown`, `name.missing` or `name.mismatch`.
        """
        named: dict[str, Guarded] = {}
        for name in (connection.server_name, *connection.host_names, *names):
            host = normal_host(name)
            found = self._directory.by_host(host)
            if found is not None:
                named[host] = found
            elif not is_unnamed(host):
                raise self._unknown_name(host)
        if len({found.number for found in named.values()}) > 1:
            raise unauthorized(
                "name.mismatch",
                ", ".join(f"{host} is {found.name}" for host, found in named.items()),
                "use one host name in TLS, in the protocol and in the token",
                Hop.NAME,
            )
        return next(iter(named.values()), None) or self._unnamed(connection)

    def resolve(self, connection: Peer, plane: Plane, *names: str) -> Hub:
        """As `find`, of hubs only: a neighbour's name is as unknown as any other."""
        found = self.find(connection, plane, *names)
        if not isinstance(found, Hub):
            raise self._unknown_name(found.host_name)
        return found

    def host_of_label(self, label: str) -> str:
        """The host name of the hub or namespace called `label`, as SASL PLAIN names it; else the label itself."""
        wanted = label.lower()
        named = (each for each in self._directory.all() if each.name.lower() == wanted and each.kind in WITH_AMQP)
        return next((each.host_name for each in named), label)

    async def device(
        self,
        connection: Peer,
        plane: Plane,
        hub: Hub,
        ref: DeviceRef,
        password: str | None,
        *,
        built_in: bool = False,
    ) -> Admitted:
        """Lets a device or module in by its key, a policy with DeviceConnect, or its client certificate.

        `password` is the token, None when there was none; `built_in` as in `policy`, for probes. Raises HubError
        IotHubUnauthorizedAccess.
        """
        identity, secrets = await self._look_up(ref)
        current, tags = await self._tagged(hub, ref)
        subject = Subject(ref.device_id, ref.module_id)
        evidence = Evidence(password, connection.peer_chain)
        guard = self.guard(current)
        if is_probe(ref.device_id):
            # A probe tries a path, and its key is the hub's own.
            guard = replace(guard, local_auth=ALL_KEYS)
        principal, rule = self._decide(
            connection,
            current,
            lambda: authenticate_device(guard, subject, secrets, evidence, now_ms=self._clock.utc_ms()),
            built_in=built_in,
            device_id=ref.device_id,
            tags=tags,
        )
        return self._let_in(connection, current, principal, rule, identity=identity, scope=subject.path)

    async def upload(
        self,
        connection: Peer,
        hub: Hub,
        ref: DeviceRef,
        prove: Callable[[Hub, DeviceSecrets | None], Principal],
    ) -> Admitted:
        """Lets in who shows the address of a device's upload; `prove` judges it, for hub and device as they are now.

        Raises HubError IotHubUnauthorizedAccess.
        """
        identity, secrets = await self._look_up(ref)
        current, tags = await self._tagged(hub, ref)
        principal, rule = self._decide(
            connection, current, lambda: prove(current, secrets), device_id=ref.device_id, tags=tags
        )
        scope = Subject(ref.device_id, ref.module_id).path
        return self._let_in(connection, current, principal, rule, identity=identity, scope=scope)

    async def policy(
        self, connection: Peer, plane: Plane, hub: Hub, token: str, *resource_uris: str, built_in: bool = False
    ) -> Admitted:
        """Lets a shared access policy in by its token, which must cover one of the URIs, or the hub when there is none.

        `built_in` when the built-in endpoint is asked for: network rules may leave it out. No right is asked for: see
        `access.authenticate.require_right`. Raises HubError IotHubUnauthorizedAccess.
        """
        resources = [sas.resource_of(uri) for uri in resource_uris]
        return self._policy(connection, hub, lambda: _parsed(token), resources, built_in=built_in)

    async def token(
        self, connection: Peer, plane: Plane, hub: Hub, token_text: str, audience: str, *, built_in: bool = False
    ) -> Admitted:
        """Judges a put-token of `$cbs`: a policy's token for an audience, percent-encoded or not, with any scheme.

        The links it opens are those whose path `Admitted.covers`; rights are asked for at the link. Raises as `policy`.
        """
        resources = [sas.resource_of(audience)] if audience else []
        probe = probe_of(audience)
        if probe:
            ref = DeviceRef(hub.number, probe)
            return await self.device(connection, plane, hub, ref, token_text, built_in=built_in)
        return self._policy(connection, hub, lambda: _parsed(token_text), resources, built_in=built_in)

    async def bearer(self, connection: Peer, plane: Plane, hub: Hub, text: str, *, built_in: bool = False) -> Admitted:
        """Lets an identity in by its bearer token, which covers the whole hub but never the built-in endpoint.

        No role is asked for: see `access.authenticate.require_permission`. Raises as `policy`.
        """
        await self._bearers.prepare(text)
        current = self._current(hub)

        def prove() -> Principal:
            principal = self._bearers.prove(current, text)
            if built_in:
                remedy = "use the connection string of a shared access policy"
                raise unauthorized("auth.keys-only", f"{principal.label} came with a bearer token", remedy)
            return principal

        principal, rule = self._decide(connection, current, prove, built_in=built_in)
        return self._let_in(connection, current, principal, rule, identity=None, scope=())

    def neighbour(
        self, connection: Peer, resource: Guarded, prove: Callable[[Guarded], tuple[Principal, tuple[str, ...]]]
    ) -> Admitted:
        """Lets somebody in to a neighbour; `prove` gives, for the neighbour as it is now, who he is and what he covers.

        He proves himself first, for the firewall may trust him by his identity; but a firewall that refuses is told
        whatever he proved, as the services do whose wire this is. Roles are asked for later. Raises HubError with a
        rule `network.*`, else whatever `prove` raised.
        """
        current = self._present(resource)
        failed: HubError | None = None
        principal = NOBODY
        scope: tuple[str, ...] = ()
        try:
            principal, scope = prove(current)
        except HubError as error:
            failed = error
        trusted = bool(principal.acts_for) and current.trusts(principal.acts_for)
        door, address = connection.door, connection.peer_address
        admission = admit(current, door=door, address=address, trusted=trusted, facts=self._facts())
        if isinstance(admission, Deny):
            raise denied(self._advised(self._untrusted(admission.refusal, principal, current), door, address, current))
        if failed is not None:
            raise failed
        return self._let_in(connection, current, principal, admission.rule, identity=None, scope=scope)

    def namespace(
        self,
        connection: Peer,
        resource: Guarded,
        token: str,
        audience: str,
        further: Iterable[SharedAccessPolicy] = (),
    ) -> Admitted:
        """Lets somebody in to a namespace by a policy's token for an audience, or by a bearer token.

        `further` are policies of the entity that the audience means, whose tokens cover no more than the audience,
        whatever they say; a bearer token is prepared. Raises as `neighbour`.
        """
        wanted = [sas.resource_of(audience)] if audience else []
        policies = tuple(further)

        def prove(current: Guarded) -> tuple[Principal, tuple[str, ...]]:
            if is_bearer(token):
                return self._bearers.prove(current, token), ()
            shown = _parsed(token)
            try:
                return by_policy(self.guard(current), shown), shown.resource.path
            except HubError:
                if not any(policy.name == shown.policy for policy in policies):
                    raise
            return by_policy(self.guard(current, policies), shown), wanted[0].path

        def by_policy(guard: Guard, shown: sas.SasToken) -> Principal:
            return authenticate_policy(guard, shown, wanted, now_ms=self._clock.utc_ms(), forms=EVENT_HUBS_FORMS)

        return self.neighbour(connection, resource, prove)

    async def prepare(self, text: str) -> None:
        """Has keys at hand that a bearer token needs; to be awaited before `namespace`, or `neighbour` with one."""
        await self._bearers.prepare(text)

    def prove_bearer(self, resource: Guarded, text: str) -> Principal:
        """Whose bearer token it is, for `neighbour`; raises HubError IotHubUnauthorizedAccess."""
        return self._bearers.prove(resource, text)

    def stranger(self, connection: Peer, hub: Hub) -> None:
        """Raises HubError IotHubUnauthorizedAccess when the hub's network rules do not admit the peer."""
        admission = admit(hub, door=connection.door, address=connection.peer_address, facts=self._facts())
        if isinstance(admission, Deny):
            raise denied(self._advised(admission.refusal, connection.door, connection.peer_address, hub))

    async def plain(self, connection: Peer, plane: Plane, hub: Hub, user: PlainUser, password: str) -> Admitted:
        """Lets in by SASL PLAIN: a policy, whose token may leave out `skn`, or a device. Raises as `policy`."""
        if user.device_id:
            return await self.device(
                connection, plane, hub, DeviceRef(hub.number, user.device_id, user.module_id), password
            )
        return self._policy(connection, hub, lambda: of_policy(_parsed(password), user.policy), None)

    def refused(
        self,
        connection: Peer,
        plane: Plane,
        hub_name: str,
        device: str,
        error: HubError,
        *,
        principal: str = "",
    ) -> TrackingId:
        """Journals, counts and logs a refusal, and returns the tracking id to answer with.

        `hub_name` and `device` may be empty or whatever a stranger wrote. `principal` is the label of who had proved
        himself before. Refusals that the journal only counts are not logged either.
        """
        tracking_id = self._ids.tracking_id(self._clock.utc_ms())
        refusal = error.refusal or Refusal(Hop.CONTRACT, f"error.{error.code.wire_name}", error.message, "")
        self._probe_refused(device, refusal)
        decision = _decision(connection.door, connection.peer_address, plane, refusal)
        self._record(
            replace(
                decision,
                hub=hub_name,
                device=device,
                principal=principal,
                code=error.code.wire_name,
                tracking_id=tracking_id,
                detail=connection.carrier,
            ),
            connection.connection_id,
        )
        return tracking_id

    def turned_away(self, door: Door, plane: Plane, address: str, refusal: Refusal) -> None:
        """As `refused`, for a socket that ended before it could name anything: no room, or no TLS."""
        self._record(_decision(door, address, plane, refusal), "")

    def require_room(self) -> None:
        """Raises HubError IotHubQuotaExceeded when nothing may be changed, because the journal could not note it."""
        self._journal.require_room()

    def done(self, connection: Peer, plane: Plane, done: Decision) -> None:
        """Journals what somebody did who was let in, a change or a look at keys, with the door he came through."""
        door, address = connection.door.label, connection.peer_address
        self._journal.write(replace(done, plane=plane.value, door=door, address=address))

    def admitted(self, connection: Peer, plane: Plane, admitted: Admitted, *, asked: str = "") -> None:
        """Journals and counts an admitted connection; `asked` is the part of the hub it was admitted to, if not all."""
        self._counters.admitted(plane.value)
        self._journal.write(
            Decision(
                Verdict.ALLOWED,
                hub=admitted.resource.name,
                plane=plane.value,
                door=admitted.door.label,
                address=admitted.address,
                device=device_name(admitted.identity) if admitted.identity is not None else "",
                principal=admitted.principal.label,
                rule=admitted.rule,
                detail=connection.carrier,
                asked=asked,
                key=admitted.principal.key_fingerprint,
            )
        )

    def reading(self, connection: Peer, resource: Guarded, principal: str, group: str) -> None:
        """Journals that an admitted connection reads by a consumer group; `principal` is the label of who does."""
        self._journal.write(
            Decision(
                Verdict.ALLOWED,
                hub=resource.name,
                plane=Plane.AMQP.value,
                door=connection.door.label,
                address=connection.peer_address,
                principal=principal,
                detail=connection.carrier,
                asked=asked_of_group(group),
            )
        )

    def _unnamed(self, connection: Peer) -> Guarded:
        if connection.door.kind is DoorKind.PRIVATE:
            found = self._directory.by_resource_id(connection.door.resource_id)
            if found is not None:
                return found
        hubs = [each for each in self._directory.all() if each.kind is ResourceKind.HUB]
        if len(hubs) == 1:
            return hubs[0]
        raise unauthorized("name.missing", "no resource was named", _use_one_of(hubs), Hop.NAME)

    def _unknown_name(self, host: str) -> HubError:
        return unauthorized("name.unknown", host, _use_one_of(self._directory.all()), Hop.NAME)

    async def _look_up(self, ref: DeviceRef) -> tuple[Identity | None, DeviceSecrets | None]:
        """One look-up for a device, two for a module, whether or not they exist."""
        device = await self._identities.get(DeviceRef(ref.hub, ref.device_id))
        identity = await self._identities.get(ref) if ref.module_id else device
        if identity is None or device is None or "/" in ref.device_id or "/" in ref.module_id:
            # A slash is in no id, but joins the two in the registry's keys: `a/b` must not be taken for module b of a.
            return None, None
        return identity, replace(secrets_of(identity), enabled=device.enabled)

    async def _tagged(self, hub: Hub, ref: DeviceRef) -> tuple[Hub, Mapping[str, object]]:
        """The hub as it is now, and the device's tags when a policy asks for them, whether or not there is a device."""
        tags: Mapping[str, object] | None = None
        while tags is None and ask_for_tags(self._current(hub).door_policies):
            tags = await self._tags.tags(DeviceRef(ref.hub, ref.device_id))
        return self._current(hub), NO_TAGS if tags is None else tags

    def _current(self, hub: Hub) -> Hub:
        current = self._present(hub)
        assert isinstance(current, Hub), "a number is one resource's for ever"
        return current

    def _present(self, resource: Guarded) -> Guarded:
        """The resource as it is now."""
        current = self._directory.by_number(resource.number)
        if current is None:
            remedy = f"{resource.kind.word} {resource.name} was deleted"
            raise unauthorized("name.unknown", resource.host_name, remedy, Hop.NAME)
        return current

    def guard(self, resource: Guarded, further: Iterable[SharedAccessPolicy] = ()) -> Guard:
        """What a resource checks credentials against; `further` are policies of a part of it."""
        policies = {policy.name: policy for policy in (*resource.policies, *further)}
        certificates = resource.certificates if isinstance(resource, Hub) else ()
        return Guard(resource.hosts, policies, self._digest, resource.local_auth, resource.group, certificates)

    def _policy(
        self,
        connection: Peer,
        hub: Hub,
        parse: Callable[[], sas.SasToken],
        resources: Sequence[sas.Resource] | None,
        *,
        built_in: bool = False,
    ) -> Admitted:
        """Without resources (None) the token may be of any scope."""
        current = self._current(hub)
        guard = self.guard(current)
        scope: list[tuple[str, ...]] = []

        def prove() -> Principal:
            token = parse()
            scope.append(token.resource.path)
            wanted = [token.resource] if resources is None else resources
            forms = EVENT_HUBS_FORMS if built_in else None
            return authenticate_policy(guard, token, wanted, now_ms=self._clock.utc_ms(), forms=forms)

        principal, rule = self._decide(connection, current, prove, built_in=built_in)
        return self._let_in(connection, current, principal, rule, identity=None, scope=scope[0])

    def _decide(
        self,
        connection: Peer,
        hub: Hub,
        prove: Callable[[], Principal],
        *,
        built_in: bool = False,
        device_id: str = "",
        tags: Mapping[str, object] = NO_TAGS,
    ) -> tuple[Principal, str]:
        door, address = connection.door, connection.peer_address
        admission = admit(hub, door=door, address=address, built_in=built_in, facts=self._facts())
        match admission:
            case Allow(rule=rule):
                principal = prove()
                refusal = wrong_door(hub.door_policies, caller_of(principal, device_id, tags), door)
                if refusal is not None:
                    raise denied(self._advised(refusal, door, address, hub))
                return principal, rule
            case Deny(refusal=refusal):
                with suppress(HubError):
                    prove()
                raise denied(self._advised(refusal, door, address, hub))

    @staticmethod
    def _untrusted(refusal: Refusal, principal: Principal, resource: Guarded) -> Refusal:
        """The refusal, with the remedy of a hub that the firewall could trust."""
        if not principal.acts_for:
            return refusal
        remedy = f"let trusted services in: isthmus {resource.kind.trust_command.format(name=resource.name)}"
        return replace(refusal, remedy=f"{remedy}; or {refusal.remedy}")

    def _advised(self, refusal: Refusal, door: Door, address: str, hub: Guarded) -> Refusal:
        """The refusal, with a remedy for a peer whose name service sent it to the public door though it is inside."""
        advice = self._advice(address, hub) if door.kind is DoorKind.PUBLIC else ""
        return replace(refusal, remedy=f"{advice}; or {refusal.remedy}") if advice else refusal

    def _let_in(
        self,
        connection: Peer,
        resource: Guarded,
        principal: Principal,
        rule: str,
        *,
        identity: Identity | None,
        scope: tuple[str, ...],
    ) -> Admitted:
        connection.made_progress()
        return Admitted(resource, principal, identity, connection.door, connection.peer_address, rule, scope)

    def _record(self, decision: Decision, connection_id: str) -> None:
        self._counters.refused(decision.plane, decision.rule)
        if not self._journal.write(decision):
            return
        logger.warning(
            "admission denied",
            extra={
                "hub": decision.hub,
                "plane": decision.plane,
                "door": decision.door,
                "address": decision.address,
                "device_id": decision.device,
                "rule": decision.rule,
                "tracking_id": decision.tracking_id,
                "connection_id": connection_id,
            },
        )


def secrets_of(identity: Identity) -> DeviceSecrets:
    """What authentication needs of an identity; `fingerprints()` of it tells which sessions' keys are still good."""
    return DeviceSecrets(
        enabled=identity.enabled,
        method=Method(identity.authentication_type.value),
        primary_key=identity.primary_key or "",
        secondary_key=identity.secondary_key or "",
        primary_thumbprint=identity.primary_thumbprint or "",
        secondary_thumbprint=identity.secondary_thumbprint or "",
    )


def probe_of(audience: str) -> str:
    """The probe that a token's audience names; empty for any other."""
    path = sas.resource_of(audience).path if audience else ()
    return path[1] if len(path) == 2 and path[0].lower() == "devices" and is_probe(path[1]) else ""


def caller_of(principal: Principal, device_id: str, tags: Mapping[str, object]) -> Caller:
    """Who a principal is to door policies; a device that came by a policy's key is both."""
    policy = principal.name if principal.kind is PrincipalKind.POLICY else ""
    return Caller(device_id, tags, policy)


def device_name(identity: Identity) -> str:
    """`device` or `device/module`."""
    return f"{identity.device_id}/{identity.module_id}" if identity.module_id else identity.device_id


def _use_one_of(resources: Sequence[Guarded]) -> str:
    return f"use one of the host names {', '.join(each.host_name for each in resources)}"


def _decision(door: Door, address: str, plane: Plane, refusal: Refusal) -> Decision:
    return Decision(
        Verdict.REFUSED,
        plane=plane.value,
        door=door.label,
        address=address,
        hop=refusal.hop.value,
        rule=refusal.rule,
        value=refusal.value,
        remedy=refusal.remedy,
    )


def _parsed(token: str) -> sas.SasToken:
    if not token:
        raise unauthorized("auth.missing", "no token", "send a SAS token of a shared access policy")
    return sas.parse(token)
