"""The identity registry: identities of devices and modules, created, changed and deleted under compare-and-set.

What belongs to an identity (its twin, presence, kept session, queue, modules) comes and goes in the same commit, with
the lifecycle event. A module's creation rewrites its device's document unchanged: that makes it conflict with the
device's deletion and with other creations below the same device, so no module is left without a device and the limit
of modules is exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, HubError
from isthmus.base.filters import EVERYTHING
from isthmus.base.ids import DeviceRef, HubId, Ids
from isthmus.base.limits import DEVICES_PER_HUB_MAX, MODULES_PER_DEVICE_MAX
from isthmus.base.state import MUST_NOT_EXIST, Change, Delete, Documents, OutboxEvent, Put, Stored
from isthmus.devices.commit import Changes, DraftedChanges
from isthmus.devices.documents import (
    DISABLED,
    disabled_key,
    identity_key,
    presence_key,
    ref_of,
    session_key,
    twin_key,
)
from isthmus.devices.draft import Draft
from isthmus.devices.events import created, deleted
from isthmus.devices.identity import (
    SYSTEM_MODULES,
    Identity,
    IdentityBody,
    Status,
    changed_identity,
    decode_identity,
    encode_identity,
    new_identity,
    parse_identity,
    system_module,
)
from isthmus.devices.ports import DeviceQueues
from isthmus.devices.presence import PresenceRecord, encode_presence, presence_of
from isthmus.devices.twin import decode_twin, encode_twin, new_twin

LIST_MAX = 1000
"""Identities in one list; a request for more, or for none, gets this many."""

ANY_ETAG = "*"

OnChange = Callable[[DeviceRef, Identity | None, Identity | None], None]
"""Is told, after the commit, of an identity before and after a change; None where there was or is none."""


@dataclass(frozen=True, slots=True)
class Registered:
    """An identity with its presence."""

    ref: DeviceRef
    identity: Identity
    presence: PresenceRecord


@dataclass(frozen=True, slots=True)
class RegistryStatistics:
    """How many devices a hub has."""

    total: int
    enabled: int

    @property
    def disabled(self) -> int:
        return self.total - self.enabled


@dataclass(slots=True)
class _Plan:
    """A commit in the making, with what listeners are told afterwards."""

    changes: list[Change]
    events: list[OutboxEvent]
    told: list[tuple[DeviceRef, Identity | None, Identity | None]]


class Registry:
    """Identities of all hubs; keyed by hub throughout."""

    def __init__(self, state: Documents, clock: Clock, ids: Ids, *queues: DeviceQueues) -> None:
        self._state = state
        self._clock = clock
        self._ids = ids
        self._queues = queues
        self._changes: Changes = Changes()
        self._listeners: list[OnChange] = []
        self._headroom: dict[HubId, int] = {}

    async def settled(self) -> None:
        """Returns when no change is under way; for the time before the store is closed."""
        await self._changes.settled()

    def on_change(self, listener: OnChange) -> None:
        """Calls `listener` on the event loop after each committed change of an identity, before the caller hears."""
        self._listeners.append(listener)

    def over(self, draft: Draft) -> "Registry":
        """The same rules and the same limit of a hub over a draft; nobody listens to it."""
        drafted = Registry(draft, self._clock, self._ids, *self._queues)
        drafted._headroom = self._headroom
        drafted._changes = DraftedChanges()
        return drafted

    def announce(self, ref: DeviceRef, old: Identity | None, new: Identity | None) -> None:
        """Tells the listeners of a change that was committed by way of a draft."""
        for listener in self._listeners:
            listener(ref, old, new)

    async def get(self, ref: DeviceRef) -> Identity | None:
        """The identity, or None."""
        stored = await self._state.get(identity_key(ref))
        return None if stored is None else decode_identity(stored.body)

    async def require(self, ref: DeviceRef) -> Identity:
        """The identity; raises `DEVICE_NOT_FOUND` or `MODULE_NOT_FOUND`."""
        return decode_identity((await self._require_stored(ref)).body)

    async def view(self, ref: DeviceRef) -> Registered:
        """The identity with its presence; raises as `require`."""
        return Registered(ref, await self.require(ref), await self.presence(ref))

    async def presence(self, ref: DeviceRef) -> PresenceRecord:
        """The committed presence; that of a device that never connected when there is no such identity."""
        return presence_of(await self._state.get(presence_key(ref)))

    async def absence(self, ref: DeviceRef) -> HubError:
        """The refusal for an identity that is not there: it names the module only where the device is there."""
        device = ref._replace(module_id="")
        has_device = bool(ref.module_id) and await self._state.get(identity_key(device)) is not None
        return _not_found(ref if has_device else device)

    async def list(self, hub: HubId, top: int = LIST_MAX) -> Sequence[Registered]:
        """Devices of a hub, at most `top` of them; outside 1 to 1000 it counts as 1000."""
        limit = top if 1 <= top <= LIST_MAX else LIST_MAX
        rows = await self._state.query_devices(hub, EVERYTHING, modules=False, after="", limit=limit)
        return [
            Registered(ref_of(identity.key), decode_identity(identity.body), presence_of(presence))
            for identity, _, presence in rows
        ]

    async def modules(self, hub: HubId, device_id: str) -> Sequence[Registered]:
        """Modules of a device; raises `DEVICE_NOT_FOUND`."""
        device = DeviceRef(hub, device_id)
        await self._require_stored(device)
        return [await self.view(ref_of(stored.key)) for stored in await self._modules_of(device)]

    async def statistics(self, hub: HubId) -> RegistryStatistics:
        """Counts a hub's devices by status."""
        total = await self._state.count_devices(hub, EVERYTHING, modules=False)
        return RegistryStatistics(total, enabled=total - await self._state.count(DISABLED, hub))

    async def put(self, ref: DeviceRef, body: object, if_match: str | None) -> Identity:
        """Creates an identity (no `if_match`) or replaces it (an etag, or `*` for any).

        Raises `HubError`: `ARGUMENT_INVALID`, `DEVICE_ALREADY_EXISTS`, `MODULE_ALREADY_EXISTS`, `DEVICE_NOT_FOUND`,
        `MODULE_NOT_FOUND`, `PRECONDITION_FAILED`, `TOO_MANY_DEVICES`, `TOO_MANY_MODULES`, `SYSTEM_MODULE`,
        `SERVER_BUSY`. Once begun it runs to its end: cancelling the wait does not undo it.
        """
        _refuse_system_module(ref)
        parsed = parse_identity(ref, body)
        if if_match is None:
            return await self._changes.make(lambda: self._create(ref, parsed))
        return await self._changes.make(lambda: self._update(ref, parsed, if_match))

    async def delete(self, ref: DeviceRef, if_match: str | None) -> None:
        """Deletes an identity with all that belongs to it; no `if_match` counts as `*`.

        Raises `HubError`: `DEVICE_NOT_FOUND`, `MODULE_NOT_FOUND`, `PRECONDITION_FAILED`, `SYSTEM_MODULE`,
        `SERVER_BUSY`.
        """
        _refuse_system_module(ref)
        await self._changes.make(lambda: self._delete(ref, if_match))

    async def _create(self, ref: DeviceRef, body: IdentityBody) -> Identity:
        device = await self._state.get(identity_key(ref._replace(module_id="")))
        if not ref.module_id and device is not None:
            raise HubError(Code.DEVICE_ALREADY_EXISTS, f"A device with ID '{ref.device_id}' is already registered")
        plan = _Plan([], [], [])
        if ref.module_id:
            await self._plan_below(ref, device, plan)
        identity = new_identity(ref, body, self._ids, self._clock.utc_ms())
        self._plan_creation(ref, identity, plan)
        if identity.iot_edge:
            self._plan_system_modules(ref, plan)
        await self._take_headroom(ref.hub, sum(new is not None for _, _, new in plan.told))
        await self._commit(plan)
        return identity

    async def _plan_below(self, ref: DeviceRef, device: Stored | None, plan: _Plan) -> None:
        """A module needs its device, a free name and a free place."""
        if device is None:
            raise _not_found(ref._replace(module_id=""))
        names = [stored.key.name for stored in await self._modules_of(ref)]
        if ref.name in names:
            raise HubError(
                Code.MODULE_ALREADY_EXISTS, f"A module with ID '{ref.module_id}' is already registered on the device"
            )
        if len(names) >= MODULES_PER_DEVICE_MAX:
            raise HubError(Code.TOO_MANY_MODULES, f"A device has at most {MODULES_PER_DEVICE_MAX} modules")
        plan.changes.append(Put(device.key, device.body, device.revision))

    async def _update(self, ref: DeviceRef, body: IdentityBody, if_match: str) -> Identity:
        stored = await self._require_stored(ref)
        current = decode_identity(stored.body)
        _check_etag(current, if_match)
        identity = changed_identity(current, body, self._ids, self._clock.utc_ms())
        plan = _Plan([Put(stored.key, encode_identity(identity), stored.revision)], [], [(ref, current, identity)])
        if identity.iot_edge and not current.iot_edge:
            self._plan_system_modules(ref, plan)
        elif current.iot_edge and not identity.iot_edge:
            for module_id in SYSTEM_MODULES:
                await self._plan_deletion(await self._require_stored(ref._replace(module_id=module_id)), plan)
        await self._commit(plan)
        return identity

    async def _delete(self, ref: DeviceRef, if_match: str | None) -> None:
        stored = await self._require_stored(ref)
        _check_etag(decode_identity(stored.body), if_match)
        plan = _Plan([], [], [])
        for module in () if ref.module_id else await self._modules_of(ref):
            await self._plan_deletion(module, plan)
        await self._plan_deletion(stored, plan)
        if not ref.module_id:
            for queues in self._queues:
                plan.changes.extend(await queues.removal(ref))
        await self._commit(plan)

    def _plan_creation(self, ref: DeviceRef, identity: Identity, plan: _Plan) -> None:
        twin = new_twin()
        plan.changes += [
            Put(identity_key(ref), encode_identity(identity), MUST_NOT_EXIST),
            Put(twin_key(ref), encode_twin(twin), MUST_NOT_EXIST),
            Put(presence_key(ref), encode_presence(PresenceRecord()), MUST_NOT_EXIST),
        ]
        plan.events.append(created(ref, twin, self._clock.utc_ms()))
        plan.told.append((ref, None, identity))

    def _plan_system_modules(self, device: DeviceRef, plan: _Plan) -> None:
        for module_id in SYSTEM_MODULES:
            ref = device._replace(module_id=module_id)
            self._plan_creation(ref, system_module(ref, self._ids, self._clock.utc_ms()), plan)

    async def _plan_deletion(self, stored: Stored, plan: _Plan) -> None:
        ref = ref_of(stored.key)
        twin = await self._state.get(twin_key(ref))
        plan.changes += [
            Delete(stored.key, stored.revision),
            Delete(twin_key(ref)),
            Delete(presence_key(ref)),
            Delete(session_key(ref)),
        ]
        if twin is not None:
            plan.events.append(deleted(ref, decode_twin(twin.body), self._clock.utc_ms()))
        plan.told.append((ref, decode_identity(stored.body), None))

    async def _commit(self, plan: _Plan) -> None:
        notes = [note for told in plan.told if (note := _disabled_note(*told))]
        await self._state.commit([*plan.changes, *notes], plan.events)
        for ref, old, new in plan.told:
            self.announce(ref, old, new)

    async def _take_headroom(self, hub: HubId, wanted: int) -> None:
        """Keeps the hub's limit without counting at every creation: counts again only when the last count is used up.

        Deletions in between are found by the next count; creations that fail afterwards cost a place until then.
        """
        if self._headroom.get(hub, 0) < wanted:
            self._headroom[hub] = DEVICES_PER_HUB_MAX - await self._state.count("identity", hub)
        if self._headroom[hub] < wanted:
            raise HubError(Code.TOO_MANY_DEVICES, f"A hub has at most {DEVICES_PER_HUB_MAX} devices and modules")
        self._headroom[hub] -= wanted

    async def _modules_of(self, device: DeviceRef) -> Sequence[Stored]:
        prefix = f"{device.device_id}/"
        limit = MODULES_PER_DEVICE_MAX + len(SYSTEM_MODULES)
        return await self._state.scan("identity", device.hub, prefix=prefix, limit=limit)

    async def _require_stored(self, ref: DeviceRef) -> Stored:
        stored = await self._state.get(identity_key(ref))
        if stored is None:
            raise await self.absence(ref)
        return stored


def _check_etag(identity: Identity, if_match: str | None) -> None:
    if if_match not in (None, ANY_ETAG, identity.etag):
        raise HubError(Code.PRECONDITION_FAILED, "The etag in If-Match is not the present one")


def _disabled_note(ref: DeviceRef, old: Identity | None, new: Identity | None) -> Change | None:
    """What keeps the notes of disabled devices true; None where nothing changes in that."""
    was, now = _is_disabled(old), _is_disabled(new)
    if ref.module_id or was is now:
        return None
    return Put(disabled_key(ref), b"{}") if now else Delete(disabled_key(ref))


def _is_disabled(identity: Identity | None) -> bool:
    return identity is not None and identity.status is Status.DISABLED


def _refuse_system_module(ref: DeviceRef) -> None:
    if ref.module_id in SYSTEM_MODULES:
        raise HubError(Code.SYSTEM_MODULE, f"The system module {ref.module_id} cannot be changed")


def _not_found(ref: DeviceRef) -> HubError:
    if ref.module_id:
        return HubError(Code.MODULE_NOT_FOUND, f"Module {ref.module_id} of device {ref.device_id} not registered")
    return HubError(Code.DEVICE_NOT_FOUND, f"Device {ref.device_id} not registered")
