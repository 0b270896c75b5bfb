"""The journal's hash chain: each entry seals all before it, so that none can be changed or left out unseen.

`chain(n) = SHA-256(chain(n-1) + number + time + each column with its length)`; `chain(0)` is 32 zero bytes. Lengths
stand before texts, so that no two different entries have the same bytes. Old entries are pruned from the front; the
backend keeps the number and the chain of the last one pruned, from which verification starts.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

from isthmus.base.state import JournalEntry, JournalRow

JOURNAL_ENTRIES_MAX = 1_000_000
"""Decisions kept, about 300 MB on disk; the oldest are pruned."""

JOURNAL_PRUNE_ENTRIES = 10_000
"""Decisions pruned at once, so that pruning is not a cost of every commit."""

JOURNAL_TEXT_MAX = 512
"""Characters of one text column; strangers choose some of them, so the rest is cut off."""

JOURNAL_BODY_BYTES_MAX = 16_384
"""One decision's body; a larger one is replaced by a note of its size."""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Number and chain of an entry: the last one written, or the last one pruned."""

    entry_id: int
    chain: bytes


GENESIS = ChainEnd(0, bytes(32))
"""What the first entry follows."""


def following(end: ChainEnd, row: JournalRow) -> JournalEntry:
    """The entry that stores `row` behind `end`, its texts cut to the journal's limits."""
    row = within_limits(row)
    entry_id = end.entry_id + 1
    return JournalEntry(
        entry_id=entry_id,
        utc_ms=row.utc_ms,
        hub=row.hub,
        device=row.device,
        address=row.address,
        tracking_id=row.tracking_id,
        verdict=row.verdict,
        body=row.body,
        chain=_link(end.chain, entry_id, row),
    )


def first_broken(base: ChainEnd, entries: Iterable[JournalEntry]) -> int | None:
    """Number of the first of `entries` (oldest first, all of them) that does not follow `base`; None when sound."""
    end = base
    for entry in entries:
        if entry.entry_id != end.entry_id + 1 or entry.chain != _link(end.chain, entry.entry_id, entry):
            return entry.entry_id
        end = ChainEnd(entry.entry_id, entry.chain)
    return None


def within_limits(row: JournalRow) -> JournalRow:
    """The row as it can be stored: texts cut and made valid Unicode, an oversized body replaced."""
    body = row.body
    if len(body) > JOURNAL_BODY_BYTES_MAX:
        body = b'{"cut":%d}' % len(body)
    return replace(
        row,
        hub=_storable(row.hub),
        device=_storable(row.device),
        address=_storable(row.address),
        tracking_id=_storable(row.tracking_id),
        verdict=_storable(row.verdict),
        body=body,
    )


def _storable(text: str) -> str:
    return text[:JOURNAL_TEXT_MAX].encode("utf-8", "replace").decode()


def _link(previous: bytes, entry_id: int, row: JournalRow | JournalEntry) -> bytes:
    digest = hashlib.sha256(previous)
    digest.update(struct.pack(">qq", entry_id, row.utc_ms))
    texts = (row.hub, row.device, row.address, row.tracking_id, row.verdict)
    for column in (*(text.encode() for text in texts), row.body):
        digest.update(struct.pack(">I", len(column)))
        digest.update(column)
    return digest.digest()
