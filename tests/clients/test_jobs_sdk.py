"""Imports and exports of identities by the azure-iot-hub client, with Azurite as the storage account."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import JobProperties
from azure.storage.blob import BlobServiceClient, ContainerClient, ContainerSasPermissions, generate_container_sas
from msrest.exceptions import HttpOperationError

from clients.devices import until
from support.azurite import ACCOUNT, KEY, PORT, running_azurite, why_no_azurite
from support.server import RunningHub

pytestmark = [pytest.mark.clients, pytest.mark.skipif(bool(why_no_azurite()), reason=why_no_azurite())]

ENDED = {"completed", "failed", "cancelled"}


class Storage:
    """A storage account of Azurite's, addressed by path."""

    def __init__(self, address: str, ca: Path) -> None:
        self.url = f"https://{address}:{PORT}/{ACCOUNT}"
        self.ca = ca
        string = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"
        self.service = BlobServiceClient.from_connection_string(string, connection_verify=str(ca))

    def container(self, name: str) -> ContainerClient:
        return self.service.create_container(name)

    def uri(self, name: str, permissions: str = "rwdl") -> str:
        """The container's address with a signature that is good for an hour."""
        signature = generate_container_sas(
            ACCOUNT,
            name,
            KEY,
            permission=ContainerSasPermissions.from_string(permissions),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        return f"{self.url}/{name}?{signature}"


@pytest.fixture
def storage(tmp_path: Path, loopback_addresses: Callable[[], str]) -> Iterator[Storage]:
    folder = tmp_path / "azurite"
    folder.mkdir()
    with running_azurite(folder, loopback_addresses()) as azurite:
        storage = Storage(azurite.address, azurite.ca)
        yield storage
        storage.service.close()


@pytest.fixture
def hub(storage: Storage, make_hub: Callable[..., RunningHub], monkeypatch: pytest.MonkeyPatch) -> RunningHub:
    """A hub on a machine that trusts the storage."""
    monkeypatch.setenv("SSL_CERT_FILE", str(storage.ca))
    return make_hub()


@pytest.fixture
def jobs(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> IoTHubJobManager:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hub.ca))
    return IoTHubJobManager.from_connection_string(hub.connection_string())


def test_identities_are_exported_and_imported_into_another_hub(
    hub: RunningHub, jobs: IoTHubJobManager, storage: Storage
) -> None:
    container = storage.container("jobs")
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    keys = registry.create_device_with_sas("d1", "", "", "enabled").authentication.symmetric_key
    registry.create_device_with_x509("d2", "A" * 40, "B" * 40, "disabled")
    registry.create_module_with_sas("d1", "m", "me", "", "")
    asked = JobProperties(type="export", output_blob_container_uri=storage.uri("jobs"), exclude_keys_in_export=False)
    made = jobs.create_import_export_job(asked)
    assert (made.type, made.storage_authentication_type) == ("export", "keyBased")
    assert "sig=" not in made.output_blob_container_uri
    ended = end_of(jobs, made.job_id)
    assert (ended.status, ended.progress, ended.failure_reason) == ("completed", 100, None)
    assert ended.end_time_utc >= ended.start_time_utc
    lines = read_lines(container, "devices.txt")
    assert [(line["id"], line.get("moduleId")) for line in lines] == [("d1", None), ("d2", None), ("d1", "m")]
    assert lines[0]["authentication"]["symmetricKey"]["primaryKey"] == keys.primary_key
    assert (lines[1]["status"], lines[1]["authentication"]["type"]) == ("disabled", "selfSigned")
    for device in ("d1", "d2"):
        registry.delete_device(device)
    into = JobProperties(
        type="import", input_blob_container_uri=storage.uri("jobs"), output_blob_container_uri=storage.uri("jobs")
    )
    assert end_of(jobs, jobs.create_import_export_job(into).job_id).status == "completed"
    assert container.download_blob("importErrors.log").readall() == b""
    assert registry.get_device("d1").authentication.symmetric_key.primary_key == keys.primary_key
    assert registry.get_device("d2").status == "disabled"
    assert registry.get_module("d1", "m").managed_by == "me"
    assert [job.job_id for job in jobs.get_import_export_jobs()][-1] == made.job_id


def test_lines_that_cannot_be_carried_out_stand_in_the_log(
    hub: RunningHub, jobs: IoTHubJobManager, storage: Storage
) -> None:
    container = storage.container("jobs")
    rows = [
        {"id": "a", "importMode": "create"},
        {"id": "a", "importMode": "create"},
        {"id": "b", "importMode": "deleteIfMatchETag", "eTag": "x"},
    ]
    container.upload_blob("mine.txt", "\r\n".join(json.dumps(row) for row in rows))
    asked = JobProperties(
        type="import",
        input_blob_container_uri=storage.uri("jobs", "rl"),
        input_blob_name="mine.txt",
        output_blob_container_uri=storage.uri("jobs"),
    )
    assert end_of(jobs, jobs.create_import_export_job(asked).job_id).status == "completed"
    errors = read_lines(container, "importErrors.log")
    assert [(error["errorCode"], error["deviceId"]) for error in errors] == [(409001, "a"), (404001, "b")]


def test_a_job_that_may_not_write_is_refused_and_explained(
    hub: RunningHub, jobs: IoTHubJobManager, storage: Storage
) -> None:
    storage.container("jobs")
    with pytest.raises(HttpOperationError) as refused:
        jobs.create_import_export_job(JobProperties(type="export", output_blob_container_uri=storage.uri("jobs", "rl")))
    assert refused.value.response.status_code == 400
    assert refused.value.response.headers["iothub-errorcode"] == "BlobContainerValidationError"
    assert "contract.job-container" in hub.isthmus("explain")
    with pytest.raises(HttpOperationError) as unknown:
        jobs.get_import_export_job("none")
    assert unknown.value.response.headers["iothub-errorcode"] == "JobNotFound"


def end_of(jobs: IoTHubJobManager, job_id: str) -> Any:
    """The job when it has ended."""
    until(lambda: jobs.get_import_export_job(job_id).status in ENDED)
    return jobs.get_import_export_job(job_id)


def read_lines(container: ContainerClient, blob: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in container.download_blob(blob).readall().splitlines()]
