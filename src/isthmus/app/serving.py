"""From a configuration to an exit code: a server that runs until it is told to end."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import uvloop

from isthmus.app.server import Server
from isthmus.app.stores import in_a_sentence, open_stores
from isthmus.config import Config
from isthmus.logs import configure_logging
from isthmus.seed import Seed, load_seed

ENDING = (signal.SIGTERM, signal.SIGINT)
"""Signals that end the server; the second one at once."""


def serve(config: Config) -> int:
    """Serves until SIGTERM or SIGINT and returns the exit code; raises `ConfigurationError` when it cannot start."""
    configure_logging()
    seed = load_seed(config.seed) if config.seed else Seed()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, seed))


async def _serve(config: Config, seed: Seed) -> int:
    stop = _told_to_end(asyncio.get_running_loop())
    async with open_stores(config) as stores:
        server = Server(config, stores)
        try:
            with in_a_sentence():
                if await _unless(stop, server.open(seed)):
                    server.announce()
            await stop.wait()
        finally:
            await server.drain()
    return 0


def _told_to_end(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Is set by the first signal to end; the second one ends the process at once, whatever it is doing."""
    stop = asyncio.Event()

    def told() -> None:
        stop.set()
        for number in ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in ENDING:
        loop.add_signal_handler(number, told)
    return stop


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Does the work, unless `stop` comes first; True when it is done. Raises what the work raises."""
    doing, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
        return doing.done()
    finally:
        doing.cancel()
        stopping.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
