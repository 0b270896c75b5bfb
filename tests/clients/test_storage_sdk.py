"""Stock azure-storage-blob against a hosted storage account: what it does by a key, and that it lasts."""

import gzip
import hashlib
import http.client
import io
import random
import ssl
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import (
    BlobBlock,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContentSettings,
    generate_blob_sas,
)

from clients.devices import until
from clients.storage import Account, storage_account
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def account(hub: RunningHub) -> Iterator[Account]:
    with storage_account(hub) as made:
        yield made


@pytest.fixture(scope="module")
def client(account: Account) -> Iterator[BlobServiceClient]:
    with account.client(max_single_put_size=MIB, max_block_size=MIB) as made:
        yield made


@pytest.fixture
def container(client: BlobServiceClient) -> ContainerClient:
    return client.create_container(f"box-{uuid.uuid4().hex[:8]}", metadata={"Site": "north"})


def test_a_blob_comes_back_as_it_was(container: ContainerClient) -> None:
    settings = ContentSettings("text/plain", "identity", "de", "attachment", "no-cache")
    blob = container.get_blob_client("line 1/räte+%20?#.txt")
    written = blob.upload_blob(b"content", metadata={"Plant": "Hof", "b_2": "x y"}, content_settings=settings)
    read = blob.download_blob()
    assert read.readall() == b"content"
    found = blob.get_blob_properties()
    assert (found.etag, found.size, found.blob_type) == (written["etag"], 7, "BlockBlob")
    assert found.metadata == {"Plant": "Hof", "b_2": "x y"}
    assert found.content_settings.content_type == "text/plain"
    assert found.content_settings.content_language == "de"
    assert found.content_settings.cache_control == "no-cache"
    assert bytes(found.content_settings.content_md5) == hashlib.md5(b"content").digest()
    assert (found.lease.state, found.lease.status) == ("available", "unlocked")
    assert abs(found.last_modified - datetime.now(UTC)) < timedelta(minutes=5)


def test_blocks_at_once_make_one_blob(container: ContainerClient) -> None:
    content = random.Random(3).randbytes(9 * MIB + 17)
    blob = container.get_blob_client("blocks")
    blob.upload_blob(content, max_concurrency=4, validate_content=True)
    assert blob.download_blob(max_concurrency=4, validate_content=True).readall() == content
    committed, waiting = blob.get_block_list("all")
    assert (len(committed), sum(block.size for block in committed), waiting) == (10, len(content), [])
    assert blob.download_blob(offset=MIB - 1, length=2).readall() == content[MIB - 1 : MIB + 1]


def test_a_stream_of_unknown_length_is_taken(container: ContainerClient) -> None:
    content = random.Random(4).randbytes(3 * MIB)
    container.upload_blob("stream", io.BytesIO(content))
    assert container.download_blob("stream").readall() == content


def test_block_lists_choose_among_what_is_there_and_what_waits(container: ContainerClient) -> None:
    blob = container.get_blob_client("chosen")
    for name, data in (("a", b"AA"), ("b", b"BB")):
        blob.stage_block(name, data)
    blob.commit_block_list([BlobBlock("a"), BlobBlock("b")])
    blob.stage_block("c", b"CC")
    assert [block.id for block in blob.get_block_list("uncommitted")[1]] == ["c"]
    blob.commit_block_list([BlobBlock("c"), BlobBlock("a")], metadata={"m": "1"})
    assert blob.download_blob().readall() == b"CCAA"
    assert blob.get_blob_properties().metadata == {"m": "1"}
    with pytest.raises(HttpResponseError) as refused:
        blob.commit_block_list([BlobBlock("b")])
    assert refused.value.error_code == "InvalidBlockList"


def test_an_append_blob_grows(container: ContainerClient) -> None:
    blob = container.get_blob_client("log")
    blob.create_append_blob(metadata={"kind": "log"})
    first = blob.append_block(b"one\n")
    assert (first["blob_append_offset"], first["blob_committed_block_count"]) == ("0", 1)
    blob.append_block(b"two\n", appendpos_condition=4)
    with pytest.raises(HttpResponseError) as refused:
        blob.append_block(b"lost", appendpos_condition=4)
    assert refused.value.error_code == "AppendPositionConditionNotMet"
    with pytest.raises(HttpResponseError) as refused:
        blob.append_block(b"large", maxsize_condition=10)
    assert refused.value.error_code == "MaxBlobSizeConditionNotMet"
    blob.upload_blob(b"three\n", blob_type="AppendBlob")
    assert blob.download_blob().readall() == b"one\ntwo\nthree\n"
    with pytest.raises(HttpResponseError) as refused:
        blob.stage_block("a", b"AA")
    assert refused.value.error_code == "InvalidBlobType"


def test_conditions_hold_at_the_moment_of_the_change(container: ContainerClient) -> None:
    blob = container.get_blob_client("x")
    etag = blob.upload_blob(b"1")["etag"]
    with pytest.raises(ResourceExistsError):
        blob.upload_blob(b"2")
    newer = blob.upload_blob(b"2", overwrite=True, etag=etag, match_condition=MatchConditions.IfNotModified)["etag"]
    with pytest.raises(ResourceModifiedError):
        blob.upload_blob(b"3", overwrite=True, etag=etag, match_condition=MatchConditions.IfNotModified)
    with pytest.raises(ResourceModifiedError):
        blob.delete_blob(etag=etag, match_condition=MatchConditions.IfNotModified)
    with pytest.raises(HttpResponseError) as unchanged:
        blob.download_blob(etag=newer, match_condition=MatchConditions.IfModified)
    assert unchanged.value.status_code == 304
    with pytest.raises(HttpResponseError) as unchanged:
        blob.get_blob_properties(if_modified_since=datetime.now(UTC) + timedelta(hours=1))
    assert unchanged.value.status_code == 304
    with pytest.raises(HttpResponseError) as refused:
        blob.set_blob_metadata({"a": "b"}, if_unmodified_since=datetime.now(UTC) - timedelta(hours=1))
    assert refused.value.error_code == "ConditionNotMet"
    assert blob.download_blob().readall() == b"2"


def test_metadata_and_content_headers_are_replaced(container: ContainerClient) -> None:
    blob = container.get_blob_client("x")
    blob.upload_blob(b"1", metadata={"old": "1"})
    blob.set_blob_metadata({"new": "2"})
    blob.set_http_headers(ContentSettings(content_type="application/json"))
    found = blob.get_blob_properties()
    assert (found.metadata, found.content_settings.content_type) == ({"new": "2"}, "application/json")
    assert container.get_container_properties().metadata == {"Site": "north"}
    container.set_container_metadata({"site": "south"})
    assert container.get_container_properties().metadata == {"site": "south"}


def test_lists_have_prefixes_pages_and_folders(container: ContainerClient) -> None:
    names = [f"{folder}/{number:02}" for folder in ("a", "b") for number in range(7)]
    for name in (*names, "top", "räte\x0b"):
        container.upload_blob(name, b"x", metadata={"n": "1"})
    assert [blob.name for blob in container.list_blobs()] == [*names, "räte\x0b", "top"]
    pages = container.list_blobs(name_starts_with="a/", results_per_page=3, include=["metadata"]).by_page()
    listed = [[(blob.name, blob.metadata, blob.size) for blob in page] for page in pages]
    assert [len(page) for page in listed] == [3, 3, 1]
    assert listed[0][0] == ("a/00", {"n": "1"}, 1)
    assert [each.name for each in container.walk_blobs()] == ["a/", "b/", "räte\x0b", "top"]
    assert [each.name for each in container.walk_blobs("b/")] == names[7:]


def test_containers_are_listed_found_and_deleted(client: BlobServiceClient, container: ContainerClient) -> None:
    name = container.container_name
    [found] = client.list_containers(name, include_metadata=True)
    assert (found.name, found.metadata) == (name, {"Site": "north"})
    with pytest.raises(ResourceExistsError):
        container.create_container()
    container.upload_blob("x", b"1")
    container.delete_container()
    assert not container.exists()
    with pytest.raises(ResourceNotFoundError) as gone:
        container.download_blob("x")
    assert gone.value.error_code == "ContainerNotFound"
    container.create_container()
    assert not list(container.list_blobs())


def test_a_deleted_blob_is_gone(container: ContainerClient) -> None:
    blob = container.get_blob_client("x")
    blob.upload_blob(b"1")
    blob.delete_blob(delete_snapshots="include")
    assert not blob.exists()
    with pytest.raises(ResourceNotFoundError) as gone:
        blob.delete_blob()
    assert gone.value.error_code == "BlobNotFound"


def test_a_copy_is_a_blob_of_its_own(container: ContainerClient) -> None:
    source = container.get_blob_client("source ü")
    content = random.Random(5).randbytes(2 * MIB)
    source.upload_blob(content, metadata={"a": "1"})
    copy = container.get_blob_client("copy")
    done = copy.start_copy_from_url(source.url)
    source.delete_blob()
    assert done["copy_status"] == "success"
    assert copy.download_blob().readall() == content
    assert copy.get_blob_properties().metadata == {"a": "1"}
    with pytest.raises(ResourceNotFoundError) as refused:
        copy.start_copy_from_url(source.url)
    assert refused.value.error_code == "CannotVerifyCopySource"


def test_what_arrives_otherwise_than_it_was_sent_is_refused(container: ContainerClient) -> None:
    blob = container.get_blob_client("x")
    wrong = ContentSettings(content_md5=bytearray(hashlib.md5(b"other").digest()))
    with pytest.raises(HttpResponseError) as refused:
        blob.upload_blob(b"content", content_settings=wrong)
    assert refused.value.error_code == "Md5Mismatch"
    assert not blob.exists()


def test_a_compressed_blob_is_kept_as_it_came(account: Account, container: ContainerClient) -> None:
    packed = gzip.compress(b"content" * 100)
    blob = container.get_blob_client("packed")
    blob.upload_blob(packed, content_settings=ContentSettings(content_encoding="gzip"))
    assert blob.get_blob_properties().size == len(packed)
    assert blob.download_blob(decompress=False).readall() == packed
    expiry = datetime.now(UTC) + timedelta(hours=1)
    sas = generate_blob_sas(
        *(account.name, container.container_name, "plain"),
        account_key=account.key(),
        permission=BlobSasPermissions(create=True),
        expiry=expiry,
    )
    host, target = account.url.split("/")[2], f"/{container.container_name}/plain?{sas}"
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=str(account.hub.ca)))
    connection.request("PUT", target, packed, {"x-ms-blob-type": "BlockBlob", "Content-Encoding": "gzip"})
    assert connection.getresponse().status == 201
    connection.close()
    found = container.get_blob_client("plain").get_blob_properties()
    assert (found.size, found.content_settings.content_encoding) == (len(packed), "gzip")


def test_empty_blobs_and_ranges_beyond_the_end(container: ContainerClient) -> None:
    blob = container.get_blob_client("empty")
    blob.upload_blob(b"")
    assert blob.download_blob().readall() == b""
    container.upload_blob("x", b"12345")
    assert container.download_blob("x", offset=3, length=100).readall() == b"45"
    with pytest.raises(HttpResponseError) as refused:
        container.download_blob("x", offset=5, length=1)
    assert refused.value.error_code == "InvalidRange"


def test_what_is_not_offered_says_so(container: ContainerClient, client: BlobServiceClient) -> None:
    container.upload_blob("x", b"1")
    blob = container.get_blob_client("x")
    asked: list[Any] = [
        lambda: blob.create_snapshot(),
        lambda: blob.acquire_lease(),
        lambda: container.acquire_lease(),
        lambda: blob.set_blob_tags({"a": "b"}),
        lambda: blob.set_standard_blob_tier("Cool"),
        lambda: container.get_blob_client("p").create_page_blob(512),
        lambda: container.delete_blobs("x"),
        lambda: client.set_service_properties(target_version="2020-08-04"),
        lambda: blob.start_copy_from_url("https://elsewhere.blob.example/c/b"),
        lambda: container.upload_blob("t", b"1", tags={"a": "b"}),
    ]
    for ask in asked:
        with pytest.raises(HttpResponseError) as refused:
            ask()
        assert (refused.value.status_code, refused.value.error_code) == (501, "NotImplemented")
    assert client.get_service_properties()["delete_retention_policy"].enabled is False
    assert client.get_account_information()["account_kind"] == "StorageV2"


async def test_the_asynchronous_client_does_the_same(account: Account) -> None:
    content = random.Random(6).randbytes(5 * MIB)
    async with account.aio(max_single_put_size=MIB, max_block_size=MIB) as client:
        container = await client.create_container(f"box-{uuid.uuid4().hex[:8]}")
        blob = container.get_blob_client("räte/x")
        await blob.upload_blob(content, max_concurrency=3, metadata={"B": "1", "a_b": "2"})
        read = await blob.download_blob(max_concurrency=3)
        assert await read.readall() == content
        log = container.get_blob_client("log")
        await log.create_append_blob()
        await log.append_block(b"1")
        assert [each.name async for each in container.list_blobs()] == ["log", "räte/x"]
        assert {each.name async for each in container.walk_blobs()} == {"log", "räte/"}
        await container.delete_container()


class Ledger:
    """Writes blobs and lines of a log until the hub is gone, and knows what of it was acknowledged."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.blobs: list[int] = []
        self.lines = 0
        self.number = 0

    def write(self) -> None:
        """Ends with the first refusal; at most one blob and one line are not known to be there or not."""
        with self.account.client(max_single_put_size=MIB, max_block_size=MIB // 4) as client:
            container = client.get_container_client("kept")
            while True:
                self.number += 1
                try:
                    container.upload_blob(f"b{self.number}", self.content(self.number))
                    self.blobs.append(self.number)
                    container.get_blob_client("log").append_block(f"{self.number:06}\n".encode())
                    self.lines += 1
                except Exception:
                    return

    def check(self) -> None:
        """Everything that was acknowledged is there, whole; what was not is there as a whole or not at all."""
        with self.account.client() as client:
            container = client.get_container_client("kept")
            for number in self.blobs[-40:]:
                assert container.download_blob(f"b{number}").readall() == self.content(number)
            names = {blob.name: blob.size for blob in container.list_blobs(name_starts_with="b")}
            assert names.keys() >= {f"b{number}" for number in self.blobs}
            for name in names.keys() - {f"b{number}" for number in self.blobs}:
                assert container.download_blob(name).readall() == self.content(int(name[1:]))
            lines = container.download_blob("log").readall().decode().splitlines()
            assert all(len(line) == 6 for line in lines)
            assert lines == sorted(set(lines))
            assert self.lines <= len(lines)
            self.lines = len(lines)
            self.number = max(self.number, *(int(name[1:]) for name in names))

    @staticmethod
    def content(number: int) -> bytes:
        return bytes([number % 256]) * (MIB * (number % 3) + 1)


def kill_while_writing(hub: RunningHub, ledger: Ledger, more: int) -> None:
    """Kills the hub when it has acknowledged `more` blobs, and starts it again."""
    writer = threading.Thread(target=ledger.write)
    wanted = len(ledger.blobs) + more
    writer.start()
    until(lambda: len(ledger.blobs) >= wanted or not writer.is_alive())
    assert writer.is_alive(), "the writer was refused before anything was killed"
    hub.kill()
    writer.join()
    hub.start()


def test_what_was_acknowledged_survives_a_kill_and_nothing_is_torn(hub: RunningHub) -> None:
    with storage_account(hub) as account:
        account.client().create_container("kept").get_blob_client("log").create_append_blob()
        ledger = Ledger(account)
        kill_while_writing(hub, ledger, 20)
        ledger.check()


@pytest.mark.long
def test_any_number_of_kills_loses_nothing(hub: RunningHub) -> None:
    chance = random.Random(11)
    with storage_account(hub) as account:
        account.client().create_container("kept").get_blob_client("log").create_append_blob()
        ledger = Ledger(account)
        for _ in range(12):
            kill_while_writing(hub, ledger, chance.randrange(1, 12))
            ledger.check()


@pytest.mark.long
def test_memory_stays_flat_while_250_mb_go_in_and_out(hub: RunningHub, account: Account) -> None:
    """Peak memory of the hub's process, before and after, by Linux; a blob would show ten times over."""
    size, piece = 250 * MIB, random.Random(7).randbytes(MIB)
    content = piece * (size // MIB)
    with account.client(max_single_put_size=size, max_block_size=4 * MIB) as client:
        container = client.create_container(f"box-{uuid.uuid4().hex[:8]}")
        container.upload_blob("warm", piece)
        before = peak_mib(hub)
        container.upload_blob("whole", content)
        with account.client(max_single_put_size=MIB, max_block_size=4 * MIB) as in_blocks:
            in_blocks.get_blob_client(container.container_name, "blocks").upload_blob(content, max_concurrency=4)
        for name in ("whole", "blocks"):
            read = container.download_blob(name)
            assert sum(len(chunk) for chunk in read.chunks()) == size
        assert peak_mib(hub) - before < 48


def peak_mib(hub: RunningHub) -> int:
    """The most memory that the hub's process ever had."""
    status = Path(f"/proc/{hub.pid}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_an_upload_that_breaks_off_leaves_nothing(
    hub: RunningHub, account: Account, container: ContainerClient
) -> None:
    name, expiry = container.container_name, datetime.now(UTC) + timedelta(hours=1)
    may = BlobSasPermissions(create=True)
    sas = generate_blob_sas(account.name, name, "x", account_key=account.key(), permission=may, expiry=expiry)
    content = hub.data / "blobs" / "content"
    before = len(list(content.glob("*/*")))
    host = account.url.split("/")[2]
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=str(hub.ca)))
    connection.putrequest("PUT", f"/{name}/x?{sas}")
    connection.putheader("x-ms-blob-type", "BlockBlob")
    connection.putheader("Content-Length", str(4 * MIB))
    connection.endheaders(bytes(MIB))
    until(lambda: len(list(content.glob("*/*"))) > before)
    connection.close()
    until(lambda: len(list(content.glob("*/*"))) == before)
    assert not container.get_blob_client("x").exists()
