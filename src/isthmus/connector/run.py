"""From the command line's words to an exit code: a connector that runs until it is told to end, or cannot go on."""

import asyncio
import json
import logging
import os
import resource
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import ConfigurationError
from isthmus.base.hosts import is_address
from isthmus.base.ids import Ids, RandomIds
from isthmus.connector.connector import Connector, Surroundings
from isthmus.connector.dialling import Dialler
from isthmus.connector.enrolment import enrol
from isthmus.connector.folder import Folder, Identity, held
from isthmus.connector.listening import Places
from isthmus.connector.proxies import Proxies, proxies_of
from isthmus.connector.stopping import CannotGoOn
from isthmus.ending import told_to_end, unless
from isthmus.logs import configure_logging
from isthmus.wire.link.messages import Setup
from isthmus.wire.link.token import EnrolmentToken, TokenError, parse_token

DRAIN_SECONDS = 10.0
"""From SIGTERM until what is still carried is cut off."""

FILES_RESERVED = 256
"""Descriptors that are not for carried connections: listeners, spare lines, the name service, files."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What `isthmus connector run` was told; `token` is the enrolment token's text, empty without one."""

    data: Path
    token: str = ""
    proxy: str = ""
    listen: tuple[str, ...] = ()
    ready_file: str = ""

    def __repr__(self) -> str:
        return f"Options(data={self.data!r})"


def run_connector(options: Options, environment: Mapping[str, str]) -> int:
    """Runs until SIGTERM or SIGINT and returns the exit code.

    Raises `ConfigurationError`, and `CannotGoOn` when nothing that the connector may do by itself will help.
    """
    configure_logging()
    if options.ready_file:
        # One that an earlier process left behind would be believed.
        Path(options.ready_file).unlink(missing_ok=True)
    proxies = proxies_of(options.proxy, environment)
    places = parse_places(options.listen)
    with held(options.data) as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(options, folder, proxies, places))


def parse_places(words: Sequence[str]) -> Places:
    """What `--listen` says, `ADDRESS` or `ENDPOINT=ADDRESS`; raises `ConfigurationError`."""
    listed: dict[str, str] = {}
    anywhere = ""
    for word in words:
        endpoint, equals, address = word.rpartition("=")
        if not is_address(address) or (equals and not is_address(endpoint)):
            raise ConfigurationError(f"--listen takes ADDRESS or ENDPOINT=ADDRESS, IP addresses; not {word!r}.")
        if equals:
            listed[endpoint] = address
        else:
            anywhere = address
    return Places(listed, anywhere)


async def _run(options: Options, folder: Folder, proxies: Proxies, places: Places) -> int:
    stop = told_to_end(asyncio.get_running_loop())
    clock, ids = SystemClock(), RandomIds()
    dialler = Dialler(proxies, clock)
    working = asyncio.ensure_future(_identity(options, folder, dialler, clock=clock, ids=ids))
    if not await unless(stop, working):
        return 0
    connector = Connector(
        working.result(),
        folder,
        dialler,
        Surroundings(socket.gethostname(), places, _most()),
        clock=clock,
        ids=ids,
        on_set_up=_Ready(options.ready_file).tell,
    )
    running = asyncio.ensure_future(connector.run())
    try:
        await unless(stop, running)
    finally:
        await connector.drain(DRAIN_SECONDS if stop.is_set() else 0.0)
    return 0


async def _identity(options: Options, folder: Folder, dialler: Dialler, *, clock: Clock, ids: Ids) -> Identity:
    """The folder's identity where it is still of use, else a new one by the token; raises `CannotGoOn`."""
    identity = folder.load()
    if identity is not None and (identity.certified.not_after_ms > clock.utc_ms() or not options.token):
        if options.token:
            logger.info("the token is not needed", extra={"connector": identity.certified.name})
        return identity
    if not options.token:
        raise CannotGoOn(
            f"There is no certificate in {options.data} yet: give the token that `isthmus connector enrol` prints, "
            "by --token or ISTHMUS_ENROLMENT_TOKEN."
        )
    return await enrol(_parsed(options.token), folder, dialler, clock=clock, ids=ids)


def _parsed(token: str) -> EnrolmentToken:
    try:
        return parse_token(token)
    except TokenError as error:
        raise ConfigurationError(f"The token cannot be used: {error}.") from error


class _Ready:
    """Writes the ready file once, when the first setup was applied."""

    def __init__(self, path: str) -> None:
        self._path = path

    def tell(self, setup: Setup) -> None:
        if not self._path:
            return
        path, self._path = Path(self._path), ""
        endpoints = [{"name": each.name, "address": each.address, "ports": each.ports} for each in setup.endpoints]
        draft = path.with_name(f"{path.name}.new")
        try:
            draft.write_text(json.dumps({"pid": os.getpid(), "endpoints": endpoints}))
            draft.replace(path)
        except OSError as error:
            logger.error("ready file not written", extra={"reason": error.strerror})


def _most() -> int:
    """Connections that the process may hold, two descriptors each; raises the soft limit to the hard one first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, (hard - FILES_RESERVED) // 2)
