"""Storage of devices' files on the official client, against Azurite: signatures, blocks, and what refusals mean."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob.aio import BlobClient

from isthmus.base.clock import SystemClock
from isthmus.commands.upload_storage import (
    BlobDescription,
    BlobFacts,
    Block,
    BlockList,
    StorageFault,
    StorageRefused,
    UploadTarget,
)
from isthmus.resources.file_upload import StorageEndpoint
from isthmus.resources.routing_endpoint import EndpointAuthentication
from isthmus.sinks.clients import blob_service_by_key, container_by_address
from isthmus.sinks.uploads import KEPT_SECONDS, UploadAccounts, upload_accounts
from sinks.egress import HUB, LaidEgress
from support.azurite import ACCOUNT, Azurite

HOUR_MS = 3_600_000
FIRST, SECOND = "a" * 64, "b" * 64


@dataclass
class MovedClock:
    """The machine's clock, put forward."""

    ahead_ms: int = 0
    real: SystemClock = field(default_factory=SystemClock)

    def utc_ms(self) -> int:
        return self.real.utc_ms() + self.ahead_ms

    def monotonic(self) -> float:
        return self.real.monotonic() + self.ahead_ms / 1000


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def accounts(clock: MovedClock, egress: LaidEgress) -> AsyncIterator[UploadAccounts]:
    made = upload_accounts(clock, egress)
    yield made
    await made.close()


@pytest.fixture(params=[EndpointAuthentication.KEY, EndpointAuthentication.IDENTITY])
def target(request: pytest.FixtureRequest, azurite: Azurite) -> UploadTarget:
    """A blob of a container that is not there yet, by key and by identity."""
    by_key = request.param is EndpointAuthentication.KEY
    named = azurite.connection_string if by_key else f"AccountName={ACCOUNT};BlobEndpoint={azurite.url};"
    endpoint = StorageEndpoint(named, f"up-{uuid.uuid4().hex[:12]}", request.param)
    return UploadTarget(HUB.number, endpoint, "dev1/a ö.txt")


async def test_a_signature_is_made_in_the_way_of_the_endpoint_and_the_container_too(
    accounts: UploadAccounts, target: UploadTarget, clock: MovedClock
) -> None:
    assert await refusal(accounts.find(target)) is StorageFault.NOT_FOUND
    signature = await accounts.sign(target, clock.utc_ms() + HOUR_MS)
    assert {"sr=b", "sp=rw"} <= set(signature.split("&"))
    assert ("skoid=" in signature) is (target.endpoint.authentication is EndpointAuthentication.IDENTITY)
    assert await accounts.find(target) is None


async def test_a_signature_opens_its_blob_only(
    accounts: UploadAccounts, azurite: Azurite, egress: LaidEgress, clock: MovedClock
) -> None:
    """By key; those of a delegation key are opened at a hosted account, as Azurite knows older forms of them only."""
    endpoint = StorageEndpoint(azurite.connection_string, f"up-{uuid.uuid4().hex[:12]}")
    target = UploadTarget(HUB.number, endpoint, "dev1/a ö.txt")
    signature = await accounts.sign(target, clock.utc_ms() + HOUR_MS)
    async with opened(target, signature, egress) as client:
        await client.upload_blob(b"12345")
    facts = await accounts.find(target)
    assert facts is not None
    assert facts.size == 5
    assert abs(facts.stamp.modified_ms - clock.utc_ms()) < 60_000
    async with opened(replace(target, blob="dev1/other.txt"), signature, egress) as client:
        with pytest.raises(HttpResponseError):
            await client.upload_blob(b"x")


async def test_blocks_become_a_blob_with_what_is_said_of_it(
    accounts: UploadAccounts, target: UploadTarget, clock: MovedClock, azurite: Azurite, egress: LaidEgress
) -> None:
    await accounts.sign(target, clock.utc_ms() + HOUR_MS)
    for block_id, body in ((SECOND, b"world"), (FIRST, b"hello ")):
        await accounts.put_block(target, Block(block_id, len(body), pieces(body)))
    description = BlobDescription({"Content-Type": "text/plain", "Cache-Control": "no-store"}, b"m" * 16, {"a": "b"})
    written = await accounts.commit_blocks(target, BlockList([FIRST, SECOND], description))
    found = await accounts.find(target)
    assert found == BlobFacts(11, written)
    async with blob_service_by_key(egress.way, azurite.connection_string) as owner:
        blob = await owner.get_blob_client(target.endpoint.container, target.blob).download_blob()
        assert await blob.readall() == b"hello world"
        settings = blob.properties.content_settings
        assert (settings.content_type, settings.cache_control) == ("text/plain", "no-store")
        assert (bytes(settings.content_md5), blob.properties.metadata) == (b"m" * 16, {"a": "b"})
    again = BlockList([], BlobDescription(), if_absent=True)
    assert await refusal(accounts.commit_blocks(target, again)) is StorageFault.REQUEST


async def test_a_block_that_breaks_off_is_no_block(
    accounts: UploadAccounts, target: UploadTarget, clock: MovedClock
) -> None:
    await accounts.sign(target, clock.utc_ms() + HOUR_MS)
    assert await refusal(accounts.put_block(target, Block(FIRST, 10, pieces(b"short")))) is StorageFault.TRANSIENT
    assert await refusal(accounts.commit_blocks(target, BlockList([FIRST], BlobDescription()))) is StorageFault.REQUEST


async def test_what_the_way_out_refuses_is_told_apart(
    accounts: UploadAccounts, azurite: Azurite, egress: LaidEgress, clock: MovedClock
) -> None:
    by_identity = StorageEndpoint(
        f"AccountName={ACCOUNT};BlobEndpoint={azurite.url};", "uploads", EndpointAuthentication.IDENTITY
    )
    target = UploadTarget(HUB.number, by_identity, "dev1/a")
    egress.has_identity = False
    assert await refusal(accounts.sign(target, clock.utc_ms() + HOUR_MS)) is StorageFault.IDENTITY
    egress.has_identity = True
    elsewhere = replace(by_identity, connection_string="AccountName=other;BlobEndpoint=https://other.test:10000;")
    target = UploadTarget(HUB.number, elsewhere, "dev1/a")
    assert await refusal(accounts.sign(target, clock.utc_ms() + HOUR_MS)) is StorageFault.NAME


async def test_a_wrong_key_is_found_out_within_a_minute(
    accounts: UploadAccounts, azurite: Azurite, clock: MovedClock, egress: LaidEgress
) -> None:
    named = azurite.connection_string
    target = UploadTarget(HUB.number, StorageEndpoint(named, f"up-{uuid.uuid4().hex[:12]}"), "dev1/a")
    await accounts.sign(target, clock.utc_ms() + HOUR_MS)
    before = len(egress.asked)
    await accounts.sign(target, clock.utc_ms() + HOUR_MS)
    assert len(egress.asked) == before, "within a minute nobody is asked"
    clock.ahead_ms += KEPT_SECONDS * 1000
    (account,) = accounts._accounts.values()
    account.service.credential.account_key = "b3RoZXI="
    assert await refusal(accounts.sign(target, clock.utc_ms() + HOUR_MS)) is StorageFault.AUTHENTICATION


def opened(target: UploadTarget, signature: str, egress: LaidEgress) -> BlobClient:
    """The official client at a blob's signed address."""
    address = f"{target.endpoint.account.blob_url}/{target.endpoint.container}?{signature}"
    return container_by_address(egress.way, address).get_blob_client(target.blob)


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(body), 4):
        yield body[place : place + 4]


async def refusal(attempt: Any) -> StorageFault:
    with pytest.raises(StorageRefused) as caught:
        await attempt
    return caught.value.fault
