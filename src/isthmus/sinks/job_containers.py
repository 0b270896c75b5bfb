"""The containers of jobs on the official client: reached by a signed address or as a hub's identity.

The client tries nothing again by itself: a job knows how long it has stood still, and tries again from its record.
"""

import base64
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobBlock
from azure.storage.blob.aio import BlobClient, ContainerClient

from isthmus.base.ids import HubId
from isthmus.jobs.ports import BLOCK_BYTES, BlobFacts, ContainerAddress, ContainerFailure
from isthmus.routing.sink import Egress, FailureKind, SinkFailure
from isthmus.sinks.clients import CredentialFactory, HubCredential, WayOut, container_by_address
from isthmus.sinks.failures import failure_of, storage_code

PASSING: Final = frozenset((408, 429, 500, 502, 503, 504))
"""Statuses after which the same request may succeed ("Status and error codes", Azure Storage)."""

OTHER_BLOCKS: Final = "InvalidBlobOrBlock"
"""The blob has blocks whose ids have another length than ours, which nothing can be staged beside ("Put Block")."""

REMEDIES: Final = {
    "AuthorizationPermissionMismatch": "give the identity the role Storage Blob Data Contributor at the container: "
    "isthmus role assignment create",
    "AuthorizationFailure": "let the hub past the account's network rules, by an IP rule or as a trusted service",
    "AuthenticationFailed": "make a signature that is valid now and allows to read, write and delete",
    "AuthorizationResourceTypeMismatch": "make the signature for the container",
    "ContainerNotFound": "isthmus storage container create",
    "BlobNotFound": "put the blob that is to be imported into the container",
}
"""What would let it pass, by the storage's error code."""

P = ParamSpec("P")
T = TypeVar("T")


class StorageContainers:
    """Implements `jobs.ports.Containers`."""

    def __init__(self, egress: Egress, credentials: CredentialFactory = HubCredential) -> None:
        self._egress = egress
        self._credentials = credentials

    async def open(self, hub: HubId, address: ContainerAddress) -> "StorageContainer":
        way = WayOut(hub, self._egress, self._credentials)
        try:
            return StorageContainer(container_by_address(way, address.uri, address.identity))
        except ValueError as error:
            raise ContainerFailure("InvalidUri", "this is no container's address", lasting=True) from error


def _told(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Makes `ContainerFailure` of what the client raises."""

    @wraps(call)
    async def told(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return await call(*arguments, **named)
        except (AzureError, SinkFailure, TimeoutError, OSError) as error:
            raise _failure(error) from error

    return told


class StorageContainer:
    """Implements `jobs.ports.Container`."""

    def __init__(self, client: ContainerClient) -> None:
        self._client = client

    @_told
    async def facts(self, name: str) -> BlobFacts:
        found = await self._blob(name).get_blob_properties()
        return BlobFacts(found.size, found.etag)

    async def read(self, name: str, *, offset: int, etag: str) -> AsyncIterator[bytes]:
        blob = self._blob(name)
        size = (await self.facts(name)).size
        while offset < size:
            piece = await self._piece(blob, offset, etag)
            offset += len(piece)
            yield piece

    @_told
    async def stage(self, name: str, index: int, data: bytes) -> None:
        blob = self._blob(name)
        try:
            await blob.stage_block(_block_id(index), data, length=len(data))
        except HttpResponseError as error:
            if storage_code(error) != OTHER_BLOCKS or index:
                raise
            await blob.delete_blob(delete_snapshots="include")
            await blob.stage_block(_block_id(index), data, length=len(data))

    @_told
    async def commit(self, name: str, blocks: int) -> None:
        await self._blob(name).commit_block_list([BlobBlock(_block_id(index)) for index in range(blocks)])

    async def close(self) -> None:
        await self._client.close()

    @_told
    async def _piece(self, blob: BlobClient, offset: int, etag: str) -> bytes:
        stream = await blob.download_blob(
            offset, BLOCK_BYTES, etag=etag, match_condition=MatchConditions.IfNotModified, max_concurrency=1
        )
        return bytes(await stream.readall())

    def _blob(self, name: str) -> BlobClient:
        return self._client.get_blob_client(name)


def _block_id(index: int) -> str:
    """Ids of one blob have one length."""
    return base64.b64encode(f"isthmus-{index:08}".encode()).decode()


def _failure(error: Exception) -> ContainerFailure:
    known = failure_of(error)
    if isinstance(error, HttpResponseError) and error.status_code:
        lasting = error.status_code not in PASSING
    else:
        lasting = known.kind is not FailureKind.TRANSIENT
    # In a refusal's message to services a semicolon would end it.
    reason = known.reason.replace(";", ",")
    return ContainerFailure(known.code, reason, lasting=lasting, remedy=REMEDIES.get(known.code, ""))
