"""Verification says where: each way to tamper with records or heads is told with the number of the record."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from isthmus.access.chain import GENESIS, following, link, pruned_row
from isthmus.access.findings import Fault, Report
from isthmus.access.heads import FoundHead, heads_in, signed_line
from isthmus.access.journal import Decision, Verdict, row_of
from isthmus.access.verify import verify
from isthmus.base.state import ChainEnd, JournalEnds, JournalEntry

COUNT = 9
START_MS = 1_800_000_000_000
KEY = Ed25519PrivateKey.generate()

Entries = list[JournalEntry]
Told = list[tuple[Fault, int, int]]


def test_a_sound_journal_has_no_findings() -> None:
    report = judged(journal())
    assert report.is_whole
    assert (report.records, report.first, report.last, report.last_utc_ms) == (COUNT, 1, COUNT, moment(COUNT))


def test_an_empty_journal_is_sound() -> None:
    assert verify(JournalEnds(GENESIS, GENESIS), [], []).is_whole


@pytest.mark.parametrize("place", range(1, COUNT + 1))
@pytest.mark.parametrize("column", ["utc_ms", "hub", "device", "address", "tracking_id", "verdict", "body"])
def test_an_altered_record_is_named(place: int, column: str) -> None:
    def alter(entry: JournalEntry) -> JournalEntry:
        value = getattr(entry, column)
        other = value + 1 if isinstance(value, int) else value + (b" " if isinstance(value, bytes) else "!")
        return replace(entry, **{column: other})  # type: ignore[arg-type]

    assert told(judged(changed(journal(), place, alter))) == [(Fault.ALTERED, place, place)]


@pytest.mark.parametrize("place", range(1, COUNT + 1))
def test_an_altered_chain_is_named_and_not_its_follower(place: int) -> None:
    entries = changed(journal(), place, lambda entry: replace(entry, chain=bytes(31) + b"!"))
    assert told(judged(entries)) == [(Fault.ALTERED, place, place)]


def test_two_altered_records_side_by_side_are_both_named() -> None:
    entries = journal()
    for place in (4, 5):
        entries = changed(entries, place, lambda entry: replace(entry, hub="other"))
    assert told(judged(entries)) == [(Fault.ALTERED, 4, 4), (Fault.ALTERED, 5, 5)]


@pytest.mark.parametrize(
    "damage", [{"utc_ms": None}, {"hub": b"hub"}, {"body": None}, {"device": 7}, {"hub": "\udcff"}]
)
def test_columns_of_another_type_are_altered_ones(damage: dict[str, object]) -> None:
    entries = changed(journal(), 3, lambda entry: replace(entry, **damage))  # type: ignore[arg-type]
    assert told(judged(entries)) == [(Fault.ALTERED, 3, 3)]


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 3), (4, 4), (4, 6), (COUNT, COUNT), (7, COUNT), (1, COUNT)])
def test_removed_records_are_named(first: int, last: int) -> None:
    entries = [entry for entry in journal() if not first <= entry.entry_id <= last]
    assert told(judged(entries)) == [(Fault.MISSING, first, last)]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 3), (2, 5), (1, COUNT), (COUNT - 1, COUNT)])
def test_exchanged_records_are_named_and_not_their_followers(one: int, other: int) -> None:
    """Their numbers exchanged, the chains carried along."""
    entries = journal()
    first, second = entries[one - 1], entries[other - 1]
    entries[one - 1], entries[other - 1] = replace(second, entry_id=one), replace(first, entry_id=other)
    assert told(judged(entries)) == [(Fault.REORDERED, one, one), (Fault.REORDERED, other, other)]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 3), (2, 5), (1, COUNT)])
def test_exchanged_contents_are_named(one: int, other: int) -> None:
    """Everything but numbers and chains exchanged."""
    entries = journal()
    first, second = entries[one - 1], entries[other - 1]
    entries[one - 1] = replace(second, entry_id=one, chain=first.chain)
    entries[other - 1] = replace(first, entry_id=other, chain=second.chain)
    assert told(judged(entries)) == [(Fault.REORDERED, one, one), (Fault.REORDERED, other, other)]


def test_a_line_in_the_wrong_place_of_an_export_is_named() -> None:
    entries = journal()
    entries.insert(6, entries.pop(2))
    assert told(judged(entries)) == [(Fault.REORDERED, 3, 3)]


def test_a_renumbered_record_is_named() -> None:
    entries = changed(journal(), 4, lambda entry: replace(entry, entry_id=70))
    assert told(judged(entries)) == [(Fault.ALTERED, 4, 4)]


def test_a_record_that_the_server_did_not_write_is_named() -> None:
    entries = journal()
    more = following(end_of(entries), row_of(Decision(Verdict.CHANGED, utc_ms=moment(10))))
    report = verify(JournalEnds(GENESIS, end_of(entries)), [*entries, more], [])
    assert told(report) == [(Fault.ADDED, 10, 10)]


def test_what_was_pruned_is_told_by_a_record() -> None:
    entries = pruned(journal(), 4)
    report = verify(JournalEnds(ChainEnd(4, journal()[3].chain), end_of(entries)), entries, [])
    assert report.is_whole
    assert (report.first, report.last) == (5, COUNT + 1)


def test_more_cannot_be_removed_than_a_record_tells() -> None:
    entries = pruned(journal(), 4)[2:]
    base = ChainEnd(6, journal()[5].chain)
    assert told(verify(JournalEnds(base, end_of(entries)), entries, [])) == [(Fault.MISSING, 5, 6)]


def test_a_front_that_nobody_pruned_is_missing() -> None:
    entries = journal()[3:]
    base = ChainEnd(3, journal()[2].chain)
    assert told(verify(JournalEnds(base, end_of(entries)), entries, [])) == [(Fault.MISSING, 1, 3)]


def test_heads_that_fit_are_counted() -> None:
    report = judged(journal(), heads=exported(journal(), 2, 5, COUNT))
    assert (report.is_whole, report.heads_matched) == (True, 3)


def test_an_end_that_was_cut_off_behind_a_head_is_named_with_its_source() -> None:
    """The chain of what is left is sound, and the store's own note was changed along with it."""
    left = journal()[:6]
    report = judged(left, heads=exported(journal(), 4, 7, 8))
    (finding,) = report.findings
    assert (finding.fault, finding.first, finding.last, finding.source) == (Fault.CUT_OFF, 7, 8, "heads:3")
    assert finding.utc_ms == moment(8)


def test_a_chain_computed_anew_is_found_by_the_first_head_that_differs() -> None:
    rewritten = journal()[:4]
    for entry in journal()[4:]:
        forged = replace(entry, hub="elsewhere") if entry.entry_id == 5 else entry
        rewritten.append(replace(forged, chain=link(rewritten[-1].chain, entry.entry_id, forged)))
    assert judged(rewritten, heads=[]).is_whole
    report = judged(rewritten, heads=exported(journal(), 2, 4, 7, 9))
    assert told(report) == [(Fault.REWRITTEN, 5, 7)]
    assert report.heads_matched == 2


def test_heads_of_what_was_pruned_prove_nothing_any_more() -> None:
    entries = pruned(journal(), 4)
    base = ChainEnd(4, journal()[3].chain)
    report = verify(JournalEnds(base, end_of(entries)), entries, exported(journal(), 2, 4, 7))
    assert (report.is_whole, report.heads_too_old, report.heads_matched) == (True, 1, 2)


@pytest.mark.parametrize(("old", "new"), [('"sequence":5', '"sequence":4'), ('"time":"2027', '"time":"2028')])
def test_a_forged_head_is_named_by_its_line(old: str, new: str) -> None:
    lines = [line_of(journal(), place) for place in (2, 5, 7)]
    assert old in lines[1]
    lines[1] = lines[1].replace(old, new)
    good, (finding,), _ = heads_in(lines, "heads", KEY.public_key())
    assert len(good) == 2
    assert (finding.fault, finding.source) == (Fault.HEAD_FORGED, "heads:2")


def test_a_head_of_another_key_is_forged() -> None:
    _, findings, _ = heads_in([line_of(journal(), 5)], "heads", Ed25519PrivateKey.generate().public_key())
    assert [(finding.fault, finding.first) for finding in findings] == [(Fault.HEAD_FORGED, 5)]


def test_heads_are_found_in_a_log_servers_file() -> None:
    lines = [
        "Jan 1 host kernel: boot",
        f"<109>1 - host isthmus - - - {line_of(journal(), 5)}",
        "",
        '{"isthmusJournalHead":1,',
    ]
    good, findings, ignored = heads_in(lines, "syslog", KEY.public_key())
    assert [each.head.sequence for each in good] == [5]
    assert [(finding.fault, finding.source) for finding in findings] == [(Fault.HEAD_UNREADABLE, "syslog:4")]
    assert ignored == 1


def journal() -> Entries:
    entries: Entries = []
    for number in range(1, COUNT + 1):
        row = row_of(Decision(Verdict.CHANGED, utc_ms=moment(number), hub="hub", device=f"d{number}", detail="made"))
        entries.append(following(end_of(entries), row))
    return entries


def moment(number: int) -> int:
    return START_MS + 1_000 * number


def end_of(entries: Entries) -> ChainEnd:
    return ChainEnd(entries[-1].entry_id, entries[-1].chain) if entries else GENESIS


def pruned(entries: Entries, upto: int) -> Entries:
    removed = ChainEnd(upto, entries[upto - 1].chain)
    told_by = following(end_of(entries), pruned_row(removed, 1, utc_ms=moment(COUNT + 1), principal="owner"))
    return [*entries[upto:], told_by]


def changed(entries: Entries, place: int, change: Callable[[JournalEntry], JournalEntry]) -> Entries:
    return [change(entry) if entry.entry_id == place else entry for entry in entries]


def judged(entries: Entries, *, heads: list[FoundHead] | None = None) -> Report:
    """Verifies against the ends of the sound journal, or, when heads are given, as if these had been changed too."""
    head = end_of(entries) if heads is not None else end_of(journal())
    return verify(JournalEnds(GENESIS, head), entries, heads or [])


def line_of(entries: Entries, place: int) -> str:
    return signed_line(end_of(entries[:place]), moment(place), KEY)


def exported(entries: Entries, *places: int) -> list[FoundHead]:
    good, bad, ignored = heads_in([line_of(entries, place) for place in places], "heads", KEY.public_key())
    assert not bad
    assert not ignored
    return good


def told(report: Report) -> Told:
    return [(finding.fault, finding.first, finding.last) for finding in report.findings]
