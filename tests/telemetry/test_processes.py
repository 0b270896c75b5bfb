"""The log and real processes: one that reads while another writes, and one that is killed while it writes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import Partition, Record
from isthmus.telemetry.reader import LogReader
from telemetry.fakes import P0, P1, Disk, SetClock, payloads, read_whole, store

HERE = Path(__file__).parent


class ReadingProcess:
    """Asks a second process."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, str(HERE / "reading_process.py"), str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, question: str) -> list[tuple[int, str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return [(sequence, payload) for sequence, payload in json.loads(self.process.stdout.readline())]


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[list[ReadingProcess]]:
    started: list[ReadingProcess] = []
    yield started
    for each in started:
        with each.process:
            assert each.process.stdin is not None
            each.process.stdin.close()
        assert each.process.returncode == 0


async def test_a_second_process_reads_what_is_committed(tmp_path: Path, reading: list[ReadingProcess]) -> None:
    clock = SetClock()
    log = SegmentLog.open(tmp_path, clock, config=LogConfig(segment_bytes=700, retention_bytes=3_000))
    reading.append(ReadingProcess(tmp_path))
    (reader,) = reading
    assert reader.ask("read 0") == reader.ask("all") == []
    expected: list[tuple[int, str]] = []
    for number in range(30):
        await store(log, [f"a{number}".encode(), f"b{number}".encode()])
        await store(log, [f"other{number}".encode()], P1)
        expected += [(2 * number, f"a{number}"), (2 * number + 1, f"b{number}")]
        if number % 4 == 3:
            assert reader.ask("read 0") == expected
            expected = []
    await store(log, [b"hidden"], endpoints=(9,))
    assert [item for item in reader.ask("all") if item[1].startswith(("o", "h"))] == [
        *((number, f"other{number}") for number in range(30)),
        (-1, "hidden"),
    ]
    log.tick(clock.now_ms)
    await store(log, [b"after retention"])
    assert reader.ask("read 0")[-1] == (60, "after retention")
    reading.append(ReadingProcess(tmp_path))
    begin = log.info(P0).begin_sequence
    assert begin > 0
    assert [sequence for sequence, _ in reading[1].ask("read 0")] == list(range(begin, 61))
    await log.close()


async def test_a_reader_never_sees_what_is_not_durable(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    log = SegmentLog.open(tmp_path, SetClock(), files=disk)
    await store(log, [b"a"])
    reader = LogReader(tmp_path)
    disk.fail("sync", times=2)
    disk.fail("truncate", times=2)
    await store(log, [b"refused"])
    assert payloads(reader.read(P0, 0, 10, 1000)[0]) == [b"a"]
    await store(log, [b"b"])
    records, cursor = reader.read(P0, 0, 10, 1000)
    if cursor < reader.committed:
        records += reader.read(P0, cursor, 10, 1000)[0]
    assert [(record.sequence, record.payload) for record in records] == [(0, b"a"), (1, b"b")]
    reader.close()
    await log.close()


async def test_a_reader_that_slept_through_retention_goes_on_at_the_beginning(tmp_path: Path) -> None:
    clock = SetClock()
    log = SegmentLog.open(tmp_path, clock, config=LogConfig(segment_bytes=300, retention_bytes=1_000))
    await store(log, [b"0"])
    reader = LogReader(tmp_path)
    _, cursor = reader.read(P0, 0, 10, 1000)
    for number in range(1, 40):
        await store(log, [str(number).encode()])
    reader.read(P0, cursor, 1, 1)
    log.tick(clock.now_ms)
    await log.close()
    begin = log.info(P0).begin_sequence
    assert begin > 20
    for read in (lambda cursor: reader.read(P0, cursor, 9, 9_000), lambda cursor: reader.read_all(cursor, 9)):
        assert _sequences_behind(read, cursor)[-(40 - begin) - 1 :] == [3, *range(begin, 40)], "3 was open already"
    reader.close()


def test_a_folder_without_a_log_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogReader(tmp_path)


@pytest.mark.parametrize("acknowledged_before_the_kill", [1, 500, 3_000])
async def test_a_killed_writer_keeps_every_message_it_acknowledged(
    tmp_path: Path, acknowledged_before_the_kill: int
) -> None:
    acknowledged = _kill_after(tmp_path, acknowledged_before_the_kill)
    log = SegmentLog.open(tmp_path, SetClock())
    found: set[int] = set()
    for number in range(3):
        records = read_whole(log, Partition(1, number))
        messages = [int(record.payload) for record in records]
        assert messages == list(range(number, number + 3 * len(messages), 3))
        assert [record.sequence for record in records] == list(range(len(records)))
        found |= set(messages)
    assert acknowledged <= found
    assert log.recovery.damages == ()
    await log.close()


def _sequences_behind(read: Callable[[int], tuple[list[Record], int]], cursor: int) -> list[int]:
    sequences: list[int] = []
    while True:
        records, cursor = read(cursor)
        if not records:
            return sequences
        sequences += [record.sequence for record in records]


def _kill_after(folder: Path, count: int) -> set[int]:
    """Runs a writer until it has acknowledged so many messages, kills it, and answers what it acknowledged."""
    command = [sys.executable, str(HERE / "writing_process.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(count)]
        process.kill()
        lines += process.stdout.readlines()
    return {int(line) for line in lines if line.endswith("\n")}
