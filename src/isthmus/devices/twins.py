"""Twins of all hubs: read, written from either side, and the news of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.base.state import Conflict, OutboxEvent, Put, State
from isthmus.devices.commit import Changes, compare_and_set
from isthmus.devices.documents import twin_key
from isthmus.devices.events import twin_replaced, twin_reported, twin_updated
from isthmus.devices.identity import Identity
from isthmus.devices.ports import ConnectedDevices
from isthmus.devices.presence import PresenceRecord
from isthmus.devices.registry import ANY_ETAG, Registry
from isthmus.devices.twin import (
    JsonObject,
    Twin,
    TwinBody,
    client_section,
    decode_twin,
    desired_with_version,
    encode_twin,
    parse_twin_body,
    patched,
    replaced,
    reported_patched,
    reported_with_version,
)
from isthmus.devices.twin_snapshots import TwinSnapshots

OnTags = Callable[[DeviceRef, Mapping[str, object]], None]
"""Is told, after the commit, of the tags that a device or module has now."""


class OnTwin(Protocol):
    """Is told, after the commit, whose twin has changed, and whether only its device has reported something."""

    def __call__(self, ref: DeviceRef, *, is_reported: bool) -> None: ...


class _Tagged(msgspec.Struct, frozen=True):
    """Of a stored twin, the tags alone."""

    tags: JsonObject


_encode = msgspec.json.Encoder().encode
_decode_tags = msgspec.json.Decoder(_Tagged).decode


@dataclass(frozen=True, slots=True)
class TwinView:
    """A twin with what services read beside it."""

    ref: DeviceRef
    identity: Identity
    twin: Twin
    presence: PresenceRecord


class Twins:
    """Reads and writes twins; each write commits the document and its twin-change event together."""

    def __init__(self, state: State, clock: Clock, registry: Registry, connected: ConnectedDevices) -> None:
        self._state = state
        self._clock = clock
        self._registry = registry
        self._connected = connected
        self._changes = Changes()
        self._tag_listeners: list[OnTags] = []
        self._watcher: OnTwin | None = None
        self.snapshots = TwinSnapshots(state)

    def on_tags(self, listener: OnTags) -> None:
        """Calls `listener` on the event loop after each committed change of tags, before the caller hears."""
        self._tag_listeners.append(listener)

    def watch(self, watcher: OnTwin | None) -> None:
        """Calls `watcher`, the only one, on the event loop after each committed change; None for nobody."""
        self._watcher = watcher

    async def settled(self) -> None:
        """Returns when no change is under way; for the time before the store is closed."""
        await self._changes.settled()

    async def get(self, ref: DeviceRef) -> TwinView:
        """The whole twin; raises `DEVICE_NOT_FOUND` or `MODULE_NOT_FOUND`."""
        view, _ = await self._view(ref)
        return view

    async def patch(self, ref: DeviceRef, body: object, if_match: str | None) -> TwinView:
        """A service's merge patch of tags and desired properties, under an etag unless `if_match` is None or `*`.

        Raises `HubError`: `ARGUMENT_INVALID`, `DEVICE_NOT_FOUND`, `MODULE_NOT_FOUND`, `PRECONDITION_FAILED`,
        `SERVER_BUSY`. A connected device hears of a change of its desired properties after the commit. Once begun it
        runs to its end: cancelling the wait does not undo it.
        """
        parsed = parse_twin_body(body)
        return await self._changes.make(lambda: self._write(ref, parsed, if_match, whole=False))

    async def replace(self, ref: DeviceRef, body: object, if_match: str | None) -> TwinView:
        """A service's replacement of the sections that `body` holds; otherwise as `patch`."""
        parsed = parse_twin_body(body)
        return await self._changes.make(lambda: self._write(ref, parsed, if_match, whole=True))

    async def patch_reported(self, ref: DeviceRef, patch: object, if_version: int | None = None) -> int:
        """The device's merge patch of its reported properties; returns their new version.

        `if_version` is the version the patch is based on, when the device gave one. Raises `HubError`:
        `ARGUMENT_INVALID`, `DEVICE_NOT_FOUND`, `MODULE_NOT_FOUND`, `PRECONDITION_FAILED`, `SERVER_BUSY`.
        """
        section = client_section(patch, "properties.reported")
        return await compare_and_set(lambda: self._patch_reported(ref, section, if_version))

    async def set_model(self, ref: DeviceRef, model_id: str) -> None:
        """Keeps the id of the model that a device says it follows; nothing is written for one that is kept already.

        Neither version nor etag of the twin moves. Raises `HubError`: `DEVICE_NOT_FOUND`, `MODULE_NOT_FOUND`,
        `SERVER_BUSY`.
        """
        await compare_and_set(lambda: self._set_model(ref, model_id))

    async def desire(self, ref: DeviceRef, patch_of: Callable[[Twin], JsonObject], if_match: str | None) -> TwinView:
        """Patches the desired properties by what `patch_of` makes of the twin; an empty patch changes nothing.

        Without an etag it is made anew of a twin that has changed meanwhile. Raises as `patch`, and as `patch_of`.
        """
        return await self._changes.make(lambda: self._desire(ref, patch_of, if_match))

    async def tags(self, ref: DeviceRef) -> Mapping[str, object]:
        """The committed tags; none when there is no such device."""
        stored = await self._state.get(twin_key(ref))
        return {} if stored is None else _decode_tags(stored.body).tags

    async def device_view(self, ref: DeviceRef) -> JsonObject:
        """The twin as its device reads it: `desired` and `reported`, each with `$version`."""
        twin, _ = await self._read(ref)
        return {"desired": desired_with_version(twin), "reported": reported_with_version(twin)}

    async def _write(self, ref: DeviceRef, body: TwinBody, if_match: str | None, *, whole: bool) -> TwinView:
        view, revision = await self._view(ref)
        if if_match not in (None, ANY_ETAG, view.twin.etag):
            raise HubError(Code.PRECONDITION_FAILED, "The etag in If-Match is not the present one")
        stamp, now_ms = self._stamp()
        twin = replaced(view.twin, body, stamp) if whole else patched(view.twin, body, stamp)
        if twin is view.twin:
            return view
        event = twin_replaced(ref, twin, now_ms) if whole else twin_updated(ref, twin, body, stamp, now_ms)
        await self._commit(ref, twin, revision, event)
        self._tell_tags(ref, view.twin, twin)
        if body.desired is not None:
            self._notify(ref, twin.properties.desired if whole else body.desired, twin.desired_version)
        return replace(view, twin=twin)

    def announce(self, ref: DeviceRef, old: Twin, new: Twin, revision: int, *, patch: JsonObject | None = None) -> None:
        """Tells of a twin that was committed, with this revision, by way of a draft.

        `patch` is what was desired anew; without one it is everything.
        """
        self.snapshots.committed(ref, new, revision)
        if self._watcher is not None:
            self._watcher(ref, is_reported=False)
        self._tell_tags(ref, old, new)
        if new.desired_version != old.desired_version:
            self._notify(ref, new.properties.desired if patch is None else patch, new.desired_version)

    def _tell_tags(self, ref: DeviceRef, old: Twin, new: Twin) -> None:
        if new.tags != old.tags:
            for listener in self._tag_listeners:
                listener(ref, new.tags)

    async def _view(self, ref: DeviceRef) -> tuple[TwinView, int]:
        identity = await self._registry.require(ref)
        twin, revision = await self._read(ref)
        return TwinView(ref, identity, twin, await self._registry.presence(ref)), revision

    async def _set_model(self, ref: DeviceRef, model_id: str) -> None:
        current, revision = await self._read(ref)
        if current.model_id != model_id:
            await self._commit(ref, msgspec.structs.replace(current, model_id=model_id), revision)

    async def _desire(self, ref: DeviceRef, patch_of: Callable[[Twin], JsonObject], if_match: str | None) -> TwinView:
        """The etag of what the patch was made of lets a change in between be seen, where the client gave none."""
        view = await self.get(ref)
        patch = patch_of(view.twin)
        if not patch and if_match in (None, ANY_ETAG, view.twin.etag):
            return view
        body = parse_twin_body({"properties": {"desired": patch}})
        if if_match not in (None, ANY_ETAG):
            return await self._write(ref, body, if_match, whole=False)
        try:
            return await self._write(ref, body, view.twin.etag, whole=False)
        except HubError as error:
            if error.code is not Code.PRECONDITION_FAILED:
                raise
            raise Conflict(0) from error

    async def _patch_reported(self, ref: DeviceRef, section: JsonObject, if_version: int | None) -> int:
        current, revision = await self._read(ref)
        if if_version is not None and if_version != current.reported_version:
            raise HubError(Code.PRECONDITION_FAILED, f"The reported properties have version {current.reported_version}")
        stamp, now_ms = self._stamp()
        twin = reported_patched(current, section, stamp)
        event = twin_reported(ref, twin, section, stamp, now_ms)
        await self._commit(ref, twin, revision, event, is_reported=True)
        return twin.reported_version

    async def _commit(
        self, ref: DeviceRef, twin: Twin, revision: int, *events: OutboxEvent, is_reported: bool = False
    ) -> None:
        (committed,) = await self._state.commit([Put(twin_key(ref), encode_twin(twin), revision)], events)
        self.snapshots.committed(ref, twin, committed)
        if self._watcher is not None:
            self._watcher(ref, is_reported=is_reported)

    async def _read(self, ref: DeviceRef) -> tuple[Twin, int]:
        stored = await self._state.get(twin_key(ref))
        if stored is None:
            raise await self._registry.absence(ref)
        return decode_twin(stored.body), stored.revision

    def _notify(self, ref: DeviceRef, patch: JsonObject, version: int) -> None:
        device = self._connected.find(ref)
        if device is not None:
            device.desired_changed(_encode({**patch, "$version": version}), version)

    def _stamp(self) -> tuple[str, int]:
        now_ms = self._clock.utc_ms()
        return iso_utc(now_ms), now_ms
