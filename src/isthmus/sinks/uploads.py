"""Storage accounts that devices put files into, by the official client; the port is `commands.upload_storage`.

A client is kept for each hub as long as its endpoint stays what it is, so there are as many as hubs at most. With an
identity, signatures are made with a user delegation key that the account gives; with a key they are made here. Whether
the container is there is asked every minute at most, and it is made when it is not.
"""

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, BlobSasPermissions, ContentSettings, UserDelegationKey, generate_blob_sas
from azure.storage.blob.aio import BlobServiceClient

from isthmus.base.clock import Clock
from isthmus.base.ids import HubId
from isthmus.commands.upload_storage import (
    BlobDescription,
    BlobFacts,
    BlobStamp,
    Block,
    BlockList,
    StorageFault,
    StorageRefused,
    UploadTarget,
)
from isthmus.resources.file_upload import StorageEndpoint
from isthmus.resources.routing_endpoint import EndpointAuthentication
from isthmus.routing.sink import Egress, SinkFailure
from isthmus.sinks.clients import (
    CredentialFactory,
    HubCredential,
    WayOut,
    blob_service_by_identity,
    blob_service_by_key,
)
from isthmus.sinks.failures import failure_of

KEPT_SECONDS = 60
"""How long the account's last word counts before it is asked again: for so long a key that was renewed, a role that was
taken away, or a door that was closed may go unnoticed."""

SKEW_MINUTES = 15
"""Keys begin that much earlier, for accounts whose clock is behind ("Best practices when using SAS")."""

TRIES_AGAIN = 1
"""Requests without a body are repeated once, as a connection that was idle may have gone."""


PASSING = frozenset((408, 429))
"""Statuses of refusals after which the same request may succeed ("Status and error codes", Azure Storage)."""


@dataclass(slots=True)
class _Account:
    """The client of one endpoint, and what it is known to have."""

    endpoint: StorageEndpoint
    service: BlobServiceClient
    relay: BlobServiceClient
    container_seen_until_ms: int = 0
    key: UserDelegationKey | None = None
    key_covers_ms: int = 0
    key_kept_until_ms: int = 0


class UploadAccounts:
    """The accounts of all hubs; `way_of` tells how a hub goes out. On one event loop."""

    def __init__(self, clock: Clock, way_of: Callable[[HubId], WayOut]) -> None:
        self._clock = clock
        self._way_of = way_of
        self._accounts: dict[HubId, _Account] = {}

    async def sign(self, target: UploadTarget, expires_ms: int) -> str:
        """A shared access signature to read and write the blob until then, as a query without a question mark."""
        with _refusals():
            account = await self._account(target)
            await self._have_container(account)
            named = target.endpoint.account
            by_identity = target.endpoint.authentication is EndpointAuthentication.IDENTITY
            signature: str = generate_blob_sas(
                account_name=named.name,
                container_name=target.endpoint.container,
                blob_name=target.blob,
                account_key=None if by_identity else named.key,
                user_delegation_key=await self._delegation(account, expires_ms) if by_identity else None,
                permission=BlobSasPermissions(read=True, write=True),
                expiry=_moment(expires_ms),
            )
            return signature

    async def find(self, target: UploadTarget) -> BlobFacts | None:
        """The blob, None when there is none."""
        with _refusals():
            account = await self._account(target)
            blob = account.service.get_blob_client(target.endpoint.container, target.blob)
            try:
                found = await blob.get_blob_properties()
            except ResourceNotFoundError as error:
                if error.error_code == "ContainerNotFound":
                    account.container_seen_until_ms = 0
                    raise
                return None
            return BlobFacts(found.size, BlobStamp(_milliseconds(found.last_modified), found.etag))

    async def put_block(self, target: UploadTarget, block: Block) -> None:
        """Passes a block on as it arrives."""
        with _refusals():
            account = await self._account(target)
            blob = account.relay.get_blob_client(target.endpoint.container, target.blob)
            headers = {"Content-MD5": base64.b64encode(block.md5).decode()} if block.md5 else {}
            await blob.stage_block(block.block_id, _Exactly(block), length=block.size, headers=headers)

    async def commit_blocks(self, target: UploadTarget, blocks: BlockList) -> BlobStamp:
        """Makes the blob of blocks, the latest of each id."""
        with _refusals():
            account = await self._account(target)
            blob = account.service.get_blob_client(target.endpoint.container, target.blob)
            answer = await blob.commit_block_list(
                [BlobBlock(block_id) for block_id in blocks.block_ids],
                content_settings=_settings(blocks.description),
                metadata=dict(blocks.description.metadata),
                **({"match_condition": MatchConditions.IfMissing} if blocks.if_absent else {}),
            )
            return BlobStamp(_milliseconds(answer["last_modified"]), answer["etag"])

    async def forget(self, hub: HubId) -> None:
        """Gives the connections of a hub back that is gone."""
        await _end(self._accounts.pop(hub, None))

    async def close(self) -> None:
        """Gives connections back."""
        for hub in tuple(self._accounts):
            await self.forget(hub)

    async def _account(self, target: UploadTarget) -> _Account:
        account = self._accounts.get(target.hub)
        if account is not None and _reaches(account.endpoint, target.endpoint):
            return account
        way = self._way_of(target.hub)
        made = _Account(target.endpoint, _client(way, target.endpoint, TRIES_AGAIN), _client(way, target.endpoint, 0))
        self._accounts[target.hub] = made
        await _end(account)
        return made

    async def _have_container(self, account: _Account) -> None:
        """Asks first: who may write into a container may not always make one."""
        now_ms = self._clock.utc_ms()
        if now_ms < account.container_seen_until_ms:
            return
        container = account.service.get_container_client(account.endpoint.container)
        if not await container.exists():
            with suppress(ResourceExistsError):  # somebody else may be faster
                await container.create_container()
        account.container_seen_until_ms = now_ms + KEPT_SECONDS * 1000

    async def _delegation(self, account: _Account, expires_ms: int) -> UserDelegationKey:
        now_ms = self._clock.utc_ms()
        if account.key is None or now_ms > account.key_kept_until_ms or expires_ms > account.key_covers_ms:
            covers_ms = expires_ms + KEPT_SECONDS * 1000
            start = _moment(now_ms) - timedelta(minutes=SKEW_MINUTES)
            account.key = await account.service.get_user_delegation_key(start, _moment(covers_ms))
            account.key_covers_ms, account.key_kept_until_ms = covers_ms, now_ms + KEPT_SECONDS * 1000
        return account.key


async def _end(account: _Account | None) -> None:
    if account is not None:
        await account.service.close()
        await account.relay.close()


def upload_accounts(clock: Clock, egress: Egress, credentials: CredentialFactory = HubCredential) -> UploadAccounts:
    """The accounts of hubs that go out by `egress`."""
    return UploadAccounts(clock, lambda hub: WayOut(hub, egress, credentials))


class _Exactly:
    """A body that the official client passes on piece by piece, as many bytes as were said and no fewer."""

    def __init__(self, block: Block) -> None:
        self._block = block

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._block.size
        async for piece in self._block.body:
            left -= len(piece)
            yield piece
        if left:
            # Else the client waits for an answer that the account gives only to a body that is whole.
            raise EOFError(f"the body ended {left} bytes early")


def _client(way: WayOut, endpoint: StorageEndpoint, tries_again: int) -> BlobServiceClient:
    if endpoint.authentication is EndpointAuthentication.IDENTITY:
        return blob_service_by_identity(way, endpoint.account.blob_url, endpoint.identity, tries_again=tries_again)
    return blob_service_by_key(way, endpoint.connection_string, tries_again=tries_again)


def _reaches(present: StorageEndpoint, wanted: StorageEndpoint) -> bool:
    """True when the same client serves both."""
    return _place(present) == _place(wanted)


def _place(endpoint: StorageEndpoint) -> tuple[str, str, str, str]:
    return endpoint.connection_string, endpoint.container, endpoint.authentication.value, endpoint.identity


def _settings(description: BlobDescription) -> ContentSettings:
    headers = description.headers
    return ContentSettings(
        content_type=headers.get("Content-Type"),
        content_encoding=headers.get("Content-Encoding"),
        content_language=headers.get("Content-Language"),
        content_disposition=headers.get("Content-Disposition"),
        cache_control=headers.get("Cache-Control"),
        content_md5=bytearray(description.md5) if description.md5 else None,
    )


def _moment(utc_ms: int) -> datetime:
    return datetime.fromtimestamp(utc_ms / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turns what the client, the way out and the account can say into `StorageRefused`."""
    try:
        yield
    except SinkFailure as failure:
        raise _refused(failure, 0) from failure
    except AzureError as error:
        status = error.status_code or 0 if isinstance(error, HttpResponseError) else 0
        raise _refused(failure_of(error), status) from error


def _refused(failure: SinkFailure, status: int) -> StorageRefused:
    """What may never succeed is told from what may: a target's other refusals of a request count as passing."""
    fault = StorageFault(failure.kind.value)
    if fault is StorageFault.TRANSIENT and 400 <= status < 500 and status not in PASSING:
        fault = StorageFault.REQUEST
    return StorageRefused(fault, failure.reason, status=status, code=failure.code)
