"""A job that imports or exports identities: its record, the states it goes through, and its form on the wire.

Theory of operation. The record is one document. It says what was asked for and how far the job is, and it is written in
the same commit as the work it tells of (an import's identities) or after that work is safe elsewhere and can be done
again (an export's blocks). Whoever finds a record that is not ended goes on where it stands. The states:

    enqueued ─▶ running ─▶ completed | failed | cancelled
        └────────────────────────────▶ cancelled

A record that has ended loses the signatures of its addresses, and is kept for `HISTORY_MS`.
"""

from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.base.state import Key
from isthmus.jobs.ports import ContainerAddress

DEVICES_BLOB = "devices.txt"
ERRORS_BLOB = "importErrors.log"
CONFIGURATIONS_BLOB = "configurations.txt"
"""Names of blobs where a job names none ("Import and export IoT Hub device identities in bulk")."""

HISTORY_MS = 30 * 86_400_000
"""How long a job that has ended is told of ("IoT Hub quotas and throttling")."""

URI_CHARACTERS_MAX = 4_096
BLOB_NAME_CHARACTERS_MAX = 1_024
"""A blob's name ("Naming and referencing containers, blobs, and metadata")."""

FAILURE_CHARACTERS_MAX = 1_024
"""Of the reason a job failed for."""


Word = TypeVar("Word", bound=StrEnum)


class JobType(StrEnum):
    """Which way identities go."""

    EXPORT = "export"
    IMPORT = "import"


class JobStatus(StrEnum):
    """Where a job is; the same words for jobs of every kind."""

    UNKNOWN = "unknown"
    ENQUEUED = "enqueued"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset((JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED))


class StorageAuthentication(StrEnum):
    """How the hub proves itself to the storage: by a signature in the address, or as an identity."""

    KEY_BASED = "keyBased"
    IDENTITY_BASED = "identityBased"


class Position(msgspec.Struct, frozen=True):
    """How far a job is.

    Of an export: the last identity that is in a staged block, devices before modules. Of an import: the bytes of the
    input that are dealt with, of the blob with this etag and size; its error log has staged blocks, and `error_pages`
    documents of lines that are not in one yet.
    """

    total: int = 0
    done: int = 0
    after: str = ""
    modules: bool = False
    blocks: int = 0
    etag: str = ""
    errors: int = 0
    error_pages: int = 0
    error_bytes: int = 0


class ImportExportJob(msgspec.Struct, frozen=True):
    """The record of a job; times are milliseconds since the epoch, 0 for not yet."""

    job_id: str
    type: JobType
    output_container: str
    output_blob: str
    created_ms: int
    input_container: str = ""
    input_blob: str = ""
    exclude_keys: bool = False
    authentication: StorageAuthentication = StorageAuthentication.KEY_BASED
    identity: str = ""
    status: JobStatus = JobStatus.ENQUEUED
    ended_ms: int = 0
    failure: str = ""
    position: Position = Position()

    def __repr__(self) -> str:
        return f"ImportExportJob({self.job_id}, {self.type}, {self.status})"

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED

    @property
    def progress(self) -> int:
        """Percent, 100 only for a job that is complete."""
        if self.status is JobStatus.COMPLETED:
            return 100
        return min(99, self.position.done * 100 // self.position.total) if self.position.total else 0

    @property
    def output(self) -> ContainerAddress:
        return self._address(self.output_container)

    @property
    def input(self) -> ContainerAddress:
        return self._address(self.input_container)

    def _address(self, uri: str) -> ContainerAddress:
        by_identity = self.authentication is StorageAuthentication.IDENTITY_BASED
        return ContainerAddress(uri, self.identity if by_identity else None)


class RequestedIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """A user-assigned identity; none stands for the hub's own."""

    user_assigned_identity: str | None = None


class JobRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What a client asks for ("JobProperties"); members that the hub gives are ignored."""

    type: str | None = None
    input_blob_container_uri: str | None = None
    input_blob_name: str | None = None
    output_blob_container_uri: str | None = None
    output_blob_name: str | None = None
    exclude_keys_in_export: bool | None = None
    storage_authentication_type: str | None = None
    identity: RequestedIdentity | None = None
    include_configurations: bool | None = None
    configurations_blob_name: str | None = None

    def __repr__(self) -> str:
        return f"JobRequest({self.type})"


encode_job = msgspec.json.Encoder().encode
"""The stored form of an `ImportExportJob`."""

decode_job = msgspec.json.Decoder(ImportExportJob).decode
"""The `ImportExportJob` of a stored document."""


def job_key(hub: HubId, job_id: str) -> Key:
    """Where the record of a job is."""
    return Key("job", hub, job_id)


def parse_request(body: object) -> JobRequest:
    """The request of a body; raises `ARGUMENT_INVALID`."""
    try:
        return msgspec.convert(body, JobRequest)
    except msgspec.ValidationError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"The job is not valid: {error}") from error


def new_job(request: JobRequest, job_id: str, utc_ms: int) -> ImportExportJob:
    """The record of a job that is asked for; raises `ARGUMENT_INVALID`, `ARGUMENT_NULL`, `NOT_IMPLEMENTED`."""
    kind = _word(request.type, "type", JobType)
    if request.include_configurations:
        raise HubError(Code.NOT_IMPLEMENTED, "includeConfigurations is not implemented yet")
    authentication = StorageAuthentication.KEY_BASED
    if request.storage_authentication_type is not None:
        authentication = _word(request.storage_authentication_type, "storageAuthenticationType", StorageAuthentication)
    identity = request.identity.user_assigned_identity if request.identity is not None else None
    if identity and authentication is StorageAuthentication.KEY_BASED:
        raise HubError(Code.ARGUMENT_INVALID, "identity needs storageAuthenticationType identityBased")
    is_import = kind is JobType.IMPORT
    job = ImportExportJob(
        job_id=job_id,
        type=kind,
        output_container=_container(request.output_blob_container_uri, "outputBlobContainerUri", authentication),
        output_blob=_blob(request.output_blob_name, "outputBlobName", ERRORS_BLOB if is_import else DEVICES_BLOB),
        created_ms=utc_ms,
        input_container=_container(request.input_blob_container_uri, "inputBlobContainerUri", authentication)
        if is_import
        else "",
        input_blob=_blob(request.input_blob_name, "inputBlobName", DEVICES_BLOB) if is_import else "",
        exclude_keys=bool(request.exclude_keys_in_export),
        authentication=authentication,
        identity=identity or "",
    )
    if is_import and _place(job.input_container, job.input_blob) == _place(job.output_container, job.output_blob):
        raise HubError(Code.ARGUMENT_INVALID, "outputBlobName must not be the blob that is imported")
    return job


def running(job: ImportExportJob) -> ImportExportJob:
    """The job as it begins, or goes on."""
    return msgspec.structs.replace(job, status=JobStatus.RUNNING)


def ended(job: ImportExportJob, status: JobStatus, utc_ms: int, failure: str = "") -> ImportExportJob:
    """The job as it ends: nobody needs the signatures of its addresses any more."""
    return msgspec.structs.replace(
        job,
        status=status,
        ended_ms=utc_ms,
        failure=failure[:FAILURE_CHARACTERS_MAX],
        output_container=without_signature(job.output_container),
        input_container=without_signature(job.input_container),
    )


def job_to_wire(job: ImportExportJob) -> dict[str, object]:
    """The job as services read it ("JobProperties"); signatures of addresses are not told."""
    wire: dict[str, object] = {
        "jobId": job.job_id,
        "startTimeUtc": iso_utc(job.created_ms),
        "type": job.type,
        "status": job.status,
        "progress": job.progress,
        "outputBlobContainerUri": without_signature(job.output_container),
        "outputBlobName": job.output_blob,
        "excludeKeysInExport": job.exclude_keys,
        "storageAuthenticationType": job.authentication,
        "includeConfigurations": False,
        "configurationsBlobName": CONFIGURATIONS_BLOB,
    }
    if job.type is JobType.IMPORT:
        wire |= {
            "inputBlobContainerUri": without_signature(job.input_container),
            "inputBlobName": job.input_blob,
        }
    if job.identity:
        wire["identity"] = {"userAssignedIdentity": job.identity}
    if job.ended_ms:
        wire["endTimeUtc"] = iso_utc(job.ended_ms)
    if job.failure:
        wire["failureReason"] = job.failure
    return wire


def without_signature(uri: str) -> str:
    """A container's address without what is secret in it."""
    scheme, place, path, _, _ = urlsplit(uri)
    return urlunsplit((scheme, place, path, "", ""))


def _place(container: str, blob: str) -> tuple[str, str]:
    return without_signature(container).rstrip("/").lower(), blob


def _container(uri: str | None, name: str, authentication: StorageAuthentication) -> str:
    if not uri:
        raise HubError(Code.ARGUMENT_NULL, f"{name} is needed")
    if len(uri) > URI_CHARACTERS_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"{name} is longer than {URI_CHARACTERS_MAX} characters")
    try:
        parts = urlsplit(uri)
        is_container = parts.scheme in ("https", "http") and bool(parts.hostname) and len(parts.path) > 1
    except ValueError:
        is_container = False
    if not is_container or parts.username is not None:
        raise HubError(Code.ARGUMENT_INVALID, f"{name} must be the address of a blob container")
    if authentication is StorageAuthentication.IDENTITY_BASED and (parts.scheme != "https" or parts.query):
        raise HubError(Code.ARGUMENT_INVALID, f"{name} must be an https address without a signature when identityBased")
    if authentication is StorageAuthentication.KEY_BASED and "sig=" not in parts.query:
        raise HubError(Code.ARGUMENT_INVALID, f"{name} must carry a shared access signature when keyBased")
    return uri


def _blob(given: str | None, name: str, default: str) -> str:
    if given is not None and len(given) > BLOB_NAME_CHARACTERS_MAX:
        raise HubError(Code.ARGUMENT_INVALID, f"{name} is longer than {BLOB_NAME_CHARACTERS_MAX} characters")
    return given or default


def _word(given: str | None, name: str, words: type[Word]) -> Word:
    for word in words:
        if given is not None and word.lower() == given.lower():
            return word
    raise HubError(Code.ARGUMENT_INVALID, f"{name} must be one of {', '.join(words)}")
