"""Imports and exports of identities in ARM's words: `exportDevices`, `importDevices` and `jobs` of IotHubs.

Times are in the form of RFC 9110 §5.6.7 here, as this API has them.
"""

from dataclasses import replace
from email.utils import formatdate

from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.base.errors import Code, HubError
from isthmus.jobs.import_export import ImportExportJobs
from isthmus.jobs.job import ImportExportJob, JobType, job_to_wire, parse_request
from isthmus.resources.hubs import Hubs
from isthmus.resources.members import Json, known_members
from isthmus.servers.management.arm import Routes, change_of
from isthmus.servers.management.request import Call, Reply

_SHARED = {
    "authenticationType": "storageAuthenticationType",
    "identity": "identity",
    "includeConfigurations": "includeConfigurations",
    "configurationsBlobName": "configurationsBlobName",
}
EXPORT_MEMBERS = {
    "exportBlobContainerUri": "outputBlobContainerUri",
    "exportBlobName": "outputBlobName",
    "excludeKeys": "excludeKeysInExport",
    **_SHARED,
}
IMPORT_MEMBERS = {
    "inputBlobContainerUri": "inputBlobContainerUri",
    "outputBlobContainerUri": "outputBlobContainerUri",
    "inputBlobName": "inputBlobName",
    "outputBlobName": "outputBlobName",
    **_SHARED,
}
"""Members of a body here, and what the service API calls them."""


class ArmJobs:
    """Answers ARM calls about jobs."""

    def __init__(self, hubs: Hubs, jobs: ImportExportJobs, journal: Journal) -> None:
        self._hubs = hubs
        self._jobs = jobs
        self._journal = journal
        below = "microsoft.devices/iothubs/*"
        self.routes: Routes = {
            ("POST", f"{below}/exportdevices"): self._export,
            ("POST", f"{below}/importdevices"): self._import,
            ("GET", f"{below}/jobs"): self._list,
            ("GET", f"{below}/jobs/*"): self._show,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _export(self, call: Call, names: tuple[str, ...]) -> Reply:
        body = call.json()
        if body.get("excludeKeys") is None:
            raise HubError(Code.ARGUMENT_NULL, "excludeKeys is needed")
        return await self._create(call, names[0], JobType.EXPORT, EXPORT_MEMBERS)

    async def _import(self, call: Call, names: tuple[str, ...]) -> Reply:
        return await self._create(call, names[0], JobType.IMPORT, IMPORT_MEMBERS)

    async def _create(self, call: Call, hub_name: str, kind: JobType, members: dict[str, str]) -> Reply:
        hub, body = self._hubs.require(hub_name), call.json()
        known_members(body, "the body", tuple(members))
        asked: Json = {named: body[name] for name, named in members.items() if name in body}
        job = await self._jobs.create(hub, parse_request({"type": kind, **asked}))
        _, after = change_texts(None, job_to_wire(job))
        change = change_of(call, hub.name, "import or export of identities begun")
        self._journal.write(replace(change, after=after))
        return Reply(value=_to_arm(job))

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        jobs = await self._jobs.all(self._hubs.require(names[0]).number)
        return Reply(value={"value": [_to_arm(job) for job in jobs]})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        return Reply(value=_to_arm(await self._jobs.get(self._hubs.require(names[0]).number, names[1])))


def _to_arm(job: ImportExportJob) -> dict[str, object]:
    arm: dict[str, object] = {
        "jobId": job.job_id,
        "startTimeUtc": formatdate(job.created_ms / 1000, usegmt=True),
        "type": job.type,
        "status": job.status,
        "statusMessage": f"{job.progress} %",
    }
    if job.ended_ms:
        arm["endTimeUtc"] = formatdate(job.ended_ms / 1000, usegmt=True)
    if job.failure:
        arm["failureReason"] = job.failure
    return arm
