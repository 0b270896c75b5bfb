"""Hosted storage accounts for tests: made by the command line, and found by the SDK under their own names."""

import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob import BlobServiceClient
from azure.storage.blob.aio import BlobServiceClient as AsyncServiceClient

from clients.names import resolved
from support.server import RunningHub


@dataclass(frozen=True)
class Account:
    """A storage account that a hub's server hosts."""

    hub: RunningHub
    name: str
    shown: dict[str, Any]

    @property
    def url(self) -> str:
        """The address of its blobs, with a slash at the end."""
        return str(self.shown["primaryEndpoints"]["blob"])

    @property
    def resource_id(self) -> str:
        return str(self.shown["id"])

    def container_id(self, container: str) -> str:
        """The scope at which roles on a container are given."""
        return f"{self.resource_id}/blobServices/default/containers/{container}"

    def key(self, which: str = "key1") -> str:
        """One of its keys, as it is now."""
        listed = self.hub.json("storage", "account", "keys", "list", "-n", self.name)
        return str(next(each["value"] for each in listed if each["keyName"] == which))

    def client(self, credential: Any = None, **options: Any) -> BlobServiceClient:
        """The stock client, by the account's first key unless something else is given."""
        shown = self.key() if credential is None else credential
        signed = {"account_name": self.name, "account_key": shown} if credential is None else shown
        return BlobServiceClient(self.url, credential=signed, **self.options(**options))

    @asynccontextmanager
    async def aio(self, credential: Any = None, **options: Any) -> AsyncIterator[AsyncServiceClient]:
        """As `client`, for asyncio."""
        shown = {"account_name": self.name, "account_key": self.key()} if credential is None else credential
        connector = aiohttp.TCPConnector(resolver=_Resolver(self.hub.address))
        session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        transport = AioHttpTransport(session=session, session_owner=False, connection_verify=str(self.hub.ca))
        async with (
            session,
            AsyncServiceClient(self.url, credential=shown, **self.options(transport=transport, **options)) as client,
        ):
            yield client

    def options(self, **more: Any) -> dict[str, Any]:
        """What a client is told besides: whom to trust, and to say at once what is refused."""
        return {"connection_verify": str(self.hub.ca), "retry_total": 0, **more}

    def update(self, *options: str) -> None:
        """`isthmus storage account update`."""
        self.hub.isthmus("storage", "account", "update", "-n", self.name, *options)


class _Resolver(AbstractResolver):
    """Finds every name at one address: uvloop asks no resolver of Python's."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        found = ResolveResult(
            hostname=host, host=self._address, port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
        )
        return [found]

    async def close(self) -> None:
        """Nothing is kept."""


@contextmanager
def storage_account(hub: RunningHub, *options: str) -> Iterator[Account]:
    """A new account whose name leads to the hub's address, deleted afterwards."""
    name = f"st{uuid.uuid4().hex[:12]}"
    made = Account(hub, name, hub.json("storage", "account", "create", "-n", name, *options))
    with resolved(made.url.split("/")[2].partition(":")[0], hub.address):
        yield made
    if hub.running:
        hub.isthmus("storage", "account", "delete", "-n", name, "--yes")
