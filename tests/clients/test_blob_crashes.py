"""`kill -9` of the hub, its worker and the account it hosts, while blobs are written: nothing lost, nothing torn."""

import io
import json
from collections.abc import Callable
from typing import Any, Final

import fastavro
import pytest
from azure.core.exceptions import AzureError
from azure.iot.device import Message
from azure.storage.blob import BlobServiceClient

from clients.devices import connected, until
from clients.names import resolved
from clients.site import DOMAIN, HOST
from support.server import RunningHub

ACCOUNT, CONTAINER, DEVICE = "crashstore", "archive", "press-1"
DEATHS: Final = 4
BURST: Final = 25


@pytest.mark.parametrize(
    "encoding", ["avro", *(pytest.param(each, marks=pytest.mark.long) for each in ("avrodeflate", "json"))]
)
def test_blobs_of_whole_messages_survive(make_hub: Callable[..., RunningHub], encoding: str) -> None:
    hub = make_hub(hostname=HOST)
    host = f"{ACCOUNT}.blob.{DOMAIN}"
    _endpoint(hub, encoding)
    hub.isthmus("device-identity", "create", "-d", DEVICE)
    with resolved(HOST, hub.address), resolved(host, hub.address):
        for death in range(DEATHS):
            with connected(hub, DEVICE, create=False) as device:
                for number in range(death * BURST, (death + 1) * BURST):
                    device.send_message(Message(json.dumps({"number": number}), None, "utf-8", "application/json"))
            hub.restart()
        string = str(hub.json("storage", "account", "show-connection-string", "-n", ACCOUNT)["connectionString"])
        with BlobServiceClient.from_connection_string(string, connection_verify=str(hub.ca)) as service:
            until(lambda: set(_numbers(service, encoding)) == set(range(DEATHS * BURST)))
            numbers = _numbers(service, encoding)
    assert list(dict.fromkeys(numbers)) == list(range(DEATHS * BURST)), "in order, but for what was sent again"


def _endpoint(hub: RunningHub, encoding: str) -> None:
    hub.isthmus("storage", "account", "create", "-n", ACCOUNT)
    hub.isthmus("storage", "container", "create", "--account-name", ACCOUNT, "-n", CONTAINER)
    string = str(hub.json("storage", "account", "show-connection-string", "-n", ACCOUNT)["connectionString"])
    command = ("iot", "hub", "message-endpoint", "create", "storage-container", "--en", CONTAINER)
    hub.isthmus(*command, "--connection-string", string, "--container", CONTAINER, "--encoding", encoding)
    hub.isthmus("iot", "hub", "message-route", "create", "--rn", "all", "-t", "DeviceMessages", "--en", CONTAINER)


def _numbers(service: BlobServiceClient, encoding: str) -> list[int]:
    """What all blobs hold, in the order they were begun; each must be readable to its end."""
    container = service.get_container_client(CONTAINER)
    try:
        begun = sorted(container.list_blobs(), key=lambda blob: (blob.creation_time, _counter(blob.name)))
        blobs = [container.download_blob(blob.name).readall() for blob in begun]
    except AzureError:
        return []
    return [number for blob in blobs if blob for number in _parsed(blob, encoding)]


def _parsed(blob: bytes, encoding: str) -> list[int]:
    if encoding == "json":
        assert blob.endswith(b"\n")
        return [json.loads(line)["Body"]["number"] for line in blob.splitlines()]
    records: list[Any] = list(fastavro.reader(io.BytesIO(blob)))
    return [json.loads(record["Body"])["number"] for record in records]


def _counter(name: str) -> int:
    """Of blobs that were begun in the same minute."""
    stem, _, counter = name.rpartition("/")[2].partition(".")[0].partition("_")
    return int(counter or 0) + 1_000 * int(stem)
