"""Processes of a lab: marked, found, ended, and nobody else's."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.base.clock import SystemClock
from isthmus.lab.processes import end_all, is_alive, last_words, start, start_time
from isthmus.lab.record import Record
from isthmus.lab.waiting import wait_until

FOREVER = [sys.executable, "-c", "import signal; print('here', flush=True); signal.pause()"]
STUBBORN = [
    *(sys.executable, "-c"),
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); signal.pause()",
]
PARENT = [
    *(sys.executable, "-c"),
    f"import subprocess; subprocess.run({FOREVER!r})",
]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(tmp_path / "lab")
    record.begin("a-mark-of-its-own", "")
    yield record
    end_all(record, SystemClock())


def test_a_process_ends_with_its_children(record: Record) -> None:
    parent = start(record, "parent", PARENT)
    wait_for_words(record, "parent")
    assert is_alive(record, "parent")
    end_all(record, SystemClock())
    assert parent.wait(5) != 0
    assert not is_alive(record, "parent")


def test_one_that_does_not_listen_is_killed(record: Record) -> None:
    stubborn = start(record, "stubborn", STUBBORN)
    wait_for_words(record, "stubborn")
    end_all(record, SystemClock())
    assert stubborn.wait(5) == -9


def test_one_that_the_lab_did_not_start_lives_on(record: Record) -> None:
    other = subprocess.Popen(FOREVER, stdout=subprocess.DEVNULL)
    try:
        record.add("process", "other", pid=other.pid, started=start_time(other.pid) + 1, namespace="")
        assert not is_alive(record, "other")
        end_all(record, SystemClock())
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def wait_for_words(record: Record, name: str) -> None:
    assert wait_until(SystemClock(), 10, lambda: last_words(record, name) == "here")
