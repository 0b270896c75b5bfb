"""Connection strings of the vendors' emulators: AMQP without TLS, at a port that the string names.

A hosted namespace has no such listener, and must not; so what stands between takes TLS off, as an emulator would have
none.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from clients.hosted import Namespace, namespace
from clients.site import HOST
from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.sink import Destination
from isthmus.sinks.factory import sink_factory
from sinks.deliveries import delivery
from sinks.egress import HUB, LaidEgress
from support.server import RunningHub

AMQPS = 5671
PIECE_BYTES = 65_536


@pytest.mark.parametrize(
    ("words", "kind"),
    [("eventhubs", EndpointKind.EVENT_HUB), ("servicebus", EndpointKind.QUEUE), ("servicebus", EndpointKind.TOPIC)],
)
async def test_an_emulator_is_spoken_to_without_tls(
    make_hub: Callable[..., RunningHub], words: str, kind: EndpointKind
) -> None:
    hub = await asyncio.to_thread(make_hub, hostname=HOST)
    with namespace(hub, words) as made:
        make = {EndpointKind.EVENT_HUB: "eventhub", EndpointKind.QUEUE: "queue", EndpointKind.TOPIC: "topic"}[kind]
        await asyncio.to_thread(made.make, make, "create", "-n", "target")
        async with without_tls(hub, made) as port:
            string = made.connection_string("target").replace(made.host, f"{made.host}:{port}")
            egress = LaidEgress(hub.ca, {made.host: [Destination(hub.address, port)]})
            by_key = EndpointAuthentication.KEY
            endpoint = RoutingEndpoint(2, "0", "target", kind, by_key, f"{string};UseDevelopmentEmulator=true")
            sink = sink_factory(SystemClock(), RandomIds())(HUB, endpoint, egress)
            await sink.deliver(0, [delivery(number=number) for number in range(3)])
            await sink.probe()
            await sink.close()
            assert egress.asked[0] == (made.host, port)


@asynccontextmanager
async def without_tls(hub: RunningHub, made: Namespace) -> AsyncIterator[int]:
    """A port that passes what it hears on to the namespace by TLS."""
    trust = ssl.create_default_context(cafile=str(hub.ca))
    passing: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(hub.address, AMQPS, ssl=trust, server_hostname=made.host)
        for source, target in ((reader, there[1]), (there[0], writer)):
            passing.add(asyncio.create_task(copy(source, target)))

    server = await asyncio.start_server(accept, hub.address, 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])
    for task in passing:
        task.cancel()
    await asyncio.gather(*passing, return_exceptions=True)


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(PIECE_BYTES):
            target.write(data)
            await target.drain()
    finally:
        target.close()
