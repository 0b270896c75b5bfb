"""File upload without a key: into a hosted account closed to the public, which the hub passes as a trusted service."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.exceptions import ClientError
from azure.storage.blob import BlobClient

from clients.devices import connected
from clients.files import FileNotifications
from clients.names import resolved
from clients.node import node
from clients.storage import Account, storage_account
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"

CONTRIBUTOR = "Storage Blob Data Contributor"
HUB = ("iot", "hub")


@pytest.fixture(scope="module", autouse=True)
def hub_name(hub: RunningHub) -> Iterator[None]:
    with resolved(hub.host_name, hub.address):
        yield


@pytest.fixture(scope="module")
def account(hub: RunningHub) -> Iterator[Account]:
    """Closed to the public but for trusted services; the hub's own identity may write, and it is all the hub has."""
    with storage_account(hub, "--default-action", "Deny", "--bypass", "AzureServices") as made:
        hub.isthmus(*HUB, "identity", "assign", "--system-assigned")
        give_role(hub, made)
        named = f"AccountName={made.name};BlobEndpoint={made.url};"
        hub.isthmus(
            *(*HUB, "update", "--fileupload-storage-connectionstring", named),
            *("--fileupload-storage-container-name", "uploads", "--fileupload-storage-auth-type", "identityBased"),
            *("--fileupload-storage-identity", "[system]", "--fileupload-notifications", "true"),
        )
        yield made
        hub.isthmus(*HUB, "update", "--set", "properties.enableFileUploadNotifications=false")


@pytest.fixture
def device(hub: RunningHub, account: Account, device_id: str) -> Iterator[IoTHubDeviceClient]:
    with connected(hub, device_id) as client:
        yield client


@pytest.fixture
def relay(hub: RunningHub, account: Account) -> Iterator[None]:
    """Sends devices to the hub's own address."""
    hub.isthmus(*HUB, "update", "--fileupload-relay", "true")
    yield
    hub.isthmus(*HUB, "update", "--fileupload-relay", "false")


@pytest.fixture
def private_address(account: Account, hub: RunningHub, loopback_address: str) -> Iterator[str]:
    """A private endpoint of the account, at an address of its own."""
    name = f"files-{uuid.uuid4().hex[:6]}"
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", name, "--connection-name", name),
        *("--private-connection-resource-id", account.resource_id, "--group-id", "blob"),
        *("--ip-config", f"name={name}", "group-id=blob", "member-name=blob"),
        f"private-ip-address={loopback_address}",
    )
    yield loopback_address
    hub.isthmus("network", "private-endpoint", "delete", "--name", name)


def test_a_device_reaches_the_account_by_the_accounts_own_private_endpoint(
    hub: RunningHub, account: Account, device: IoTHubDeviceClient, device_id: str, private_address: str
) -> None:
    info = device.get_storage_info_for_blob("logs/a.txt")
    assert info["hostName"] == account.url.split("/")[2]
    assert "skoid=" in info["sasToken"]
    assert "sr=b" in info["sasToken"]
    with resolved(info["hostName"].partition(":")[0], private_address), blob(hub, info) as client:
        client.upload_blob(b"by the front door")
        assert client.download_blob().readall() == b"by the front door"
    device.notify_blob_upload_status(info["correlationId"], True, 200, "uploaded")
    told = notifications(hub).next()
    assert (told["deviceId"], told["blobSizeInBytes"]) == (device_id, len(b"by the front door"))


def test_without_a_private_way_the_account_refuses_the_device_and_says_why(
    hub: RunningHub, account: Account, device: IoTHubDeviceClient
) -> None:
    info = device.get_storage_info_for_blob("a.txt")
    with blob(hub, info) as client, pytest.raises(HttpResponseError) as refused:
        client.upload_blob(b"from outside")
    assert refused.value.error_code == "AuthorizationFailure"
    assert hub.json("explain", refused.value.response.headers["x-ms-request-id"])[0]["rule"].startswith("network.")
    with pytest.raises(ClientError):
        device.notify_blob_upload_status(info["correlationId"], True, 200, "says so")
    assert hub.json("explain", "--top", "1")[0]["rule"] == "egress.blob"
    device.notify_blob_upload_status(info["correlationId"], False, 403, "refused")


@pytest.mark.usefixtures("relay")
def test_through_the_hub_a_device_needs_one_address_only(
    hub: RunningHub, account: Account, device: IoTHubDeviceClient, device_id: str
) -> None:
    info = device.get_storage_info_for_blob("through.bin")
    assert (info["hostName"], info["containerName"]) == (hub.host_name, "isthmus-uploads")
    body = os.urandom(5 * 1024 * 1024)
    with blob(hub, info, max_single_put_size=1024 * 1024, max_block_size=1024 * 1024) as client:
        client.upload_blob(body, max_concurrency=4)
        device.notify_blob_upload_status(info["correlationId"], True, 200, "uploaded")
        assert notifications(hub).next()["blobSizeInBytes"] == len(body)
    with account_opened(account), account.client() as owner:
        kept = owner.get_blob_client("uploads", f"{device_id}/through.bin").download_blob().readall()
    assert kept == body


@pytest.mark.usefixtures("relay")
@pytest.mark.parametrize("size", [100, 9 * 1024 * 1024])
def test_the_node_device_uploads_and_the_node_service_hears_of_it(
    hub: RunningHub, account: Account, device_id: str, size: int
) -> None:
    strings = (hub.create_device(device_id), hub.connection_string("service"))
    told = node("file_upload.cjs", *strings, "n.bin", str(size), ca=hub.ca, names={hub.host_name: hub.address})
    assert "error" not in told, told
    assert (told["blobName"], told["blobSizeInBytes"]) == (f"{device_id}/n.bin", size)
    with account_opened(account), account.client() as owner:
        kept = owner.get_blob_client("uploads", f"{device_id}/n.bin").download_blob().readall()
    assert kept == b"\x07" * size


@pytest.mark.long
@pytest.mark.usefixtures("relay")
def test_a_large_file_goes_through_in_the_memory_of_a_small_one(
    hub: RunningHub, account: Account, device: IoTHubDeviceClient, device_id: str
) -> None:
    piece, count = os.urandom(1024 * 1024), 250
    info = device.get_storage_info_for_blob("large.bin")
    before = resident_bytes(hub)
    most = before
    with blob(hub, info, max_block_size=100 * 1024 * 1024) as client:

        def pieces() -> Iterator[bytes]:
            nonlocal most
            for _ in range(count):
                most = max(most, resident_bytes(hub))
                yield piece

        client.upload_blob(pieces(), length=len(piece) * count, max_concurrency=1)
        assert client.get_blob_properties().size == len(piece) * count
    most = max(most, resident_bytes(hub))
    assert most - before < 64 * 1024 * 1024
    device.notify_blob_upload_status(info["correlationId"], True, 200, "uploaded")
    assert notifications(hub).next()["blobSizeInBytes"] == len(piece) * count


@pytest.mark.usefixtures("relay")
def test_an_address_opens_its_own_blob_only_and_ends_with_the_device(
    hub: RunningHub, account: Account, device: IoTHubDeviceClient, device_id: str
) -> None:
    info = device.get_storage_info_for_blob("mine.txt")
    others = {**info, "blobName": f"{device_id}/other.txt"}
    for forged in (others, {**info, "sasToken": info["sasToken"].replace("sp=rw", "sp=rwd")}):
        with blob(hub, forged) as client, pytest.raises(HttpResponseError) as refused:
            client.upload_blob(b"x")
        assert (refused.value.status_code, refused.value.error_code) == (403, "AuthenticationFailed")
        told = hub.json("explain", refused.value.response.headers["x-ms-request-id"])[0]
        assert told["rule"] in ("auth.upload-signature", "auth.upload")
    hub.isthmus("device-identity", "update", "-d", device_id, "--set", "status=disabled")
    with blob(hub, info) as client, pytest.raises(HttpResponseError) as refused:
        client.upload_blob(b"x")
    assert hub.json("explain", refused.value.response.headers["x-ms-request-id"])[0]["rule"] == "auth.disabled"


@pytest.mark.parametrize("switch", ["identity", "role", "trusted"])
def test_each_switch_that_is_off_is_named_and_on_again_all_is_well(
    hub: RunningHub, account: Account, device: IoTHubDeviceClient, switch: str
) -> None:
    off, on, rule = SWITCHES[switch]
    # Signatures are made for a minute by the account's last word; another container asks it anew.
    hub.isthmus(*HUB, "update", "--fc", f"uploads-{switch}")
    off(hub, account)
    try:
        with pytest.raises(ClientError):
            device.get_storage_info_for_blob("a.txt")
        told = hub.json("explain", "--top", "1")[0]
        assert (told["rule"], told["code"]) == (rule, "InvalidStorageEndpoint")
    finally:
        on(hub, account)
    device.get_storage_info_for_blob("a.txt")


def give_role(hub: RunningHub, account: Account) -> None:
    principal = hub.json(*HUB, "identity", "show")["principalId"]
    who = ("--assignee-object-id", principal, "--role", CONTRIBUTOR, "--scope", account.resource_id)
    hub.isthmus("role", "assignment", "create", *who)


def take_role(hub: RunningHub, account: Account) -> None:
    principal = hub.json(*HUB, "identity", "show")["principalId"]
    who = ("--assignee-object-id", principal, "--role", CONTRIBUTOR, "--scope", account.resource_id)
    hub.isthmus("role", "assignment", "delete", *who)


def take_identity(hub: RunningHub, account: Account) -> None:
    hub.isthmus(*HUB, "identity", "remove", "--system-assigned")


def give_identity(hub: RunningHub, account: Account) -> None:
    hub.isthmus(*HUB, "identity", "assign", "--system-assigned")
    give_role(hub, account)


SWITCHES = {
    "identity": (take_identity, give_identity, "egress.identity"),
    "role": (take_role, give_role, "egress.role"),
    "trusted": (
        lambda hub, account: account.update("--bypass", "None"),
        lambda hub, account: account.update("--bypass", "AzureServices"),
        "egress.network",
    ),
}


@contextmanager
def account_opened(account: Account) -> Iterator[None]:
    """Lets a test look at what is there."""
    account.update("--default-action", "Allow")
    yield
    account.update("--default-action", "Deny")


def blob(hub: RunningHub, info: dict[str, str], **options: int) -> BlobClient:
    """The official client at the address that a device was told."""
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    return BlobClient.from_blob_url(url, connection_verify=str(hub.ca), retry_total=0, **options)


def resident_bytes(hub: RunningHub) -> int:
    """Memory of the hub's process."""
    return int(Path(f"/proc/{hub.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def notifications(hub: RunningHub) -> FileNotifications:
    return FileNotifications(hub.connection_string("service"), hub.json(*HUB, "show")["name"], at=hub.address)
