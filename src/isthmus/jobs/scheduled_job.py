"""A scheduled job: a twin update or a direct method for many devices, its record, and its forms on the wire.

The forms are those of the IoT Hub REST reference, "Jobs" (`JobRequest`, `JobResponse`), and of the developer guide,
"Schedule jobs on multiple devices". A job is a record, and a document for each device it is for, made when it starts.
"""

import re
from enum import StrEnum

import msgspec

from isthmus.base.clock import iso_utc, parse_iso_ms
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import Key
from isthmus.commands.methods import MethodRequest, parse_method
from isthmus.devices.twin import JsonObject, TwinBody, parse_twin_body
from isthmus.jobs.job import ENDED, JobStatus
from isthmus.jobs.selection import Selection, parse_selection

JOB_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!'~`&|^]{1,128}")
"""Printable ASCII without separators: what the developer guide allows in a job's strings."""

SECONDS_DEFAULT = 3_600
SECONDS_MAX = 7 * 86_400
"""How long a job may run from its start; no method has to wait for a device longer than a week."""

START_AHEAD_MS_MAX = 365 * 86_400_000
"""How far ahead a start may lie."""

ANY_ETAG = "*"


class ScheduledType(StrEnum):
    """What a job does with each device."""

    UPDATE_TWIN = "scheduleUpdateTwin"
    DEVICE_METHOD = "scheduleDeviceMethod"


class DeviceJobStatus(StrEnum):
    """Where a job is with one device; one l in the last word, as the query language has it."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class ScheduledJob(msgspec.Struct, frozen=True):
    """The record of a job; times are milliseconds since the epoch, 0 for not yet.

    `after` is the last identity that was selected, until all are.
    """

    job_id: str
    type: ScheduledType
    query_condition: str
    created_ms: int
    start_ms: int
    seconds_max: int
    method: JsonObject | None = None
    update_twin: JsonObject | None = None
    status: JobStatus = JobStatus.ENQUEUED
    began_ms: int = 0
    ended_ms: int = 0
    failure: str = ""
    selected: bool = False
    after: str = ""
    total: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED

    @property
    def deadline_ms(self) -> int:
        """When it is over, however far it is; the time begins when it does."""
        return (self.began_ms or self.start_ms) + self.seconds_max * 1000

    @property
    def selection(self) -> Selection:
        return parse_selection(self.query_condition)

    @property
    def patch(self) -> TwinBody:
        return parse_twin_body(self.update_twin)

    @property
    def request(self) -> MethodRequest:
        return parse_method(_encode(self.method))


class DeviceJob(msgspec.Struct, frozen=True):
    """What became of a job at one device or module; `payload` is the JSON of its answer to a method."""

    status: DeviceJobStatus = DeviceJobStatus.PENDING
    created_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    answer: int | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")
    error_code: str = ""
    error: str = ""


_encode = msgspec.json.Encoder().encode

encode_scheduled = _encode
decode_scheduled = msgspec.json.Decoder(ScheduledJob).decode
encode_device_job = _encode
decode_device_job = msgspec.json.Decoder(DeviceJob).decode
"""The stored forms."""

SCHEDULED_KIND = "scheduled-job"
DEVICE_KIND = "device-job"


def scheduled_key(hub: HubId, job_id: str) -> Key:
    """Where the record of a scheduled job is."""
    return Key(SCHEDULED_KIND, hub, job_id)


def device_job_key(hub: HubId, job_id: str, name: str) -> Key:
    """Where it stands what became of a job at a device, or `device/module`."""
    return Key(DEVICE_KIND, hub, f"{job_id}/{name}")


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    """What a client asks for ("JobRequest")."""

    job_id: str | int | None = None
    type: str | None = None
    query_condition: str | None = None
    cloud_to_device_method: JsonObject | None = None
    update_twin: JsonObject | None = None
    start_time: str | None = None
    max_execution_time_in_seconds: int | None = None


def new_scheduled(job_id: str, body: object, utc_ms: int) -> ScheduledJob:
    """The record of a job that is asked for.

    Raises `ARGUMENT_INVALID`, `ARGUMENT_NULL`, and what a method's or a twin's own rules raise.
    """
    try:
        request = msgspec.convert(body, _Request)
    except msgspec.ValidationError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"The job is not valid: {error}") from error
    if request.job_id is not None and str(request.job_id) != job_id:
        raise HubError(Code.ARGUMENT_INVALID, "jobId differs from the id in the path")
    if JOB_ID.fullmatch(job_id) is None:
        raise HubError(Code.ARGUMENT_INVALID, "jobId is empty, longer than 128 characters or has forbidden ones")
    if not request.query_condition:
        raise HubError(Code.ARGUMENT_NULL, "queryCondition is needed")
    job = ScheduledJob(
        job_id=job_id,
        type=_type(request.type),
        query_condition=request.query_condition,
        created_ms=utc_ms,
        start_ms=_start(request.start_time, utc_ms),
        seconds_max=_seconds(request.max_execution_time_in_seconds),
        method=request.cloud_to_device_method,
        update_twin=request.update_twin,
    )
    if job.start_ms > utc_ms:
        job = msgspec.structs.replace(job, status=JobStatus.SCHEDULED)
    _check(job)
    return job


def scheduled_to_wire(job: ScheduledJob) -> dict[str, object]:
    """The job as services read it ("JobResponse")."""
    wire: dict[str, object] = {
        "jobId": job.job_id,
        "queryCondition": job.query_condition,
        "createdTime": iso_utc(job.created_ms),
        "startTime": iso_utc(job.start_ms),
        "maxExecutionTimeInSeconds": job.seconds_max,
        "type": job.type,
        "status": "queued" if job.status is JobStatus.ENQUEUED else job.status,
        "deviceJobStatistics": {
            "deviceCount": job.total,
            "failedCount": job.failed,
            "succeededCount": job.succeeded,
            "runningCount": 0,
            "pendingCount": 0 if job.is_ended else job.total - job.failed - job.succeeded,
        },
    }
    if job.method is not None:
        wire["cloudToDeviceMethod"] = job.method
    if job.update_twin is not None:
        wire["updateTwin"] = job.update_twin
    if job.ended_ms:
        wire["endTime"] = iso_utc(job.ended_ms)
    if job.failure:
        wire |= {"failureReason": job.failure, "statusMessage": job.failure}
    return wire


def device_job_to_wire(job: ScheduledJob, name: str, found: DeviceJob) -> dict[str, object]:
    """A row of `devices.jobs`."""
    device_id, _, module_id = name.partition("/")
    row: dict[str, object] = {"deviceId": device_id}
    if module_id:
        row["moduleId"] = module_id
    row |= {
        "jobId": job.job_id,
        "jobType": job.type,
        "status": found.status,
        "createdDateTimeUtc": iso_utc(found.created_ms),
        "lastUpdatedDateTimeUtc": iso_utc(max(found.created_ms, found.started_ms, found.ended_ms)),
    }
    for member, utc_ms in (("startTimeUtc", found.started_ms), ("endTimeUtc", found.ended_ms)):
        if utc_ms:
            row[member] = iso_utc(utc_ms)
    if found.answer is not None:
        row["outcome"] = {"deviceMethodResponse": {"status": found.answer, "payload": found.payload}}
    if found.error_code:
        row["error"] = {"code": found.error_code, "description": found.error}
    return row


def _check(job: ScheduledJob) -> None:
    """Judges now what the run will rely on."""
    parse_selection(job.query_condition)
    if job.type is ScheduledType.UPDATE_TWIN:
        if job.update_twin is None:
            raise HubError(Code.ARGUMENT_NULL, "scheduleUpdateTwin needs updateTwin")
        if job.update_twin.get("etag") not in (None, "", ANY_ETAG):
            raise HubError(Code.ARGUMENT_INVALID, "The etag of updateTwin must be *")
        if job.patch.tags is None and job.patch.desired is None:
            raise HubError(Code.ARGUMENT_NULL, "updateTwin has neither tags nor desired properties")
    elif job.method is None:
        raise HubError(Code.ARGUMENT_NULL, "scheduleDeviceMethod needs cloudToDeviceMethod")
    else:
        parse_method(_encode(job.method))


def _type(given: str | None) -> ScheduledType:
    for kind in ScheduledType:
        if given is not None and given.lower() == kind.lower():
            return kind
    raise HubError(Code.ARGUMENT_INVALID, f"type must be one of {', '.join(ScheduledType)}")


def _start(given: str | None, utc_ms: int) -> int:
    if not given:
        return utc_ms
    start_ms = parse_iso_ms(given)
    if start_ms is None or start_ms > utc_ms + START_AHEAD_MS_MAX:
        raise HubError(Code.ARGUMENT_INVALID, "startTime must be an ISO 8601 time within a year")
    return max(start_ms, 0)


def _seconds(given: int | None) -> int:
    seconds = SECONDS_DEFAULT if given is None else given
    if not 1 <= seconds <= SECONDS_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"maxExecutionTimeInSeconds must be within [1; {SECONDS_MAX}]")
    return seconds
