"""Brings single twins to what the configurations of their hub want, in a draft that others commit.

An edge device is settled with its modules: those that deployments name are made, and each gets its part. The status of
a deployment stands in the twin of the edge agent; it is applied where it has a path in any module of the device.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import MODULES_PER_DEVICE_MAX
from isthmus.base.state import Put, Stored
from isthmus.configurations.configuration import Rule
from isthmus.configurations.content import EDGE_AGENT, ContentKind
from isthmus.configurations.plan import Claim, plan, winners
from isthmus.devices.documents import identity_key, presence_key, ref_of, twin_key
from isthmus.devices.draft import Draft
from isthmus.devices.events import twin_updated
from isthmus.devices.identity import SYSTEM_MODULES, Identity
from isthmus.devices.joined_view import View, view_of
from isthmus.devices.registry import Registry
from isthmus.devices.twin import JsonObject, Twin, TwinBody, client_section, decode_twin, encode_twin, patched

MANAGED_BY = "iotEdge"
"""Says of a module that deployments made it."""

Row = tuple[Stored, Stored, Stored | None]
"""Identity, twin and presence of a device or module."""


class Rules:
    """The configurations of a hub by whose twins they write, each the highest rank first."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        ranked = sorted(rules, key=lambda rule: rule.rank, reverse=True)
        self.devices = [rule for rule in ranked if rule.content.kind is ContentKind.DEVICE]
        self.deployments = [rule for rule in ranked if rule.content.kind is ContentKind.MODULES]
        self.modules = [rule for rule in ranked if rule.content.kind is ContentKind.MODULE]
        self.look_at_reported = any(rule.looks_at_reported for rule in ranked)

    def deployed(self, device: View) -> list[Rule]:
        """The deployments for a device."""
        return [rule for rule in self.deployments if rule.targets(device)]


@dataclass(frozen=True, slots=True)
class Written:
    """A twin before and after its patch, and its revision then."""

    ref: DeviceRef
    before: Twin
    after: Twin
    revision: int
    patch: JsonObject


@dataclass(frozen=True, slots=True)
class Refused:
    """A device or module that does not take what the configurations want of it, and why."""

    ref: DeviceRef
    owners: tuple[str, ...]
    error: HubError


@dataclass(slots=True)
class Settled:
    """What a draft holds that somebody is told of after its commit."""

    seen: set[DeviceRef] = field(default_factory=set)
    written: list[Written] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    made: list[tuple[DeviceRef, Identity]] = field(default_factory=list)


class Settling:
    """Settles twins of one hub by rules that hold for as long as this is used."""

    def __init__(self, rules: Rules, registry: Registry, clock: Clock) -> None:
        self._rules = rules
        self._registry = registry
        self._clock = clock

    def has_work(self, row: Row) -> bool:
        """False when the device or module is as it has to be, as far as that can be said without looking further.

        What deployments want of modules is seen to at their devices.
        """
        ref, view = ref_of(row[0].key), view_of(*row)
        if not ref.module_id and self._rules.deployments and _is_edge(view):
            return True
        return plan(decode_twin(row[1].body), self._claims(ref, view)) is not None

    async def settle(self, ref: DeviceRef, draft: Draft, settled: Settled) -> None:
        """Writes what a device or module has to become into the draft; nothing for one that is not there."""
        row = await _row(ref, draft)
        if row is None or ref in settled.seen:
            return
        settled.seen.add(ref)
        view = view_of(*row)
        if not ref.module_id:
            await self._write(ref, row[1], self._claims(ref, view), draft, settled)
            if self._rules.deployments and _is_edge(view):
                await self._settle_modules(ref, view, draft, settled)
            return
        device = await _row(ref._replace(module_id=""), draft) if self._rules.deployments else None
        deployed = self._rules.deployed(view_of(*device)) if device is not None else []
        await self._write_module(ref, row, deployed, draft, settled)

    def _claims(self, ref: DeviceRef, view: View) -> list[Claim]:
        rules = self._rules.modules if ref.module_id else self._rules.devices
        return [Claim(rule.config_id, rule.owner, rule.content.settings) for rule in rules if rule.targets(view)]

    async def _settle_modules(self, device: DeviceRef, view: View, draft: Draft, settled: Settled) -> None:
        deployed = self._rules.deployed(view)
        for module_id in sorted({name for rule in deployed for name in rule.content.edge_modules}):
            await self._make(device._replace(module_id=module_id), draft, settled)
        limit = MODULES_PER_DEVICE_MAX + len(SYSTEM_MODULES)
        for stored in await draft.scan("identity", device.hub, prefix=f"{device.device_id}/", limit=limit):
            ref = ref_of(stored.key)
            row = await _row(ref, draft)
            if row is not None and ref not in settled.seen:
                settled.seen.add(ref)
                await self._write_module(ref, row, deployed, draft, settled)

    async def _make(self, ref: DeviceRef, draft: Draft, settled: Settled) -> None:
        """Makes a module that a deployment needs, unless it is there."""
        if ref.module_id in SYSTEM_MODULES or await draft.get(identity_key(ref)) is not None:
            return
        try:
            made = await self._registry.over(draft).put(ref, {"managedBy": MANAGED_BY}, None)
        except HubError as error:
            settled.refused.append(Refused(ref, (), error))
            return
        settled.made.append((ref, made))

    async def _write_module(
        self, ref: DeviceRef, row: Row, deployed: Sequence[Rule], draft: Draft, settled: Settled
    ) -> None:
        is_agent = ref.module_id == EDGE_AGENT
        own = [rule for rule in self._rules.modules if rule.targets(view_of(*row))]
        told = {rule.owner for rule in own} | ({rule.owner for rule in deployed} if is_agent else set())
        claims = [
            Claim(rule.config_id, rule.owner, settings, rule.owner in told)
            for rule in sorted((*own, *deployed), key=lambda rule: rule.rank, reverse=True)
            if (settings := rule.content.modules.get(ref.module_id, {}) if rule in deployed else rule.content.settings)
            or rule.owner in told
        ]
        applied = [*_holders(deployed), *winners([claim for claim in claims if claim.settings])] if is_agent else None
        await self._write(ref, row[1], claims, draft, settled, applied)

    async def _write(
        self,
        ref: DeviceRef,
        stored: Stored,
        claims: Sequence[Claim],
        draft: Draft,
        settled: Settled,
        applied: Sequence[str] | None = None,
    ) -> None:
        twin = decode_twin(stored.body)
        planned = plan(twin, claims, applied)
        if planned is None:
            return
        now_ms = self._clock.utc_ms()
        try:
            body = TwinBody(None, client_section(planned.patch, "properties.desired") if planned.patch else None)
            after = patched(planned.written(twin), body, iso_utc(now_ms))
        except HubError as error:
            settled.refused.append(Refused(ref, tuple(claim.owner for claim in claims), error))
            body, after = TwinBody(None, None), planned.refused(twin, claims).written(twin)
            if after == twin:
                return
        events = [twin_updated(ref, after, body, iso_utc(now_ms), now_ms)] if body.desired is not None else []
        await draft.commit([Put(stored.key, encode_twin(after), stored.revision)], events)
        settled.written.append(Written(ref, twin, after, stored.revision + 1, body.desired or {}))


def _holders(deployed: Sequence[Rule]) -> set[str]:
    """The deployments that have a path in any module of a device, and those that claim none."""
    held = {rule.owner for rule in deployed if not any(rule.content.modules.values())}
    for module_id in {name for rule in deployed for name in rule.content.modules}:
        claims = [
            Claim(rule.config_id, rule.owner, rule.content.modules[module_id])
            for rule in deployed
            if rule.content.modules.get(module_id)
        ]
        held.update(winners(claims))
    return held


def _is_edge(view: View) -> bool:
    capabilities = view.get("capabilities")
    return isinstance(capabilities, dict) and capabilities.get("iotEdge") is True


async def _row(ref: DeviceRef, draft: Draft) -> Row | None:
    identity, twin = await draft.get(identity_key(ref)), await draft.get(twin_key(ref))
    if identity is None or twin is None:
        return None
    return identity, twin, await draft.get(presence_key(ref))
