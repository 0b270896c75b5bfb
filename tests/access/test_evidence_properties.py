"""Whatever stands in a file of heads or of exported records is told, and never an error; what was written is read."""

from hypothesis import given
from hypothesis import strategies as st

from access.test_verify import KEY, journal, judged, told
from isthmus.access.exported import exported_line, read_exported
from isthmus.access.findings import Fault, Finding
from isthmus.access.heads import MARK, heads_in
from isthmus.access.verify import verify
from isthmus.base.state import JournalEntry

VALUES = st.none() | st.integers() | st.text(max_size=8)


@given(st.lists(st.text(max_size=40) | st.text(max_size=40).map(lambda text: MARK + text), max_size=5))
def test_lines_are_heads_or_findings_or_nothing(lines: list[str]) -> None:
    good, bad, ignored = heads_in(lines, "heads", KEY.public_key())
    assert not good
    assert len(bad) + ignored == sum(MARK in line or bool(line.strip()) for line in lines)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_lines_are_records_or_findings(lines: list[bytes]) -> None:
    broken: list[Finding] = []
    assert verify(None, read_exported(lines, "records", broken), []).is_whole
    assert len(broken) == sum(bool(line.strip()) for line in lines)


def test_exported_records_are_the_same_again() -> None:
    broken: list[Finding] = []
    lines = [exported_line(entry) for entry in journal()]
    assert list(read_exported(lines, "records", broken)) == journal()
    assert not broken


@given(
    st.integers(0, 8),
    st.sampled_from(["utc_ms", "hub", "device", "address", "tracking_id", "verdict", "body", "chain"]),
    VALUES | st.binary(max_size=40),
)
def test_one_column_with_anything_else_in_it_is_one_altered_record(place: int, column: str, value: object) -> None:
    entries = journal()
    columns = {name: getattr(entries[place], name) for name in JournalEntry.__slots__}
    if columns[column] == value:
        return
    entries[place] = JournalEntry(**{**columns, column: value})
    assert told(judged(entries)) == [(Fault.ALTERED, place + 1, place + 1)]


@given(st.sets(st.integers(1, 9), min_size=1))
def test_whatever_is_removed_is_told_to_the_record(removed: set[int]) -> None:
    left = [entry for entry in journal() if entry.entry_id not in removed]
    missing = {
        number
        for finding in judged(left).findings
        for number in range(finding.first, finding.last + 1)
        if finding.fault is Fault.MISSING
    }
    assert missing == removed
