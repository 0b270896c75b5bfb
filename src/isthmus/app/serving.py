"""From a configuration to an exit code: a server that runs until it is told to end."""

import asyncio
import gc

import uvloop

from isthmus.app.server import Server
from isthmus.app.stores import in_a_sentence, open_stores
from isthmus.config import Config
from isthmus.ending import told_to_end, unless
from isthmus.logs import configure_logging
from isthmus.seed import Seed, load_seed

COLLECT_AFTER = (20_000, 10, 5)
"""Objects more than before until the young are looked through, and how many such rounds until the older are.

A look through everything holds all connections up for as long as it takes, tens of milliseconds in a large fleet; what
comes and goes with a message is freed without it.
"""


def serve(config: Config) -> int:
    """Serves until SIGTERM or SIGINT and returns the exit code; raises `ConfigurationError` when it cannot start."""
    configure_logging()
    seed = load_seed(config.seed) if config.seed else Seed()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, seed))


async def _serve(config: Config, seed: Seed) -> int:
    stop = told_to_end(asyncio.get_running_loop())
    async with open_stores(config) as stores:
        server = Server(config, stores)
        try:
            with in_a_sentence():
                if await unless(stop, server.open(seed)):
                    _set_garbage_aside()
                    server.announce()
            await stop.wait()
        finally:
            await server.drain()
    return 0


def _set_garbage_aside() -> None:
    """Takes what the start has made, which stays, out of all later looks for garbage (gc.freeze of the gc module).

    It is not looked through before: that takes a tenth of a second and finds a few thousand objects.
    """
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()
