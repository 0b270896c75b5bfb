"""Operations of the Blob service that write blobs ("Put Blob", "Put Block", "Append Block" and their kin).

Content is written and synced first, then a rule refers to it in the index, whose commit is synced before the answer.
What can be refused is refused before the content is taken, and judged again by the rule.
"""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from isthmus.base.ids import Ids
from isthmus.neighbours.blob import rules
from isthmus.neighbours.blob.blob import Blob, BlobKind, Copied, Extent
from isthmus.neighbours.blob.block_list import BLOCK_LIST_BYTES_MAX, parse_block_id, parse_block_list
from isthmus.neighbours.blob.conditions import conditions_of
from isthmus.neighbours.blob.errors import StorageCode, StorageError, header_error
from isthmus.neighbours.blob.headers import (
    md5_header,
    md5_of,
    metadata_of,
    settings_of,
    written_headers,
)
from isthmus.neighbours.blob.ports import BlobRule, BlobStore, Draft
from isthmus.neighbours.blob.ranges import ByteRange
from isthmus.neighbours.blob.routes import Operation
from isthmus.neighbours.blob.rules import AppendLimits, Wish, require_blob
from isthmus.servers.gateway.blob_containers import Handlers
from isthmus.servers.gateway.blob_message import BlobCall, BlobReply
from isthmus.servers.gateway.blob_reads import check_lease

PUT_BYTES_MAX = 5_000 * 1024 * 1024
"""A blob that is put in one request ("Put Blob", since version 2019-12-12)."""

BLOCK_BYTES_MAX = 4_000 * 1024 * 1024
"""A block ("Put Block", since version 2019-12-12)."""

APPEND_BYTES_MAX = 100 * 1024 * 1024
"""An appended block ("Append Block", since version 2022-11-02)."""


class WriteOperations:
    """Answers what changes blobs."""

    def __init__(self, store: BlobStore, ids: Ids) -> None:
        self._store = store
        self._ids = ids
        self.handlers: Handlers = {
            Operation.PUT_BLOCK_BLOB: self._put_block_blob,
            Operation.PUT_APPEND_BLOB: self._put_append_blob,
            Operation.COPY_BLOB: self._copy,
            Operation.PUT_BLOCK: self._put_block,
            Operation.PUT_BLOCK_LIST: self._put_block_list,
            Operation.APPEND_BLOCK: self._append_block,
            Operation.SET_BLOB_METADATA: self._set_metadata,
            Operation.SET_BLOB_PROPERTIES: self._set_properties,
            Operation.DELETE_BLOB: self._delete,
        }

    async def _put_block_blob(self, call: BlobCall) -> BlobReply:
        call.body.require_length(PUT_BYTES_MAX)
        wish = _wish(call, with_content_headers=True)
        wish.check(await self._present(call))
        async with self._store.draft(md5=True) as draft:
            await _take(call, draft, PUT_BYTES_MAX)
            _check_md5(wish.settings.md5, draft.md5, "x-ms-blob-content-md5")
            settings = replace(wish.settings, md5=draft.md5)
            name, content = call.let.target.blob, await draft.finish()
            rule = partial(
                rules.put, name=name, kind=BlobKind.BLOCK, content=content, wish=replace(wish, settings=settings)
            )
            blob = await self._changed(call, rule)
        return _written(blob, md5_header("Content-MD5", blob.settings.md5))

    async def _put_append_blob(self, call: BlobCall) -> BlobReply:
        if call.body.require_length(PUT_BYTES_MAX):
            raise header_error("Content-Length", str(call.body.length))
        wish = _wish(call, with_content_headers=True)
        rule = partial(rules.put, name=call.let.target.blob, kind=BlobKind.APPEND, content=None, wish=wish)
        return _written(await self._changed(call, rule))

    async def _put_block(self, call: BlobCall) -> BlobReply:
        check_lease(call)
        block_id = parse_block_id(call.query.get("blockid", ""))
        if not call.body.require_length(BLOCK_BYTES_MAX):
            raise header_error("Content-Length", "0")
        await self._present(call)
        async with self._store.draft(md5="content-md5" in call.headers) as draft:
            await _take(call, draft, BLOCK_BYTES_MAX)
            block = replace(_some(await draft.finish()), block_id=block_id)
            await self._change(call, lambda present: rules.stage(present, block))
            return BlobReply(201, {**md5_header("Content-MD5", draft.md5), **_NOT_ENCRYPTED})

    async def _put_block_list(self, call: BlobCall) -> BlobReply:
        body = await call.body.document(BLOCK_LIST_BYTES_MAX)
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        _check_md5(md5_of(call.headers.get("content-md5", "")), digest, "Content-MD5")
        listed, wish, name = parse_block_list(body), _wish(call, with_content_headers=False), call.let.target.blob
        blob = await self._changed(call, lambda present: rules.commit(present, name, listed, wish))
        return _written(blob, md5_header("Content-MD5", digest))

    async def _append_block(self, call: BlobCall) -> BlobReply:
        check_lease(call)
        length = call.body.require_length(APPEND_BYTES_MAX)
        if not length:
            raise header_error("Content-Length", "0")
        blob = require_blob(await self._present(call))
        if blob.kind is not BlobKind.APPEND:
            raise StorageError(StorageCode.INVALID_BLOB_TYPE)
        conditions = call.conditions
        conditions.check_write(blob.etag, blob.modified_ms)
        limits = AppendLimits(call.number("x-ms-blob-condition-appendpos"), call.number("x-ms-blob-condition-maxsize"))
        limits.check(blob, length)
        async with self._store.append_draft(blob, length, md5="content-md5" in call.headers) as draft:
            await _take(call, draft, length)
            content = _some(await draft.finish())
            rule = partial(rules.append, number=blob.number, content=content, conditions=conditions, limits=limits)
            grown = await self._changed(call, rule)
            headers = {
                "x-ms-blob-append-offset": str(grown.size - content.length),
                "x-ms-blob-committed-block-count": str(grown.blocks),
                **md5_header("Content-MD5", draft.md5),
            }
        return _written(grown, headers)

    async def _set_metadata(self, call: BlobCall) -> BlobReply:
        check_lease(call)
        conditions, metadata = call.conditions, metadata_of(call.said)
        blob = await self._changed(call, lambda present: rules.describe(present, conditions, metadata=metadata))
        return BlobReply(200, {**dict(written_headers(blob)), **_NOT_ENCRYPTED})

    async def _set_properties(self, call: BlobCall) -> BlobReply:
        check_lease(call)
        conditions, settings = call.conditions, settings_of(call.headers)
        blob = await self._changed(call, lambda present: rules.describe(present, conditions, settings=settings))
        return BlobReply(200, dict(written_headers(blob)))

    async def _delete(self, call: BlobCall) -> BlobReply:
        check_lease(call)
        if call.headers.get("x-ms-delete-snapshots", "").lower() == "only":
            require_blob(await self._present(call))
            return BlobReply(202, {"x-ms-delete-type-permanent": "true"})
        conditions = call.conditions
        await self._change(call, lambda present: rules.delete(present, conditions))
        return BlobReply(202, {"x-ms-delete-type-permanent": "true"})

    async def _copy(self, call: BlobCall) -> BlobReply:
        """Copies within the account, at once; another account would have to be asked, which is not offered."""
        source, wish = call.let.source, _wish(call, with_content_headers=False)
        wish.check(await self._present(call))
        account, copy_id = call.let.account.number, self._ids.uuid()
        conditions = conditions_of(call.headers, "x-ms-source-")

        def whole(found: Blob) -> ByteRange:
            conditions.check_write(found.etag, found.modified_ms)
            return ByteRange(0, found.size)

        async with self._store.content(account, source.container, source.blob, whole) as content:
            if content is None:
                raise StorageError(StorageCode.CANNOT_VERIFY_COPY_SOURCE)
            found = content.blob
            async with self._store.draft(md5=False) as draft:
                await _pour(content.read(), draft)
                copied = Copied(copy_id, call.headers["x-ms-copy-source"].partition("?")[0], found.size, call.utc_ms)
                extent, name = await draft.finish(), call.let.target.blob
                blob = await self._changed(
                    call, lambda present: rules.copy(present, found, _whole(extent, found), copied, wish, name)
                )
        headers = {"x-ms-copy-id": copy_id, "x-ms-copy-status": "success"}
        return BlobReply(202, {**dict(written_headers(blob)), **headers})

    async def _present(self, call: BlobCall) -> Blob | None:
        target = call.let.target
        return await self._store.blob(call.let.account.number, target.container, target.blob)

    async def _change(self, call: BlobCall, rule: BlobRule) -> Blob | None:
        target = call.let.target
        return await self._store.change_blob(call.let.account.number, target.container, target.blob, rule)

    async def _changed(self, call: BlobCall, rule: BlobRule) -> Blob:
        return require_blob(await self._change(call, rule))


def _wish(call: BlobCall, *, with_content_headers: bool) -> Wish:
    check_lease(call)
    return Wish(
        settings=settings_of(call.headers, with_content_headers=with_content_headers),
        metadata=metadata_of(call.said),
        conditions=call.conditions,
        may_overwrite=call.let.may_overwrite,
    )


async def _take(call: BlobCall, draft: Draft, limit: int) -> None:
    """Writes the body; raises StorageError when it is not what its client said."""
    await _pour(call.body.pieces(limit), draft)
    _check_md5(md5_of(call.headers.get("content-md5", "")), draft.md5, "Content-MD5")


async def _pour(pieces: AsyncGenerator[bytes, None], draft: Draft) -> None:
    async with aclosing(pieces) as source:
        async for piece in source:
            await draft.write(piece)


def _check_md5(said: bytes, calculated: bytes, header: str) -> None:
    if said and said != calculated:
        raise StorageError(StorageCode.MD5_MISMATCH, details={"HeaderName": header})


def _some(content: Extent | None) -> Extent:
    if content is None:
        raise StorageError(StorageCode.INVALID_INPUT)
    return content


def _whole(extent: Extent | None, source: Blob) -> tuple[Extent, ...]:
    """What a copy is made of: one extent, also where its source has many blocks."""
    return () if extent is None else (extent,)


def _written(blob: Blob, headers: dict[str, str] | None = None) -> BlobReply:
    return BlobReply(201, {**dict(written_headers(blob)), **(headers or {}), **_NOT_ENCRYPTED})


_NOT_ENCRYPTED = {"x-ms-request-server-encrypted": "false"}
