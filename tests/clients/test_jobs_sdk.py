"""Imports and exports of identities by the azure-iot-hub client, with Azurite as the storage account."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import JobProperties
from azure.storage.blob import BlobServiceClient, ContainerClient, ContainerSasPermissions, generate_container_sas
from msrest.exceptions import HttpOperationError

from clients.devices import until
from support.azurite import ACCOUNT, KEY, PORT, running_azurite, why_no_azurite
from support.loopback import Loopback
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


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with Loopback() as loopback, running_azurite(tmp_path_factory.mktemp("azurite"), loopback.take()) as azurite:
        storage = Storage(azurite.address, azurite.ca)
        yield storage
        storage.service.close()


@pytest.fixture(scope="module")
def hub(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub on a machine that trusts the storage."""
    with Loopback() as loopback, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(storage.ca))
        hub = RunningHub(tmp_path_factory.mktemp("hub"), loopback.take())
        try:
            hub.start()
            yield hub
        finally:
            hub.kill()


@pytest.fixture
def jobs(hub: RunningHub) -> IoTHubJobManager:
    return IoTHubJobManager.from_connection_string(hub.connection_string())


def test_identities_are_exported_and_imported_into_another_hub(
    hub: RunningHub, jobs: IoTHubJobManager, storage: Storage
) -> None:
    name = "moved"
    container = storage.container(name)
    registry = IoTHubRegistryManager.from_connection_string(hub.connection_string())
    keys = registry.create_device_with_sas("d1", "", "", "enabled").authentication.symmetric_key
    registry.create_device_with_x509("d2", "A" * 40, "B" * 40, "disabled")
    registry.create_module_with_sas("d1", "m", "me", "", "")
    asked = JobProperties(type="export", output_blob_container_uri=storage.uri(name), exclude_keys_in_export=False)
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
        type="import", input_blob_container_uri=storage.uri(name), output_blob_container_uri=storage.uri(name)
    )
    assert end_of(jobs, jobs.create_import_export_job(into).job_id).status == "completed"
    assert container.download_blob("importErrors.log").readall() == b""
    assert registry.get_device("d1").authentication.symmetric_key.primary_key == keys.primary_key
    assert registry.get_device("d2").status == "disabled"
    assert registry.get_module("d1", "m").managed_by == "me"
    assert [job.type for job in jobs.get_import_export_jobs()] == ["import", "export"]
    jobs.cancel_import_export_job(made.job_id)
    assert jobs.get_import_export_job(made.job_id).status == "completed"


def test_a_signature_is_told_to_nobody(hub: RunningHub, jobs: IoTHubJobManager, storage: Storage) -> None:
    name = "secret"
    storage.container(name)
    good, bad = storage.uri(name), storage.uri(name, "rl")
    job_id = jobs.create_import_export_job(JobProperties(type="export", output_blob_container_uri=good)).job_id
    end_of(jobs, job_id)
    with pytest.raises(HttpOperationError) as refused:
        jobs.create_import_export_job(JobProperties(type="export", output_blob_container_uri=bad))
    told = [
        refused.value.response.text,
        hub.log.read_text(),
        *(hub.isthmus(*words) for words in (("explain",), ("audit", "list"), ("metrics",), ("job", "list"))),
    ]
    for uri in (good, bad):
        signature = uri.partition("sig=")[2].partition("&")[0]
        assert signature
        assert not [text for text in told if signature in text or unquote(signature) in text]


def test_lines_that_cannot_be_carried_out_stand_in_the_log(
    hub: RunningHub, jobs: IoTHubJobManager, storage: Storage
) -> None:
    name = "refused"
    container = storage.container(name)
    rows = [
        {"id": "a", "importMode": "create"},
        {"id": "a", "importMode": "create"},
        {"id": "b", "importMode": "deleteIfMatchETag", "eTag": "x"},
    ]
    container.upload_blob("mine.txt", "\r\n".join(json.dumps(row) for row in rows))
    asked = JobProperties(
        type="import",
        input_blob_container_uri=storage.uri(name, "rl"),
        input_blob_name="mine.txt",
        output_blob_container_uri=storage.uri(name),
    )
    assert end_of(jobs, jobs.create_import_export_job(asked).job_id).status == "completed"
    errors = read_lines(container, "importErrors.log")
    assert [(error["errorCode"], error["deviceId"]) for error in errors] == [(409001, "a"), (404001, "b")]


def test_a_job_that_may_not_write_is_refused_and_explained(
    hub: RunningHub, jobs: IoTHubJobManager, storage: Storage
) -> None:
    name = "forbidden"
    storage.container(name)
    with pytest.raises(HttpOperationError) as refused:
        jobs.create_import_export_job(JobProperties(type="export", output_blob_container_uri=storage.uri(name, "rl")))
    assert refused.value.response.status_code == 400
    assert refused.value.response.headers["iothub-errorcode"] == "BlobContainerValidationError"
    assert "contract.job-container" in hub.isthmus("explain")
    with pytest.raises(HttpOperationError) as unknown:
        jobs.get_import_export_job("none")
    assert unknown.value.response.headers["iothub-errorcode"] == "JobNotFound"


def test_the_command_line_makes_shows_and_lists_jobs(hub: RunningHub, storage: Storage, tmp_path: Path) -> None:
    name = "typed"
    container = storage.container(name)
    hub.create_device("c1")
    address = tmp_path / "address"
    address.write_text(storage.uri(name))
    made = hub.json("iot", "hub", "device-identity", "export", "--bcu", str(address))
    assert (made["type"], made["excludeKeysInExport"]) == ("export", True)
    until(lambda: hub.json("iot", "hub", "job", "show", "--job-id", made["jobId"])["status"] in ENDED)
    assert "c1" in [line["id"] for line in read_lines(container, "devices.txt")]
    hub.isthmus("device-identity", "delete", "-d", "c1")
    into = hub.json("device-identity", "import", "--ibcu", str(address), "--obcu", storage.uri(name))
    until(lambda: hub.json("job", "show", "--job-id", into["jobId"])["status"] in ENDED)
    assert hub.json("device-identity", "show", "-d", "c1")["status"] == "enabled"
    listed = hub.json("job", "list", "--job-type", "import", "--job-status", "completed", "--top", "1")
    assert [each["jobId"] for each in listed] == [into["jobId"]]
    hub.isthmus("job", "cancel", "--job-id", into["jobId"])
    assert hub.json("job", "show", "--job-id", into["jobId"])["status"] == "completed"
    assert "JobNotFound" in hub.isthmus("job", "cancel", "--job-id", "none", code=1)
    assert "import or export of identities begun" in hub.isthmus("audit", "list")


def test_an_import_goes_on_after_each_start_whether_the_server_was_killed_or_stopped(
    hub: RunningHub, jobs: IoTHubJobManager, storage: Storage
) -> None:
    """Every identity is made once: a line that was carried out twice would stand in the log."""
    name = "killed"
    container = storage.container(name)
    before = hub.json("iot", "hub", "show-stats")["totalDeviceCount"]
    rows = [json.dumps({"id": f"k{number:05}", "importMode": "create"}) for number in range(6_000)]
    container.upload_blob("devices.txt", "\n".join([*rows, rows[0]]))
    uri = storage.uri(name)
    asked = JobProperties(type="import", input_blob_container_uri=uri, output_blob_container_uri=uri)
    job_id = jobs.create_import_export_job(asked).job_id
    for share, end in ((5, hub.kill), (40, hub.stop), (60, hub.kill)):
        until(partial(has_come_to, jobs, job_id, share))
        end()
        hub.start()
    assert end_of(jobs, job_id).status == "completed"
    assert [(error["errorCode"], error["deviceId"]) for error in read_lines(container, "importErrors.log")] == [
        (409001, "k00000")
    ]
    assert hub.json("iot", "hub", "show-stats")["totalDeviceCount"] == before + 6_000


def has_come_to(jobs: IoTHubJobManager, job_id: str, share: int) -> bool:
    """True when a job has done at least so many percent."""
    return int(jobs.get_import_export_job(job_id).progress or 0) >= share


def end_of(jobs: IoTHubJobManager, job_id: str) -> Any:
    """The job when it has ended."""
    until(lambda: jobs.get_import_export_job(job_id).status in ENDED)
    return jobs.get_import_export_job(job_id)


def read_lines(container: ContainerClient, blob: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in container.download_blob(blob).readall().splitlines()]
