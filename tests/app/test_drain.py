"""The end of a server: everybody is let go in time, whoever does not take part is left behind, and nothing stays."""

import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.starting import KEY, seed_of, wait_for
from clients.raw import RawMqtt
from clients.sas import sas_token
from isthmus.base.places import MANAGEMENT_SOCKET
from support.server import RunningHub

DEVICES = 200
DRAIN_SECONDS_MAX = 10.0
"""What SIGTERM promises."""
ACCEPTED = b"\x20\x02\x00\x00"


@pytest.fixture
def hub(tmp_path: Path, make_hub: Callable[..., RunningHub]) -> RunningHub:
    return make_hub("--ephemeral", "--seed", str(seed_of(tmp_path, DEVICES)))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_in_time_with_devices_and_stalled_peers(hub: RunningHub, stack: ExitStack, number: signal.Signals) -> None:
    devices = connected(hub, stack, DEVICES)
    for _ in range(20):
        silent(hub, stack)
        stalled(hub, stack)

    hub.signal(number)

    assert hub.wait(DRAIN_SECONDS_MAX) == 0, hub.words()
    assert devices[0].read(1) == b""
    assert not (hub.data / MANAGEMENT_SOCKET).exists()
    assert not hub.ready_file.exists()
    assert "Traceback" not in hub.words()


def test_a_second_signal_ends_at_once(hub: RunningHub, stack: ExitStack) -> None:
    stalled(hub, stack)
    hub.signal(signal.SIGTERM)
    wait_until_closed(hub)

    hub.signal(signal.SIGTERM)

    assert hub.wait(DRAIN_SECONDS_MAX) == -signal.SIGTERM
    hub.start()


def test_watching_events_does_not_hold_the_end_up(hub: RunningHub, stack: ExitStack) -> None:
    with socket.socket(socket.AF_UNIX) as watching:
        watching.connect(str(hub.data / MANAGEMENT_SOCKET))
        watching.sendall(b"GET /hubs/isthmus/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert watching.recv(12) == b"HTTP/1.1 200"
        hub.stop()


def test_told_to_end_while_it_starts(tmp_path: Path, loopback_address: str) -> None:
    """The seed takes longer than the signal: the server is not ready yet, and ends all the same."""
    hub = RunningHub(tmp_path / "hub", loopback_address, options=["--seed", str(seed_of(tmp_path, 20_000))])
    try:
        hub.launch()
        wait_for(lambda: (hub.data / "state.db-wal").exists())
        hub.signal(signal.SIGTERM)
        assert hub.wait(DRAIN_SECONDS_MAX) == 0, hub.words()
        assert not hub.ready_file.exists()
        assert "Traceback" not in hub.words()
    finally:
        hub.kill()


def connected(hub: RunningHub, stack: ExitStack, count: int) -> list[RawMqtt]:
    """Devices `d0`, `d1`, … with a session each."""
    host = hub.host_name
    context = ssl.create_default_context(cafile=str(hub.ca))

    def connect(number: int) -> RawMqtt:
        device = RawMqtt(hub, context=context)
        token = sas_token(f"{host}/devices/d{number}", KEY)
        assert device.connect(f"d{number}", f"{host}/d{number}/?api-version=2021-04-12", token) == ACCEPTED
        return device

    with ThreadPoolExecutor(16) as pool:
        return [stack.enter_context(device) for device in pool.map(connect, range(count))]


def silent(hub: RunningHub, stack: ExitStack) -> None:
    """A peer that never says a word."""
    stack.enter_context(socket.create_connection((hub.address, 8883)))


def stalled(hub: RunningHub, stack: ExitStack) -> None:
    """A peer that shook hands and never reads, nor closes when it is told goodbye."""
    context = ssl.create_default_context(cafile=str(hub.ca))
    plain = socket.create_connection((hub.address, 8883))
    stack.enter_context(context.wrap_socket(plain, server_hostname=hub.host_name))


def wait_until_closed(hub: RunningHub) -> None:
    def closed() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((hub.address, 8883)) != 0

    wait_for(closed)
