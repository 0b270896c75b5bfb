"""The same calls of the stock client at a hosted account and at Azurite: the same answers, or else a reason."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import (
    AccessPolicy,
    BlobBlock,
    BlobServiceClient,
    ContainerClient,
    ContentSettings,
    generate_blob_sas,
    generate_container_sas,
)

from clients.names import resolved
from clients.storage import storage_account
from support.azurite import ACCOUNT, KEY, running_azurite, why_no_azurite
from support.loopback import Loopback
from support.server import RunningHub

pytestmark = [pytest.mark.clients, pytest.mark.skipif(bool(why_no_azurite()), reason=why_no_azurite())]

HUB_HOST = "hub.isthmus.test"
CONTENT = bytes(range(256)) * 16
LATER = datetime.now(UTC) + timedelta(hours=1)
EARLIER = datetime.now(UTC) - timedelta(hours=1)

TOLD = frozenset(
    {
        "content-type", "content-length", "content-range", "content-md5", "content-encoding", "content-language",
        "cache-control", "content-disposition", "accept-ranges", "x-ms-blob-type", "x-ms-error-code",
        "x-ms-blob-content-md5", "x-ms-blob-append-offset", "x-ms-blob-committed-block-count", "x-ms-copy-status",
        "x-ms-lease-state", "x-ms-lease-status", "x-ms-meta-plant", "x-ms-meta-b_2",
    }
)  # fmt: skip
"""Headers that are compared; others differ by nature, such as dates, or say what only one of the two has."""


class Side:
    """One of the two services, with a container of its own for each call."""

    def __init__(self, client: BlobServiceClient, account: str, key: str) -> None:
        self.client = client
        self.account = account
        self.key = key
        self.number = 0

    def outcome(self, call: Callable[["Side", ContainerClient], object]) -> object:
        """What a call comes to: a value, or a status and a code; and the headers of the last answer."""
        self.number += 1
        container = self.client.create_container(f"box{self.number}", metadata={"Plant": "north"})
        container.upload_blob("there", CONTENT, metadata={"Plant": "Hof", "b_2": "x"}, content_settings=SETTINGS)
        try:
            return call(self, container)
        except HttpResponseError as error:
            return error.status_code, _told(error.response)
        except AzureError as error:
            return type(error).__name__

    def signed(self, container: ContainerClient, **given: Any) -> ContainerClient:
        """The container by a SAS of its own."""
        sas = generate_container_sas(self.account, container.container_name, account_key=self.key, **given)
        return ContainerClient(
            self.client.url,
            container.container_name,
            credential=sas,
            connection_verify=VERIFY[self.account],
            retry_total=0,
        )


SETTINGS = ContentSettings("text/plain", None, "de", "attachment", "no-cache")
VERIFY: dict[str, str] = {}


@pytest.fixture(scope="module")
def sides(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("azurite")
    with Loopback() as loopback, storage_account(hub) as account, running_azurite(folder, loopback.take()) as azurite:
        VERIFY.update({account.name: str(hub.ca), ACCOUNT: str(azurite.ca)})
        signed = {"account_name": ACCOUNT, "account_key": KEY}
        with (
            resolved(azurite.host, azurite.address),
            account.client() as own,
            BlobServiceClient(
                azurite.url, credential=signed, connection_verify=str(azurite.ca), retry_total=0
            ) as other,
        ):
            yield Side(own, account.name, account.key()), Side(other, ACCOUNT, KEY)


def _told(response: Any) -> dict[str, str]:
    """The headers that are compared; the length of a document is nobody's business."""
    found = {name.lower(): value for name, value in response.headers.items() if name.lower() in TOLD}
    if "xml" in found.get("content-type", ""):
        return {name: value for name, value in found.items() if not name.startswith("content-")}
    return found


def headers(call: Callable[..., Any], *arguments: Any, **options: Any) -> dict[str, str]:
    """The headers of what a call was answered."""
    seen: list[Any] = []
    call(*arguments, raw_response_hook=lambda answer: seen.append(answer.http_response), **options)
    return {"status": seen[-1].status_code, **_told(seen[-1])}


def put_again(side: Side, box: ContainerClient) -> object:
    return headers(box.upload_blob, "there", b"again", overwrite=True)


def put_what_is_there(side: Side, box: ContainerClient) -> object:
    return headers(box.upload_blob, "there", b"again")


def read_properties(side: Side, box: ContainerClient) -> object:
    return headers(box.get_blob_client("there").get_blob_properties)


def read_all(side: Side, box: ContainerClient) -> object:
    return box.download_blob("there").readall()


def read_a_part(side: Side, box: ContainerClient) -> object:
    return headers(box.download_blob, "there", offset=10, length=20), box.download_blob("there", 10, 20).readall()


def read_a_checked_part(side: Side, box: ContainerClient) -> object:
    return headers(box.download_blob, "there", offset=10, length=20, validate_content=True)


def read_beyond(side: Side, box: ContainerClient) -> object:
    return box.download_blob("there", offset=len(CONTENT), length=1).readall()


def read_what_is_not_there(side: Side, box: ContainerClient) -> object:
    return box.download_blob("nowhere").readall()


def read_where_nothing_is(side: Side, box: ContainerClient) -> object:
    return side.client.get_blob_client("nowhere", "x").download_blob().readall()


def read_what_changed(side: Side, box: ContainerClient) -> object:
    return box.download_blob("there", etag='"0x1"', match_condition=MatchConditions.IfNotModified).readall()


def read_what_did_not_change(side: Side, box: ContainerClient) -> object:
    return box.download_blob("there", if_modified_since=LATER).readall()


def read_what_changed_since(side: Side, box: ContainerClient) -> object:
    return box.download_blob("there", if_unmodified_since=EARLIER).readall()


def write_what_changed(side: Side, box: ContainerClient) -> object:
    blob = box.get_blob_client("there")
    return blob.set_blob_metadata({"a": "b"}, etag='"0x1"', match_condition=MatchConditions.IfNotModified)


def write_new_only(side: Side, box: ContainerClient) -> object:
    blob = box.get_blob_client("there")
    return blob.upload_blob(b"x", overwrite=True, match_condition=MatchConditions.IfMissing)


def delete(side: Side, box: ContainerClient) -> object:
    return headers(box.get_blob_client("there").delete_blob), box.get_blob_client("there").exists()


def delete_twice(side: Side, box: ContainerClient) -> object:
    box.delete_blob("there")
    return box.delete_blob("there")


def stage_and_list(side: Side, box: ContainerClient) -> object:
    blob = box.get_blob_client("new")
    staged = headers(blob.stage_block, "AAAA", b"one")
    blob.stage_block("BBBB", b"two")
    before = blob.get_block_list("all")
    committed = headers(blob.commit_block_list, [BlobBlock("BBBB"), BlobBlock("AAAA")])
    after = blob.get_block_list("all")
    names = [[[each.id, each.size] for each in listed] for listed in (*before, *after)]
    return staged, committed, names, blob.download_blob().readall()


def commit_nothing_known(side: Side, box: ContainerClient) -> object:
    return box.get_blob_client("new").commit_block_list([BlobBlock("AAAA")])


def stage_ids_of_two_lengths(side: Side, box: ContainerClient) -> object:
    blob = box.get_blob_client("new")
    blob.stage_block("AAAA", b"one")
    return headers(blob.stage_block, "BBBBBBBB", b"two")


def stage_at_an_append_blob(side: Side, box: ContainerClient) -> object:
    box.get_blob_client("log").create_append_blob()
    box.get_blob_client("log").stage_block("AAAA", b"x")
    return box.get_blob_client("log").commit_block_list([BlobBlock("AAAA")])


def append(side: Side, box: ContainerClient) -> object:
    blob = box.get_blob_client("log")
    made = headers(blob.create_append_blob, metadata={"Plant": "x"})
    first, second = headers(blob.append_block, b"one"), headers(blob.append_block, b"two", appendpos_condition=3)
    return made, first, second, headers(blob.get_blob_properties), blob.download_blob().readall()


def append_elsewhere(side: Side, box: ContainerClient) -> object:
    box.get_blob_client("log").create_append_blob()
    return box.get_blob_client("log").append_block(b"one", appendpos_condition=7)


def append_too_much(side: Side, box: ContainerClient) -> object:
    box.get_blob_client("log").create_append_blob()
    return box.get_blob_client("log").append_block(b"one", maxsize_condition=2)


def append_to_a_block_blob(side: Side, box: ContainerClient) -> object:
    return box.get_blob_client("there").append_block(b"x")


def append_to_nothing(side: Side, box: ContainerClient) -> object:
    return box.get_blob_client("nowhere").append_block(b"x")


def describe(side: Side, box: ContainerClient) -> object:
    blob = box.get_blob_client("there")
    answered = (
        headers(blob.set_blob_metadata, {"Plant": "new"}),
        headers(blob.set_http_headers, ContentSettings(content_type="application/json")),
    )
    return answered, headers(blob.get_blob_properties)


def put_with_the_wrong_md5(side: Side, box: ContainerClient) -> object:
    wrong = ContentSettings(content_md5=bytearray(hashlib.md5(b"other").digest()))
    return box.upload_blob("new", b"x", content_settings=wrong)


def list_everything(side: Side, box: ContainerClient) -> object:
    for name in ("a/1", "a/2", "b", "ü"):
        box.upload_blob(name, name.encode())
    flat = [(each.name, each.size, each.blob_type, each.metadata) for each in box.list_blobs(include=["metadata"])]
    pages = [[each.name for each in page] for page in box.list_blobs(results_per_page=2).by_page()]
    return flat, pages, [each.name for each in box.walk_blobs()], [each.name for each in box.list_blobs("a/")]


def look_at_the_container(side: Side, box: ContainerClient) -> object:
    found = box.get_container_properties()
    return found.metadata, found.lease.state, found.lease.status, found.public_access


def make_the_container_again(side: Side, box: ContainerClient) -> object:
    return box.create_container()


def delete_the_container(side: Side, box: ContainerClient) -> object:
    return headers(box.delete_container), box.exists()


def keep_policies(side: Side, box: ContainerClient) -> object:
    box.set_container_access_policy({"readers": AccessPolicy("r", LATER)})
    reader = side.signed(box, policy_id="readers")
    read = reader.download_blob("there").readall() == CONTENT
    [found] = box.get_container_access_policy()["signed_identifiers"]
    return read, found.id, found.access_policy.permission


def come_by_an_unknown_policy(side: Side, box: ContainerClient) -> object:
    return side.signed(box, policy_id="nobodys").download_blob("there").readall()


def come_by_a_sas_that_reads(side: Side, box: ContainerClient) -> object:
    return side.signed(box, permission="rl", expiry=LATER).download_blob("there").readall()


def write_by_a_sas_that_reads(side: Side, box: ContainerClient) -> object:
    return side.signed(box, permission="rl", expiry=LATER).upload_blob("new", b"x")


def come_by_a_sas_that_is_over(side: Side, box: ContainerClient) -> object:
    return side.signed(box, permission="rl", expiry=EARLIER).download_blob("there").readall()


def come_by_a_sas_of_another_blob(side: Side, box: ContainerClient) -> object:
    sas = generate_blob_sas(
        side.account, box.container_name, "other", account_key=side.key, permission="r", expiry=LATER
    )
    other = BlobServiceClient(side.client.url, credential=sas, connection_verify=VERIFY[side.account], retry_total=0)
    return other.get_blob_client(box.container_name, "there").download_blob().readall()


def come_by_a_wrong_key(side: Side, box: ContainerClient) -> object:
    wrong = {"account_name": side.account, "account_key": "d3Jvbmc="}
    other = BlobServiceClient(side.client.url, credential=wrong, connection_verify=VERIFY[side.account], retry_total=0)
    return other.get_blob_client(box.container_name, "there").download_blob().readall()


def copy(side: Side, box: ContainerClient) -> object:
    blob = box.get_blob_client("copy")
    started = headers(blob.start_copy_from_url, box.get_blob_client("there").url)
    return started, headers(blob.get_blob_properties), blob.download_blob().readall() == CONTENT


def copy_nothing(side: Side, box: ContainerClient) -> object:
    return box.get_blob_client("copy").start_copy_from_url(box.get_blob_client("nowhere").url)


def show_a_lease_that_is_none(side: Side, box: ContainerClient) -> object:
    return box.get_blob_client("there").set_blob_metadata({}, lease="a0000000-0000-0000-0000-000000000000")


def call_a_container_what_it_cannot_be_called(side: Side, box: ContainerClient) -> object:
    return side.client.create_container("not--good")


CALLS = (
    put_again, put_what_is_there, read_properties, read_all, read_a_part, read_a_checked_part, read_beyond,
    read_what_is_not_there, read_where_nothing_is, read_what_changed, read_what_did_not_change, read_what_changed_since,
    write_what_changed, write_new_only, delete, delete_twice, stage_and_list, commit_nothing_known,
    stage_ids_of_two_lengths, stage_at_an_append_blob, append, append_elsewhere, append_too_much,
    append_to_a_block_blob, append_to_nothing, describe, put_with_the_wrong_md5, list_everything,
    look_at_the_container, make_the_container_again,
    delete_the_container, keep_policies, come_by_an_unknown_policy, come_by_a_sas_that_reads, write_by_a_sas_that_reads,
    come_by_a_sas_that_is_over, come_by_a_sas_of_another_blob, come_by_a_wrong_key, copy, copy_nothing,
    show_a_lease_that_is_none, call_a_container_what_it_cannot_be_called,
)  # fmt: skip


DIFFERENT: dict[Callable[[Side, ContainerClient], object], str] = {
    read_beyond: "the service refuses a range that begins at the end (Get Blob); Azurite gives nothing",
    put_with_the_wrong_md5: "the service says Md5Mismatch (Put Blob); Azurite InvalidOperation",
    come_by_an_unknown_policy: "the service says AuthenticationFailed to a signature that does not hold",
    come_by_a_sas_that_is_over: "the service says AuthenticationFailed to a signature that does not hold",
    come_by_a_sas_of_another_blob: "the service says AuthenticationFailed to a signature that does not hold",
    come_by_a_wrong_key: "the service says AuthenticationFailed to a wrong key; Azurite 400",
    copy_nothing: "the service says CannotVerifyCopySource (Copy Blob); Azurite BlobNotFound",
}
"""Calls to which Azurite says something else than the service's reference does."""


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_both_answer_alike(sides: tuple[Side, Side], call: Callable[[Side, ContainerClient], object]) -> None:
    own, other = (side.outcome(call) for side in sides)
    assert (own == other) is (call not in DIFFERENT), (DIFFERENT.get(call), own, other)
