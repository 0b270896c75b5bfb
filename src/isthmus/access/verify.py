"""Verification of the journal: walks the chain, compares exported heads, and says where something is wrong.

Theory of operation. `Walk.take` is given every record in the order in which it is stored. A record that carries the
next number and whose chain follows from its content and from the chain before it is sound. What does not is sorted out
at the end, when the records around it are known:

- a number that is skipped is a missing record; one that comes later after all stands out of order;
- a record whose content and chain fit another of the broken places was moved there: reordered;
- a record whose chain does not follow from its content, while the next one follows from that chain: its content was
  altered. Where the next one follows from what the chain should be, the chain itself was altered;
- the store keeps number and chain of the last record apart from the records: records may be missing or added there;
- what was removed from the front on purpose is told by a record behind it (`chain.pruned_row`), so that nobody can
  remove more.

Whoever can write the whole file can compute the chain anew. Against that stand the heads: signed numbers and chains
that were exported elsewhere before. A head whose chain is not the record's proves that everything since the last head
that fits may have been rewritten; a head behind the last record proves that the end was cut off.

Only `SUSPECTS_MAX` broken records are sorted out by comparing them with each other, because that is quadratic; more are
told as altered. Memory is bounded by that number and by the number of heads.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from isthmus.access.chain import GENESIS, anchor_of, link
from isthmus.access.findings import Fault, Finding, Report, span, time_of
from isthmus.access.heads import FoundHead
from isthmus.base.state import ChainEnd, JournalEnds, JournalEntry

SUSPECTS_MAX = 64
"""Broken records that are compared with each other, some 260,000 hashes at the most: a second."""

FINDINGS_MAX = 1_000
"""Findings that are told; a file that is broken throughout needs no more."""

UNKNOWN = b""
"""Stands for the chain of a record that is missing."""


def verify(ends: JournalEnds | None, entries: Iterable[JournalEntry], heads: Sequence[FoundHead]) -> Report:
    """Walks all `entries` (in stored order) and compares them with `heads`; see `Fault` for what is found.

    Without `ends`, as for records that were exported, the first record is taken as the beginning.
    """
    walk = Walk(ends.base if ends else None, heads)
    for entry in entries:
        walk.take(entry)
    return walk.report(ends)


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A record that does not follow the chain `before` it, at the place of number `place`."""

    place: int
    before: bytes
    entry: JournalEntry


@dataclass(slots=True)
class _Gap:
    """Numbers that were skipped, between two moments."""

    first: int
    last: int
    since_ms: int
    until_ms: int


class Walk:
    """One pass over the records of a journal."""

    def __init__(self, base: ChainEnd | None, heads: Sequence[FoundHead]) -> None:
        """Without `base` the first record is taken as it is."""
        self._base = base
        self._end = base
        self._last: JournalEntry | None = None
        self._suspects: list[_Suspect] = []
        self._gaps: list[_Gap] = []
        self._findings: list[Finding] = []
        self._anchor: ChainEnd | None = None
        self._wanted = {found.head.sequence for found in heads}
        self._seen: dict[int, bytes] = {}
        self._heads = heads
        self._count = 0

    def take(self, entry: JournalEntry) -> None:
        """The next record as it is stored, whatever is in it."""
        self._count += 1
        if self._end is None:
            self._end = self._base = GENESIS if entry.entry_id == 1 else ChainEnd(entry.entry_id - 1, UNKNOWN)
        place = self._end.entry_id + 1
        if entry.entry_id != place and _links(self._end.chain, place, entry):
            self._find(Fault.ALTERED, place, place, entry, f"record {place} carries the number {entry.entry_id}")
        elif entry.entry_id < place:
            self._out_of_order(entry)
            return
        elif entry.entry_id > place:
            self._gaps.append(_Gap(place, entry.entry_id - 1, _ms(self._last), _ms(entry)))
            place = entry.entry_id
        elif self._end.chain and not _links(self._end.chain, place, entry):
            self._suspects.append(_Suspect(place, self._end.chain, entry))
        self._advance(place, entry)

    def chain_findings(self) -> list[Finding]:
        """What is wrong with the records among themselves."""
        missing = [
            Finding(Fault.MISSING, gap.first, gap.last, gap.until_ms, _missing(gap))
            for gap in self._gaps
            if gap.first <= gap.last
        ]
        return sorted([*self._findings, *missing, *self._sorted_out()], key=lambda finding: finding.first)

    def report(self, ends: JournalEnds | None) -> Report:
        """Everything that is wrong, the oldest first."""
        found = self.chain_findings()
        last = self._end.entry_id if self._end is not None else 0
        report = Report(records=self._count, last=last, last_utc_ms=_ms(self._last))
        if self._base is not None and self._count:
            report.first = self._base.entry_id + 1
        if ends is not None:
            found += self._front(ends) + self._back(ends)
        self._compare_heads(report, found)
        report.findings = sorted(found, key=lambda finding: finding.first)[:FINDINGS_MAX]
        return report

    def _advance(self, place: int, entry: JournalEntry) -> None:
        self._end = ChainEnd(place, entry.chain if isinstance(entry.chain, bytes) else UNKNOWN)
        self._last = entry
        if place in self._wanted:
            self._seen[place] = self._end.chain
        if entry.verdict == "pruned":
            self._anchor = anchor_of(entry) or self._anchor

    def _out_of_order(self, entry: JournalEntry) -> None:
        """A record that comes too late: if it was missed, it is not missing."""
        assert self._end is not None
        number = entry.entry_id
        reason = f"record {number} ({time_of(entry.utc_ms)}) stands behind record {self._end.entry_id}"
        self._find(Fault.REORDERED, number, number, entry, reason)
        for gap in [each for each in self._gaps if each.first <= number <= each.last]:
            self._gaps.append(replace(gap, first=number + 1))
            gap.last = number - 1

    def _sorted_out(self) -> list[Finding]:
        """What became of the broken records: moved, altered, or only behind one of those."""
        suspects = self._suspects[:SUSPECTS_MAX]
        places = _original_places(suspects)
        chains = dict(places.values())
        found = [
            Finding(Fault.REORDERED, place, place, _ms(each.entry), _moved(each, places[place][0]))
            for place, each in ((each.place, each) for each in suspects)
            if place in places
        ]
        repaired: set[int] = set()
        follower = {each.place: each for each in self._suspects}
        for each in self._suspects:
            before = chains.get(each.place - 1, each.before)
            if each.place in places or each.place in repaired or _links(before, each.place, each.entry):
                continue
            found.append(Finding(Fault.ALTERED, each.place, each.place, _ms(each.entry), _altered(each)))
            right = _link(before, each.place, each.entry)
            after = follower.get(each.place + 1)
            if right is not None and after is not None and _links(right, after.place, after.entry):
                repaired.add(after.place)
        return found

    def _front(self, ends: JournalEnds) -> list[Finding]:
        """What was removed from the front has to be told by a record."""
        anchor = self._anchor or GENESIS
        if ends.base == anchor:
            return []
        first = min(anchor.entry_id, ends.base.entry_id) + 1
        last = max(ends.base.entry_id, first)
        reason = f"{span(first, last)} are not there, and no record tells that they were removed"
        return [Finding(Fault.MISSING, first, last, 0, reason)]

    def _back(self, ends: JournalEnds) -> list[Finding]:
        """The store's own note of the last record."""
        end, noted = self._end or ends.base, ends.head
        if end.entry_id < noted.entry_id:
            first = end.entry_id + 1
            reason = f"{span(first, noted.entry_id)} {_be(first, noted.entry_id)} missing at the end, behind "
            reason += f"{time_of(_ms(self._last))}"
            return [Finding(Fault.MISSING, first, noted.entry_id, _ms(self._last), reason)]
        if end.entry_id > noted.entry_id:
            first = noted.entry_id + 1
            reason = f"{span(first, end.entry_id)} {_be(first, end.entry_id)} there that the server did not write"
            return [Finding(Fault.ADDED, first, end.entry_id, _ms(self._last), reason)]
        if end.chain != noted.chain and not any(each.place == end.entry_id for each in self._suspects):
            reason = f"record {end.entry_id} ({time_of(_ms(self._last))}) is not the one that was written last"
            return [Finding(Fault.ALTERED, end.entry_id, end.entry_id, _ms(self._last), reason)]
        return []

    def _compare_heads(self, report: Report, found: list[Finding]) -> None:
        base, last = self._base or GENESIS, report.last
        matched = base.entry_id
        rewritten = False
        ahead: FoundHead | None = None
        for each in sorted(self._heads, key=lambda each: each.head.sequence):
            sequence = each.head.sequence
            chain = base.chain if sequence == base.entry_id else self._seen.get(sequence)
            if sequence > last:
                ahead = each
            elif chain is None or not chain:
                report.heads_too_old += sequence <= base.entry_id
            elif chain == each.head.chain:
                matched = sequence
                report.heads_matched += 1
            elif not rewritten:
                rewritten = True
                found.append(_rewritten(each, matched))
        if ahead is not None:
            found.append(_cut_off(ahead, last))

    def _find(self, fault: Fault, first: int, last: int, entry: JournalEntry, reason: str) -> None:
        if len(self._findings) < FINDINGS_MAX:
            self._findings.append(Finding(fault, first, last, _ms(entry), reason))


def _original_places(suspects: Sequence[_Suspect]) -> dict[int, tuple[int, bytes]]:
    """By place, the number that a moved record had and its chain there."""
    chains = {each.before for each in suspects} | {each.entry.chain for each in suspects}
    stored = {each.place: each.entry.chain for each in suspects}
    moved: dict[int, tuple[int, bytes]] = {}
    for each in suspects:
        for number in stored:
            if number == each.place:
                continue
            for before in chains:
                chain = _link(before, number, each.entry)
                if chain is not None and chain in (each.entry.chain, stored[number]):
                    moved[each.place] = (number, chain)
    return moved


def _link(before: bytes, number: int, entry: JournalEntry) -> bytes | None:
    """The chain that a record should have; None for one whose columns are of other types than they were."""
    try:
        return link(before, number, entry)
    except (struct.error, AttributeError, TypeError, UnicodeError):
        return None


def _links(before: bytes, number: int, entry: JournalEntry) -> bool:
    return _link(before, number, entry) == entry.chain


def _ms(entry: JournalEntry | None) -> int:
    return entry.utc_ms if entry is not None and isinstance(entry.utc_ms, int) else 0


def _moved(suspect: _Suspect, original: int) -> str:
    return f"in the place of record {suspect.place} stands record {original} ({time_of(suspect.entry.utc_ms)})"


def _altered(suspect: _Suspect) -> str:
    return f"record {suspect.place} ({time_of(suspect.entry.utc_ms)}) was altered: it does not follow from its chain"


def _missing(gap: _Gap) -> str:
    since = f"between {time_of(gap.since_ms)} and" if gap.since_ms else "before"
    return f"{span(gap.first, gap.last)} {_be(gap.first, gap.last)} missing, {since} {time_of(gap.until_ms)}"


def _be(first: int, last: int) -> str:
    return "is" if first == last else "are"


def _rewritten(found: FoundHead, matched: int) -> Finding:
    head = found.head
    reason = (
        f"the journal was rewritten: record {head.sequence} is not the one whose head was exported at "
        f"{time_of(head.utc_ms)}; what was changed lies in {span(matched + 1, head.sequence)}"
    )
    return Finding(Fault.REWRITTEN, matched + 1, head.sequence, head.utc_ms, reason, found.source)


def _cut_off(found: FoundHead, last: int) -> Finding:
    head = found.head
    reason = (
        f"{span(last + 1, head.sequence)} {_be(last + 1, head.sequence)} missing: the end was cut off behind record "
        f"{last}, after the head of record {head.sequence} was exported at {time_of(head.utc_ms)}"
    )
    return Finding(Fault.CUT_OFF, last + 1, head.sequence, head.utc_ms, reason, found.source)
