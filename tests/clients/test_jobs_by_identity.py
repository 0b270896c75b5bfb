"""Exports and imports by the hub's identity: a hosted account that is closed to the public, and no key anywhere."""

import faulthandler
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import JobProperties, ManagedIdentity
from azure.mgmt.iothub.models import ExportDevicesRequest
from msrest.exceptions import HttpOperationError

from clients.devices import until
from clients.managing import GROUP, MANAGEMENT_OPTIONS, Managing
from clients.storage import Account, storage_account
from support.server import RunningHub

HUB_OPTIONS = MANAGEMENT_OPTIONS
CONTAINER = "jobs"
ROLE = "Storage Blob Data Contributor"
MANY = 300_000
GROWTH_MIB_MAX = 64
"""Far less than so many identities are on disk, and more than a few blocks and SQLite's caches."""
JOB_SECONDS_MAX = 900.0
ENDED = {"completed", "failed", "cancelled"}
CLOSED = ("--default-action", "Deny", "--bypass", "AzureServices")


@pytest.fixture(scope="module")
def account(hub: RunningHub) -> Iterator[Account]:
    with storage_account(hub) as account:
        hub.isthmus("storage", "container", "create", "-n", CONTAINER, "--account-name", account.name)
        yield account


@pytest.fixture
def jobs(hub: RunningHub, service: IoTHubRegistryManager) -> IoTHubJobManager:
    return IoTHubJobManager.from_connection_string(hub.connection_string())


def uri(account: Account) -> str:
    return f"{account.url.rstrip('/')}/{CONTAINER}"


def export_job(account: Account, identity: str | None = None) -> JobProperties:
    return JobProperties(
        type="export",
        output_blob_container_uri=uri(account),
        storage_authentication_type="identityBased",
        exclude_keys_in_export=False,
        identity=None if identity is None else ManagedIdentity(user_assigned_identity=identity),
    )


def test_each_switch_that_is_off_is_refused_in_its_turn_and_all_on_export_and_import(
    hub: RunningHub, account: Account, jobs: IoTHubJobManager, service: IoTHubRegistryManager
) -> None:
    keys = service.create_device_with_sas("d1", "", "", "enabled").authentication.symmetric_key
    assert refusal(jobs, account) == "ManagedIdentityNotEnabled"
    principal = hub.json("iot", "hub", "identity", "assign", "--system-assigned")["principalId"]
    account.update("--default-action", "Deny", "--bypass", "None")
    assert refusal(jobs, account) == "BlobContainerValidationError"
    assert "AuthorizationFailure" in hub.isthmus("explain")
    account.update(*CLOSED)
    assert refusal(jobs, account) == "BlobContainerValidationError"
    assert "AuthorizationPermissionMismatch" in hub.isthmus("explain")
    scope = account.container_id(CONTAINER)
    hub.isthmus("role", "assignment", "create", "--assignee-object-id", principal, "--role", ROLE, "--scope", scope)
    assert end_of(jobs, jobs.create_import_export_job(export_job(account)).job_id).status == "completed"
    service.delete_device("d1")
    into = JobProperties(
        type="import",
        input_blob_container_uri=uri(account),
        output_blob_container_uri=uri(account),
        storage_authentication_type="identityBased",
    )
    assert end_of(jobs, jobs.create_import_export_job(into).job_id).status == "completed"
    assert service.get_device("d1").authentication.symmetric_key.primary_key == keys.primary_key
    account.update("--default-action", "Allow")
    with account.client() as client:
        (line,) = client.get_blob_client(CONTAINER, "devices.txt").download_blob().readall().splitlines()
        assert json.loads(line)["id"] == "d1"
        assert client.get_blob_client(CONTAINER, "importErrors.log").download_blob().readall() == b""


def test_an_attached_identity_exports_through_arm_and_the_command_line(
    hub: RunningHub, account: Account, jobs: IoTHubJobManager, owner: Managing
) -> None:
    identity = hub.json("identity", "create", "-n", "exporter")
    hub.isthmus("iot", "hub", "identity", "assign", "--user-assigned", identity["id"])
    who = ("--assignee-object-id", identity["principalId"], "--role", ROLE)
    hub.isthmus("role", "assignment", "create", *who, "--scope", account.resource_id)
    request = ExportDevicesRequest(
        export_blob_container_uri=uri(account),
        exclude_keys=True,
        export_blob_name="mine.txt",
        authentication_type="identityBased",
        identity={"user_assigned_identity": identity["id"]},
    )
    made = owner.iothub.iot_hub_resource.export_devices(GROUP, owner.hub_name, request)
    assert made.type == "export"
    until(lambda: owner.iothub.iot_hub_resource.get_job(GROUP, owner.hub_name, made.job_id).status in ENDED)
    shown = owner.iothub.iot_hub_resource.get_job(GROUP, owner.hub_name, made.job_id)
    assert (shown.status, shown.end_time_utc >= shown.start_time_utc) == ("completed", True)
    assert made.job_id in [job.job_id for job in owner.iothub.iot_hub_resource.list_jobs(GROUP, owner.hub_name)]
    place = ("--storage-account", account.name, "--blob-container", CONTAINER, "--identity", identity["id"])
    job_id = hub.json("iot", "hub", "device-identity", "export", *place, "--include-keys")["jobId"]
    assert end_of(jobs, job_id).status == "completed"
    hub.isthmus("iot", "hub", "identity", "remove", "--user-assigned", identity["id"])
    with pytest.raises(HttpOperationError) as refused:
        jobs.create_import_export_job(export_job(account, identity["id"]))
    assert refused.value.response.headers["iothub-errorcode"] == "ManagedIdentityNotEnabled"


def refusal(jobs: IoTHubJobManager, account: Account) -> str:
    """The code with which an export is refused."""
    with pytest.raises(HttpOperationError) as refused:
        jobs.create_import_export_job(export_job(account))
    return str(refused.value.response.headers["iothub-errorcode"])


def end_of(jobs: IoTHubJobManager, job_id: str) -> Any:
    """The job when it has ended."""
    until(lambda: jobs.get_import_export_job(job_id).status in ENDED)
    return jobs.get_import_export_job(job_id)


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_identities(
    hub: RunningHub, account: Account, jobs: IoTHubJobManager
) -> None:
    """What more identities cost is disk: the first thousand, or a million, the server needs as much for either."""
    faulthandler.cancel_dump_traceback_later()
    principal = hub.json("iot", "hub", "identity", "assign", "--system-assigned")["principalId"]
    who = ("--assignee-object-id", principal, "--role", ROLE)
    hub.run("role", "assignment", "create", *who, "--scope", account.container_id(CONTAINER))
    few = _moved(hub, account, jobs, 1_000)
    many = _moved(hub, account, jobs, MANY)
    assert many - few < GROWTH_MIB_MAX


def _moved(hub: RunningHub, account: Account, jobs: IoTHubJobManager, count: int) -> int:
    """The most memory of the server so far, in MiB, after an import and an export of so many identities."""
    lines = (json.dumps({"id": f"n{count}-{number:07}", "tags": {"n": number}}) for number in range(count))
    with account.client() as client:
        client.get_blob_client(CONTAINER, "devices.txt").upload_blob("\n".join(lines), overwrite=True)
    place = {"storage_authentication_type": "identityBased", "output_blob_container_uri": uri(account)}
    into = JobProperties(type="import", input_blob_container_uri=uri(account), **place)
    for job in (into, JobProperties(type="export", **place)):
        made = jobs.create_import_export_job(job)
        until(partial(has_ended, jobs, made.job_id), timeout=JOB_SECONDS_MAX)
        assert jobs.get_import_export_job(made.job_id).status == "completed"
    status = Path(f"/proc/{hub.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def has_ended(jobs: IoTHubJobManager, job_id: str) -> bool:
    """True when nothing more becomes of a job."""
    return jobs.get_import_export_job(job_id).status in ENDED
