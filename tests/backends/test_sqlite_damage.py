"""A damaged state file or write-ahead log: named, left as it is, never taken for an older state or an empty one."""

import asyncio
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from isthmus.backends.sqlite import SqliteState
from isthmus.base.errors import ConfigurationError
from isthmus.base.ids import HubId
from isthmus.base.state import MUST_NOT_EXIST, Damaged, Key, Put

HUB = HubId(1)
COMMITS = 12
WAL_HEADER = 32
FRAME = 24 + 4096


async def _documents(path: Path) -> list[str]:
    state = await SqliteState.open(path)
    try:
        return [stored.key.name for stored in await state.scan("thing", HUB)]
    finally:
        await state.close()


async def _fill(path: Path, copy: Path) -> None:
    """A state whose process ended without a word: its last commits are in the write-ahead log of the copy."""
    state = await SqliteState.open(path)
    for number in range(COMMITS):
        body = b"x" * (9_000 if number % 3 == 0 else 50)
        await state.commit([Put(Key("thing", HUB, f"{number:02d}"), body, MUST_NOT_EXIST)])
    _copy(path, copy)
    await state.close()


def _copy(path: Path, folder: Path) -> None:
    folder.mkdir()
    for name in ("state.db", "state.db-wal"):
        shutil.copyfile(path.with_name(name), folder / name)


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """The state file of a folder that a killed process left."""
    asyncio.run(_fill(tmp_path / "state.db", tmp_path / "left"))
    return tmp_path / "left" / "state.db"


def opened(path: Path) -> list[str]:
    return asyncio.run(_documents(path))


def refusal(path: Path) -> str:
    """What opening says; nothing of the folder may change by it."""
    before = {each.name: each.read_bytes() for each in path.parent.iterdir() if not each.name.endswith(".lock")}
    with pytest.raises(ConfigurationError) as caught:
        opened(path)
    after = {each.name: each.read_bytes() for each in path.parent.iterdir() if not each.name.endswith(".lock")}
    assert before == after
    return str(caught.value)


ALL = [f"{number:02d}" for number in range(COMMITS)]


def test_what_a_killed_process_left_is_whole(left: Path) -> None:
    assert opened(left) == ALL
    assert opened(left) == ALL


def test_a_log_that_ends_anywhere_gives_whole_commits(left: Path) -> None:
    """As a power cut may leave it: the beginning of what was written."""
    wal = left.with_name("state.db-wal")
    data, database = wal.read_bytes(), left.read_bytes()
    for size in range(0, len(data), 997):
        wal.write_bytes(data[:size])
        left.write_bytes(database)
        found = opened(left) if size > WAL_HEADER + 3 * FRAME else []
        assert found == ALL[: len(found)]


def test_whatever_flips_in_the_log_loses_the_last_commit_at_most(left: Path) -> None:
    """Which is all that cannot be told from a commit that a power cut left half written.

    But for a flip in the very checksum of the commit before, which both commits hang on.
    """
    wal = left.with_name("state.db-wal")
    data, database = wal.read_bytes(), left.read_bytes()
    chance, refused = random.Random(5), 0
    for _ in range(150):
        flipped = bytearray(data)
        at = chance.randrange(len(data))
        flipped[at] ^= 1 << chance.randrange(8)
        wal.write_bytes(flipped)
        left.write_bytes(database)
        if (at - WAL_HEADER) % FRAME in range(16, 24):
            continue
        try:
            assert opened(left) in (ALL, ALL[:-1])
        except ConfigurationError as error:
            refused += "state.db-wal is damaged" in str(error)
    assert refused > 100


@pytest.mark.parametrize("at", [0, 8, 20, WAL_HEADER + 30, WAL_HEADER + 5 * FRAME + 10])
def test_a_damaged_log_is_named_and_kept(left: Path, at: int) -> None:
    wal = left.with_name("state.db-wal")
    data = bytearray(wal.read_bytes())
    data[at] ^= 0x55
    wal.write_bytes(data)
    for _ in range(2):
        said = refusal(left)
        assert str(wal) in said
        assert "restore the data folder from a backup" in said


def test_a_commit_that_was_dropped_once_is_no_damage(left: Path) -> None:
    """What is left of it stands behind newer frames and fits together itself."""
    wal = left.with_name("state.db-wal")
    data = bytearray(wal.read_bytes())
    data[-FRAME - 30] ^= 1
    wal.write_bytes(data + data[-FRAME:])
    assert len(opened(left)) >= COMMITS - 2


@pytest.mark.parametrize(
    ("name", "keep", "says"),
    [("state.db", 0, "is empty, though commits wait in state.db-wal"), ("state.db", 50, "is damaged")],
)
def test_a_file_that_lost_its_content_is_no_new_state(left: Path, name: str, keep: int, says: str) -> None:
    path = left.with_name(name)
    path.write_bytes(path.read_bytes()[:keep])
    assert says in refusal(left)


def test_a_file_that_lost_its_end_is_named(left: Path) -> None:
    opened(left)
    data = left.read_bytes()
    for size in (len(data) - 1, len(data) - 4096, 4096, 5000):
        left.write_bytes(data[:size])
        said = refusal(left)
        assert f"{left} is damaged: it should have" in said


def test_a_page_that_is_overwritten_is_named_when_it_is_read(left: Path) -> None:
    opened(left)
    data = bytearray(left.read_bytes())
    root = sqlite3.connect(left).execute("SELECT rootpage FROM sqlite_master WHERE name = 'documents'").fetchone()[0]
    data[(root - 1) * 4096 : root * 4096] = random.Random(1).randbytes(4096)
    left.write_bytes(data)
    with pytest.raises((Damaged, ConfigurationError), match=r"state\.db"):
        opened(left)
