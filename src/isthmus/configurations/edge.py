"""Content that is applied to one edge device, once and by hand.

Modules that the content names are made, those that an earlier content made and this one does not name are removed, and
desired properties are written: all in one commit. Automatic deployments that the device is a target of keep what they
have put there.
"""

from dataclasses import dataclass, field

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import MODULES_PER_DEVICE_MAX
from isthmus.base.state import Put, State
from isthmus.completion import Completion
from isthmus.configurations.content import Content, ContentKind, Settings, parse_content
from isthmus.configurations.plan import patch_for
from isthmus.configurations.settling import MANAGED_BY, Written
from isthmus.devices.commit import compare_and_set
from isthmus.devices.documents import identity_key, ref_of, twin_key
from isthmus.devices.draft import Draft
from isthmus.devices.events import twin_updated
from isthmus.devices.identity import SYSTEM_MODULES, Identity, decode_identity
from isthmus.devices.registry import Registry
from isthmus.devices.twin import TwinBody, client_section, decode_twin, encode_twin, patched
from isthmus.devices.twins import Twins


@dataclass(slots=True)
class _Applied:
    """What listeners are told of after the commit."""

    identities: list[tuple[DeviceRef, Identity | None, Identity | None]] = field(default_factory=list)
    twins: list[Written] = field(default_factory=list)


class EdgeContent:
    """Applies content to edge devices; one at a time to each."""

    def __init__(self, state: State, clock: Clock, registry: Registry, twins: Twins) -> None:
        self._state = state
        self._clock = clock
        self._registry = registry
        self._twins = twins
        self._completion = Completion()
        self._applying: set[DeviceRef] = set()

    async def settled(self) -> None:
        """Returns when nothing is being applied; for the time before the store is closed."""
        await self._completion.settled()

    async def apply(self, device: DeviceRef, body: object) -> None:
        """Applies the content, whole or not at all.

        Raises `HubError`: `INVALID_CONFIGURATION_CONTENT`, `DEVICE_NOT_FOUND`, `ARGUMENT_INVALID` for a device that is
        no edge device and for what a twin's own rules refuse, `APPLYING_IN_PROGRESS`, `TOO_MANY_MODULES`,
        `SERVER_BUSY`. Once begun it runs to its end: cancelling the wait does not undo it.
        """
        content = parse_content(body)
        if content.kind is ContentKind.MODULE:
            raise HubError(Code.INVALID_CONFIGURATION_CONTENT, "Give modulesContent, which names its modules")
        if not (await self._registry.require(device)).iot_edge:
            raise HubError(Code.ARGUMENT_INVALID, f"Device {device.device_id} is not an edge device")
        if device in self._applying:
            raise HubError(Code.APPLYING_IN_PROGRESS, "Content is being applied to this device, try again")
        self._applying.add(device)
        await self._completion.run(self._apply(device, content))

    async def _apply(self, device: DeviceRef, content: Content) -> None:
        try:
            await compare_and_set(lambda: self._apply_once(device, content))
        finally:
            self._applying.discard(device)

    async def _apply_once(self, device: DeviceRef, content: Content) -> None:
        draft, applied = Draft(self._state), _Applied()
        await self._draft(device, content, draft, applied)
        await self._state.commit(draft.changes, draft.events)
        for each in applied.identities:
            self._registry.announce(*each)
        for written in applied.twins:
            self._twins.announce(written.ref, written.before, written.after, written.revision, patch=written.patch)

    async def _draft(self, device: DeviceRef, content: Content, draft: Draft, applied: _Applied) -> None:
        if content.kind is ContentKind.DEVICE:
            await self._write(device, content.settings, draft, applied)
            return
        await self._remove_others(device, content, draft, applied)
        for module_id in content.edge_modules:
            ref = device._replace(module_id=module_id)
            if module_id not in SYSTEM_MODULES and await draft.get(identity_key(ref)) is None:
                made = await self._registry.over(draft).put(ref, {"managedBy": MANAGED_BY}, None)
                applied.identities.append((ref, None, made))
            await self._write(ref, content.modules.get(module_id, {}), draft, applied)

    async def _remove_others(self, device: DeviceRef, content: Content, draft: Draft, applied: _Applied) -> None:
        limit = MODULES_PER_DEVICE_MAX + len(SYSTEM_MODULES)
        for stored in await draft.scan("identity", device.hub, prefix=f"{device.device_id}/", limit=limit):
            ref, identity = ref_of(stored.key), decode_identity(stored.body)
            is_ours = (identity.managed_by or "").lower() == MANAGED_BY.lower()
            if is_ours and ref.module_id not in (*SYSTEM_MODULES, *content.edge_modules):
                await self._registry.over(draft).delete(ref, None)
                applied.identities.append((ref, identity, None))

    async def _write(self, ref: DeviceRef, settings: Settings, draft: Draft, applied: _Applied) -> None:
        stored = await draft.get(twin_key(ref))
        if stored is None:
            raise await self._registry.absence(ref)
        twin = decode_twin(stored.body)
        patch = patch_for(twin, settings)
        if not patch:
            return
        now_ms = self._clock.utc_ms()
        body = TwinBody(None, client_section(patch, "properties.desired"))
        after = patched(twin, body, iso_utc(now_ms))
        event = twin_updated(ref, after, body, iso_utc(now_ms), now_ms)
        await draft.commit([Put(stored.key, encode_twin(after), stored.revision)], [event])
        applied.twins.append(Written(ref, twin, after, stored.revision + 1, body.desired or {}))
