"""A connector in the test's loop, beside a fake hub, and devices as plain sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from connector.fake_hub import WAIT_SECONDS, FakeHub, fake_hub
from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.connector.connector import Connector, Perform, Surroundings
from isthmus.connector.dialling import Dialler
from isthmus.connector.folder import Folder, held
from isthmus.connector.listening import Places
from isthmus.connector.proxies import Proxies
from isthmus.wire.link.messages import Setup


@dataclass
class Running:
    """A connector that runs, and what it has said of itself."""

    connector: Connector
    task: "asyncio.Task[None]"
    setups: "asyncio.Queue[Setup]"

    async def set_up(self) -> Setup:
        """The next setup, applied."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.setups.get()


@pytest.fixture
async def hub(tmp_path: Path, loopback_addresses: Callable[[], str]) -> AsyncIterator[FakeHub]:
    """A fake hub at an address of its own."""
    async with fake_hub(tmp_path / "hub", loopback_addresses()) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> "contextlib.AbstractContextManager[Folder]":
    """A connector's folder, not held yet."""
    return held(tmp_path / "connector")


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Running]]]:
    """Starts connectors of a hub's; they are drained at the end."""
    started: list[Running] = []
    with contextlib.ExitStack() as folders:

        async def start(
            hub: FakeHub,
            *,
            proxies: Proxies = Proxies(),  # noqa: B008 - a frozen value
            places: Places = Places({}),  # noqa: B008 - a frozen value
            most: int = 1_000,
            perform: Perform | None = None,
            **identity: object,
        ) -> Running:
            own = folders.enter_context(held(tmp_path / f"connector{len(started)}"))
            setups: asyncio.Queue[Setup] = asyncio.Queue()
            connector = Connector(
                hub.identity(own, **identity),  # type: ignore[arg-type]
                own,
                Dialler(proxies, SystemClock()),
                Surroundings("plant-pc", places, most),
                clock=SystemClock(),
                ids=RandomIds(),
                on_set_up=setups.put_nowait,
                perform=perform,
            )
            running = Running(connector, asyncio.create_task(connector.run()), setups)
            started.append(running)
            return running

        yield start
        for running in started:
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)
            await running.connector.drain(0.0)


@contextlib.asynccontextmanager
async def device(address: str, port: int, source: str = "") -> AsyncIterator[socket.socket]:
    """A device's connection, closed afterwards."""
    loop = asyncio.get_running_loop()
    opened = socket.socket()
    opened.setblocking(False)
    try:
        if source:
            opened.bind((source, 0))
        async with asyncio.timeout(WAIT_SECONDS):
            await loop.sock_connect(opened, (address, port))
        yield opened
    finally:
        opened.close()


async def receive(opened: socket.socket, count: int) -> bytes:
    """So many bytes, fewer at the end of the stream; raises ConnectionResetError."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(WAIT_SECONDS):
        while len(data) < count:
            piece = await loop.sock_recv(opened, count - len(data))
            if not piece:
                break
            data += piece
    return data


def free_port(address: str) -> int:
    """A port of a test's own address."""
    with socket.create_server((address, 0)) as probing:
        port: int = probing.getsockname()[1]
        return port
