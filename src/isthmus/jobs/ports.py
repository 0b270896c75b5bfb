"""What jobs need from outside: who is connected, and containers of blobs, by a signed address or as an identity."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from isthmus.base.ids import DeviceRef, HubId
from isthmus.devices.ports import ConnectedDevices

BLOCK_BYTES = 4 * 1024 * 1024
"""A block of a blob as jobs write it, and what they read at once: an export holds one, an import little more."""


@dataclass(frozen=True, slots=True)
class ContainerAddress:
    """Where a container is: with a signature in its URI, or `identity`, the ARM id of who asks ("" for the hub)."""

    uri: str = field(repr=False)
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """A blob as it is now: `etag` names its content."""

    size: int
    etag: str


class ContainerFailure(Exception):  # noqa: N818 - the word of the port
    """The storage did not do what was asked.

    `code` is its error code, `reason` its words without secrets, `remedy` what would let it pass where that is known.
    One that is not `lasting` may pass when it is tried again.
    """

    def __init__(self, code: str, reason: str, *, lasting: bool, remedy: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.lasting = lasting
        self.remedy = remedy


class Container(Protocol):
    """One container; everything raises `ContainerFailure`."""

    async def facts(self, name: str) -> BlobFacts:
        """What a blob is now."""

    def read(self, name: str, *, offset: int, etag: str) -> AsyncIterator[bytes]:
        """The bytes of a blob from an offset on, in pieces of at most `BLOCK_BYTES`, while it has this etag."""

    async def stage(self, name: str, index: int, data: bytes) -> None:
        """Puts block number `index` of a blob, which is not seen until it is committed; again, it replaces it."""

    async def commit(self, name: str, blocks: int) -> None:
        """Makes a blob of its blocks 0 to `blocks` - 1, as a whole; of none, an empty one."""

    async def close(self) -> None:
        """Gives connections back; never raises."""


class Arrivals(ConnectedDevices, Protocol):
    """Who is connected, and who comes."""

    def on_methods(self, listener: Callable[[DeviceRef], None]) -> None:
        """Calls `listener` on the event loop whenever a device has subscribed to direct methods."""


class Containers(Protocol):
    """The way to containers."""

    async def open(self, hub: HubId, address: ContainerAddress) -> Container:
        """A container as a hub reaches it, without connecting; raises `ContainerFailure` for what is no address."""
