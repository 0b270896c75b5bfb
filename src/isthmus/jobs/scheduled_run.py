"""Runs a scheduled job: selects its devices, deals with each, and counts.

Theory of operation. First the selection: pages of devices become documents, one for each, and the record says up to
where; a process that dies goes on there. Then the work, in the order of names. A twin job patches a group of twins
through a draft, and twins, documents and record are one commit: each device is patched once. A method job calls devices
that are connected, `CALLS_AT_ONCE` at a time, and commits what they answered; a device that had been called when the
process died is called again. A device that does not answer takes one place and delays nobody else. Devices that are not
there are left pending: the job is told of each that comes and subscribes to methods, and calls it, until its time is
over; then what is pending has failed. Nothing is held in memory but a group, the calls under way, and the names of
devices that came.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import COMMIT_TRIES_MAX, Change, Conflict, Key, OutboxEvent, Put, State, Stored
from isthmus.commands.methods import DeviceNotOnlineError, MethodRequest, Methods
from isthmus.completion import Completion
from isthmus.devices.documents import ref_of, twin_key
from isthmus.devices.draft import Draft
from isthmus.devices.events import twin_updated
from isthmus.devices.registry import Registry
from isthmus.devices.twin import Twin, TwinBody, decode_twin, encode_twin, patched
from isthmus.devices.twins import Twins
from isthmus.jobs.ports import Arrivals
from isthmus.jobs.scheduled_job import (
    DEVICE_KIND,
    DeviceJob,
    DeviceJobStatus,
    ScheduledJob,
    ScheduledType,
    decode_device_job,
    device_job_key,
    encode_device_job,
    encode_scheduled,
    scheduled_key,
)

GROUP = 100
"""Devices of one commit."""

CALLS_AT_ONCE = 64
"""Methods under way for one job."""

WATCH_SECONDS = 1.0
"""A job that waits for devices looks at the clock so often."""


class ScheduledRecord:
    """The record of a job while it runs: what was committed last, and the one way to write it.

    `completion` has the commits under way, which cancelling the wait for them does not undo.
    """

    def __init__(self, state: State, hub: HubId, job: ScheduledJob, revision: int) -> None:
        self._state = state
        self._hub = hub
        self._revision = revision
        self.job = job
        self.completion = Completion()

    async def moved(self, others: Sequence[Change] = (), events: Sequence[OutboxEvent] = (), **fields: object) -> None:
        """Commits the record with these fields, other changes, and events; raises `Conflict` for another's revision."""
        await self.completion.run(self._save(msgspec.structs.replace(self.job, **fields), others, events))

    async def _save(self, job: ScheduledJob, others: Sequence[Change], events: Sequence[OutboxEvent]) -> None:
        put = Put(scheduled_key(self._hub, job.job_id), encode_scheduled(job), self._revision)
        revisions = await self._state.commit([put, *others], events)
        self.job, self._revision = job, revisions[0]


@dataclass(frozen=True, slots=True)
class Tools:
    """What jobs work with."""

    state: State
    clock: Clock
    registry: Registry
    twins: Twins
    methods: Methods
    connected: Arrivals


_Written = tuple[DeviceRef, Twin, Twin, int]
"""A twin before and after a patch, and its revision then."""


class ScheduledRun:
    """One run of a job, from where its record stands to its end."""

    def __init__(self, hub: HubId, record: ScheduledRecord, tools: Tools) -> None:
        self._hub = hub
        self._record = record
        self._tools = tools
        self._come: dict[DeviceRef, None] = {}
        self._wake = asyncio.Event()
        self._places = asyncio.Semaphore(CALLS_AT_ONCE)
        self._calls: dict[asyncio.Task[DeviceJob | None], Stored] = {}
        self._answers: list[tuple[Stored, DeviceJob | None]] = []
        self._busy: set[Key] = set()

    def has_come(self, ref: DeviceRef) -> None:
        """Listens to devices that take methods from now on."""
        if ref.hub == self._hub and self._record.job.type is ScheduledType.DEVICE_METHOD:
            self._come[ref] = None
            self._wake.set()

    async def run(self) -> None:
        """Returns when every device has been dealt with; raises `HubError` and what the state raises."""
        if not self._record.job.selected:
            await self._select()
        deal = self._update_twins if self._record.job.type is ScheduledType.UPDATE_TWIN else self._call_all
        try:
            async for group in self._groups():
                if self._is_over:
                    break
                await deal(group)
            await self._await_the_others()
        finally:
            await self._hang_up()
        await self.settle(DeviceJobStatus.FAILED)

    async def settle(self, status: DeviceJobStatus) -> None:
        """Ends what is pending, as failed for want of time or as cancelled."""
        if self._is_done:
            return
        code, reason = _late(self._record.job) if status is DeviceJobStatus.FAILED else ("", "")
        async for group in self._groups():
            await self._commit([(each, self._ended(each, status, code, reason)) for each in group])

    @cached_property
    def _patch_body(self) -> TwinBody:
        return self._record.job.patch

    @cached_property
    def _request(self) -> MethodRequest:
        """The job waits for devices itself."""
        return replace(self._record.job.request, connect_seconds=0)

    @property
    def _is_done(self) -> bool:
        job = self._record.job
        return job.selected and job.succeeded + job.failed >= job.total

    @property
    def _is_over(self) -> bool:
        return self._tools.clock.utc_ms() >= self._record.job.deadline_ms

    async def _select(self) -> None:
        """Makes a document for each device the job is for."""
        while found := await self._page(self._record.job.after):
            await self._selected(found, after=found[-1])
        await self._record.moved(selected=True, after="")

    async def _page(self, after: str) -> list[str]:
        selection = self._record.job.selection
        rows = await self._tools.state.query_devices(
            self._hub, selection.where, modules=selection.modules, after=after, limit=GROUP
        )
        return [identity.key.name for identity, _, _ in rows]

    async def _selected(self, names: Iterable[str], *, after: str) -> None:
        job, state = self._record.job, self._tools.state
        keys = [device_job_key(self._hub, job.job_id, name) for name in names]
        new = [key for key in keys if await state.get(key) is None]
        body = encode_device_job(DeviceJob(created_ms=self._tools.clock.utc_ms()))
        await self._record.moved([Put(key, body) for key in new], total=job.total + len(new), after=after)

    async def _groups(self) -> AsyncIterator[list[Stored]]:
        """The documents that are pending, in groups."""
        after, prefix = "", f"{self._record.job.job_id}/"
        while found := await self._tools.state.scan(DEVICE_KIND, self._hub, prefix=prefix, after=after, limit=GROUP):
            after = found[-1].key.name
            if pending := [each for each in found if _is_pending(each)]:
                yield pending

    async def _update_twins(self, group: Sequence[Stored]) -> None:
        """Patches the twins of a group; once it is committed, devices hear of it even when the job is cancelled."""
        await self._record.completion.run(self._update(group))

    async def _update(self, pending: Sequence[Stored]) -> None:
        """All in the commit that says so; again when somebody else was faster."""
        for _ in range(COMMIT_TRIES_MAX):
            draft = Draft(self._tools.state)
            written: list[_Written] = []
            results = [(each, await self._patch(each, draft, written)) for each in pending]
            try:
                await self._commit(results, draft)
            except Conflict:
                continue
            for ref, old, new, revision in written:
                self._tools.twins.announce(ref, old, new, revision, patch=self._patch_body.desired)
            return
        raise HubError(Code.SERVER_BUSY, "Too many changes of the same twins at once, try again")

    async def _patch(self, stored: Stored, draft: Draft, written: list[_Written]) -> DeviceJob:
        ref, body = self._ref(stored), self._patch_body
        try:
            document = await draft.get(twin_key(ref))
            if document is None:
                raise await self._tools.registry.absence(ref)
            now_ms = self._tools.clock.utc_ms()
            before = decode_twin(document.body)
            after = patched(before, body, iso_utc(now_ms))
            put = Put(document.key, encode_twin(after), document.revision)
            await draft.commit([put], [twin_updated(ref, after, body, iso_utc(now_ms), now_ms)])
            written.append((ref, before, after, document.revision + 1))
            return self._ended(stored, DeviceJobStatus.COMPLETED)
        except HubError as error:
            return self._ended(stored, DeviceJobStatus.FAILED, error.code.wire_name, error.message)

    async def _call_all(self, group: Sequence[Stored]) -> None:
        """Calls the devices of a group that are there, and commits what was answered so far."""
        for stored in group:
            if self._is_ready(self._ref(stored)):
                await self._call(stored)
        await self._flush()

    async def _call(self, stored: Stored) -> None:
        """Begins to call a device as soon as there is a place."""
        if stored.key in self._busy:
            return
        await self._places.acquire()
        task = asyncio.create_task(self._invoke(stored))
        self._busy.add(stored.key)
        self._calls[task] = stored
        task.add_done_callback(self._called)

    def _called(self, task: asyncio.Task[DeviceJob | None]) -> None:
        self._places.release()
        stored = self._calls.pop(task)
        if not task.cancelled():
            self._answers.append((stored, task.result()))
        self._wake.set()

    async def _flush(self) -> None:
        """Commits what was answered; only then a device may be called again."""
        answers, self._answers = self._answers, []
        await self._commit([(stored, ended) for stored, ended in answers if ended is not None])
        self._busy.difference_update(stored.key for stored, _ in answers)

    async def _hang_up(self) -> None:
        """Ends calls under way, whose time is over; what was answered until now counts."""
        calls = tuple(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)
        await self._flush()

    async def _invoke(self, stored: Stored) -> DeviceJob | None:
        """What a device answered; None when it has gone meanwhile, and may come again."""
        started_ms = self._tools.clock.utc_ms()
        try:
            answer = await self._tools.methods.invoke(self._ref(stored), self._request)
        except DeviceNotOnlineError:
            return None
        except HubError as error:
            return self._ended(stored, DeviceJobStatus.FAILED, error.code.wire_name, error.message)
        ended = self._ended(stored, DeviceJobStatus.COMPLETED)
        return msgspec.structs.replace(
            ended, started_ms=started_ms, answer=answer.status, payload=msgspec.Raw(answer.payload)
        )

    async def _await_the_others(self) -> None:
        """Calls devices as they come, until none is pending or the time is over."""
        job = self._record.job
        if job.type is not ScheduledType.DEVICE_METHOD:
            return
        while not self._is_over:
            self._wake.clear()
            await self._flush()
            if self._is_done:
                return
            for place, ref in enumerate(tuple(self._come), 1):
                await self._call_newcomer(ref)
                if place % GROUP == 0:
                    await self._flush()
                    await asyncio.sleep(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._wake.wait()

    async def _call_newcomer(self, ref: DeviceRef) -> None:
        """Calls a device that has come, unless it is not meant, or is being called and may have to be called again."""
        key = device_job_key(self._hub, self._record.job.job_id, ref.name)
        if key in self._busy:
            return
        del self._come[ref]
        stored = await self._tools.state.get(key)
        if stored is not None and _is_pending(stored):
            await self._call(stored)

    async def _commit(self, results: Sequence[tuple[Stored, DeviceJob]], draft: Draft | None = None) -> None:
        if not results:
            return
        job = self._record.job
        puts = [Put(stored.key, encode_device_job(ended), stored.revision) for stored, ended in results]
        succeeded = sum(ended.status is DeviceJobStatus.COMPLETED for _, ended in results)
        failed = sum(ended.status is DeviceJobStatus.FAILED for _, ended in results)
        await self._record.moved(
            [*puts, *(draft.changes if draft else ())],
            draft.events if draft else (),
            succeeded=job.succeeded + succeeded,
            failed=job.failed + failed,
        )

    def _ended(self, stored: Stored, status: DeviceJobStatus, code: str = "", reason: str = "") -> DeviceJob:
        now_ms = self._tools.clock.utc_ms()
        present = decode_device_job(stored.body)
        return msgspec.structs.replace(
            present, status=status, started_ms=now_ms, ended_ms=now_ms, error_code=code, error=reason
        )

    def _is_ready(self, ref: DeviceRef) -> bool:
        device = self._tools.connected.find(ref)
        return device is not None and device.accepts_methods()

    def _ref(self, stored: Stored) -> DeviceRef:
        _, _, name = stored.key.name.partition("/")
        return ref_of(stored.key._replace(name=name))


def _is_pending(stored: Stored) -> bool:
    return decode_device_job(stored.body).status is DeviceJobStatus.PENDING


def _late(job: ScheduledJob) -> tuple[str, str]:
    """Why a device has failed for want of time."""
    if job.type is ScheduledType.DEVICE_METHOD:
        return Code.DEVICE_NOT_ONLINE.wire_name, "Timed out waiting for device to connect."
    return Code.GATEWAY_TIMEOUT.wire_name, "The job's time was over before the device's turn."
