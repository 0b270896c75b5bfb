"""Dry runs of management calls: `?dryRun=true` on any change tells who would be cut off, and changes nothing.

Theory of operation. The very call is carried out by the very handlers, but over a rehearsal: hubs, networks and
endpoints of their own, read from what is committed, whose writes go nowhere. What the call is refused for is refused
here, too. Then everybody who came to the hubs in the last days, and everybody who is connected now, is judged twice by
the pure functions of the doors, under the rules before and under the rules afterwards. Listed is who is let in before
and refused afterwards; who is refused already, or is not there any more, is only counted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from isthmus.access.arrivals import Arrival, arrivals
from isthmus.access.certificate_chain import authority_lost
from isthmus.access.journal import BUILT_IN, Journal
from isthmus.access.local_auth import ALL_KEYS, key_replaced, policy_gone, right_lost, switched_off
from isthmus.access.principal import PrincipalKind, Right
from isthmus.access.x509 import fingerprint
from isthmus.base.clock import Clock, iso_utc, parse_iso_ms
from isthmus.base.errors import Code, HubError, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.devices.identity import AuthenticationType, Identity
from isthmus.network.door import Door
from isthmus.network.door_policies import NO_TAGS, ask_for_tags
from isthmus.network.dry_run import RESOURCE_GONE, Rules, door_of, refusal_of
from isthmus.network.virtual_networks import NetworkFacts
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.resources.private_endpoints import PrivateEndpoints
from isthmus.resources.virtual_networks import VirtualNetworks
from isthmus.servers.gateway.gate import Identities, Tags
from isthmus.servers.management.arm import Arm
from isthmus.servers.management.permissions import ARM_ROOTS
from isthmus.servers.management.request import Call, Reply

DAYS_DEFAULT = 7
"""How far a dry run looks back when nobody says: a week has every shift and the weekend's jobs."""

AFFECTED_MAX = 10_000
"""Arrivals that one answer lists, the latest; their number is told all the same."""

JUDGED_BATCH = 200
"""Arrivals judged between two turns of the loop, at some 20 µs each."""

CHANGES = frozenset(("PUT", "PATCH", "DELETE"))

_DAY_MS = 86_400_000

Live = Callable[[Hub], Iterable[Arrival]]
"""Who is connected to a hub now."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A management API over resources that are read from the committed state and written nowhere."""

    hubs: Hubs
    networks: VirtualNetworks
    endpoints: PrivateEndpoints
    arm: Arm


@dataclass(frozen=True, slots=True)
class Affected:
    """An arrival that a change would refuse, and why."""

    hub: str
    arrival: Arrival
    last_seen_ms: int
    live: bool
    refusal: Refusal

    def shown(self) -> dict[str, object]:
        """As JSON members; an empty one does not apply."""
        arrival, refusal = self.arrival, self.refusal
        return {
            "hub": self.hub,
            "device": arrival.device,
            "principal": arrival.principal,
            "address": arrival.address,
            "door": arrival.door,
            "plane": arrival.plane,
            "consumerGroup": arrival.consumer_group,
            "lastSeen": iso_utc(self.last_seen_ms),
            "live": self.live,
            "rule": refusal.rule,
            "value": refusal.value,
            "remedy": refusal.remedy,
        }


@dataclass(frozen=True, slots=True)
class _Change:
    """A hub before a change, as it would be after it (None when it is gone), and the declared networks likewise."""

    before: Hub
    after: Hub | None
    facts_before: NetworkFacts
    facts_after: NetworkFacts

    @property
    def old(self) -> Rules:
        return Rules(self.before, self.facts_before)

    @property
    def new(self) -> Rules:
        return Rules(self.after, self.facts_after)

    @property
    def asks_for_identities(self) -> bool:
        """True when a switch of local authentication says no to somebody, or CA certificates differ."""
        after = self.before if self.after is None else self.after
        switched = any(hub.local_auth != ALL_KEYS for hub in (self.before, after))
        return switched or self.before.certificates != after.certificates


@dataclass(slots=True)
class _Findings:
    """What comes of judging everybody."""

    affected: list[Affected]
    admitted: int = 0
    refused_already: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True)
class DryRuns:
    """Answers changes that are asked for with `dryRun=true`; used on the event loop only."""

    rehearse: Callable[[], Awaitable[Rehearsal]]
    journal: Journal
    live: Live
    identities: Identities
    tags: Tags
    clock: Clock

    async def answer(self, call: Call) -> Reply:
        """The list of who would be cut off; raises HubError as the change itself would, and ArgumentInvalid."""
        if call.method not in CHANGES:
            raise HubError(Code.ARGUMENT_INVALID, "dryRun is for changes: PUT, PATCH and DELETE")
        since_ms = self._since(call.query.get("since", ""))
        rehearsal = await self.rehearse()
        before, facts = rehearsal.hubs.all(), rehearsal.networks.facts()
        doors = {each.door.label: each.door for each in rehearsal.endpoints.all()}
        await rehearsal.arm.answer(replace(call, query=_without_ours(call.query)))
        findings = _Findings([])
        for hub in before:
            change = _Change(hub, rehearsal.hubs.by_number(hub.number), facts, rehearsal.networks.facts())
            if change.old != change.new:
                await self._judge(change, doors, since_ms, findings)
        return Reply(value=_told(findings, since_ms))

    async def _judge(self, change: _Change, doors: Mapping[str, Door], since_ms: int, findings: _Findings) -> None:
        hub, old, new = change.before, change.old, change.new
        recorded = await arrivals(self.journal, hub.name, since_ms)
        findings.complete &= recorded.complete
        live, now_ms = set(self.live(hub)), self.clock.utc_ms()
        seen = {**recorded.seen, **dict.fromkeys(live, now_ms)}
        tags = await self._tags(hub, seen, old, new)
        for number, (arrival, seen_ms) in enumerate(seen.items(), start=1):
            door = door_of(arrival.door, hub.resource_id, doors)
            known = tags.get(arrival.device_id, NO_TAGS)
            identity = await self._identity(change, arrival)
            refusal = (
                refusal_of(new, arrival, door, known)
                or credential_refusal(change.after, arrival, identity)
                or _unknown_key(change, arrival)
            )
            refused = refusal_of(old, arrival, door, known) or credential_refusal(hub, arrival, identity)
            if refused is not None or not await self._is_known(hub, arrival, refusal):
                findings.refused_already += 1
            elif refusal is not None:
                findings.affected.append(Affected(hub.name, arrival, seen_ms, arrival in live, refusal))
            else:
                findings.admitted += 1
            if number % JUDGED_BATCH == 0:
                await asyncio.sleep(0)

    async def _tags(
        self, hub: Hub, seen: Mapping[Arrival, int], old: Rules, new: Rules
    ) -> dict[str, Mapping[str, object]]:
        """The devices' tags as they are now, where one of the policies asks for them."""
        resources = [rules.resource for rules in (old, new) if rules.resource is not None]
        found: dict[str, Mapping[str, object]] = {}
        if not any(ask_for_tags(resource.door_policies) for resource in resources):
            return found
        for number, device_id in enumerate({arrival.device_id for arrival in seen if arrival.device}, start=1):
            found[device_id] = await self.tags.tags(DeviceRef(hub.number, device_id))
            if number % JUDGED_BATCH == 0:
                await asyncio.sleep(0)
        return found

    async def _is_known(self, hub: Hub, arrival: Arrival, refusal: Refusal | None) -> bool:
        """Whether an arrival that would be refused could prove itself now; who is admitted is not looked up."""
        if refusal is None:
            return True
        if not arrival.device:
            return True
        device_id, _, module_id = arrival.device.partition("/")
        identities = [await self.identities.get(DeviceRef(hub.number, device_id, each)) for each in {"", module_id}]
        return all(identity is not None and identity.enabled for identity in identities)

    async def _identity(self, change: _Change, arrival: Arrival) -> Identity | None:
        """Who an arrival with a credential of its own is; looked up only where it counts."""
        if not change.asks_for_identities or not arrival.device or arrival.shared_access_policy:
            return None
        device_id, _, module_id = arrival.device.partition("/")
        return await self.identities.get(DeviceRef(change.before.number, device_id, module_id))

    def _since(self, text: str) -> int:
        since_ms = parse_iso_ms(text) if text else self.clock.utc_ms() - DAYS_DEFAULT * _DAY_MS
        if since_ms is None:
            raise HubError(Code.ARGUMENT_INVALID, "since must be an ISO 8601 date and time")
        return since_ms


def credential_refusal(hub: Hub | None, arrival: Arrival, identity: Identity | None) -> Refusal | None:
    """Why the credential of an arrival is not taken at the hub as it is; None when it is, the key being a present one.

    `identity` is that of an arrival with a credential of its own, as it is now.
    """
    if hub is None:
        return RESOURCE_GONE
    name = arrival.shared_access_policy
    if not name:
        if identity is not None and identity.authentication_type is AuthenticationType.CERTIFICATE_AUTHORITY:
            return authority_lost(arrival.key, arrival.device, hub.certificates)
        is_sas = identity is not None and identity.authentication_type is AuthenticationType.SAS
        kind = PrincipalKind.MODULE if "/" in arrival.device else PrincipalKind.DEVICE
        return switched_off(hub.local_auth, kind, arrival.device) if is_sas else None
    policy = hub.policy(name)
    if policy is None:
        return policy_gone(name, [each.name for each in hub.policies])
    if arrival.key and arrival.key not in {fingerprint(key) for key in policy.keys}:
        return key_replaced(name)
    if arrival.device and Right.DEVICE_CONNECT not in policy.rights:
        return right_lost(name, Right.DEVICE_CONNECT)
    return switched_off(hub.local_auth, PrincipalKind.POLICY, name)


def _unknown_key(change: _Change, arrival: Arrival) -> Refusal | None:
    """Of an arrival from before keys were noted, that it may have used the one that goes.

    A reader's connection has the key, and is judged by it.
    """
    name = arrival.shared_access_policy
    old = change.before.policy(name) if name else None
    new = change.after.policy(name) if name and change.after is not None else None
    if arrival.key or arrival.consumer_group or old is None or new is None or set(old.keys) <= set(new.keys):
        return None
    return replace(key_replaced(name), value=f"a key of {name} was replaced; which one was used is not known")


def is_dry_run(call: Call) -> bool:
    """Whether an ARM call is to be rehearsed only; raises HubError ArgumentInvalid for neither true nor false."""
    if call.path[0].lower() not in ARM_ROOTS:
        return False
    wanted = call.query.get("dryRun", "false").lower()
    if wanted not in ("true", "false"):
        raise HubError(Code.ARGUMENT_INVALID, "dryRun must be true or false")
    return wanted == "true"


def _without_ours(query: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if name not in ("dryRun", "since")}


def _without_doubles(affected: list[Affected]) -> list[Affected]:
    """Not the connection of a reader beside the reader itself, which tells more."""
    readers = {(each.hub, replace(each.arrival, asked=BUILT_IN)) for each in affected if each.arrival.consumer_group}
    return [each for each in affected if (each.hub, replace(each.arrival, key="")) not in readers]


def _told(findings: _Findings, since_ms: int) -> dict[str, object]:
    affected = _without_doubles(findings.affected)
    latest = sorted(affected, key=lambda each: (not each.live, -each.last_seen_ms))
    return {
        "dryRun": True,
        "since": iso_utc(since_ms),
        "affected": [each.shown() for each in latest[:AFFECTED_MAX]],
        "affectedTotal": len(latest),
        "admitted": findings.admitted,
        "refusedAlready": findings.refused_already,
        "complete": findings.complete,
    }
