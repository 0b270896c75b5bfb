"""Operations of the Blob service that read blobs ("Get Blob" and its kin)."""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from isthmus.neighbours.blob.blob import Blob, base64_text
from isthmus.neighbours.blob.block_list import block_list_document
from isthmus.neighbours.blob.errors import StorageCode, StorageError, query_error
from isthmus.neighbours.blob.headers import blob_headers, md5_header, metadata_headers, written_headers
from isthmus.neighbours.blob.ports import BlobStore, Content
from isthmus.neighbours.blob.ranges import ByteRange, parse_range
from isthmus.neighbours.blob.routes import Operation
from isthmus.neighbours.blob.rules import require_blob
from isthmus.servers.gateway.blob_containers import Handlers
from isthmus.servers.gateway.blob_message import BlobCall, BlobReply, xml_reply

MD5_RANGE_BYTES_MAX = 4 * 1024 * 1024
"""The longest range whose MD5 is calculated for a reader ("Get Blob")."""

_LIST_TYPES = {
    "": (True, False),
    "committed": (True, False),
    "uncommitted": (False, True),
    "all": (True, True),
}


class ReadOperations:
    """Answers what is asked of blobs' content and properties."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.handlers: Handlers = {
            Operation.GET_BLOB: self._get,
            Operation.GET_BLOB_PROPERTIES: self._get_properties,
            Operation.GET_BLOB_METADATA: self._get_metadata,
            Operation.GET_BLOCK_LIST: self._get_block_list,
        }

    async def _get(self, call: BlobCall) -> BlobReply:
        """The content is held from here to the end of the stream, whatever happens to the blob meanwhile."""
        account, target = call.let.account.number, call.let.target
        async with AsyncExitStack() as stack:
            content = await stack.enter_async_context(self._store.content(account, target.container, target.blob))
            if content is None:
                raise StorageError(StorageCode.BLOB_NOT_FOUND)
            blob = content.blob
            check_lease(call)
            call.conditions.check_read(blob.etag, blob.modified_ms)
            asked = call.headers.get("x-ms-range") or call.headers.get("range", "")
            part = parse_range(asked, blob.size)
            headers = described(call, blob)
            wanted = part or ByteRange(0, blob.size)
            headers |= await _md5(call, content, part)
            if part is not None:
                headers["Content-Range"] = part.content_range(blob.size)
            kept = stack.pop_all()
        return BlobReply(
            206 if part is not None else 200, headers, stream=_streamed(content, wanted, kept), length=wanted.length
        )

    async def _get_properties(self, call: BlobCall) -> BlobReply:
        blob = await self._blob(call)
        headers = described(call, blob) | md5_header("Content-MD5", blob.settings.md5)
        return BlobReply(200, headers, length=blob.size)

    async def _get_metadata(self, call: BlobCall) -> BlobReply:
        blob = await self._blob(call)
        return BlobReply(200, dict((*written_headers(blob), *metadata_headers(blob.metadata))))

    async def _get_block_list(self, call: BlobCall) -> BlobReply:
        kind = call.query.get("blocklisttype", "").lower()
        if kind not in _LIST_TYPES:
            raise query_error("blocklisttype", kind, "It must be committed, uncommitted or all.")
        account, target = call.let.account.number, call.let.target
        found = await self._store.blocks(account, target.container, target.blob)
        if found.blob is None and not found.staged:
            raise StorageError(StorageCode.BLOB_NOT_FOUND)
        committed, staged = _LIST_TYPES[kind]
        body = block_list_document(found.committed if committed else None, found.staged if staged else None)
        if found.blob is None:
            return xml_reply(body)
        return xml_reply(body, dict((*written_headers(found.blob), ("x-ms-blob-content-length", str(found.blob.size)))))

    async def _blob(self, call: BlobCall) -> Blob:
        account, target = call.let.account.number, call.let.target
        blob = require_blob(await self._store.blob(account, target.container, target.blob))
        check_lease(call)
        call.conditions.check_read(blob.etag, blob.modified_ms)
        return blob


def check_lease(call: BlobCall) -> None:
    """There are no leases here: who shows one is told that it is not there."""
    if call.headers.get("x-ms-lease-id"):
        raise StorageError(StorageCode.LEASE_NOT_PRESENT_BLOB)


def described(call: BlobCall, blob: Blob) -> dict[str, str]:
    """What a reader is told of a blob, with what his SAS says instead."""
    headers = dict(blob_headers(blob))
    return headers | (call.let.grant.sas.overrides() if call.let.grant.sas is not None else {})


async def _md5(call: BlobCall, content: Content, part: ByteRange | None) -> dict[str, str]:
    """The MD5 of the whole blob as it is known, and of a range when that is asked for."""
    known = content.blob.settings.md5
    if part is None:
        return md5_header("Content-MD5", known)
    headers = md5_header("x-ms-blob-content-md5", known)
    if not call.is_true("x-ms-range-get-content-md5"):
        return headers
    if part.length > MD5_RANGE_BYTES_MAX:
        raise StorageError(StorageCode.OUT_OF_RANGE, details={"HeaderName": "x-ms-range-get-content-md5"})
    digest = hashlib.md5(usedforsecurity=False)
    async with aclosing(content.read(part)) as pieces:
        async for piece in pieces:
            digest.update(piece)
    return headers | {"Content-MD5": base64_text(digest.digest())}


async def _streamed(content: Content, wanted: ByteRange, kept: AsyncExitStack) -> AsyncGenerator[bytes, None]:
    async with kept, aclosing(content.read(wanted)) as pieces:
        async for piece in pieces:
            yield piece
