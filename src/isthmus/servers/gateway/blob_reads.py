"""Operations of the Blob service that read blobs ("Get Blob" and its kin)."""

import hashlib
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
            content = await stack.enter_async_context(
                self._store.content(account, target.container, target.blob, lambda blob: wanted_part(call, blob))
            )
            if content is None:
                raise StorageError(StorageCode.BLOB_NOT_FOUND)
            is_part = _asked_part(call, content.blob) is not None
            headers = described(call, content.blob) | await _md5(call, content, is_part=is_part)
            if is_part:
                headers["Content-Range"] = content.part.content_range(content.blob.size)
            kept = stack.pop_all()
        status, length = 206 if is_part else 200, content.part.length
        return BlobReply(status, headers, stream=content.read(), length=length, held=kept)

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


def wanted_part(call: BlobCall, blob: Blob) -> ByteRange:
    """What a request reads of a blob, when it may; raises StorageError, NotModifiedError."""
    check_lease(call)
    call.conditions.check_read(blob.etag, blob.modified_ms)
    return _asked_part(call, blob) or ByteRange(0, blob.size)


def _asked_part(call: BlobCall, blob: Blob) -> ByteRange | None:
    return parse_range(call.headers.get("x-ms-range") or call.headers.get("range", ""), blob.size)


async def _md5(call: BlobCall, content: Content, *, is_part: bool) -> dict[str, str]:
    """The MD5 of the whole blob as it is known, and of a range when that is asked for."""
    known = content.blob.settings.md5
    if not is_part:
        return md5_header("Content-MD5", known)
    headers = md5_header("x-ms-blob-content-md5", known)
    if not call.is_true("x-ms-range-get-content-md5"):
        return headers
    if content.part.length > MD5_RANGE_BYTES_MAX:
        raise StorageError(StorageCode.OUT_OF_RANGE, details={"HeaderName": "x-ms-range-get-content-md5"})
    digest = hashlib.md5(usedforsecurity=False)
    async with aclosing(content.read()) as pieces:
        async for piece in pieces:
            digest.update(piece)
    return headers | {"Content-MD5": base64_text(digest.digest())}
