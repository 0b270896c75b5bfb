"""Storage that devices put files into, whose official client is loaded when the first file is asked about.

Hubs without file upload start as fast as ever, and where the client is not installed they work without.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.base.ids import HubId
from isthmus.commands.upload_storage import (
    BlobFacts,
    BlobStamp,
    Block,
    BlockList,
    StorageFault,
    StorageRefused,
    UploadStorage,
    UploadTarget,
)
from isthmus.resources.hub import Hub
from isthmus.routing.sink import Egress


class HubsStorage(UploadStorage, Protocol):
    """`UploadStorage` that holds something for each hub."""

    async def forget(self, hub: HubId) -> None:
        """Gives back what is held for a hub that is gone."""


class LoadedStorage:
    """`UploadStorage` by `sinks.uploads`; `credentials` as `[egress] credentials`."""

    def __init__(self, clock: Clock, egress: Egress, credentials: str) -> None:
        self._clock = clock
        self._egress = egress
        self._credentials = credentials
        self._loading: asyncio.Task[HubsStorage] | None = None

    async def sign(self, target: UploadTarget, expires_ms: int) -> str:
        return await (await self._loaded()).sign(target, expires_ms)

    async def find(self, target: UploadTarget) -> BlobFacts | None:
        return await (await self._loaded()).find(target)

    async def put_block(self, target: UploadTarget, block: Block) -> None:
        await (await self._loaded()).put_block(target, block)

    async def commit_blocks(self, target: UploadTarget, blocks: BlockList) -> BlobStamp:
        return await (await self._loaded()).commit_blocks(target, blocks)

    async def hub_changed(self, old: Hub | None, new: Hub | None) -> None:
        """Listens to the hubs: nothing is held for one that is gone."""
        if old is not None and new is None and self._loading is not None:
            await (await self._loading).forget(old.number)

    async def close(self) -> None:
        if self._loading is not None:
            await (await self._loading).close()

    async def _loaded(self) -> HubsStorage:
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        return await asyncio.shield(self._loading)

    async def _load(self) -> HubsStorage:
        """Loads in a thread, so that others do not wait meanwhile; connections are the loop's."""
        try:
            make = await asyncio.to_thread(_factory, self._credentials)
        except ImportError as error:
            self._loading = None
            reason = "the client of storage accounts is not installed: pip install isthmus[sinks]"
            raise StorageRefused(StorageFault.TRANSIENT, reason) from error
        return make(self._clock, self._egress)


def _factory(credentials: str) -> Callable[[Clock, Egress], HubsStorage]:
    from isthmus.sinks.azure_credentials import credentials_of
    from isthmus.sinks.uploads import upload_accounts

    return partial(upload_accounts, credentials=credentials_of(credentials))
