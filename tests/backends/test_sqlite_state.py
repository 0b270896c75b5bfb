"""The state on SQLite beyond the port: restarts, crashes, damage, failing disks, versions."""

import asyncio
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from isthmus.access.journal import decision_of
from isthmus.backends.sqlite import SqliteState
from isthmus.backends.sqlite import readers as readers_module
from isthmus.backends.sqlite import writer as writer_module
from isthmus.backends.sqlite.schema import MIGRATIONS, prepare
from isthmus.base.errors import Code, ConfigurationError, HubError
from isthmus.base.filters import EVERYTHING, equals
from isthmus.base.ids import HubId
from isthmus.base.state import (
    Conflict,
    Damaged,
    JournalFilter,
    JournalRow,
    Key,
    OutboxEvent,
    Put,
    StateClosed,
)

HUB = HubId(1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the state is."""
    return tmp_path / "state.db"


@pytest.fixture
async def state(path: Path) -> AsyncIterator[SqliteState]:
    """An empty state."""
    opened = await SqliteState.open(path)
    yield opened
    await opened.close()


async def test_a_restart_finds_everything(path: Path) -> None:
    state = await SqliteState.open(path)
    await state.commit([put("a", b"1"), put("b", b"2")], [OutboxEvent(HUB, b"event")])
    await state.commit([put("a", b"3")])
    state.journal(decision(1))
    await state.close()
    again = await SqliteState.open(path)
    stored = await again.get(key("a"))
    assert stored is not None
    assert (stored.body, stored.revision) == (b"3", 2)
    assert [row.body for row in await again.outbox(after=0, limit=10)] == [b"event"]
    assert len(await again.journal_read(JournalFilter())) == 1
    await again.close()


async def test_outbox_numbers_are_not_used_again_after_a_restart(path: Path) -> None:
    state = await SqliteState.open(path)
    await state.commit([], [OutboxEvent(HUB, b"a")])
    await state.outbox_done(1)
    await state.close()
    again = await SqliteState.open(path)
    await again.commit([], [OutboxEvent(HUB, b"b")])
    assert [row.row_id for row in await again.outbox(after=0, limit=10)] == [2]
    await again.close()


async def test_only_the_owner_can_read_the_files(state: SqliteState, path: Path) -> None:
    await state.commit([put("a")])
    files = [path, path.with_name("state.db-wal"), path.with_name("state.db-shm"), path.with_name("state.db.lock")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 4


async def test_a_second_opener_is_refused(state: SqliteState, path: Path) -> None:
    with pytest.raises(ConfigurationError, match="in use by another process"):
        await SqliteState.open(path)


async def test_a_closed_file_can_be_opened_again(path: Path) -> None:
    for _ in range(3):
        await (await SqliteState.open(path)).close()


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        await SqliteState.open(tmp_path / "nowhere" / "state.db")


def test_a_file_of_something_else_is_refused(path: Path) -> None:
    path.write_bytes(b"This is not a state file at all. " * 100)
    with pytest.raises(ConfigurationError, match="no state of a hub"):
        prepare(path)
    assert path.read_bytes().startswith(b"This is not")


async def test_a_file_of_a_newer_release_is_refused(path: Path) -> None:
    await (await SqliteState.open(path)).close()
    prepare(path, migrations=(*MIGRATIONS, ("CREATE TABLE later (x)",)))
    with pytest.raises(ConfigurationError, match="written by a newer release"):
        await SqliteState.open(path)


async def test_an_older_file_is_brought_up_to_date(path: Path) -> None:
    state = await SqliteState.open(path)
    await state.commit([put("a", b"kept")])
    await state.close()
    later = (*MIGRATIONS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (7)"), ("UPDATE later SET x = x + 1",))
    prepare(path, migrations=later)
    prepare(path, migrations=later)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT x FROM later").fetchone() == (8,)
    assert connection.execute("SELECT body FROM documents").fetchone() == (b"kept",)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()


def test_a_migration_that_fails_leaves_the_version_before_it(path: Path) -> None:
    prepare(path)
    broken = (*MIGRATIONS, ("CREATE TABLE later (x)",), ("CREATE TABLE half (x)", "this is not SQL"))
    with pytest.raises(ConfigurationError):
        prepare(path, migrations=broken)
    connection = sqlite3.connect(path)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    assert "later" in tables
    assert "half" not in tables
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE documents SET body = x'00' WHERE name = 'b'",
        "UPDATE documents SET revision = 9 WHERE name = 'b'",
        "UPDATE documents SET checksum = checksum + 1 WHERE name = 'b'",
        "UPDATE documents SET body = 'text' WHERE name = 'b'",
        "UPDATE documents SET body = (SELECT body FROM documents WHERE name = 'a') WHERE name = 'b'",
    ],
)
async def test_a_damaged_document_is_never_served(state: SqliteState, path: Path, damage: str) -> None:
    await state.commit([put("a", b"1"), put("b", b"2"), put("c", b"3")])
    harm(path, damage)
    with pytest.raises(Damaged, match="thing 'b' of hub 1"):
        await state.get(key("b"))
    with pytest.raises(Damaged, match="thing 'b' of hub 1"):
        await state.scan("thing", HUB)
    assert await state.get(key("a")) is not None


async def test_a_query_does_not_pass_over_a_damaged_twin(state: SqliteState, path: Path) -> None:
    await state.commit(
        [
            Put(Key("identity", HUB, "d"), b'{"deviceId":"d"}'),
            Put(Key("twin", HUB, "d"), b'{"tags":{"x":1},"properties":{}}'),
        ]
    )
    harm(path, """UPDATE documents SET body = CAST('{"tags":{"x":2},"properties":{}}' AS BLOB) WHERE kind = 'twin'""")
    for where in (EVERYTHING, equals(("tags", "x"), 1), equals(("tags", 'x"'), 1)):
        with pytest.raises(Damaged, match="twin 'd' of hub 1"):
            await state.query_devices(HUB, where, modules=False, after="", limit=10)


async def test_a_commit_that_fails_is_told_and_the_next_one_succeeds(path: Path) -> None:
    disk = FailingDisk()
    state = await SqliteState.open(path, connecting=disk.connect)
    await state.commit([put("before")])
    disk.fails = "COMMIT"
    outcomes = await asyncio.gather(
        state.commit([put("a")], [OutboxEvent(HUB, b"event")]), state.commit([put("b")]), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [StateClosed, StateClosed]
    assert not healthy(state)
    assert "disk I/O error" in state.health.failure
    disk.fails = ""
    await state.commit([put("after")])
    assert healthy(state)
    assert [stored.key.name for stored in await state.scan("thing", HUB)] == ["after", "before"]
    assert await state.outbox(after=0, limit=10) == []
    await state.close()


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO documents", "INSERT INTO outbox"])
async def test_a_commit_that_fails_halfway_leaves_nothing(path: Path, statement: str) -> None:
    disk = FailingDisk()
    state = await SqliteState.open(path, connecting=disk.connect)
    disk.fails = statement
    with pytest.raises(StateClosed):
        await state.commit([put("a")], [OutboxEvent(HUB, b"event")])
    disk.fails = ""
    await state.commit([put("b")])
    assert [stored.key.name for stored in await state.scan("thing", HUB)] == ["b"]
    await state.close()


async def test_a_full_disk_is_told_and_overcome(path: Path) -> None:
    state = await SqliteState.open(path)
    await state.commit([put("before")])
    with files_limited_to(path.with_name("state.db-wal").stat().st_size + 4_096):
        with pytest.raises(StateClosed):
            await state.commit([put("big", bytes(1_000_000))])
        assert not healthy(state)
    await state.commit([put("after")])
    assert healthy(state)
    await state.close()
    again = await SqliteState.open(path)
    assert [stored.key.name for stored in await again.scan("thing", HUB)] == ["after", "before"]
    await again.close()


async def test_a_conflict_in_a_group_hurts_nobody_else(state: SqliteState) -> None:
    outcomes = await asyncio.gather(
        *(state.commit([Put(key(f"n{number}"), b"{}", 1 if number % 3 == 0 else 0)]) for number in range(30)),
        return_exceptions=True,
    )
    assert [isinstance(outcome, Conflict) for outcome in outcomes] == [number % 3 == 0 for number in range(30)]
    assert await state.count("thing", HUB) == 20


async def test_commits_that_wait_share_a_sync(path: Path) -> None:
    disk = FailingDisk()
    state = await SqliteState.open(path, connecting=disk.connect)
    disk.executed.clear()
    await asyncio.gather(*(state.commit([put(f"n{number}")]) for number in range(200)))
    assert disk.executed.count("COMMIT") < 50
    await state.close()


async def test_what_was_answered_is_read_by_every_reader(state: SqliteState) -> None:
    for number in range(50):
        await state.commit([put(f"n{number:02d}")])
        assert await state.get(key(f"n{number:02d}")) is not None
        assert (await state.scan("thing", HUB, after=f"n{number - 1:02d}"))[0].key.name == f"n{number:02d}"
        assert await state.count("thing", HUB) == number + 1


async def test_too_many_waiting_commits_are_refused(state: SqliteState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "REQUESTS_WAITING_MAX", 2)
    outcomes = await asyncio.gather(*(state.commit([put(f"n{n}")]) for n in range(3)), return_exceptions=True)
    assert outcomes[:2] == [[1], [1]]
    assert isinstance(outcomes[2], HubError)
    assert outcomes[2].code is Code.SERVER_BUSY
    await state.commit([put("later")])


async def test_too_many_waiting_reads_are_refused(state: SqliteState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_module, "READS_WAITING_MAX", 2)
    outcomes = await asyncio.gather(*(state.count("thing", HUB) for _ in range(3)), return_exceptions=True)
    assert outcomes[:2] == [0, 0]
    assert isinstance(outcomes[2], HubError)
    assert outcomes[2].code is Code.SERVER_BUSY
    assert await state.count("thing", HUB) == 0


async def test_journal_rows_wait_for_the_disk(path: Path) -> None:
    disk = FailingDisk()
    state = await SqliteState.open(path, connecting=disk.connect)
    disk.fails = "COMMIT"
    state.journal(decision(1))
    with pytest.raises(StateClosed):
        await state.journal_flushed()
    disk.fails = ""
    state.journal(decision(2))
    await state.journal_flushed()
    assert [entry.utc_ms for entry in await state.journal_read(JournalFilter())] == [2, 1]
    await state.close()


async def test_decisions_that_had_no_room_are_counted_in_the_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "JOURNAL_WAITING_MAX", 2)
    state = await SqliteState.open(path)
    for number in range(5):
        state.journal(decision(number))
    await state.journal_flushed()
    state.journal(decision(9))
    await state.journal_flushed()
    entries = await state.journal_read(JournalFilter())
    assert [(entry.utc_ms, entry.verdict) for entry in entries] == [
        (9, "refused"),
        (9, "lost"),
        (1, "refused"),
        (0, "refused"),
    ]
    assert decision_of(entries[1]).count == 3
    assert state.health.decisions_lost == 3
    await state.close()


KILLED = dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from isthmus.backends.sqlite import SqliteState
    from isthmus.base.ids import HubId
    from isthmus.base.state import JournalRow, Key, OutboxEvent, Put

    async def count(state, name):
        for number in range(1, 1_000_000):
            state.journal(JournalRow(number, "h", name, "", "", "admitted", b"{}"))
            body = str(number).encode()
            both = [Put(Key("thing", HubId(1), name), body), Put(Key("twin", HubId(1), name), body)]
            (revision, _) = await state.commit(both, [OutboxEvent(HubId(1), name.encode() + b" " + body)])
            print(name, revision, flush=True)

    async def main():
        state = await SqliteState.open(Path(sys.argv[1]))
        await asyncio.gather(*(count(state, f"n{number}") for number in range(8)))

    asyncio.run(main())
    """
)


async def test_what_was_acknowledged_survives_kill_9(path: Path) -> None:
    acknowledged = await asyncio.to_thread(run_and_kill, path)
    state = await SqliteState.open(path)
    events = await state.outbox(after=0, limit=100_000)
    for name, revision in acknowledged.items():
        thing, twin = await state.get(Key("thing", HUB, name)), await state.get(Key("twin", HUB, name))
        assert thing is not None
        assert twin is not None
        assert thing.revision >= revision
        assert thing.body == twin.body == str(thing.revision).encode()
        told = [int(row.body.split()[1]) for row in events if row.body.split()[0] == name.encode()]
        assert told == list(range(1, thing.revision + 1))
    await state.close()


def run_and_kill(path: Path) -> dict[str, int]:
    """Runs a process that commits until it is killed; returns the last revision it acknowledged for each name."""
    acknowledged: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break
            name, revision = line.split()
            acknowledged[name] = int(revision)
            if sum(acknowledged.values()) == 400:
                process.send_signal(signal.SIGKILL)
    assert sum(acknowledged.values()) >= 400
    return acknowledged


class FailingDisk:
    """Connections that remember what they executed and fail at statements that begin with `fails`."""

    def __init__(self) -> None:
        self.fails = ""
        self.executed: list[str] = []

    def connect(self, path: Path) -> sqlite3.Connection:
        disk = self

        class Watched(sqlite3.Connection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                disk.note(statement)
                return super().execute(statement, *values)

            def executemany(self, statement: str, *values: Any) -> sqlite3.Cursor:
                disk.note(statement)
                return super().executemany(statement, *values)

        return sqlite3.connect(path, factory=Watched, isolation_level=None, check_same_thread=False)

    def note(self, statement: str) -> None:
        self.executed.append(statement)
        if self.fails and statement.startswith(self.fails):
            raise sqlite3.OperationalError("disk I/O error")


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Lets this process write no file beyond `size`, so that a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def healthy(state: SqliteState) -> bool:
    return state.health.is_healthy


def harm(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def key(name: str) -> Key:
    return Key("thing", HUB, name)


def put(name: str, body: bytes = b"{}") -> Put:
    return Put(key(name), body)


def decision(utc_ms: int) -> JournalRow:
    return JournalRow(utc_ms, "h", "d", "", "", "refused", b"{}")
