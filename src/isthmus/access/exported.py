"""Records of the journal as JSON lines, complete: they can be verified without the hub.

A line has the columns that the chain seals. `decision` is embedded byte by byte as it was stored, because the chain is
over its bytes: who passes the lines on must not write them anew.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from isthmus.access.findings import Fault, Finding, time_of
from isthmus.base.state import JournalEntry


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    sequence: int
    time: str
    utc_ms: Any
    hub: Any
    device: Any
    address: Any
    tracking_id: Any
    verdict: Any
    chain: str
    decision: msgspec.Raw = msgspec.Raw()
    damaged: str = ""


def exported_line(entry: JournalEntry) -> bytes:
    """The record as a line with its end; of one whose content is damaged, what can be told."""
    try:
        msgspec.json.decode(entry.body)
        return msgspec.json.encode(_record(entry, msgspec.Raw(entry.body), "")) + b"\n"
    except (msgspec.DecodeError, TypeError, ValueError):
        damaged = "the record is not what was written: isthmus audit verify"
        blank = JournalEntry(entry.entry_id, 0, "", "", "", "", "", b"", b"")
        return msgspec.json.encode(_record(blank, msgspec.Raw(b"null"), damaged)) + b"\n"


def read_exported(lines: Iterable[bytes], name: str, broken: list[Finding]) -> Iterator[JournalEntry]:
    """The records of exported lines in their order; lines that are none are added to `broken`."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line, type=_Record)
            chain = bytes.fromhex(record.chain)
        except (msgspec.DecodeError, ValueError) as error:
            reason = f"line {number} of {name} is no record: {error}"
            broken.append(Finding(Fault.UNREADABLE, 0, 0, 0, reason, f"{name}:{number}"))
            continue
        yield JournalEntry(
            entry_id=record.sequence,
            utc_ms=record.utc_ms,
            hub=record.hub,
            device=record.device,
            address=record.address,
            tracking_id=record.tracking_id,
            verdict=record.verdict,
            body=bytes(record.decision),
            chain=chain,
        )


def _record(entry: JournalEntry, decision: msgspec.Raw, damaged: str) -> _Record:
    return _Record(
        sequence=entry.entry_id,
        time=time_of(entry.utc_ms),
        utc_ms=entry.utc_ms,
        hub=entry.hub,
        device=entry.device,
        address=entry.address,
        tracking_id=entry.tracking_id,
        verdict=entry.verdict,
        chain=entry.chain.hex(),
        decision=decision,
        damaged=damaged,
    )
