"""The journal's hash chain: each entry seals all before it, so that none can be changed or left out unseen.

`chain(n) = SHA-256(chain(n-1) + number + time + each column with its length)`; `chain(0)` is 32 zero bytes. Lengths
stand before texts, so that no two different entries have the same bytes. Old entries are removed from the front; the
backend keeps the number and the chain of the last one removed, from which verification starts, and the entry that tells
of the removal carries both as well: an anchor that cannot be moved without breaking the chain.
"""

import hashlib
import json
import struct
from dataclasses import replace

from isthmus.access.journal import Decision, Verdict, row_of
from isthmus.base.state import ChainEnd, JournalEnds, JournalEntry, JournalRow

JOURNAL_ENTRIES_MAX = 1_000_000
"""Decisions kept unless the configuration says otherwise, about 400 MB on disk; the oldest are pruned."""

JOURNAL_PRUNE_ENTRIES = 10_000
"""Decisions pruned at once, so that pruning is not a cost of every commit."""

JOURNAL_TEXT_MAX = 512
"""Characters of one text column; strangers choose some of them, so the rest is cut off."""

JOURNAL_BODY_BYTES_MAX = 16_384
"""One decision's body; a larger one is replaced by a note of its size."""

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
        chain=link(end.chain, entry_id, row),
    )


def to_prune(ends: JournalEnds, entries_max: int) -> int:
    """The number of the last entry that has to go, 0 while none has to: whole chunks go, so that it is rarely done."""
    chunk = min(JOURNAL_PRUNE_ENTRIES, max(entries_max // 10, 1))
    return ends.head.entry_id - entries_max if ends.entries >= entries_max + chunk else 0


def pruned_row(removed: ChainEnd, first: int, *, utc_ms: int, principal: str) -> JournalRow:
    """The decision that tells of entries that were removed from the front, up to and including `removed`."""
    anchor = json.dumps({"sequence": removed.entry_id, "chain": removed.chain.hex()})
    told = f"records {first} to {removed.entry_id} were removed from the front of the journal"
    return row_of(Decision(Verdict.PRUNED, utc_ms=utc_ms, principal=principal, detail=told, after=anchor))


def anchor_of(entry: JournalEntry) -> ChainEnd | None:
    """What a `pruned_row` says was removed; None for an entry that says nothing of that kind."""
    try:
        anchor = json.loads(json.loads(entry.body)["after"])
        return ChainEnd(int(anchor["sequence"]), bytes.fromhex(anchor["chain"]))
    except (ValueError, KeyError, TypeError):
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


def link(previous: bytes, entry_id: int, row: JournalRow | JournalEntry) -> bytes:
    """The chain of the entry with this number and content behind an entry with the chain `previous`."""
    digest = hashlib.sha256(previous)
    digest.update(struct.pack(">qq", entry_id, row.utc_ms))
    texts = (row.hub, row.device, row.address, row.tracking_id, row.verdict)
    # What a damaged file has for text keeps its bytes, so that it is told as altered and not as an error.
    for column in (*(text.encode("utf-8", "surrogateescape") for text in texts), row.body):
        digest.update(struct.pack(">I", len(column)))
        digest.update(column)
    return digest.digest()


def _storable(text: str) -> str:
    return text[:JOURNAL_TEXT_MAX].encode("utf-8", "replace").decode()
