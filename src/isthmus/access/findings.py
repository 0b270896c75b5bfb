"""What a verification of the journal finds, and how it is told."""

from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.base.clock import iso_utc


class Fault(StrEnum):
    """What is wrong with a record, or with a head."""

    ALTERED = "altered"
    REORDERED = "reordered"
    MISSING = "missing"
    CUT_OFF = "cut-off"
    ADDED = "added"
    REWRITTEN = "rewritten"
    UNREADABLE = "unreadable"
    HEAD_FORGED = "head-forged"
    HEAD_UNREADABLE = "head-unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: the numbers of the first and last record it concerns, a time near it, and a sentence."""

    fault: Fault
    first: int
    last: int
    utc_ms: int
    reason: str
    source: str = ""

    def to_json(self) -> dict[str, object]:
        """As JSON members; `source` tells the file and the line of a head."""
        return {
            "fault": self.fault.value,
            "firstSequence": self.first,
            "lastSequence": self.last,
            "time": time_of(self.utc_ms),
            "reason": self.reason,
            "source": self.source,
        }


@dataclass(slots=True)
class Report:
    """What was looked at, and what was found."""

    records: int = 0
    first: int = 0
    last: int = 0
    last_utc_ms: int = 0
    heads_matched: int = 0
    heads_too_old: int = 0
    lines_ignored: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """True when nothing is wrong."""
        return not self.findings

    def to_json(self) -> dict[str, object]:
        """As JSON members."""
        return {
            "whole": self.is_whole,
            "records": self.records,
            "firstSequence": self.first,
            "lastSequence": self.last,
            "lastTime": time_of(self.last_utc_ms),
            "headsMatched": self.heads_matched,
            "headsBeforeFirst": self.heads_too_old,
            "linesIgnored": self.lines_ignored,
            "findings": [finding.to_json() for finding in self.findings],
        }


def time_of(utc_ms: object) -> str:
    """A record's time, also of a record whose time was damaged."""
    try:
        return iso_utc(utc_ms) if isinstance(utc_ms, int) else "unknown time"
    except (ValueError, OverflowError):
        return "unknown time"


def span(first: int, last: int) -> str:
    """`record 3` or `records 3 to 5`."""
    return f"record {first}" if first == last else f"records {first} to {last}"
