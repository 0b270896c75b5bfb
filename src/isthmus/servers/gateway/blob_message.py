"""Requests to and replies of the Blob service, free of what authenticates them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiohttp import web

from isthmus.neighbours.blob.conditions import Conditions, conditions_of
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.headers import number_of
from isthmus.servers.gateway.blob_access import Let

PIECE_BYTES = 256 * 1024
"""Bytes that are collected before they are written: what an upload holds in memory."""

STALL_SECONDS_MAX = 60.0
"""How long a client may send nothing of a body, or take nothing of an answer; then the request ends."""


class Body:
    """What a request brings, read once."""

    def __init__(self, request: web.BaseRequest, length: int | None) -> None:
        self._request = request
        self.length = length

    def require_length(self, limit: int) -> int:
        """The length that the client announced; raises StorageError MissingContentLengthHeader, RequestBodyTooLarge."""
        if self.length is None:
            raise StorageError(StorageCode.MISSING_CONTENT_LENGTH)
        if self.length > limit:
            raise StorageError(StorageCode.REQUEST_BODY_TOO_LARGE, details={"MaxLimit": str(limit)})
        return self.length

    async def document(self, limit: int) -> bytes:
        """All of a small body; raises StorageError RequestBodyTooLarge, OperationTimedOut."""
        body = bytearray()
        async for piece in self.pieces(limit):
            body += piece
        return bytes(body)

    async def pieces(self, limit: int) -> AsyncGenerator[bytes, None]:
        """The body in pieces of about `PIECE_BYTES`; raises StorageError RequestBodyTooLarge, OperationTimedOut."""
        await self._invite()
        held, total = bytearray(), 0
        content = self._request.content
        while True:
            try:
                async with asyncio.timeout(STALL_SECONDS_MAX):
                    read = await content.readany()
            except TimeoutError:
                raise StorageError(StorageCode.OPERATION_TIMED_OUT) from None
            total += len(read)
            if total > limit:
                raise StorageError(StorageCode.REQUEST_BODY_TOO_LARGE, details={"MaxLimit": str(limit)})
            held += read
            if len(held) >= PIECE_BYTES or (not read and held):
                yield bytes(held)
                held.clear()
            if not read:
                return

    async def _invite(self) -> None:
        """Answers a client that waits for leave to send (RFC 9110 §10.1.1)."""
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0  # an interim answer is no part of the answer


@dataclass(frozen=True, slots=True)
class BlobCall:
    """A request that was let in. Names of `headers` and `query` are in small letters, those of `said` as they came."""

    let: Let
    headers: Mapping[str, str]
    said: Mapping[str, str]
    query: Mapping[str, str]
    body: Body
    endpoint: str
    version: str
    utc_ms: int

    @property
    def conditions(self) -> Conditions:
        """What it asks of what is there."""
        return conditions_of(self.headers)

    def number(self, name: str) -> int | None:
        """A header that is a whole number."""
        return number_of(self.headers, name)

    def is_true(self, name: str) -> bool:
        """True for a header that says so."""
        return self.headers.get(name, "").lower() == "true"


@dataclass(frozen=True, slots=True)
class BlobReply:
    """An answer; `length` is what the body has, or, for a HEAD, would have. `stream` comes instead of a body.

    Whoever sends it closes `held` afterwards, also where the stream was never begun.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None
    length: int | None = None
    held: AsyncExitStack | None = None


def xml_reply(body: bytes, headers: Mapping[str, str] | None = None) -> BlobReply:
    """200 with a document."""
    return BlobReply(200, {"Content-Type": "application/xml", **(headers or {})}, body)
