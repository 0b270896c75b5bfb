"""Three attacks on every plane: those who take their time, those who say nothing, those who all come at once.

One table names the planes (`attacked.py`), and each attack goes over all of them. Honest peers of every plane are
answered beside it; what the attack leaves behind, descriptors, threads and objects, is nothing; and what is told of it
in journal and log is bounded, however many there were. The long forms come with 2,000 peers, and wait for the limits as
they are.
"""

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.attacked import NAMES, PLANES, WAIT_SECONDS, Attacked, Plane, attacked, descriptors, held
from isthmus.access.journal import STORED_EACH_MAX
from isthmus.names import serve as names_serve
from isthmus.servers.gateway import connection
from isthmus.wire.amqp import connection as amqp_connection
from isthmus.wire.mqtt import session as mqtt_session
from support.loopback import Loopback

PACE_SECONDS = 0.02
"""Between two bytes of a slow peer."""

LONG_SECONDS = 300.0
"""Above all limits as they are, and above what 2,000 peers take on one loop with the server they call."""

SILENT = 40
"""Sockets of a flood at each plane; the budget is less."""

SOCKETS_MAX = 32
MINUTE_MS = 60_000

TOLD_MAX = STORED_EACH_MAX + 1
"""Entries of the journal, and lines of the log, of one plane, rule and minute: the first ones, and how many more."""

OTHER_LINES_MAX = 10
"""Lines of the log, of warnings and worse, that tell of no refusal."""

OBJECTS_MAX = 20_000
"""More than before, after two storms: caches that are filled once."""


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[tuple[Path, str, str]]:
    """A folder, the public address, and the private endpoint's."""
    with Loopback() as loopback:
        yield tmp_path, loopback.take(), loopback.take()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 2.0)
    monkeypatch.setattr(connection, "PROOF_SECONDS", 2.5)
    monkeypatch.setattr(mqtt_session, "CONNECT_SECONDS_MAX", 2.0)
    monkeypatch.setattr(amqp_connection, "HANDSHAKE_SECONDS_MAX", 2.0)
    monkeypatch.setattr(names_serve, "IDLE_SECONDS", 2.0)


@pytest.mark.usefixtures("short")
async def test_who_never_ends_what_he_began_is_ended(
    addresses: tuple[Path, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with attacked(*addresses) as site:
        await _all_slow(site, WAIT_SECONDS)
        await _check_told(site, caplog)


@pytest.mark.long
async def test_who_never_ends_what_he_began_is_ended_by_the_limits_as_they_are(
    addresses: tuple[Path, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with attacked(*addresses) as site:
        await _all_slow(site, LONG_SECONDS)
        await _check_told(site, caplog)


async def _all_slow(site: Attacked, seconds_max: float) -> None:
    sources = {plane: f"127.98.0.{number}" for number, plane in enumerate(PLANES, 1)}
    async with asyncio.timeout(seconds_max), asyncio.TaskGroup() as group:
        for plane, source in sources.items():
            group.create_task(_dripped(site, plane, source))
        await site.serves()
    told = {plane.name: (await site.rules(source))[-1:] for plane, source in sources.items()}
    assert told == {plane.name: [plane.rule] if plane.rule else [] for plane in PLANES}


async def _dripped(site: Attacked, plane: Plane, source: str) -> None:
    """Says what an honest peer says, a byte at a time, and never the last one, until the server ends it."""
    reader, writer = await site.connect(plane, source)
    ended = asyncio.ensure_future(_end_of(reader))
    drops = iter(plane.says(0)[:-1])
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while not (await asyncio.wait({ended}, timeout=PACE_SECONDS))[0]:
            if (drop := next(drops, None)) is not None:
                writer.write(bytes((drop,)))
        await ended
    writer.transport.abort()


async def _end_of(reader: asyncio.StreamReader) -> None:
    while await reader.read(4_096):
        pass


@pytest.mark.parametrize("silent", [SILENT, pytest.param(2_000, marks=pytest.mark.long)])
async def test_sockets_that_say_nothing_take_nobody_his_place(
    addresses: tuple[Path, str, str], caplog: pytest.LogCaptureFixture, silent: int
) -> None:
    async with attacked(*addresses, sockets_max=SOCKETS_MAX) as site:
        await site.serves()
        before = held()
        for plane in {plane.port: plane for plane in PLANES}.values():
            opened = [await site.connect(plane, silent=True) for _ in range(silent)]
            await site.datagrams(silent)
            await site.serves()
            assert site.server._listeners.connections <= SOCKETS_MAX
            assert len(site.server._names._connections) <= names_serve.CONNECTIONS_MAX
            for _, writer in opened:
                writer.transport.abort()
            await site.emptied(before.descriptors)
        assert held().threads <= before.threads
        rules = await site.rules()
        assert "socket.evicted" in rules
        await _check_told(site, caplog)


@pytest.mark.parametrize("peers", [20, pytest.param(2_000, marks=pytest.mark.long)])
async def test_when_all_come_at_once_all_are_answered_and_nothing_is_left(
    addresses: tuple[Path, str, str], caplog: pytest.LogCaptureFixture, peers: int
) -> None:
    async with attacked(*addresses, devices=peers) as site, asyncio.timeout(LONG_SECONDS * len(PLANES)):
        await site.serves()
        open_files = descriptors()
        await _storm(site, peers, open_files)
        before = held()
        await _storm(site, peers, open_files)
        after = held()
        assert after.threads <= before.threads
        assert after.objects <= before.objects + OBJECTS_MAX
        await _check_told(site, caplog)


async def _storm(site: Attacked, peers: int, descriptors_max: int) -> None:
    for plane in PLANES:
        count = min(peers, names_serve.CONNECTIONS_MAX) if plane.port == NAMES else peers
        answered = await asyncio.gather(*(site.honest(plane, number) for number in range(count)))
        assert all(answered), f"{plane}: {answered.count(False)} of {count} were not answered"
        await site.emptied(descriptors_max)
    await site.serves()
    await site.emptied(descriptors_max)


async def _check_told(site: Attacked, caplog: pytest.LogCaptureFixture) -> None:
    """Journal and log tell of an attack what an owner needs, and no more however long it is."""
    told = Counter((each.plane, each.rule, each.utc_ms // MINUTE_MS) for each in await site.refusals())
    assert max(told.values(), default=0) <= TOLD_MAX
    lines = [vars(record) for record in caplog.records if record.levelno >= logging.WARNING]
    said = Counter((line.get("plane"), line.get("rule"), line["created"] // 60) for line in lines if line.get("rule"))
    assert max(said.values(), default=0) <= TOLD_MAX
    assert len(lines) - said.total() <= OTHER_LINES_MAX
