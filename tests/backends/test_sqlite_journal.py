"""The journal on SQLite: pruned from the front, sealed to the end, read whether a server runs or not."""

import sqlite3
from pathlib import Path

import pytest

from isthmus.access.findings import Fault
from isthmus.access.verify import verify
from isthmus.backends.sqlite import SqliteState, journal_of
from isthmus.base.errors import ConfigurationError
from isthmus.base.state import JournalLimit, JournalRow, WhenFull


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state is."""
    return tmp_path / "state.db"


async def test_a_stopped_hubs_journal_is_read(path: Path) -> None:
    await write(path, 3)
    assert numbers(path) == [1, 2, 3]
    assert found(path) == []


async def test_the_journal_is_read_beside_a_running_hub(path: Path) -> None:
    state = await SqliteState.open(path)
    state.journal(decision(1))
    await state.journal_flushed()
    assert numbers(path) == [1]
    await state.close()


def test_a_journal_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        numbers(path)
    assert not path.exists()


def test_a_file_of_something_else_is_told(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        numbers(path)


async def test_an_empty_journal_is_sound(path: Path) -> None:
    await write(path, 0)
    assert found(path) == []


async def test_the_chain_goes_on_after_a_restart(path: Path) -> None:
    await write(path, 3)
    await write(path, 2)
    assert numbers(path) == [1, 2, 3, 4, 5]
    assert found(path) == []


async def test_the_oldest_are_pruned_and_the_rest_still_verifies(path: Path) -> None:
    state = await SqliteState.open(path, journal=JournalLimit(100))
    for number in range(1, 1_001):
        state.journal(decision(number))
        if number % 7 == 0:
            await state.journal_flushed()
    await state.close()
    kept = numbers(path)
    assert 100 <= len(kept) < 120
    assert kept[-1] > 1_000, "each pruning is a record itself"
    assert found(path) == []


async def test_an_owner_prunes_and_the_rest_still_verifies(path: Path) -> None:
    await write(path, 5)
    state = await SqliteState.open(path)
    assert await state.journal_prune(3, "owner", 6) == 3
    assert await state.journal_prune(3, "owner", 6) == 0
    assert await state.journal_prune(7, "owner", 6) == 0
    await state.close()
    assert numbers(path) == [4, 5, 6]
    assert found(path) == []


async def test_a_full_journal_that_drops_nothing_takes_changes_only_until_it_is_pruned(path: Path) -> None:
    state = await SqliteState.open(path, journal=JournalLimit(3, WhenFull.REFUSE_CHANGES))
    await add(state, "refused", "refused", "refused")
    assert state.journal_full
    await add(state, "refused", "changed", "allowed")
    assert state.health.decisions_lost == 2
    assert await state.journal_prune(2, "owner", 6) == 2
    state.journal(decision(7))
    await state.journal_flushed()
    await state.close()
    with journal_of(path) as (_, entries):
        assert [entry.verdict for entry in entries] == ["refused", "lost", "changed", "pruned"]
    assert found(path) == []


async def test_what_a_full_journal_lost_is_told_when_there_is_room(path: Path) -> None:
    state = await SqliteState.open(path, journal=JournalLimit(3, WhenFull.REFUSE_CHANGES))
    await add(state, "refused", "refused", "refused", "refused")
    assert await state.journal_prune(3, "owner", 6) == 3
    await add(state, "refused")
    await state.close()
    with journal_of(path) as (_, entries):
        assert [entry.verdict for entry in entries] == ["pruned", "lost", "refused"]


async def test_a_full_journal_is_full_after_a_restart(path: Path) -> None:
    await write(path, 3)
    state = await SqliteState.open(path, journal=JournalLimit(3, WhenFull.REFUSE_CHANGES))
    assert state.journal_full
    await state.close()


@pytest.mark.parametrize(
    ("tampering", "fault", "place"),
    [
        ("UPDATE journal SET verdict = 'admitted' WHERE entry_id = 3", Fault.ALTERED, 3),
        ("UPDATE journal SET body = x'7b7d20' WHERE entry_id = 3", Fault.ALTERED, 3),
        ("UPDATE journal SET hub = 'hd', device = '' WHERE entry_id = 3", Fault.ALTERED, 3),
        ("UPDATE journal SET hub = CAST(x'ff' AS TEXT) WHERE entry_id = 3", Fault.ALTERED, 3),
        ("UPDATE journal SET utc_ms = 'noon' WHERE entry_id = 3", Fault.ALTERED, 3),
        ("DELETE FROM journal WHERE entry_id = 3", Fault.MISSING, 3),
        ("DELETE FROM journal WHERE entry_id = 1", Fault.MISSING, 1),
        ("DELETE FROM journal WHERE entry_id = 5", Fault.MISSING, 5),
        ("DELETE FROM journal", Fault.MISSING, 1),
        ("UPDATE meta SET number = 2 WHERE name = 'journal base'", Fault.MISSING, 1),
    ],
)
async def test_tampering_is_found(path: Path, tampering: str, fault: Fault, place: int) -> None:
    await write(path, 5)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('journal base', 0, zeroblob(32))")
        connection.execute(tampering)
    connection.close()
    assert (fault, place) in found(path)


async def test_a_byte_flipped_in_the_file_is_found(path: Path) -> None:
    await write(path, 5)
    flip(path, b'{"detail":"3"}')
    assert found(path) == [(Fault.ALTERED, 3)]


def flip(path: Path, near: bytes) -> None:
    """Turns one bit of the last text of that kind in the file."""
    content = bytearray(path.read_bytes())
    content[content.rindex(near) + 11] ^= 1
    path.write_bytes(content)


def numbers(path: Path) -> list[int]:
    with journal_of(path) as (_, entries):
        return [entry.entry_id for entry in entries]


def found(path: Path) -> list[tuple[Fault, int]]:
    with journal_of(path) as (ends, entries):
        return [(finding.fault, finding.first) for finding in verify(ends, entries, []).findings]


async def write(path: Path, count: int) -> None:
    state = await SqliteState.open(path)
    for number in range(1, count + 1):
        state.journal(decision(number))
    await state.close()


async def add(state: SqliteState, *verdicts: str) -> None:
    """Stores one after the other, each known to be stored before the next is given."""
    for verdict in verdicts:
        state.journal(decision(1, verdict))
        await state.journal_flushed()


def decision(utc_ms: int, verdict: str = "refused") -> JournalRow:
    return JournalRow(utc_ms, "h", "d", "", "", verdict, b'{"detail":"%d"}' % utc_ms)
