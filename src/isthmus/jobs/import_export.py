"""Jobs that import and export identities: one at a time for each hub, told of while they run and for a while after.

Theory of operation. A job is a record and, while the process lives, a task. Creating one asks the storage first, so
that who may not write there hears of it at once; then the record is committed, and the task begins. What the storage
refuses for good ends the job; what may pass is tried again with growing pauses until nothing has moved for
`STALLED_SECONDS_MAX`. When the server stops, tasks end and records stay: the next start goes on with every record that
is not ended. Cancelling stops the task first, lets the commit under way end, and then ends the record.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import HubId, Ids
from isthmus.base.state import MUST_NOT_EXIST, Conflict, Damaged, Delete, Put, State, StateClosed
from isthmus.completion import Completion
from isthmus.devices.registry import Registry
from isthmus.devices.twins import Twins
from isthmus.jobs.export_run import ExportRun
from isthmus.jobs.import_run import ImportRun, forget_errors
from isthmus.jobs.importing import Importer
from isthmus.jobs.job import (
    HISTORY_MS,
    ImportExportJob,
    JobRequest,
    JobStatus,
    JobType,
    StorageAuthentication,
    decode_job,
    encode_job,
    ended,
    job_key,
    new_job,
    running,
)
from isthmus.jobs.ports import Container, ContainerAddress, ContainerFailure, Containers
from isthmus.jobs.record import Record
from isthmus.jobs.yielding import Yielding
from isthmus.resources.hub import Hub

HISTORY_MAX = 1_000
"""Ended jobs of a hub that are kept, the oldest forgotten first; clients get the list whole."""

PROBE_SECONDS_MAX = 20.0
"""For the storage to say, while somebody waits, whether a job may write there."""

PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 60.0
"""Before the storage is tried again; doubled each time in between."""

STALLED_SECONDS_MAX = 900.0
"""A job that could not move for so long has failed: whoever watches it hears of it within the hour."""

PROBE = b"\n"
"""The content of a block that is staged to see whether it may be; no blob is ever made of it."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Active:
    """The one job of a hub that is not ended; without a task while the storage is asked."""

    job_id: str
    record: Record | None = None
    task: asyncio.Task[None] | None = None


class ImportExportJobs:
    """The jobs of all hubs; used on one event loop.

    Counted since the start: `completed`, `failed`, and `lines` that were dealt with.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        ids: Ids,
        registry: Registry,
        twins: Twins,
        containers: Containers,
        *,
        is_pressed: Callable[[], bool] = lambda: False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`is_pressed` says whether messages of devices wait for the disk: jobs give way then."""
        self._state = state
        self._clock = clock
        self._ids = ids
        self._registry = registry
        self._twins = twins
        self._containers = containers
        self._is_pressed = is_pressed
        self._pause = pause
        self._active: dict[HubId, _Active] = {}
        self._completion = Completion()
        self.completed = 0
        self.failed = 0

    @property
    def active(self) -> int:
        """Jobs that are not ended."""
        return len(self._active)

    async def start(self, hubs: Sequence[HubId]) -> None:
        """Goes on with every job that an earlier process has left."""
        for hub in hubs:
            for job, revision in await self._read(hub):
                if not job.is_ended:
                    self._launch(_Active(job.job_id, Record(self._state, hub, job, revision)))
                elif job.position.error_bytes:
                    await forget_errors(self._state, hub, job.job_id)

    async def create(self, hub: Hub, request: JobRequest) -> ImportExportJob:
        """Begins a job and returns it as it is then.

        Raises `HubError`: `ARGUMENT_INVALID`, `ARGUMENT_NULL`, `JOB_QUOTA_EXCEEDED` while another one is not ended,
        `MANAGED_IDENTITY_NOT_ENABLED`, `BLOB_CONTAINER_VALIDATION` when the storage does not let the job read or write.
        Cancelling before the record is committed leaves no job.
        """
        job = new_job(request, self._ids.uuid(), self._clock.utc_ms())
        _check_identity(hub, job)
        await self._last_settled(hub.number)
        if hub.number in self._active:
            raise _one_at_a_time(self._active[hub.number].job_id)
        active = self._active[hub.number] = _Active(job.job_id)
        try:
            await self._probe(hub.number, job)
        except BaseException:
            del self._active[hub.number]
            raise
        await self._completion.run(self._begin(hub.number, job, active))
        return job

    async def all(self, hub: HubId) -> Sequence[ImportExportJob]:
        """The jobs of a hub, the newest first."""
        return sorted((job for job, _ in await self._read(hub)), key=lambda job: job.created_ms, reverse=True)

    async def get(self, hub: HubId, job_id: str) -> ImportExportJob:
        """A job; raises `JOB_NOT_FOUND`."""
        stored = await self._state.get(job_key(hub, job_id))
        if stored is None:
            raise HubError(Code.JOB_NOT_FOUND, f"Job {job_id[:128]} not found")
        return decode_job(stored.body)

    async def find(self, hub: HubId, job_id: str) -> ImportExportJob | None:
        """A job, or None."""
        stored = await self._state.get(job_key(hub, job_id))
        return None if stored is None else decode_job(stored.body)

    async def cancel(self, hub: HubId, job_id: str) -> ImportExportJob:
        """Ends a job and returns it; one that has ended stays as it is. Raises `JOB_NOT_FOUND`."""
        await self.get(hub, job_id)
        active = self._active.get(hub)
        if active is not None and active.job_id == job_id:
            await self._completion.run(self._cancel(hub, active))
        return await self.get(hub, job_id)

    async def hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        """Listens to the hubs: the job of one that is deleted stops; its record goes with the hub."""
        if old is not None and new is None:
            active = self._active.get(old.number)
            if active is not None:
                await self._stop(active)

    async def close(self) -> None:
        """Stops all tasks, after the commits under way; their records stay for the next start."""
        for active in tuple(self._active.values()):
            await self._stop(active)
        await self._completion.settled()

    async def _last_settled(self, hub: HubId) -> None:
        """A job that clients see as ended is in nobody's way, though its task may be about to end only."""
        active = self._active.get(hub)
        if active is not None and active.task is not None and (await self.get(hub, active.job_id)).is_ended:
            await asyncio.wait((active.task,))

    async def _read(self, hub: HubId) -> list[tuple[ImportExportJob, int]]:
        stored = await self._state.scan("job", hub, limit=HISTORY_MAX + 1)  # and the one that is not ended
        return [(decode_job(each.body), each.revision) for each in stored]

    async def _probe(self, hub: HubId, job: ImportExportJob) -> None:
        """Asks the storage for what the job will need; what it refuses is the answer to who asked."""
        is_import = job.type is JobType.IMPORT
        doing = "write to the output blob container"
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX), self._opened(hub, job) as (source, output):
                await output.stage(job.output_blob, 0, PROBE)
                if is_import:
                    doing = "read from the input blob container"
                    await source.facts(job.input_blob)
        except ContainerFailure as failure:
            raise _no_access(doing, job, failure) from failure
        except TimeoutError as error:
            late = ContainerFailure("Timeout", f"no answer within {PROBE_SECONDS_MAX:.0f} s", lasting=False)
            raise _no_access(doing, job, late) from error

    async def _begin(self, hub: HubId, job: ImportExportJob, active: _Active) -> None:
        try:
            await self._prune(hub)
            [revision] = await self._state.commit([Put(job_key(hub, job.job_id), encode_job(job), MUST_NOT_EXIST)])
        except BaseException:
            del self._active[hub]
            raise
        active.record = Record(self._state, hub, job, revision)
        self._launch(active)

    async def _prune(self, hub: HubId) -> None:
        """Forgets what ended long ago, and the oldest where there are too many."""
        kept = [job for job, _ in await self._read(hub) if job.is_ended]
        kept.sort(key=lambda job: job.ended_ms)
        since = self._clock.utc_ms() - HISTORY_MS
        for place, job in enumerate(kept):
            if job.ended_ms < since or len(kept) - place >= HISTORY_MAX:
                await self._state.commit([Delete(job_key(hub, job.job_id))])

    def _launch(self, active: _Active) -> None:
        record = active.record
        assert record is not None, "a job is launched when its record is committed"
        self._active[record.hub] = active
        active.task = asyncio.create_task(self._run(record, active))

    async def _run(self, record: Record, active: _Active) -> None:
        try:
            status, failure = await self._outcome(record)
            await self._end(record, status, failure)
        except StateClosed:
            logger.warning("job stopped: the state is closed", extra={"hub": record.hub, "job": record.job.job_id})
        except Conflict:
            logger.warning("job stopped: its hub is gone", extra={"hub": record.hub, "job": record.job.job_id})
        finally:
            if self._active.get(record.hub) is active:
                del self._active[record.hub]

    async def _outcome(self, record: Record) -> tuple[JobStatus, str]:
        """How the job ended, and why it failed."""
        try:
            await record.save(running(record.job))
            await self._work(record)
        except ContainerFailure as failure:
            return JobStatus.FAILED, f"{failure.code}: {failure.reason}"
        except HubError as error:
            return JobStatus.FAILED, error.message
        except Damaged as damaged:
            return JobStatus.FAILED, str(damaged)
        except (StateClosed, Conflict):
            raise
        except Exception:
            logger.exception("job failed", extra={"hub": record.hub, "job": record.job.job_id})
            return JobStatus.FAILED, "Internal error"
        return JobStatus.COMPLETED, ""

    async def _work(self, record: Record) -> None:
        """Runs the job until it is done, with pauses where the storage does not answer."""
        pause, moved, since = PAUSE_SECONDS_MIN, record.job.position, self._clock.monotonic()
        while True:
            try:
                return await self._run_once(record)
            except ContainerFailure as failure:
                if record.job.position != moved:
                    pause, moved, since = PAUSE_SECONDS_MIN, record.job.position, self._clock.monotonic()
                if failure.lasting or self._clock.monotonic() - since >= STALLED_SECONDS_MAX:
                    raise
                known = {"hub": record.hub, "job": record.job.job_id, "code": failure.code}
                logger.warning("job waits for the storage", extra=known)
            await self._pause(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    async def _run_once(self, record: Record) -> None:
        async with self._opened(record.hub, record.job) as (source, output):
            if record.job.type is JobType.EXPORT:
                await ExportRun(self._state, record, self._yielding(), output).run()
            else:
                importer = Importer(record.hub, self._state, self._registry, self._twins, self._clock)
                await ImportRun(self._state, record, importer, self._yielding(), source=source, output=output).run()

    def _yielding(self) -> Yielding:
        return Yielding(self._clock, self._is_pressed, pause=self._pause)

    def _opened(self, hub: HubId, job: ImportExportJob) -> "_Opened":
        return _Opened(self._containers, hub, job)

    async def _end(self, record: Record, status: JobStatus, failure: str = "") -> None:
        await record.save(ended(record.job, status, self._clock.utc_ms(), failure))
        await forget_errors(self._state, record.hub, record.job.job_id)
        self.completed += status is JobStatus.COMPLETED
        self.failed += status is JobStatus.FAILED
        known = {"hub": record.hub, "job": record.job.job_id, "status": status.value, "reason": failure}
        logger.info("job ended", extra=known)

    async def _cancel(self, hub: HubId, active: _Active) -> None:
        await self._stop(active)
        record = active.record
        if record is not None and not record.job.is_ended:
            await self._end(record, JobStatus.CANCELLED)

    async def _stop(self, active: _Active) -> None:
        """Ends the task and waits for what it must not leave half done."""
        if active.task is not None:
            active.task.cancel()
            await asyncio.wait((active.task,))
        if active.record is not None:
            await active.record.completion.settled()


class _Opened:
    """The containers of a job, given back at the end; an export has its output for both."""

    def __init__(self, containers: Containers, hub: HubId, job: ImportExportJob) -> None:
        self._containers = containers
        self._hub = hub
        self._job = job
        self._open: list[Container] = []

    async def __aenter__(self) -> tuple[Container, Container]:
        output = await self._opened(self._job.output)
        source = await self._opened(self._job.input) if self._job.type is JobType.IMPORT else output
        return source, output

    async def __aexit__(self, *_: object) -> None:
        for container in self._open:
            await container.close()

    async def _opened(self, address: ContainerAddress) -> Container:
        container = await self._containers.open(self._hub, address)
        self._open.append(container)
        return container


def _check_identity(hub: Hub, job: ImportExportJob) -> None:
    """Raises `MANAGED_IDENTITY_NOT_ENABLED` where the hub has not the identity that the job asks for."""
    if job.authentication is StorageAuthentication.KEY_BASED:
        return
    if job.identity and hub.identity.find(job.identity) is None:
        message = f"The hub does not have the identity {job.identity}"
        remedy = f"isthmus iot hub identity assign -n {hub.name} --user-assigned {job.identity}"
    elif not job.identity and not hub.identity.system:
        message = "The hub has no identity of its own"
        remedy = f"isthmus iot hub identity assign -n {hub.name} --system-assigned"
    else:
        return
    refusal = Refusal(Hop.CONTRACT, "contract.job-identity", job.identity or "system", remedy)
    raise HubError(Code.MANAGED_IDENTITY_NOT_ENABLED, message, refusal)


def _one_at_a_time(job_id: str) -> HubError:
    refusal = Refusal(Hop.LIMIT, "limit.jobs", job_id, f"wait for it, or isthmus iot hub job cancel --job-id {job_id}")
    return HubError(Code.JOB_QUOTA_EXCEEDED, "A hub runs one import or export at a time", refusal)


def _no_access(doing: str, job: ImportExportJob, failure: ContainerFailure) -> HubError:
    """The refusal of a job whose container does not let the hub do its part."""
    value = f"{doing}: {failure.code}: {failure.reason}"
    refusal = Refusal(Hop.CONTRACT, "contract.job-container", value, failure.remedy or "see what the storage says")
    said = f"Unable to {doing} of the {job.type}: {failure.code}"
    return HubError(Code.BLOB_CONTAINER_VALIDATION, said.replace(";", ","), refusal)
