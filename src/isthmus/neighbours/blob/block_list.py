"""Block ids and block lists ("Put Block", "Put Block List", "Get Block List")."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from isthmus.neighbours.blob.blob import BlockSource, Extent, base64_text
from isthmus.neighbours.blob.errors import StorageCode, StorageError, query_error
from isthmus.neighbours.blob.xml import document, element, parent, parse_xml

BLOCKS_MAX = 50_000
"""Committed blocks of a blob, and appended ones."""

UNCOMMITTED_BLOCKS_MAX = 100_000
"""Blocks of a blob that wait for a list."""

BLOCK_ID_BYTES_MAX = 64
"""Of a block's id, decoded."""

BLOCK_LIST_BYTES_MAX = 8 * 1024 * 1024
"""A list of `BLOCKS_MAX` ids of the longest kind, each in an element of the longest name."""


@dataclass(frozen=True, slots=True)
class ListedBlock:
    """An entry of a block list."""

    block_id: bytes
    source: BlockSource


def parse_block_id(text: str) -> bytes:
    """The bytes of a block's id; raises StorageError InvalidQueryParameterValue."""
    decoded = _decoded(text)
    if decoded is None:
        raise query_error("blockid", text, "Not a valid base64 string.")
    return decoded


def parse_block_list(body: bytes) -> tuple[ListedBlock, ...]:
    """The entries of a block list; raises StorageError InvalidXmlDocument, InvalidBlockList, BlockListTooLong."""
    root = parse_xml(body)
    if root.tag != "BlockList":
        raise StorageError(StorageCode.INVALID_XML)
    if len(root) > BLOCKS_MAX:
        raise StorageError(StorageCode.BLOCK_LIST_TOO_LONG)
    return tuple(_entry(each.tag, (each.text or "").strip()) for each in root)


def block_list_document(committed: Iterable[Extent] | None, uncommitted: Sequence[Extent] | None) -> bytes:
    """The answer of Get Block List; None for a list that was not asked for."""
    lists = []
    if committed is not None:
        lists.append(parent("CommittedBlocks", (_block(extent) for extent in committed)))
    if uncommitted is not None:
        lists.append(parent("UncommittedBlocks", (_block(extent) for extent in uncommitted)))
    return document(parent("BlockList", lists))


def _entry(tag: str, text: str) -> ListedBlock:
    try:
        source = BlockSource(tag)
    except ValueError:
        raise StorageError(StorageCode.INVALID_XML) from None
    block_id = _decoded(text)
    if block_id is None:
        raise StorageError(StorageCode.INVALID_BLOCK_ID)
    return ListedBlock(block_id, source)


def _block(extent: Extent) -> str:
    return parent("Block", (element("Name", base64_text(extent.block_id)), element("Size", str(extent.length))))


def _decoded(text: str) -> bytes | None:
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if 0 < len(decoded) <= BLOCK_ID_BYTES_MAX else None
