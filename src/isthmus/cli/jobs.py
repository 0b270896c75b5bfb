"""`job`, and `device-identity export` and `import`, which make jobs."""

from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote, urlencode

import click

from isthmus.cli.command import Group, HubCommand, three_state
from isthmus.cli.edits import read_json
from isthmus.cli.errors import CommandError
from isthmus.cli.target import Target

SYSTEM = "[system]"
"""The hub's own identity, in the words of `az`."""

AUTH_TYPES = {"key": "keyBased", "identity": "identityBased", "keyBased": "keyBased", "identityBased": "identityBased"}

TRANSFER_TYPES = ("export", "import")
SCHEDULED_TYPES = ("scheduleUpdateTwin", "scheduleDeviceMethod")
ENDED = ("completed", "failed", "cancelled")

job = Group("job", help="Jobs: scheduled twin updates and methods, imports and exports of identities.")


def _identity_options(function: Any) -> Any:
    for option in (
        click.option("--identity", help=f"Identity of the hub to use: its ARM id, or {SYSTEM}."),
        click.option(
            "--auth-type", "--storage-authentication-type", type=click.Choice(list(AUTH_TYPES)), help="How to sign in."
        ),
    ):
        function = option(function)
    return function


@click.command("export", cls=HubCommand)
@click.option("--blob-container-uri", "--bcu", help="The container's address, with a signature unless by identity.")
@click.option("--storage-account", "--sa", help="Name of a storage account, instead of an address.")
@click.option("--blob-container", "--bc", help="Name of the container in that account.")
@three_state("--include-keys", "--ik", help="Whether keys are exported; else they are null.")
@_identity_options
def export_devices(
    target: Target,
    blob_container_uri: str | None,
    storage_account: str | None,
    blob_container: str | None,
    include_keys: bool | None,
    **how: str | None,
) -> Any:
    """Exports all identities into `devices.txt` of a container."""
    body = {
        "type": "export",
        "outputBlobContainerUri": _container(target, blob_container_uri, storage_account, blob_container, ""),
        "excludeKeysInExport": not include_keys,
        **_storage(how),
    }
    return target.service("POST", "/jobs/create", body).json()


@click.command("import", cls=HubCommand)
@click.option("--input-blob-container-uri", "--ibcu", help="Address of the container that `devices.txt` is in.")
@click.option("--input-storage-account", "--isa", help="Name of a storage account, instead of an address.")
@click.option("--input-blob-container", "--ibc", help="Name of the container in that account.")
@click.option("--output-blob-container-uri", "--obcu", help="Address of the container for the error log.")
@click.option("--output-storage-account", "--osa", help="Name of a storage account, instead of an address.")
@click.option("--output-blob-container", "--obc", help="Name of the container in that account.")
@_identity_options
def import_devices(target: Target, auth_type: str | None, identity: str | None, **named: str | None) -> Any:
    """Carries out what `devices.txt` of a container says about identities."""
    places = {
        side: _container(
            target,
            named[f"{side}_blob_container_uri"],
            named[f"{side}_storage_account"],
            named[f"{side}_blob_container"],
            f"{side}-",
        )
        for side in ("input", "output")
    }
    body = {
        "type": "import",
        "inputBlobContainerUri": places["input"],
        "outputBlobContainerUri": places["output"],
        **_storage({"auth_type": auth_type, "identity": identity}),
    }
    return target.service("POST", "/jobs/create", body).json()


@job.command("create")
@click.option("--job-id", required=True, help="A name for the job, used once.")
@click.option("--job-type", "--jt", required=True, type=click.Choice(SCHEDULED_TYPES), help="What it does.")
@click.option("--query-condition", "-q", help="Which devices: the part of a query behind WHERE; * for all.")
@click.option("--twin-patch", "--patch", help="The twin patch: JSON, or a file with it.")
@click.option("--method-name", "--mn", help="The direct method.")
@click.option("--method-payload", "--mp", default="null", help="Its payload: JSON, or a file with it.")
@click.option("--method-connect-timeout", "--mct", type=int, default=30, help="Seconds to wait for a device.")
@click.option("--method-response-timeout", "--mrt", type=int, default=30, help="Seconds to wait for its answer.")
@click.option("--start-time", "--start", help="When it starts, in ISO 8601; now when left out.")
@click.option("--ttl", type=int, default=3600, show_default=True, help="Seconds it may run.")
@three_state("--wait", "-w", help="Whether to wait until it has ended.")
@click.option("--poll-interval", "--interval", type=click.IntRange(1), default=10, help="Seconds between two looks.")
@click.option("--poll-duration", "--duration", type=click.IntRange(1), default=600, help="Seconds to wait at most.")
def create_job(
    target: Target, job_id: str, wait: bool | None, poll_interval: int, poll_duration: int, **given: Any
) -> Any:
    """Schedules a twin update or a direct method for many devices."""
    made = target.service("PUT", _scheduled_path(job_id), {"jobId": job_id, **_scheduled_body(given)}).json()
    for _ in range(0, poll_duration if wait else 0, poll_interval):
        if made["status"] in ENDED:
            break
        Event().wait(poll_interval)
        made = target.service("GET", _scheduled_path(job_id)).json()
    return made


@job.command("list")
@click.option("--job-type", "--jt", help="Only jobs of this type, such as export or scheduleUpdateTwin.")
@click.option("--job-status", "--js", help="Only jobs of this status, such as running.")
@click.option("--top", type=int, help="How many; all when left out.")
def list_jobs(target: Target, job_type: str | None, job_status: str | None, top: int | None) -> Any:
    """Lists the jobs of the hub: scheduled ones, then imports and exports, the newest first."""
    found = _scheduled(target, job_type, job_status) if job_type not in TRANSFER_TYPES else []
    if job_type not in SCHEDULED_TYPES:
        found += [_shown(each) for each in target.service("GET", "/jobs").json()]
    wanted = [
        each
        for each in found
        if (job_type is None or each["type"] == job_type) and (job_status is None or each["status"] == job_status)
    ]
    return wanted if top is None or top < 0 else wanted[:top]


@job.command("show")
@click.option("--job-id", required=True, help="The job.")
def show_job(target: Target, job_id: str) -> Any:
    """Shows a job, and how far it is."""
    return _found(target, job_id)


@job.command("cancel")
@click.option("--job-id", required=True, help="The job.")
def cancel_job(target: Target, job_id: str) -> Any:
    """Ends a job; what it has done so far stays."""
    if _found(target, job_id)["type"] in TRANSFER_TYPES:
        return target.service("DELETE", _path(job_id)).json()
    return target.service("POST", f"{_scheduled_path(job_id)}/cancel").json()


def _found(target: Target, job_id: str) -> dict[str, Any]:
    """A job of either kind."""
    found: dict[str, Any] = target.service("GET", _scheduled_path(job_id)).json()
    if found["status"] == "unknown":
        return _shown(target.service("GET", _path(job_id)).json())
    return found


def _scheduled(target: Target, job_type: str | None, job_status: str | None) -> list[dict[str, Any]]:
    """All scheduled jobs of a type and status, page by page."""
    asked = {name: value for name, value in (("jobType", job_type), ("jobStatus", job_status)) if value}
    path, headers = "/jobs/v2/query" + (f"?{urlencode(asked)}" if asked else ""), dict[str, str]()
    found: list[dict[str, Any]] = []
    while True:
        answer = target.service("GET", path, headers=headers)
        found += answer.json()
        continuation = answer.headers.get("x-ms-continuation", "")
        if not continuation:
            return found
        headers = {"x-ms-continuation": continuation}


def _scheduled_body(given: dict[str, Any]) -> dict[str, Any]:
    if not given["query_condition"]:
        raise CommandError("A job needs --query-condition; give * for all devices.")
    body: dict[str, Any] = {
        "type": given["job_type"],
        "queryCondition": given["query_condition"],
        "maxExecutionTimeInSeconds": given["ttl"],
    }
    if given["start_time"]:
        body["startTime"] = given["start_time"]
    if given["job_type"] == SCHEDULED_TYPES[0]:
        if not given["twin_patch"]:
            raise CommandError(f"{SCHEDULED_TYPES[0]} needs --twin-patch.")
        return {**body, "updateTwin": {**_patch(given["twin_patch"]), "etag": "*"}}
    if not given["method_name"]:
        raise CommandError(f"{SCHEDULED_TYPES[1]} needs --method-name.")
    method = {
        "methodName": given["method_name"],
        "payload": read_json(given["method_payload"], "--method-payload"),
        "connectTimeoutInSeconds": given["method_connect_timeout"],
        "responseTimeoutInSeconds": given["method_response_timeout"],
    }
    return {**body, "cloudToDeviceMethod": method}


def _patch(given: str) -> dict[str, Any]:
    patch = read_json(given, "--twin-patch")
    if not isinstance(patch, dict):
        raise CommandError("--twin-patch must be a JSON object.")
    return patch


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _scheduled_path(job_id: str) -> str:
    return f"/jobs/v2/{quote(job_id, safe='')}"


def _container(target: Target, uri: str | None, account: str | None, container: str | None, side: str) -> str:
    """The address that was given, or the one of a container of a storage account that is hosted here."""
    if uri:
        return uri if "://" in uri else _content(uri)
    if not account or not container:
        raise CommandError(f"Give --{side}blob-container-uri, or --{side}storage-account with --{side}blob-container.")
    found = target.manage("GET", target.resource_id("Microsoft.Storage", "storageAccounts", account))
    return f"{found['properties']['primaryEndpoints']['blob'].rstrip('/')}/{container}"


def _content(file: str) -> str:
    """An address may stand in a file, so that its signature is on no command line."""
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} is neither the address of a container nor a file with one.") from error


def _storage(how: dict[str, str | None]) -> dict[str, Any]:
    """How the hub proves itself to the storage: as the identity that is named, or by the address."""
    identity, auth_type = how["identity"], how["auth_type"]
    if auth_type is None and identity is None:
        return {}
    kind = AUTH_TYPES[auth_type] if auth_type else "identityBased"
    named = {} if identity in (None, SYSTEM) else {"identity": {"userAssignedIdentity": identity}}
    return {"storageAuthenticationType": kind, **named}


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    """A job in the names that `az` has for jobs of every kind."""
    renamed = {"startTimeUtc": "startTime", "endTimeUtc": "endTime"}
    shown = {renamed.get(name, name): value for name, value in found.items()}
    return {"createdTime": shown["startTime"], "endTime": None, **shown}
