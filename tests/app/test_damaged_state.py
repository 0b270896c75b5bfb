"""A server on a data folder whose state was damaged: it says so in a sentence, and makes no hub in its place."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from app.starting import failing_start
from support.server import RunningHub

HARMS = {
    "gone": "state.db is not there, though",
    "empty": "state.db is empty, though",
    "cut": "state.db is damaged: it should have",
    "overwritten": "state.db is damaged",
    "write-ahead log": "state.db-wal is damaged",
}


@pytest.fixture
def left(running_hub: RunningHub) -> Path:
    """The data folder of a hub that was killed, whose log has a segment."""
    for number in range(4):
        running_hub.isthmus("device-identity", "create", "-d", f"d{number}")
    running_hub.kill()
    (running_hub.data / "log" / f"{0:020d}.segment").touch()
    return running_hub.data


def test_a_damaged_state_is_named_and_left_as_it_is(left: Path, tmp_path: Path, loopback_address: str) -> None:
    for harm, words in HARMS.items():
        data = Path(shutil.copytree(left, tmp_path / harm, ignore=shutil.ignore_patterns("*.sock")))
        _harm(data / "state.db", harm)
        before = {path.name: path.read_bytes() for path in data.glob("state.db*")}

        ended = failing_start(data, "--bind", loopback_address)

        assert ended.code == 1
        assert ended.said.startswith("isthmus: ")
        assert ended.said.count("\n") == 1, ended.said
        assert words in ended.said
        assert "restore the data folder from a backup" in ended.said
        after = {path.name: path.read_bytes() for path in data.glob("state.db*")}
        if harm != "overwritten":  # which SQLite has to open before it can know
            assert after == before


def _harm(path: Path, how: str) -> None:
    wal = path.with_name("state.db-wal")
    match how:
        case "gone" | "empty":
            wal.unlink(missing_ok=True)
            path.unlink()
            if how == "empty":
                path.touch()
        case "cut" | "overwritten":
            sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
            data = path.read_bytes()
            path.write_bytes(data[:8192] if how == "cut" else data[:4096] + bytes(len(data) - 4096))
        case _:
            data = wal.read_bytes()
            wal.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
