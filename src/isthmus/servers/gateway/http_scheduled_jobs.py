"""Scheduled jobs over the service API, and queries over them (IoT Hub REST reference, "Jobs")."""

import base64
import binascii
from collections.abc import Mapping, Sequence

import msgspec

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import holds
from isthmus.base.numbers import whole_number
from isthmus.jobs.import_export import ImportExportJobs
from isthmus.jobs.job import JobStatus
from isthmus.jobs.scheduled import ScheduledJobs
from isthmus.jobs.scheduled_job import DeviceJob, ScheduledJob, device_job_to_wire, scheduled_to_wire
from isthmus.query.job_search import job_search
from isthmus.query.syntax import Query
from isthmus.servers.gateway.http_message import Call, Change, Reply, json_reply
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_service import Handler, page_size

CONTINUATION = "x-ms-continuation"
ITEM_TYPE = "x-ms-item-type"


LOOKED_AT_MAX = 20_000
"""Rows judged for one page, some hundred milliseconds; a page that finds few of them is short, and says to go on."""


class ScheduledJobsApi:
    """Answers the calls about scheduled jobs."""

    def __init__(self, jobs: ScheduledJobs, others: ImportExportJobs) -> None:
        self._jobs = jobs
        self._others = others
        self.handlers: Mapping[Action, Handler] = {
            Action.CREATE_SCHEDULED_JOB: self._create,
            Action.GET_SCHEDULED_JOB: self._get,
            Action.CANCEL_SCHEDULED_JOB: self._cancel,
            Action.QUERY_SCHEDULED_JOBS: self._query,
        }

    async def rows(self, call: Call, query: Query) -> Reply:
        """A page of `SELECT * FROM devices.jobs`; raises `ARGUMENT_INVALID` for what cannot be asked of it."""
        search, hub, size = job_search(query), call.hub.number, page_size(call)
        jobs = {job.job_id: job for job in await self._jobs.all(hub)}
        rows: list[dict[str, object]] = []
        given, last = _place(_resumed(call))
        looked_at = 0
        async for job_id, name, found in self._jobs.device_jobs(hub, last, search.job_id):
            if given + len(rows) == search.top:
                break
            if len(rows) == size or looked_at == LOOKED_AT_MAX:
                return _page(rows, "DeviceJob", f"{given + len(rows)}/{last}")
            row = _row(jobs.get(job_id), name, found)
            if row is not None and holds(search.where, _judged(row) if search.asks_outcome else row):
                rows.append(row)
            last, looked_at = f"{job_id}/{name}", looked_at + 1
        return _page(rows, "DeviceJob", "")

    async def _create(self, call: Call) -> Reply:
        wire = scheduled_to_wire(await self._jobs.create(call.hub, call.name, call.json()))
        return json_reply(wire, change=Change(None, wire))

    async def _get(self, call: Call) -> Reply:
        """An import or export is none of these; clients then ask for it by its own path."""
        if await self._others.find(call.hub.number, call.name) is not None:
            return json_reply({"jobId": call.name, "status": JobStatus.UNKNOWN})
        return json_reply(scheduled_to_wire(await self._jobs.get(call.hub.number, call.name)))

    async def _cancel(self, call: Call) -> Reply:
        before = scheduled_to_wire(await self._jobs.get(call.hub.number, call.name))
        after = scheduled_to_wire(await self._jobs.cancel(call.hub.number, call.name))
        return json_reply(after, change=Change(before, after))

    async def _query(self, call: Call) -> Reply:
        wanted = {"type": call.query.get("jobType"), "status": call.query.get("jobStatus")}
        found = [scheduled_to_wire(job) for job in await self._jobs.all(call.hub.number)]
        rows = [row for row in found if all(not value or row[name] == value for name, value in wanted.items())]
        resumed = _resumed(call)
        start = whole_number(resumed) or 0
        end = start + page_size(call)
        return _page(rows[start:end], "JobResponse", str(end) if end < len(rows) else "")


def _row(job: ScheduledJob | None, name: str, found: DeviceJob) -> dict[str, object] | None:
    """A row; None for a job that was forgotten meanwhile."""
    if job is None:
        return None
    row = device_job_to_wire(job, name, found)
    return {member: _plain(value) for member, value in row.items()}


def _judged(row: dict[str, object]) -> object:
    """The row as JSON has it: what a device answered is kept as text until somebody asks about it."""
    return msgspec.json.decode(msgspec.json.encode(row))


def _place(resumed: str) -> tuple[int, str]:
    """How many rows the pages before had, and the last that was looked at."""
    given, _, last = resumed.partition("/")
    return whole_number(given) or 0, last


def _plain(value: object) -> object:
    return msgspec.to_builtins(value) if not isinstance(value, dict) else value


def _page(rows: Sequence[object], item_type: str, continuation: str) -> Reply:
    more = {CONTINUATION: base64.urlsafe_b64encode(continuation.encode()).decode()} if continuation else {}
    return json_reply(rows, headers={ITEM_TYPE: item_type, **more})


def _resumed(call: Call) -> str:
    try:
        return base64.b64decode(call.headers.get(CONTINUATION, ""), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise HubError(Code.ARGUMENT_INVALID, "The continuation token is not valid") from None
