"""Jobs over the service API: imports and exports of identities (IoT Hub REST reference, "Jobs")."""

from collections.abc import Mapping

from isthmus.jobs.import_export import ImportExportJobs
from isthmus.jobs.job import job_to_wire, parse_request
from isthmus.servers.gateway.http_message import Call, Change, Reply, json_reply
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_service import Handler


class JobsApi:
    """Answers the calls about jobs."""

    def __init__(self, jobs: ImportExportJobs) -> None:
        self._jobs = jobs
        self.handlers: Mapping[Action, Handler] = {
            Action.CREATE_JOB: self._create,
            Action.LIST_JOBS: self._list,
            Action.GET_JOB: self._get,
            Action.CANCEL_JOB: self._cancel,
        }

    async def _create(self, call: Call) -> Reply:
        wire = job_to_wire(await self._jobs.create(call.hub, parse_request(call.json())))
        return json_reply(wire, change=Change(None, wire))

    async def _list(self, call: Call) -> Reply:
        return json_reply([job_to_wire(job) for job in await self._jobs.all(call.hub.number)])

    async def _get(self, call: Call) -> Reply:
        return json_reply(job_to_wire(await self._jobs.get(call.hub.number, call.name)))

    async def _cancel(self, call: Call) -> Reply:
        before = await self._jobs.get(call.hub.number, call.name)
        after = await self._jobs.cancel(call.hub.number, call.name)
        return Reply(204, change=Change(job_to_wire(before), job_to_wire(after)))
