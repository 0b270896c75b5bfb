"""File upload by the official clients: a device asks, uploads and tells, services hear of it; Azurite has the files."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.iot.device import IoTHubDeviceClient
from azure.storage.blob import BlobClient, BlobServiceClient, ContentSettings

from clients.devices import connected
from clients.files import FileNotifications
from support.azurite import ACCOUNT, KEY, PORT, running_azurite, why_no_azurite
from support.loopback import Loopback
from support.server import RunningHub

pytestmark = [pytest.mark.clients, pytest.mark.skipif(bool(why_no_azurite()), reason=why_no_azurite())]


class Storage:
    """A storage account of Azurite's, addressed by path."""

    def __init__(self, address: str, ca: Path) -> None:
        self.place = f"{address}:{PORT}/{ACCOUNT}"
        self.ca = ca
        self.connection_string = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=https://{self.place};"
        self.service = BlobServiceClient.from_connection_string(self.connection_string, connection_verify=str(ca))

    def read(self, container: str, blob: str) -> bytes:
        return bytes(self.service.get_blob_client(container, blob).download_blob().readall())


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with Loopback() as loopback, running_azurite(tmp_path_factory.mktemp("azurite"), loopback.take()) as azurite:
        made = Storage(azurite.address, azurite.ca)
        yield made
        made.service.close()


@pytest.fixture(scope="module")
def hub(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub on a machine that trusts the storage, which it has the key of."""
    trusting = ("env", f"SSL_CERT_FILE={storage.ca}")
    with Loopback() as loopback:
        running = RunningHub(tmp_path_factory.mktemp("hub"), loopback.take(), under=trusting)
        try:
            running.start()
            account = ("--fcs", storage.connection_string, "--fc", "uploads")
            running.isthmus("iot", "hub", "update", *account, "--fileupload-notifications", "true")
            yield running
            running.stop()
        finally:
            running.kill()


@pytest.fixture
def device(hub: RunningHub, device_id: str) -> Iterator[IoTHubDeviceClient]:
    with connected(hub, device_id) as client:
        yield client


def test_a_device_uploads_a_file_and_services_hear_of_it(
    hub: RunningHub, storage: Storage, device: IoTHubDeviceClient, device_id: str
) -> None:
    info = device.get_storage_info_for_blob("logs/today.txt")
    assert info["hostName"] == storage.place
    assert (info["containerName"], info["blobName"]) == ("uploads", f"{device_id}/logs/today.txt")
    blob(info, storage.ca).upload_blob(b"all is well")
    device.notify_blob_upload_status(info["correlationId"], True, 200, "uploaded")

    told = notifications(hub).next()
    assert told["deviceId"] == device_id
    assert told["blobName"] == f"{device_id}/logs/today.txt"
    assert told["blobUri"] == f"https://{storage.place}/uploads/{device_id}/logs/today.txt"
    assert told["blobSizeInBytes"] == len(b"all is well")
    assert storage.read("uploads", f"{device_id}/logs/today.txt") == b"all is well"


def blob(info: dict[str, str], ca: Path, **options: Any) -> BlobClient:
    """The official client at the address that a device was told, as the documentation's sample makes it."""
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    return BlobClient.from_blob_url(url, connection_verify=str(ca), retry_total=0, **options)


def notifications(hub: RunningHub) -> FileNotifications:
    return FileNotifications(hub.connection_string("service"), hub.json("iot", "hub", "show")["name"])


@pytest.fixture
def relay(hub: RunningHub) -> Iterator[None]:
    """Sends devices to the hub's own address."""
    hub.isthmus("iot", "hub", "update", "--fileupload-relay", "true")
    yield
    hub.isthmus("iot", "hub", "update", "--fileupload-relay", "false")


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("size", [0, 11, 9 * 1024 * 1024 + 1], ids=["empty", "in one piece", "in blocks"])
def test_a_device_uploads_through_the_hub(
    hub: RunningHub, storage: Storage, device: IoTHubDeviceClient, device_id: str, size: int
) -> None:
    info = device.get_storage_info_for_blob("through.bin")
    assert (info["hostName"], info["containerName"]) == (hub.address, "isthmus-uploads")
    body = os.urandom(size)
    with blob(info, hub.ca, max_single_put_size=1024 * 1024, max_block_size=4 * 1024 * 1024) as client:
        client.upload_blob(body, metadata={"plant": "north"}, content_settings=ContentSettings("application/x-log"))
        assert client.get_blob_properties().size == size
        device.notify_blob_upload_status(info["correlationId"], True, 200, "uploaded")
        told = notifications(hub).next()
        assert (told["blobName"], told["blobSizeInBytes"]) == (f"{device_id}/through.bin", size)
        assert told["blobUri"].startswith(f"https://{storage.place}/uploads/")
        assert storage.read("uploads", f"{device_id}/through.bin") == body
        kept = storage.service.get_blob_client("uploads", f"{device_id}/through.bin").get_blob_properties()
        assert (kept.metadata, kept.content_settings.content_type) == ({"plant": "north"}, "application/x-log")
        with pytest.raises(HttpResponseError) as ended:
            client.upload_blob(b"again", overwrite=True)
    assert (ended.value.status_code, ended.value.error_code) == (403, "AuthenticationFailed")
