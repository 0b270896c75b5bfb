"""File upload by the account's key: through power cuts between any two steps, and when the key is renewed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.exceptions import ClientError
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
        relayed = ("--fn", "true", "--fileupload-relay", "true")
        hub.isthmus("iot", "hub", "update", "--fcs", connection_string(made), "--fc", "uploads", *relayed)
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


def test_a_key_that_was_renewed_is_named_until_the_hub_has_the_new_one(
    hub: RunningHub, account: Account, device_id: str
) -> None:
    string = hub.create_device(device_id)
    hub.isthmus("storage", "account", "keys", "renew", "-n", account.name, "--key", "key1")
    # Signatures are made for a minute by the account's last word; another container asks it anew.
    hub.isthmus("iot", "hub", "update", "--fc", "other")
    with pytest.raises(ClientError):
        ask(hub, string, lambda device: device.get_storage_info_for_blob("a.bin"))
    told = hub.json("explain", "--top", "1")[0]
    assert (told["rule"], told["code"]) == ("egress.authentication", "InvalidStorageEndpoint")
    hub.isthmus("iot", "hub", "update", "--fcs", connection_string(account))
    assert ask(hub, string, lambda device: device.get_storage_info_for_blob("a.bin"))["correlationId"]


def connection_string(account: Account) -> str:
    return f"AccountName={account.name};AccountKey={account.key()};BlobEndpoint={account.url};"


def ask(hub: RunningHub, connection_string: str, question: Callable[[IoTHubDeviceClient], Any]) -> Any:
    """What a device that has just started hears."""
    device = client_of(hub, connection_string)
    device.connect()
    try:
        return question(device)
    finally:
        device.shutdown()
