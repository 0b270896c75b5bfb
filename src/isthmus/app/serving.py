"""From a configuration to an exit code: a server that runs until it is told to end."""

import asyncio

import uvloop

from isthmus.app.server import Server
from isthmus.app.stores import in_a_sentence, open_stores
from isthmus.config import Config
from isthmus.ending import told_to_end, unless
from isthmus.logs import configure_logging
from isthmus.seed import Seed, load_seed


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
                    server.announce()
            await stop.wait()
        finally:
            await server.drain()
    return 0
