"""Messages of a stock device SDK, routed to a storage container: Azurite, whose account the hub reaches by its key."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message
from azure.storage.blob import BlobServiceClient, ContainerClient

from clients.devices import until
from support.azurite import ACCOUNT, KEY, PORT, running_azurite, why_no_azurite
from support.server import RunningHub

pytestmark = [pytest.mark.clients, pytest.mark.skipif(bool(why_no_azurite()), reason=why_no_azurite())]

CONTAINER = "telemetry"


class Account:
    """A storage account of Azurite's, addressed by path."""

    def __init__(self, address: str, ca: Path) -> None:
        self.ca = ca
        self.connection_string = (
            f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=https://{address}:{PORT}/{ACCOUNT};"
        )
        self.service = BlobServiceClient.from_connection_string(self.connection_string, connection_verify=str(ca))

    def container(self) -> ContainerClient:
        return self.service.create_container(CONTAINER)

    def lines(self) -> list[dict[str, Any]]:
        """What stands in all blobs, the blob that was begun first before the others."""
        container = self.service.get_container_client(CONTAINER)
        blobs = [container.download_blob(blob.name).readall() for blob in container.list_blobs()]
        read = [[json.loads(line) for line in blob.splitlines()] for blob in blobs if blob]
        return [line for lines in sorted(read, key=lambda lines: lines[0]["EnqueuedTimeUtc"]) for line in lines]

    def numbers(self) -> list[int]:
        return [line["Body"]["number"] for line in self.lines()]


@pytest.fixture
def account(tmp_path: Path, loopback_addresses: Callable[[], str]) -> Iterator[Account]:
    folder = tmp_path / "azurite"
    folder.mkdir()
    with running_azurite(folder, loopback_addresses()) as azurite:
        account = Account(azurite.address, azurite.ca)
        account.container()
        yield account
        account.service.close()


@pytest.fixture
def hub(account: Account, make_hub: Callable[..., RunningHub], monkeypatch: pytest.MonkeyPatch) -> RunningHub:
    """A hub on a machine that trusts the storage, with a route for everything to it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(account.ca))
    hub = make_hub()
    storage = ("--connection-string", account.connection_string, "--container", CONTAINER, "--encoding", "json")
    hub.isthmus("iot", "hub", "message-endpoint", "create", "storage-container", "--en", "store", *storage)
    hub.isthmus("iot", "hub", "message-route", "create", "--rn", "all", "-t", "DeviceMessages", "--en", "store")
    return hub


def test_messages_arrive_in_order_with_their_properties(hub: RunningHub, account: Account, device: Any) -> None:
    _send(device, 0, 20)
    until(lambda: len(account.lines()) == 20)
    assert account.numbers() == list(range(20))
    line = account.lines()[3]
    assert line["Properties"] == {"level": "hot"}
    assert line["SystemProperties"]["connectionDeviceId"] == "pump"


def test_a_worker_that_is_killed_is_followed_by_one_that_goes_on(
    hub: RunningHub, account: Account, device: Any
) -> None:
    _send(device, 0, 10)
    until(lambda: len(account.lines()) >= 10)
    os.kill(_worker_pid(hub), signal.SIGKILL)
    _send(device, 10, 10)
    until(lambda: set(account.numbers()) == set(range(20)))
    assert list(dict.fromkeys(account.numbers())) == list(range(20))


@pytest.fixture
def device(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[IoTHubDeviceClient]:
    client = IoTHubDeviceClient.create_from_connection_string(
        hub.create_device("pump"), server_verification_cert=hub.ca.read_text()
    )
    client.connect()
    yield client
    client.shutdown()


def _send(device: IoTHubDeviceClient, first: int, count: int) -> None:
    for number in range(first, first + count):
        message = Message(json.dumps({"number": number}), content_encoding="utf-8", content_type="application/json")
        message.custom_properties["level"] = "hot"
        device.send_message(message)


def _worker_pid(hub: RunningHub) -> int:
    """The only child of the hub that delivers."""
    children = Path(f"/proc/{hub.pid}/task/{hub.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if "egress-worker" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(workers) == 1
    return workers[0]


def test_killing_hub_and_worker_under_load_loses_nothing_that_was_acknowledged(
    hub: RunningHub, account: Account, device: Any
) -> None:
    for round_number in range(3):
        _send(device, 30 * round_number, 30)
        os.kill(_worker_pid(hub), signal.SIGKILL)
        hub.restart()
        until(lambda: device.connected)
    _send(device, 90, 10)
    until(lambda: set(account.numbers()) >= set(range(100)), 60)
    assert list(dict.fromkeys(account.numbers())) == list(range(100))
