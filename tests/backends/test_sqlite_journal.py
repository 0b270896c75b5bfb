"""The journal on SQLite: pruned from the front, sealed to the end, read while no server runs."""

import sqlite3
from pathlib import Path

import pytest

from isthmus.backends.sqlite import SqliteState, read_journal, verify_journal
from isthmus.base.errors import ConfigurationError
from isthmus.base.state import JournalFilter, JournalRow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state is."""
    return tmp_path / "state.db"


async def test_a_stopped_hubs_journal_is_read(path: Path) -> None:
    await write(path, 3)
    assert [entry.utc_ms for entry in read_journal(path, JournalFilter(limit=2))] == [3, 2]
    assert verify_journal(path) is None


async def test_the_journal_is_read_beside_a_running_hub(path: Path) -> None:
    state = await SqliteState.open(path)
    state.journal(decision(1))
    await state.journal_flushed()
    assert [entry.utc_ms for entry in read_journal(path, JournalFilter())] == [1]
    await state.close()


def test_a_journal_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        read_journal(path, JournalFilter())
    assert not path.exists()


def test_a_file_of_something_else_is_told(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_journal(path, JournalFilter())


async def test_an_empty_journal_is_sound(path: Path) -> None:
    await write(path, 0)
    assert verify_journal(path) is None


async def test_the_chain_goes_on_after_a_restart(path: Path) -> None:
    await write(path, 3)
    await write(path, 2)
    assert [entry.entry_id for entry in read_journal(path, JournalFilter())] == [5, 4, 3, 2, 1]
    assert verify_journal(path) is None


async def test_the_oldest_are_pruned_and_the_rest_still_verifies(path: Path) -> None:
    state = await SqliteState.open(path, journal_entries_max=100)
    for number in range(1, 1_001):
        state.journal(decision(number))
        if number % 7 == 0:
            await state.journal_flushed()
    await state.close()
    kept = read_journal(path, JournalFilter(limit=1_000))
    assert kept[0].entry_id == 1_000
    assert 100 <= len(kept) < 120
    assert verify_journal(path) is None


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE journal SET verdict = 'admitted' WHERE entry_id = 3", 3),
        ("UPDATE journal SET body = x'7b7d20' WHERE entry_id = 3", 3),
        ("UPDATE journal SET hub = 'hd', device = '' WHERE entry_id = 3", 3),
        ("DELETE FROM journal WHERE entry_id = 3", 4),
        ("DELETE FROM journal WHERE entry_id = 1", 2),
        ("DELETE FROM journal WHERE entry_id = 5", 5),
        ("DELETE FROM journal", 1),
    ],
)
async def test_tampering_is_found(path: Path, tampering: str, broken: int) -> None:
    await write(path, 5)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(tampering)
    connection.close()
    assert verify_journal(path) == broken


async def write(path: Path, count: int) -> None:
    state = await SqliteState.open(path)
    for number in range(1, count + 1):
        state.journal(decision(number))
    await state.close()


def decision(utc_ms: int) -> JournalRow:
    return JournalRow(utc_ms, "h", "d", "", "", "refused", b"{}")
