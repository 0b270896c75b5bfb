"""ENOSPC and EIO at every step of the state's life: nothing acknowledged is lost, and it goes on when the disk does.

A step is a call that changes the disk, below SQLite (`support.sqlite_disk`): of the database, the write-ahead log, its
shared memory. The n-th one fails, alone, with the next one, or with all that follow until the disk is mended. Whatever
was acknowledged has to be there then, in the process, after a restart, and after a power cut that leaves what had been
synced and nothing that a failed sync was to write.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from errno import EIO, ENOSPC
from pathlib import Path

import pytest

from isthmus.backends.sqlite import SqliteState, folding, group
from isthmus.backends.sqlite.schema import connect
from isthmus.base.errors import ConfigurationError
from isthmus.base.ids import HubId
from isthmus.base.state import JournalFilter, JournalRow, Key, OutboxEvent, Put, StateClosed
from support.sqlite_disk import FOR_EVER, SqliteDisk, failing_disk

HUB = HubId(1)
ROUNDS = 6
BIG = "x" * 6_000
"""A few of these make SQLite copy the write-ahead log into the file."""
FOLDED_AT_PAGES = 12
WAIT_SECONDS = 30.0


@pytest.fixture
def disk() -> Iterator[SqliteDisk]:
    try:
        with failing_disk() as disk:
            yield disk
    except LookupError as error:
        pytest.skip(str(error))


class Life:
    """A state, and what of it was acknowledged or may be there all the same."""

    def __init__(self, state: SqliteState) -> None:
        self.state = state
        self.acknowledged: dict[str, int] = {}
        self.tried: dict[str, set[int]] = {}
        self.events: list[int] = []
        self.health: list[str] = []
        state.condition.on_change(self.health.append)

    async def round(self, number: int) -> bool:
        """A small commit and a large one, an event and a decision with each; True when both were acknowledged."""
        return all([await self._commit("small", number, ""), await self._commit("large", number, BIG)])

    async def _commit(self, name: str, number: int, filling: str) -> bool:
        self.tried.setdefault(name, set()).add(number)
        body = f'{{"number":{number},"filling":"{filling}"}}'.encode()
        self.state.journal(JournalRow(number, "hub", name, "", "", "changed", b"{}"))
        twice = [Put(Key("twin", HUB, each), body) for each in (name, f"{name} too")]
        try:
            await self.state.commit(twice, [OutboxEvent(HUB, body[:24])])
        except StateClosed:
            return False
        self.acknowledged[name] = number
        return True


async def seen(state: SqliteState) -> dict[str, int]:
    """The number of each pair of documents, which are always of the same commit."""
    found: dict[str, int] = {}
    for name in ("small", "large"):
        both = [await state.get(Key("twin", HUB, each)) for each in (name, f"{name} too")]
        numbers = {int(each.body[10:].partition(b",")[0]) if each else None for each in both}
        assert len(numbers) == 1, "a commit is whole"
        (number,) = numbers
        if number is not None:
            found[name] = number
    return found


async def opened(path: Path, disk: SqliteDisk) -> SqliteState:
    """A start may fail with what the disk said, and succeeds when that is mended."""
    await asyncio.to_thread(path.parent.mkdir)
    try:
        return await SqliteState.open(path, connecting=connecting)
    except ConfigurationError:
        disk.mend()
        return await SqliteState.open(path, connecting=connecting)


def connecting(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    connection.execute(f"PRAGMA wal_autocheckpoint={FOLDED_AT_PAGES}")
    return connection


async def lived(folder: Path, disk: SqliteDisk) -> Life:
    life = Life(await opened(folder / "state.db", disk))
    for number in range(ROUNDS):
        await life.round(number)
        assert await seen(life.state) == life.acknowledged
    return life


CASES = [(*case, 1) for case in itertools.product((ENOSPC, EIO), (1, 2, 5, FOR_EVER))]
DAILY = [(EIO, 1, 13), (ENOSPC, FOR_EVER, 17)]
"""With the stride between two steps: prime, so that they fall anywhere in what recurs."""


@pytest.mark.parametrize(
    ("error", "times", "stride"), [*DAILY, *(pytest.param(*case, marks=pytest.mark.long) for case in CASES)]
)
async def test_a_step_that_fails(tmp_path: Path, disk: SqliteDisk, error: int, times: int, stride: int) -> None:
    disk.arm(FOR_EVER, 0, EIO)
    await (await lived(tmp_path / "counted", disk)).state.close()
    assert disk.steps > 100
    for step in range(0, disk.steps, stride):
        disk.arm(step, times, error)
        life = await lived(tmp_path / f"step {step}", disk)
        disk.mend()
        assert await life.round(ROUNDS), "it goes on by itself"
        assert (await seen(life.state), life.state.health.is_healthy) == (life.acknowledged, True)
        assert [not each for each in life.health] == [bool(number % 2) for number in range(len(life.health))]
        disk.cut_power(tmp_path / f"step {step}", tmp_path / f"cut {step}")
        await life.state.close()
        for folder in (f"step {step}", f"cut {step}"):
            await _is_whole(tmp_path / folder / "state.db", life)


@pytest.mark.parametrize("error", [ENOSPC, EIO])
async def test_a_state_that_nobody_writes_to_is_tried_again(
    tmp_path: Path, disk: SqliteDisk, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    monkeypatch.setattr(group, "RETRY_SECONDS", 0.01)
    life = Life(await SqliteState.open(tmp_path / "state.db", connecting=connecting))
    assert await life.round(0)
    disk.arm(0, FOR_EVER, error)
    with pytest.raises(StateClosed):
        await life.state.commit([Put(Key("twin", HUB, "refused"), b"{}")])
    with pytest.raises(StateClosed):
        await life.state.journal_flushed()
    assert not life.state.health.is_healthy, "a commit of nothing proves nothing"
    tried = disk.failed
    await until(lambda: disk.failed > tried + 2)
    disk.mend()
    await until(lambda: life.state.health.is_healthy)
    assert await seen(life.state) == life.acknowledged
    await life.state.close()


async def test_a_file_that_cannot_be_written_is_told_though_commits_succeed(
    tmp_path: Path, disk: SqliteDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself says nothing: the write-ahead log would grow until the disk is full."""
    monkeypatch.setattr(folding, "LOOK_BYTES", 64 * 1024)
    monkeypatch.setattr(group, "RETRY_SECONDS", 0.01)
    life = Life(await SqliteState.open(tmp_path / "state.db", connecting=connecting))
    disk.arm(0, FOR_EVER, EIO, only="state.db")
    number = 0
    while not life.health:
        assert await life.round(number), "what is in the log is durable"
        number += 1
    assert life.health == ["what was written ahead cannot be brought into the file: disk I/O error"]
    assert number < 100
    disk.cut_power(tmp_path, tmp_path / "cut")
    disk.mend()
    await until(lambda: life.state.health.is_healthy)
    await life.state.close()
    for path in (tmp_path / "state.db", tmp_path / "cut" / "state.db"):
        again = await SqliteState.open(path)
        assert await seen(again) == life.acknowledged
        await again.close()


@pytest.mark.parametrize(("error", "says"), [(ENOSPC, "database or disk is full"), (EIO, "disk I/O error")])
async def test_a_start_on_a_disk_that_fails_does_not_ask_for_a_backup(
    tmp_path: Path, disk: SqliteDisk, error: int, says: str
) -> None:
    disk.arm(5, FOR_EVER, error)
    with pytest.raises(ConfigurationError, match=f"{says}; make room on its disk"):
        await SqliteState.open(tmp_path / "state.db")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():  # noqa: ASYNC110 - a thread of the state's makes it so
            await asyncio.sleep(0.005)


async def _is_whole(path: Path, life: Life) -> None:
    """Whoever restarts finds what was acknowledged last, and every decision."""
    again = await SqliteState.open(path)
    assert await seen(again) == life.acknowledged
    decisions = [entry.utc_ms for entry in await again.journal_read(JournalFilter(limit=1000))]
    assert sorted(set(decisions)) == list(range(ROUNDS + 1))
    await again.close()
