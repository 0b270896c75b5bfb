"""Scheduled jobs: made, run when their time comes, asked about, cancelled.

Theory of operation. A job is a record and, while the process lives, a task: it sleeps until the start, waits for one of
the hub's `RUNNING_MAX` places, and runs. Each state it comes into is committed together with the event about it. When
the server stops, tasks end and records stay; the next start goes on with every record that is not ended.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.state import MUST_NOT_EXIST, Conflict, Damaged, Delete, Put, StateClosed
from isthmus.completion import Completion
from isthmus.jobs.events import job_changed
from isthmus.jobs.job import HISTORY_MS, JobStatus
from isthmus.jobs.scheduled_job import (
    DEVICE_KIND,
    SCHEDULED_KIND,
    DeviceJob,
    DeviceJobStatus,
    ScheduledJob,
    decode_device_job,
    decode_scheduled,
    encode_scheduled,
    new_scheduled,
    scheduled_key,
)
from isthmus.jobs.scheduled_run import ScheduledRecord, ScheduledRun, Tools
from isthmus.resources.hub import Hub

RUNNING_MAX = 10
"""Jobs of a hub that run at once ("IoT Hub quotas and throttling", S3); more wait as queued."""

ACTIVE_MAX = 100
"""Jobs of a hub that are not ended; the next is refused."""

HISTORY_MAX = 1_000
"""Ended jobs of a hub that are kept, the oldest forgotten first."""

SLEEP_SECONDS_MAX = 3_600.0
"""A job that starts later than that sleeps in pieces, so that a clock that is set is noticed."""

PAGE = 200
"""Documents read, or removed, at a time."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Active:
    """A job that is not ended, and what works on it."""

    record: ScheduledRecord
    run: ScheduledRun
    task: asyncio.Task[None] | None = None


class ScheduledJobs:
    """The scheduled jobs of all hubs; used on one event loop."""

    def __init__(self, tools: Tools, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._tools = tools
        self._pause = pause
        self._state = tools.state
        self._active: dict[tuple[HubId, str], _Active] = {}
        self._places: dict[HubId, asyncio.Semaphore] = {}
        self._completion = Completion()
        tools.connected.on_methods(self._has_come)

    @property
    def active(self) -> int:
        """Jobs that are not ended."""
        return len(self._active)

    async def start(self, hubs: Sequence[HubId]) -> None:
        """Goes on with every job that an earlier process has left."""
        for hub in hubs:
            for job, revision in await self._read(hub):
                if not job.is_ended:
                    self._launch(hub, job, revision)

    async def create(self, hub: Hub, job_id: str, body: object) -> ScheduledJob:
        """Makes a job and returns it as it is then.

        Raises `HubError`: `ARGUMENT_INVALID`, `ARGUMENT_NULL`, `JOB_ALREADY_EXISTS`, `ACTIVE_JOBS_EXCEEDED`, and what a
        method's or a twin's own rules raise.
        """
        job = new_scheduled(job_id, body, self._tools.clock.utc_ms())
        if sum(number == hub.number for number, _ in self._active) >= ACTIVE_MAX:
            refusal = Refusal(Hop.LIMIT, "limit.jobs", str(ACTIVE_MAX), "wait until one has ended, or cancel one")
            raise HubError(
                Code.ACTIVE_JOBS_EXCEEDED, f"A hub has at most {ACTIVE_MAX} jobs that are not ended", refusal
            )
        await self._completion.run(self._create(hub.number, job))
        return job

    async def get(self, hub: HubId, job_id: str) -> ScheduledJob:
        """A job; raises `JOB_NOT_FOUND`."""
        stored = await self._state.get(scheduled_key(hub, job_id))
        if stored is None:
            raise HubError(Code.JOB_NOT_FOUND, f"Job {job_id[:128]} not found")
        return decode_scheduled(stored.body)

    async def all(self, hub: HubId) -> list[ScheduledJob]:
        """The jobs of a hub, the newest first."""
        return sorted((job for job, _ in await self._read(hub)), key=lambda job: job.created_ms, reverse=True)

    async def device_jobs(self, hub: HubId, after: str, job_id: str = "") -> AsyncIterator[tuple[str, str, DeviceJob]]:
        """What became of jobs at devices, of one job or of all: job id, name of the device or module, and the rest.

        In the order of documents' names, `{job id}/{name}`, behind `after`.
        """
        prefix = f"{job_id}/" if job_id else ""
        while found := await self._state.scan(DEVICE_KIND, hub, prefix=prefix, after=after, limit=PAGE):
            for stored in found:
                owner, _, name = stored.key.name.partition("/")
                yield owner, name, decode_device_job(stored.body)
            after = found[-1].key.name

    async def cancel(self, hub: HubId, job_id: str) -> ScheduledJob:
        """Ends a job and returns it; one that has ended stays as it is. Raises `JOB_NOT_FOUND`."""
        await self.get(hub, job_id)
        active = self._active.get((hub, job_id))
        if active is not None:
            await self._completion.run(self._cancel(hub, active))
        return await self.get(hub, job_id)

    async def hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        """Listens to the hubs: jobs of one that is deleted stop; their documents go with the hub."""
        if old is not None and new is None:
            for (hub, _), active in tuple(self._active.items()):
                if hub == old.number:
                    await _stop(active)

    async def close(self) -> None:
        """Stops all tasks, after the commits under way; their records stay for the next start."""
        for active in tuple(self._active.values()):
            await _stop(active)
        await self._completion.settled()

    def _has_come(self, ref: DeviceRef) -> None:
        for active in self._active.values():
            active.run.has_come(ref)

    async def _read(self, hub: HubId) -> list[tuple[ScheduledJob, int]]:
        stored = await self._state.scan(SCHEDULED_KIND, hub, limit=HISTORY_MAX + ACTIVE_MAX)
        return [(decode_scheduled(each.body), each.revision) for each in stored]

    async def _create(self, hub: HubId, job: ScheduledJob) -> None:
        await self._prune(hub)
        put = Put(scheduled_key(hub, job.job_id), encode_scheduled(job), MUST_NOT_EXIST)
        try:
            [revision] = await self._state.commit([put], [job_changed(hub, job, job.created_ms)])
        except Conflict as error:
            raise HubError(Code.JOB_ALREADY_EXISTS, f"A job with ID '{job.job_id}' exists already") from error
        self._launch(hub, job, revision)

    async def _prune(self, hub: HubId) -> None:
        """Forgets what ended long ago, and the oldest where there are too many."""
        kept = sorted((job for job, _ in await self._read(hub) if job.is_ended), key=lambda job: job.ended_ms)
        since = self._tools.clock.utc_ms() - HISTORY_MS
        for place, job in enumerate(kept):
            if job.ended_ms < since or len(kept) - place >= HISTORY_MAX:
                while found := await self._state.scan(DEVICE_KIND, hub, prefix=f"{job.job_id}/", limit=PAGE):
                    await self._state.commit([Delete(stored.key) for stored in found])
                await self._state.commit([Delete(scheduled_key(hub, job.job_id))])

    def _launch(self, hub: HubId, job: ScheduledJob, revision: int) -> None:
        record = ScheduledRecord(self._state, hub, job, revision)
        active = _Active(record, ScheduledRun(hub, record, self._tools))
        self._active[hub, job.job_id] = active
        active.task = asyncio.create_task(self._run(hub, active))

    async def _run(self, hub: HubId, active: _Active) -> None:
        job_id = active.record.job.job_id
        known = {"hub": hub, "job": job_id}
        try:
            await self._await_start(active.record.job)
            async with self._places.setdefault(hub, asyncio.Semaphore(RUNNING_MAX)):
                began_ms = active.record.job.began_ms or self._tools.clock.utc_ms()
                await self._move(hub, active.record, JobStatus.RUNNING, began_ms=began_ms)
                failure = await self._outcome(active)
            status = JobStatus.FAILED if failure else JobStatus.COMPLETED
            await self._move(hub, active.record, status, ended_ms=self._tools.clock.utc_ms(), failure=failure)
            logger.info("job ended", extra={**known, "status": status.value, "reason": failure})
        except StateClosed:
            logger.warning("job stopped: the state is closed", extra=known)
        except Conflict:
            logger.warning("job stopped: its hub is gone", extra=known)
        finally:
            self._active.pop((hub, job_id), None)

    async def _outcome(self, active: _Active) -> str:
        """Runs the job; why it failed, or nothing."""
        try:
            await active.run.run()
        except HubError as error:
            return error.message
        except Damaged as damaged:
            return str(damaged)
        except (StateClosed, Conflict):
            raise
        except Exception:
            logger.exception("job failed", extra={"job": active.record.job.job_id})
            return "Internal error"
        return ""

    async def _await_start(self, job: ScheduledJob) -> None:
        while (ahead_ms := job.start_ms - self._tools.clock.utc_ms()) > 0:
            await self._pause(min(ahead_ms / 1000, SLEEP_SECONDS_MAX))

    async def _move(self, hub: HubId, record: ScheduledRecord, status: JobStatus, **fields: object) -> None:
        """Brings a job into a state, with the event about it."""
        if record.job.status is status:
            return
        reached = msgspec.structs.replace(record.job, status=status, **fields)
        event = job_changed(hub, reached, self._tools.clock.utc_ms())
        await record.moved((), (event,), status=status, **fields)

    async def _cancel(self, hub: HubId, active: _Active) -> None:
        await _stop(active)
        if not active.record.job.is_ended:
            await active.run.settle(DeviceJobStatus.CANCELED)
            await self._move(hub, active.record, JobStatus.CANCELLED, ended_ms=self._tools.clock.utc_ms())


async def _stop(active: _Active) -> None:
    """Ends the task and waits for what it must not leave half done."""
    if active.task is not None:
        active.task.cancel()
        await asyncio.wait((active.task,))
    await active.record.completion.settled()
