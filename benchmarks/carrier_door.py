"""The far end of a carrier without a hub behind it, and clients in front: what carrying bytes costs by itself.

The door ends the outer TLS, reads the PROXY header, and then does what the destination port says: echoes, drops, or
sends without end. It tells a connector, over its control connection, to listen at those three ports. Door and clients
share a process on the load's core; the carrier has the other one to itself, and its CPU is what is measured.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from isthmus.access.certificates import Authority
from isthmus.access.connector_authority import ConnectorAuthority
from isthmus.base.clock import SystemClock
from isthmus.connector.folder import Enrolled, Identity, held
from isthmus.connector.identity import certificate_request, new_key
from isthmus.wire.link.hub_side import HubLink
from isthmus.wire.link.messages import CONTROL_PROTOCOL, EndpointSetup, Setup
from isthmus.wire.proxy_protocol import HeaderReader, ProxyHeader
from isthmus.wire.tls import link_context

ADDRESS, DOOR_PORT, DOOR_PORT_HEADER_FIRST = "127.0.0.1", 22_894, 22_895
HOST_NAME = "hub.bench.test"
PRIVATE_ADDRESS = "127.50.0.6"
ECHO_PORT, DROP_PORT, FLOOD_PORT = 22_981, 22_982, 22_983
PORTS = (ECHO_PORT, DROP_PORT, FLOOD_PORT)
NAME = "bench"
PIECE = b"x" * 262_144
PREFIX_BYTES = 16
"""Of a PROXY header: signature, command, family and length."""
WARM_UP_SECONDS = 1.0
TRY_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Work:
    """What clients do for a while: `bytes` in flight on each connection and back, or as many as go one way."""

    name: str
    port: int
    connections: int
    size: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What the carrier has used and uses."""

    cpu_seconds: float
    resident_kib: int


BULK = Work("256 KiB there and back, 500 connections", ECHO_PORT, 500, len(PIECE))
"""Shows what a connection keeps that has carried much; first, while the carrier has no memory to use again."""
WORKS = (
    BULK,
    Work("round trips of 256 B, 200 connections", ECHO_PORT, 200, 256),
    Work("bytes up, 8 connections", DROP_PORT, 8, len(PIECE)),
    Work("bytes down, 8 connections", FLOOD_PORT, 8, len(PIECE)),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A door's certificates and the carrier's identity, in a folder."""

    contexts: ssl.SSLContext
    identity: Identity
    ca: Path


def stand(folder: Path) -> Standing:
    """Makes the authorities, the door's context and an enrolled identity."""
    clock = SystemClock()
    authority = Authority.load_or_create(folder / "tls", (HOST_NAME,), (ADDRESS,), "", clock)
    connectors = ConnectorAuthority.load_or_create(folder / "tls", clock)
    certificate = authority.server_certificate(HOST_NAME)
    context = link_context(str(certificate.path), trusted=str(connectors.trust_path), protocols=[CONTROL_PROTOCOL])
    key = new_key()
    issued = connectors.issue(certificate_request(key, NAME), NAME, 1, 24.0)
    enrolled = Enrolled(
        hubs=(f"{ADDRESS}:{DOOR_PORT}",),
        tls_name=HOST_NAME,
        network=NAME,
        ca_pem=authority.ca_path.read_text(),
        obtained_ms=clock.utc_ms(),
    )
    with held(folder / "carrier") as own:
        identity = own.store(key, issued.pem, enrolled)
    return Standing(context, identity, authority.ca_path)


def drive(standing: Standing, cores: set[int], seconds: float, used: Callable[[], Usage]) -> list[dict[str, float]]:
    """Runs every work once; for each: `count` a second (round trips, or bytes), the carrier's `cpu_us` and `kib`.

    `cpu_us` is for one of what is counted, `kib` the memory for one connection.
    """
    os.sched_setaffinity(0, cores)
    return uvloop.run(_drive(standing, seconds, used))


async def _drive(standing: Standing, seconds: float, used: Callable[[], Usage]) -> list[dict[str, float]]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Door, ADDRESS, DOOR_PORT, ssl=standing.contexts, backlog=1024)
    header_first = loop.create_task(_take_header_first(standing.contexts))
    try:
        await _carrier_listens()
        return [await _measure(work, seconds, used) for work in WORKS]
    finally:
        header_first.cancel()
        server.close()


async def _take_header_first(contexts: ssl.SSLContext) -> None:
    """A door that reads the PROXY header ahead of TLS."""
    loop = asyncio.get_running_loop()
    tasks = set()
    with socket.create_server((ADDRESS, DOOR_PORT_HEADER_FIRST), backlog=1024) as listening:
        listening.setblocking(False)
        while True:
            accepted, _ = await loop.sock_accept(listening)
            task = loop.create_task(_serve_header_first(accepted, contexts))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def _serve_header_first(accepted: socket.socket, contexts: ssl.SSLContext) -> None:
    loop = asyncio.get_running_loop()
    # Clients that are cut off at the end of a work reset what is still shaking hands.
    with contextlib.suppress(ConnectionError):
        head = await loop.sock_recv(accepted, PREFIX_BYTES)
        head += await loop.sock_recv(accepted, int.from_bytes(head[-2:], "big"))
        header = HeaderReader().receive(head)
        assert header is not None
        await loop.connect_accepted_socket(lambda: Door(header), accepted, ssl=contexts)


async def _carrier_listens() -> None:
    deadline = time.monotonic() + TRY_SECONDS_MAX
    while True:
        try:
            _, writer = await asyncio.open_connection(PRIVATE_ADDRESS, ECHO_PORT)
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError("the carrier does not listen") from None
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return


async def _measure(work: Work, seconds: float, used: Callable[[], Usage]) -> dict[str, float]:
    counted = [0]
    stop = asyncio.Event()
    act = {ECHO_PORT: _round_trips, DROP_PORT: _send, FLOOD_PORT: _receive}[work.port]
    before = used()
    streams = [await asyncio.open_connection(PRIVATE_ADDRESS, work.port) for _ in range(work.connections)]
    if work.port == ECHO_PORT:
        # Until every connection has its line: what lines cost to dial is not what is measured here.
        await asyncio.gather(*(_round_trip(reader, writer, b"?") for reader, writer in streams))
    tasks = [asyncio.create_task(act(reader, writer, work.size, counted, stop)) for reader, writer in streams]
    await asyncio.sleep(WARM_UP_SECONDS)
    count, start, began = counted[0], used(), time.monotonic()
    await asyncio.sleep(seconds)
    end = used()
    count, cpu, took = counted[0] - count, end.cpu_seconds - start.cpu_seconds, time.monotonic() - began
    stop.set()
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _, writer in streams:
        writer.transport.abort()
    kib = (end.resident_kib - before.resident_kib) / work.connections
    return {"count": count / took, "cpu_us": cpu / count * 1e6 if count else 0.0, "kib": kib}


async def _round_trips(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, counted: list[int], stop: asyncio.Event
) -> None:
    piece = PIECE[:size]
    while not stop.is_set():
        await _round_trip(reader, writer, piece)
        counted[0] += 1


async def _round_trip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, piece: bytes) -> None:
    writer.write(piece)
    await reader.readexactly(len(piece))


async def _send(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, counted: list[int], stop: asyncio.Event
) -> None:
    with contextlib.suppress(ConnectionError):
        while not stop.is_set():
            writer.write(PIECE)
            await writer.drain()
            counted[0] += size


async def _receive(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, counted: list[int], stop: asyncio.Event
) -> None:
    while not stop.is_set():
        data = await reader.read(size)
        if not data:
            raise ConnectionResetError("the carrier ended a connection")
        counted[0] += len(data)


class Door(asyncio.Protocol):
    """One connection at the door: the control connection of a connector, or one that is carried."""

    def __init__(self, header: ProxyHeader | None = None) -> None:
        """`header` is the one that has been read already."""
        self._early = header

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport has the methods of asyncio.Transport without being one.
        self._transport = cast(asyncio.Transport, transport)
        self._act: Callable[[bytes], None] = self._header
        self._reader = HeaderReader()
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == CONTROL_PROTOCOL:
            self._link = HubLink(NAME, 0.0)
            self._act = self._converse
        elif self._early is not None:
            self._begin(self._early)

    def data_received(self, data: bytes) -> None:
        self._act(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._full = True

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._flood()

    def _header(self, data: bytes) -> None:
        header = self._reader.receive(data)
        if header is None:
            return
        self._begin(header)
        if self._reader.rest:
            self._act(self._reader.rest)

    def _begin(self, header: ProxyHeader) -> None:
        self._act = {ECHO_PORT: self._transport.write}.get(header.destination_port, lambda _dropped: None)
        if header.destination_port == FLOOD_PORT:
            self._full = False
            self._flood()

    def _flood(self) -> None:
        if self._full:
            return
        self._transport.write(PIECE)
        # Unless that was too much: then `resume_writing` goes on.
        if not self._full:
            asyncio.get_running_loop().call_soon(self._flood)

    def _converse(self, data: bytes) -> None:
        greeted = self._link.hello is not None
        self._link.receive(data, 0.0)
        if not greeted and self._link.hello is not None:
            endpoint = EndpointSetup(address=PRIVATE_ADDRESS, ports=PORTS, name=NAME)
            self._link.send(Setup(generation=1, endpoints=(endpoint,), spares=16))
        self._transport.write(self._link.data_to_send())
