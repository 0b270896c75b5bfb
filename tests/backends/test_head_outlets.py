"""Ways out for heads: a file that survives a torn line, and log servers over each transport."""

import os
import re
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devices.fakes import StandingClock
from isthmus.backends.head_outlets import HeadsFile, LogServer, log_server
from isthmus.base.errors import ConfigurationError

HEAD = '{"isthmusJournalHead":1}'
MESSAGE = re.compile(rb"<109>1 2026-01-01T00:00:00\.123Z plant isthmus 7 journal-head - " + HEAD.encode())
WAIT_SECONDS = 10.0


def test_heads_are_appended_to_a_private_file(tmp_path: Path) -> None:
    outlet = HeadsFile(tmp_path / "heads")
    outlet.write("one")
    outlet.write("two")
    assert outlet.path.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(outlet.path.stat().st_mode) == 0o600


def test_a_line_that_was_cut_short_does_not_spoil_the_next(tmp_path: Path) -> None:
    outlet = HeadsFile(tmp_path / "heads")
    outlet.path.write_text("one\ntw")
    outlet.write("three")
    assert outlet.path.read_text() == "one\ntw\nthree\n"


def test_a_file_that_may_not_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        HeadsFile(tmp_path / "missing" / "heads").write("one")


def test_a_head_goes_to_a_log_server_by_datagram(loopback_address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind((loopback_address, 0))
        receiving.settimeout(WAIT_SECONDS)
        to(f"udp://{loopback_address}:{receiving.getsockname()[1]}").write(HEAD)
        assert MESSAGE.fullmatch(receiving.recv(4_096))


def test_a_head_goes_to_a_log_server_by_stream(loopback_address: str) -> None:
    with socket.create_server((loopback_address, 0)) as listening, received(listening) as got:
        to(f"tcp://{loopback_address}:{listening.getsockname()[1]}").write(HEAD)
    length, _, message = b"".join(got).partition(b" ")
    assert int(length) == len(message)
    assert MESSAGE.fullmatch(message)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_head_goes_to_the_machines_own_log_server(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, kind) as listening:
        listening.bind(str(path))
        if kind is socket.SOCK_STREAM:
            listening.listen(1)
            with received(listening) as got:
                to(f"unix://{path}").write(HEAD)
        else:
            to(f"unix://{path}").write(HEAD)
            got = [listening.recv(4_096)]
    assert MESSAGE.fullmatch(b"".join(got).strip())


def test_a_log_server_that_is_away_is_an_error(loopback_address: str) -> None:
    with pytest.raises(OSError, match="refused"):
        to(f"tcp://{loopback_address}:1").write(HEAD)


@pytest.mark.parametrize("url", ["syslog", "udp://", "tcp://host:port", "unix://", "http://host", "udp://host/path"])
def test_what_is_no_log_server_is_told(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"audit\.syslog"):
        to(url)


def to(url: str) -> LogServer:
    return log_server(url, machine="plant", process=7, clock=StandingClock())


@contextmanager
def received(listening: socket.socket) -> Iterator[list[bytes]]:
    """What one connection brings, complete when the block has ended."""
    got: list[bytes] = []

    def take() -> None:
        taken, _ = listening.accept()
        with taken:
            while content := taken.recv(4_096):
                got.append(content)

    listening.settimeout(WAIT_SECONDS)
    thread = threading.Thread(target=take)
    thread.start()
    yield got
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), os.getpid()
