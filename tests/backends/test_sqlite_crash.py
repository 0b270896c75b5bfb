"""A crash at any byte of what a commit writes: what was acknowledged is there, whole, and nothing of the rest.

A commit is appended to the write-ahead log and synced. Whatever part of an unfinished one had reached the disk, the
file is opened here with the log cut at that byte, or with nonsense behind it, as a power cut may leave it.
"""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from isthmus.backends.sqlite import SqliteState
from isthmus.base.ids import HubId
from isthmus.base.state import JournalFilter, JournalRow, Key, OutboxEvent, Put

HUB = HubId(1)
COMMITS = 4
STEP_BYTES = 4_093
"""Between two cuts: prime, so that they fall anywhere in SQLite's pages and frames."""


@dataclass(frozen=True, slots=True)
class Written:
    """The files after the last commit, and the length that the write-ahead log had when each was acknowledged."""

    file: bytes
    log: bytes
    acknowledged: list[int]

    def cuts(self) -> list[int]:
        """Places everywhere, and just beside each acknowledgement."""
        beside = {end + by for end in self.acknowledged for by in (-1, 0, 1)}
        anywhere = range(self.acknowledged[0], len(self.log), STEP_BYTES)
        return sorted(cut for cut in {*anywhere, *beside} if cut <= len(self.log))

    def commits_before(self, cut: int) -> int:
        return sum(end <= cut for end in self.acknowledged)


@pytest.fixture
async def written(tmp_path: Path) -> Written:
    path = tmp_path / "written" / "state.db"
    path.parent.mkdir()
    state = await SqliteState.open(path)
    acknowledged: list[int] = []
    for number in range(1, COMMITS + 1):
        state.journal(JournalRow(number, "hub", "device", "", "", "changed", b"{}"))
        puts = [Put(Key("twin", HUB, name), f'"{number}"'.encode() * 100) for name in ("a", "b")]
        await state.commit(puts, [OutboxEvent(HUB, b"event")])
        acknowledged.append(log_of(path).stat().st_size)
    found = Written(path.read_bytes(), log_of(path).read_bytes(), acknowledged)
    await state.close()
    return found


@pytest.mark.parametrize("behind", [b"", random.Random(5).randbytes(5_000)], ids=["cut", "nonsense"])
async def test_a_crash_at_any_byte_keeps_whole_commits(tmp_path: Path, written: Written, behind: bytes) -> None:
    for cut in written.cuts():
        path = tmp_path / "crashed" / "state.db"
        path.parent.mkdir()
        path.write_bytes(written.file)
        log_of(path).write_bytes(written.log[:cut] + behind)
        assert await commits_in(path) == written.commits_before(cut)
        shutil.rmtree(path.parent)


async def commits_in(path: Path) -> int:
    """How many commits a state holds, each with both documents, its event and its decision."""
    state = await SqliteState.open(path)
    stored = [await state.get(Key("twin", HUB, name)) for name in ("a", "b")]
    revisions = {each.revision if each else 0 for each in stored}
    events = [row.row_id for row in await state.outbox(after=0, limit=COMMITS)]
    decisions = [entry.entry_id for entry in await state.journal_read(JournalFilter())]
    assert len(revisions) == 1
    (commits,) = revisions
    assert events == list(range(1, commits + 1))
    assert sorted(decisions) == events
    await state.commit([Put(Key("twin", HUB, "a"), b"1", commits)])
    await state.close()
    return commits


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
