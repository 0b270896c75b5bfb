"""One worker process as the hub sees it: started, talked to, started again when it ends.

Theory of operation. One task. It starts the process with one end of a pair of sockets, says what the process needs to
know, and hears its reports until they end. Then it starts another one, after a pause that grows while they do not live
long, and tells it where the ledger is by then. The process has no other way to the hub: it opens the log's files by
itself, read only, and ends when its socket does.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Protocol

from isthmus.base.clock import Clock
from isthmus.egress.channel import Channel
from isthmus.egress.messages import Order, Report, decode_report

PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 30.0
"""Before another process, doubled each time that one has lived for less than the longest pause."""

END_SECONDS_MAX = 3.0
"""For a process to finish what it says, of the 10 s that the hub has."""

CLIENTS_MISSING = 3
"""The exit code of a process that cannot load the clients of targets."""

logger = logging.getLogger(__name__)


class Spawned(Protocol):
    """A process that was started; `asyncio.subprocess.Process` is one."""

    @property
    def pid(self) -> int: ...
    async def wait(self) -> int: ...
    def kill(self) -> None: ...


Spawn = Callable[[socket.socket, Path], Awaitable[Spawned]]
"""Starts a worker with its end of the pair, which is closed here afterwards, and the folder of the log."""


async def spawn_process(end: socket.socket, log_folder: Path) -> Spawned:
    """Starts this program once more, wherever it is installed: `-P` leaves out the folder that it is started in."""
    words = ("egress-worker", "--socket", str(end.fileno()), "--log", str(log_folder))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "isthmus", *words, pass_fds=(end.fileno(),), stdin=asyncio.subprocess.DEVNULL
    )


class WorkerProcess:
    """Keeps one worker process running while `run` is."""

    def __init__(
        self,
        log_folder: Path,
        first_words: Callable[[], Iterable[Order]],
        on_report: Callable[["WorkerProcess", Report], Awaitable[None]],
        clock: Clock,
        place: int = 0,
        spawn: Spawn = spawn_process,
    ) -> None:
        """`first_words` are said to each new process, and `on_report` hears what it says; `place` is among workers."""
        self.place = place
        self._spawn = spawn
        self._log_folder = log_folder
        self._first_words = first_words
        self._on_report = on_report
        self._clock = clock
        self._channel: Channel[Report] | None = None
        self._ending = False
        self.starts = 0
        self.pid = 0
        self.trouble = ""

    def say(self, order: Order) -> None:
        """Says something to the process; without one, it will hear the first words."""
        if self._channel is not None:
            self._channel.say(order)

    async def run(self) -> None:
        """Keeps it running until `end`, or until cancelled, which kills it."""
        pause = PAUSE_SECONDS_MIN
        while True:
            begun = self._clock.monotonic()
            await self._live()
            if self._is_ending():
                return
            lived = self._clock.monotonic() - begun
            pause = PAUSE_SECONDS_MIN if lived > PAUSE_SECONDS_MAX else min(pause * 2, PAUSE_SECONDS_MAX)
            logger.error("egress worker ended", extra={"reason": self.trouble, "again_in_seconds": pause})
            await asyncio.sleep(pause)

    def end(self) -> None:
        """Lets the process report and end; `run` returns then."""
        self._ending = True
        if self._channel is not None:
            self._channel.finish()

    def _is_ending(self) -> bool:
        return self._ending

    async def _live(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await self._spawn(theirs, self._log_folder)
        self.starts += 1
        self.pid = process.pid
        channel = self._channel = await Channel.over(ours, decode_report)
        try:
            for word in self._first_words():
                channel.say(word)
            self.trouble = ""
            while (report := await channel.hear()) is not None:
                await self._on_report(self, report)
        finally:
            self._channel = None
            channel.close()
            self.trouble = "" if self._ending else f"the worker process {process.pid} has ended"
            if await _ended(process) == CLIENTS_MISSING:
                self.trouble = "the clients of targets are not installed: pip install 'isthmus[sinks]'"


async def _ended(process: Spawned) -> int:
    """Waits for a process whose socket has ended, and kills it when it lives on; answers its exit code."""
    try:
        async with asyncio.timeout(END_SECONDS_MAX):
            return await process.wait()
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        code = await asyncio.shield(process.wait())
        if not isinstance(error, TimeoutError):
            raise
        return code
