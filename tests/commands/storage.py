"""Storage in memory, as devices' uploads need it, and the queue by which services hear of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.base.state import State
from isthmus.commands.file_uploads import FILE_NOTIFICATIONS
from isthmus.commands.ports import HubOf
from isthmus.commands.servicebound import ServiceboundQueue
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


@dataclass
class FakeStorage:
    """One container; `fault` is what every call is refused with."""

    clock: Clock
    blobs: dict[str, bytes] = field(default_factory=dict)
    described: dict[str, BlobDescription] = field(default_factory=dict)
    blocks: dict[tuple[str, str], bytes] = field(default_factory=dict)
    fault: StorageFault | None = None
    signed: list[str] = field(default_factory=list)

    async def sign(self, target: UploadTarget, expires_ms: int) -> str:
        self._judge()
        self.signed.append(target.blob)
        return f"sr=b&sp=rw&se={expires_ms}&sig=signature"

    async def find(self, target: UploadTarget) -> BlobFacts | None:
        self._judge()
        body = self.blobs.get(target.blob)
        return None if body is None else BlobFacts(len(body), BlobStamp(self.clock.utc_ms(), '"etag"'))

    async def put_block(self, target: UploadTarget, block: Block) -> None:
        self._judge()
        body = b"".join([piece async for piece in block.body])
        if len(body) != block.size:
            raise StorageRefused(StorageFault.TRANSIENT, "the body ended early")
        self.blocks[target.blob, block.block_id] = body

    async def commit_blocks(self, target: UploadTarget, blocks: BlockList) -> BlobStamp:
        self._judge()
        if blocks.if_absent and target.blob in self.blobs:
            raise StorageRefused(
                StorageFault.REQUEST, "The specified blob already exists.", status=409, code="BlobAlreadyExists"
            )
        missing = [block_id for block_id in blocks.block_ids if (target.blob, block_id) not in self.blocks]
        if missing:
            raise StorageRefused(
                StorageFault.REQUEST, "The specified block list is invalid.", status=400, code="InvalidBlockList"
            )
        self.blobs[target.blob] = b"".join(self.blocks[target.blob, block_id] for block_id in blocks.block_ids)
        self.described[target.blob] = blocks.description
        return BlobStamp(self.clock.utc_ms(), '"etag"')

    async def close(self) -> None:
        """Holds nothing."""

    def _judge(self) -> None:
        if self.fault is not None:
            raise StorageRefused(self.fault, "This request is not authorized.", status=403, code="AuthorizationFailure")


def notification_queue(state: State, clock: Clock, ids: Ids, hub_of: HubOf) -> ServiceboundQueue:
    """The queues of file notifications, as a whole server has them."""
    return ServiceboundQueue(
        state, clock, ids, name=FILE_NOTIFICATIONS, hub_of=hub_of, settings=lambda hub: hub.file_upload.notifications
    )


def storage_body(*, notify: bool = True, relay: bool = False, minutes: int = 60) -> Mapping[str, object]:
    """What gives a hub a container, in ARM's form."""
    endpoint = {
        "connectionString": "AccountName=plant;AccountKey=a2V5;EndpointSuffix=example.test",
        "containerName": "uploads",
        "sasTtlAsIso8601": f"PT{minutes}M",
        "relay": relay,
    }
    return {"properties": {"storageEndpoints": {"$default": endpoint}, "enableFileUploadNotifications": notify}}
