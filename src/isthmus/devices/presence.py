"""Presence: which devices are connected, durably, and the events about it.

Theory of operation. The gateway reports connections and disconnections by plain calls that never wait. The latest
report of each device stays in a table until one task, `run`, has committed it: the presence document and, when the
connection state differs from the committed one, the connection event, in batches. A device that comes and goes faster
than commits follow leaves only its last state; IoT Hub merges short flaps the same way. A report is removed from the
table after its commit, so a cancelled `run` loses nothing that a later `flush` would not write.

Presence documents are created and deleted with their identity. A report is committed only onto the document that was
read; the report about an identity that is gone meets no document and is dropped.

Beside the presence of whoever is connected lies a note that says so, in the same commit, so that a start finds those
whom the last process left connected without looking at everybody.

Sequence numbers of events rise over the life of the data folder: `open` makes an epoch that is later than the last.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import msgspec

from isthmus.base.clock import NEVER, Clock, iso_utc, ticks
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import MUST_NOT_EXIST, NO_HUB, Change, Delete, Key, OutboxEvent, Put, State, Stored
from isthmus.devices.commit import compare_and_set
from isthmus.devices.documents import ONLINE, online_key, presence_key, ref_of
from isthmus.devices.events import connection_changed

BATCH_MAX = 256
"""Devices whose presence changes in one commit; more wait for the next one."""

TICKS_AT_1601 = 504_911_232_000_000_000
"""Zero of Windows file time in .NET ticks; event sequence numbers start with a file time."""

EPOCH_KEY = Key("meta", NO_HUB, "presence-epoch")


class ConnectionState(StrEnum):
    """As clients read it."""

    CONNECTED = "Connected"
    DISCONNECTED = "Disconnected"


class PresenceRecord(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of a device's connection, as stored and as clients read it."""

    connection_state: ConnectionState = ConnectionState.DISCONNECTED
    connection_state_updated_time: str = NEVER
    last_activity_time: str = NEVER


encode_presence = msgspec.json.Encoder().encode
"""The stored form of a `PresenceRecord`."""

_decode = msgspec.json.Decoder(PresenceRecord).decode
_decode_epoch = msgspec.json.Decoder(int).decode


def presence_of(stored: Stored | None) -> PresenceRecord:
    """The record of a stored document; that of a device that never connected when there is none."""
    return PresenceRecord() if stored is None else _decode(stored.body)


@dataclass(frozen=True, slots=True)
class _Report:
    """What the gateway said last about a device."""

    state: ConnectionState
    at_ms: int


class Presence:
    """Keeps presence documents and connection events up to date with what the gateway reports.

    The table of reports holds at most one per device, so it is bounded by the hubs' devices.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._reports: dict[DeviceRef, _Report] = {}
        self._wake = asyncio.Event()
        self._epoch = 0
        self._events = 0

    async def open(self, hubs: Iterable[HubId]) -> None:
        """Makes this start's epoch and marks as disconnected whoever was connected when the last process ended."""
        await compare_and_set(self._begin_epoch)
        now_ms = self._clock.utc_ms()
        for hub in hubs:
            while notes := await self._state.scan(ONLINE, hub, limit=BATCH_MAX):
                await self._disconnect(notes, now_ms)

    def connected(self, ref: DeviceRef, at_ms: int) -> None:
        """The device has a connection since `at_ms`."""
        self._report(ref, ConnectionState.CONNECTED, at_ms)

    def disconnected(self, ref: DeviceRef, at_ms: int) -> None:
        """The device has lost its last connection; not to be called when a newer one has taken over."""
        self._report(ref, ConnectionState.DISCONNECTED, at_ms)

    async def run(self) -> None:
        """Commits reports as they come, until cancelled; raises `StateClosed` when the store has gone."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Commits all reports given so far; for the time after `run`, which does the same."""
        while self._reports:
            await compare_and_set(self._commit_batch)

    def _report(self, ref: DeviceRef, state: ConnectionState, at_ms: int) -> None:
        self._reports[ref] = _Report(state, at_ms)
        self._wake.set()

    async def _commit_batch(self) -> None:
        batch = list(islice(self._reports.items(), BATCH_MAX))
        changes: list[Change] = []
        events: list[OutboxEvent] = []
        for ref, report in batch:
            stored = await self._state.get(presence_key(ref))
            changes.append(_note(ref, report.state if stored is not None else ConnectionState.DISCONNECTED))
            if stored is None:
                continue
            changes.append(_put(stored, report.state, report.at_ms))
            if presence_of(stored).connection_state is not report.state:
                events.append(self._event(ref, report.state, report.at_ms))
        await self._state.commit(changes, events)
        for ref, report in batch:
            if self._reports.get(ref) is report:
                del self._reports[ref]

    async def _disconnect(self, notes: Sequence[Stored], at_ms: int) -> None:
        """Of those that are noted; before anybody reports anything."""
        changes: list[Change] = [Delete(note.key) for note in notes]
        events: list[OutboxEvent] = []
        for ref in (ref_of(note.key) for note in notes):
            stored = await self._state.get(presence_key(ref))
            if stored is not None and presence_of(stored).connection_state is ConnectionState.CONNECTED:
                changes.append(_put(stored, ConnectionState.DISCONNECTED, at_ms))
                events.append(self._event(ref, ConnectionState.DISCONNECTED, at_ms))
        await self._state.commit(changes, events)

    async def _begin_epoch(self) -> None:
        stored = await self._state.get(EPOCH_KEY)
        earlier = _decode_epoch(stored.body) if stored else 0
        epoch = max(earlier + 1, ticks(self._clock.utc_ms()) - TICKS_AT_1601)
        expect = stored.revision if stored else MUST_NOT_EXIST
        await self._state.commit([Put(EPOCH_KEY, str(epoch).encode(), expect)])
        self._epoch = epoch

    def _event(self, ref: DeviceRef, state: ConnectionState, at_ms: int) -> OutboxEvent:
        self._events += 1
        sequence = f"{0:016X}{self._epoch:016X}{1:08X}{self._events:024X}"
        connected = state is ConnectionState.CONNECTED
        return connection_changed(ref, is_connected=connected, sequence=sequence, utc_ms=at_ms)


def _put(stored: Stored, state: ConnectionState, at_ms: int) -> Put:
    moment = iso_utc(at_ms)
    return Put(stored.key, encode_presence(PresenceRecord(state, moment, moment)), stored.revision)


def _note(ref: DeviceRef, state: ConnectionState) -> Change:
    key = online_key(ref)
    return Put(key, b"{}") if state is ConnectionState.CONNECTED else Delete(key)
