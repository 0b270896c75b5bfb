"""File upload by the official clients: a device asks, uploads and tells, services hear of it; Azurite has the files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.storage.blob import BlobClient, BlobServiceClient

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


def blob(info: dict[str, str], ca: Path) -> BlobClient:
    """The official client at the address that a device was told, as the documentation's sample makes it."""
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    return BlobClient.from_blob_url(url, connection_verify=str(ca))


def notifications(hub: RunningHub) -> FileNotifications:
    return FileNotifications(hub.connection_string("service"), hub.json("iot", "hub", "show")["name"])
