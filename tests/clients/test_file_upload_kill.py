"""File upload through power cuts: between any two steps the hub is killed, and nothing that was answered is lost."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.storage.blob import BlobClient

from clients.devices import client_of
from clients.files import FileNotifications
from clients.names import resolved
from clients.storage import Account, storage_account
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"


@pytest.fixture(scope="module")
def account(hub: RunningHub) -> Iterator[Account]:
    """An account that the hub reaches by its key, and to which it relays."""
    with resolved(hub.host_name, hub.address), storage_account(hub) as made:
        named = f"AccountName={made.name};AccountKey={made.key()};BlobEndpoint={made.url};"
        hub.isthmus(
            *("iot", "hub", "update", "--fcs", named, "--fc", "uploads", "--fn", "true", "--fileupload-relay", "true")
        )
        yield made
        hub.isthmus("iot", "hub", "update", "--fn", "false")


@pytest.mark.parametrize("relayed", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_file_survives_a_power_cut_after_every_step(
    hub: RunningHub, account: Account, device_id: str, tmp_path: Path, relayed: bool
) -> None:
    hub.isthmus("iot", "hub", "update", "--fileupload-relay", str(relayed).lower())
    string = hub.create_device(device_id)
    info = ask(hub, string, lambda device: device.get_storage_info_for_blob("a.bin"))
    hub.restart()
    body = os.urandom(3 * 1024 * 1024)
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    with BlobClient.from_blob_url(url, connection_verify=str(hub.ca), retry_total=0) as client:
        client.stage_block("1", body)
        hub.restart()
        client.stage_block("2", body)
        client.commit_block_list(["1", "2"])
    hub.restart()

    def done(device: IoTHubDeviceClient) -> None:
        device.notify_blob_upload_status(info["correlationId"], True, 200, "uploaded")

    ask(hub, string, done)
    hub.restart()
    ask(hub, string, done)
    notifications = FileNotifications(hub.connection_string("service"), "hub", at=hub.address)
    assert notifications.next(settle="")["blobSizeInBytes"] == 2 * len(body)
    hub.restart()
    notifications = FileNotifications(hub.connection_string("service"), "hub", at=hub.address)
    assert notifications.next()["blobName"] == f"{device_id}/a.bin"
    hub.restart()
    with account.client() as owner:
        assert owner.get_blob_client("uploads", f"{device_id}/a.bin").download_blob().readall() == body * 2
    notifications = FileNotifications(hub.connection_string("service"), "hub", at=hub.address)
    ask(hub, string, done)
    assert notifications.waiting() == []


def ask(hub: RunningHub, connection_string: str, question: Callable[[IoTHubDeviceClient], Any]) -> Any:
    """What a device that has just started hears."""
    device = client_of(hub, connection_string)
    device.connect()
    try:
        return question(device)
    finally:
        device.shutdown()
