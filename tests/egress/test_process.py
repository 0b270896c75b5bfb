"""A worker process as the hub keeps it: started again when it ends, ended with the hub."""

import asyncio
import socket
from pathlib import Path

import pytest

from egress.world import InProcess, until
from isthmus.base.clock import SystemClock
from isthmus.egress import process as module
from isthmus.egress.channel import Channel
from isthmus.egress.messages import Asleep, Grown, Order, Report, decode_order, decode_report, frame
from isthmus.egress.process import CLIENTS_MISSING, Spawned, WorkerProcess


class Exits:
    """A process that has ended with a code."""

    pid = 1

    def __init__(self, code: int) -> None:
        self._code = code

    async def wait(self) -> int:
        return self._code

    def kill(self) -> None:
        raise AssertionError("it has ended")


async def nothing(worker: WorkerProcess, report: Report) -> None:
    """Hears and does nothing."""


async def test_what_ends_is_started_again_with_the_first_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS_MIN", 0.01)
    heard: list[Order | None] = []

    async def spawn(end: socket.socket, folder: Path) -> Spawned:
        async def work(mine: socket.socket) -> None:
            channel = await Channel.over(mine, decode_order)
            heard.append(await channel.hear())
            channel.close()

        return InProcess(asyncio.create_task(work(end.dup())), len(heard))

    worker = WorkerProcess(Path(), lambda: [Grown()], nothing, SystemClock(), spawn=spawn)
    running = asyncio.create_task(worker.run())
    await until(lambda: len(heard) >= 3)
    assert heard[:3] == [Grown()] * 3
    assert worker.starts >= 3
    worker.end()
    await running


async def test_missing_clients_are_told_with_the_remedy() -> None:
    async def spawn(end: socket.socket, folder: Path) -> Spawned:
        return Exits(CLIENTS_MISSING)

    worker = WorkerProcess(Path(), list, nothing, SystemClock(), spawn=spawn)
    running = asyncio.create_task(worker.run())
    await until(lambda: "pip install" in worker.trouble)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_frames_that_are_none_and_ends_are_told_apart() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours, decode_report)
    theirs.sendall(frame(Asleep(5)))
    assert await channel.hear() == Asleep(5)
    theirs.sendall(b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="a frame of"):
        await channel.hear()
    theirs.close()
    assert await channel.hear() is None
    channel.close()
    channel.say(Grown())
