"""Compares TLS layers: the server's CPU for each small record echoed, four servers side by side on one machine.

    .venv/bin/python benchmarks/tls_layers.py [--connections 50] [--bytes 200] [--seconds 3] [--rounds 3]

`connection` is the hub's own: `Connection` over `TlsLayer`. `memory` is `TlsLayer` on a socket with the least code that
echoes, `sslsocket` is `ssl.SSLSocket` with the same code around it, `uvloop` is the loop's own TLS transport. Each
connection sends one record and waits for its echo, as a device with one message in flight does. Rounds are outermost,
so that a slow minute of the machine hits all servers alike; the figure is the median of the rounds.
"""

import argparse
import asyncio
import multiprocessing
import os
import resource
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import cast

import uvloop

from isthmus.access.certificates import Authority
from isthmus.base.clock import SystemClock
from isthmus.base.ids import RandomIds
from isthmus.network.door import PUBLIC_DOOR
from isthmus.servers.gateway.budget import SocketBudget
from isthmus.servers.gateway.connection import READ_BYTES, Connection
from isthmus.servers.gateway.listener import Listeners, Plane
from isthmus.wire.tls import RECORD_BYTES, ServerContexts, TlsLayer, server_context

HOST_NAME = "hub.isthmus.test"
ADDRESS = "127.0.0.1"


class EchoHandler:
    """The pump of the `connection` server."""

    def opened(self, connection: Connection) -> None:
        connection.made_progress()
        self._connection = connection

    def received(self, data: bytes) -> None:
        self._connection.write(data)

    def closed(self, reason: str) -> None:
        pass

    def writable(self) -> None:
        pass


async def serve_connection(context: ssl.SSLContext) -> int:
    """Echoes by the hub's own front door; returns the port."""
    listeners = Listeners(
        clock=SystemClock(),
        ids=RandomIds(),
        budget=SocketBudget(10_000),
        owner_of=lambda _place, _address: None,
        on_refused=lambda _door, _plane, _address, refusal: print("refused", refusal),
    )
    contexts = ServerContexts(context)
    bound = listeners.open(ADDRESS, 0, door=PUBLIC_DOOR, plane=Plane.MQTT, contexts=contexts, make_handler=EchoHandler)
    return bound.port


async def serve_memory(context: ssl.SSLContext) -> int:
    """Echoes by `TlsLayer` on a socket."""
    loop = asyncio.get_running_loop()
    scratch = memoryview(bytearray(READ_BYTES))

    def start(accepted: socket.socket) -> None:
        layer = TlsLayer(context)

        def readable() -> None:
            count = accepted.recv_into(scratch)
            if not count:
                loop.remove_reader(accepted.fileno())
                accepted.close()
                return
            data = layer.receive(scratch[:count])
            if data:
                layer.send(data)
            if outgoing := layer.outgoing():
                accepted.send(outgoing)

        loop.add_reader(accepted.fileno(), readable)

    return accept(loop, start)


async def serve_sslsocket(context: ssl.SSLContext) -> int:
    """Echoes by `ssl.SSLSocket` on readiness callbacks."""
    loop = asyncio.get_running_loop()

    def start(accepted: socket.socket) -> None:
        tls = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        descriptor = tls.fileno()

        def shake_hands() -> None:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                return
            loop.add_reader(descriptor, readable)

        def readable() -> None:
            data = tls.read(RECORD_BYTES)
            if not data:
                loop.remove_reader(descriptor)
                tls.close()
                return
            while tls.pending():
                data += tls.read(RECORD_BYTES)
            tls.write(data)

        loop.add_reader(descriptor, shake_hands)

    return accept(loop, start)


async def serve_uvloop(context: ssl.SSLContext) -> int:
    """Echoes by the event loop's own TLS transport."""

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            # uvloop's TLS transport has the methods of asyncio.Transport without being one.
            self._transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            self._transport.write(data)

    server = await asyncio.get_running_loop().create_server(Echo, ADDRESS, 0, ssl=context)
    port: int = server.sockets[0].getsockname()[1]
    return port


Server = Callable[[ssl.SSLContext], Awaitable[int]]
SERVERS: dict[str, Server] = {
    "connection": serve_connection,
    "memory": serve_memory,
    "sslsocket": serve_sslsocket,
    "uvloop": serve_uvloop,
}


def accept(loop: asyncio.AbstractEventLoop, start: Callable[[socket.socket], None]) -> int:
    """Listens, hands every accepted socket on, and returns the port."""
    listening = socket.create_server((ADDRESS, 0), backlog=1024)
    listening.setblocking(False)

    def readable() -> None:
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start(accepted)

    loop.add_reader(listening, readable)
    port: int = listening.getsockname()[1]
    return port


def server_process(name: str, certificate: str, pipe: Pipe) -> None:
    """Serves until told to stop; answers every message on the pipe with its CPU seconds so far."""
    context = server_context(certificate, request_client_certificate=True)

    async def serve() -> None:
        pipe.send(await SERVERS[name](context))
        stop = asyncio.Event()

        def asked() -> None:
            if pipe.recv() == "stop":
                stop.set()
            used = resource.getrusage(resource.RUSAGE_SELF)
            pipe.send(used.ru_utime + used.ru_stime)

        asyncio.get_running_loop().add_reader(pipe.fileno(), asked)
        await stop.wait()

    uvloop.run(serve())


def measure(name: str, certificate: str, authority: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Runs one server and its clients; returns records a second and the server's CPU µs a record."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=server_process, args=(name, certificate, theirs), daemon=True)
    process.start()
    clients = connect(ours.recv(), authority, arguments.connections)
    payload = os.urandom(arguments.bytes)
    for _ in range(20):
        echo_once(clients, payload)
    ours.send("now")
    before, started, records = ours.recv(), time.monotonic(), 0
    while time.monotonic() < started + arguments.seconds:
        records += echo_once(clients, payload)
    elapsed = time.monotonic() - started
    ours.send("stop")
    cpu = ours.recv() - before
    for client in clients:
        client.close()
    process.join()
    return records / elapsed, cpu / records * 1e6


def connect(port: int, authority: str, count: int) -> list[ssl.SSLSocket]:
    """Opens TLS connections as devices do."""
    context = ssl.create_default_context(cafile=authority)
    plain = [socket.create_connection((ADDRESS, port)) for _ in range(count)]
    for each in plain:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return [context.wrap_socket(each, server_hostname=HOST_NAME) for each in plain]


def echo_once(clients: list[ssl.SSLSocket], payload: bytes) -> int:
    """Sends one record on every connection and reads every echo."""
    for client in clients:
        client.send(payload)
    for client in clients:
        if client.recv(RECORD_BYTES) != payload:
            raise SystemExit("an echo differs from what was sent")
    return len(clients)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--bytes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.load_or_create(Path(folder), [HOST_NAME], [ADDRESS], "", SystemClock())
        certificate = str(authority.server_certificate(HOST_NAME).path)
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVERS}
        for _ in range(arguments.rounds):
            for name, taken in figures.items():
                taken.append(measure(name, certificate, str(authority.ca_path), arguments))
    print(f"{'server':12} {'records/s':>10} {'CPU µs/record':>14}  (min–max)")
    for name, taken in figures.items():
        rate = statistics.median(rate for rate, _ in taken)
        cpus = [cpu for _, cpu in taken]
        print(f"{name:12} {rate:10,.0f} {statistics.median(cpus):14.1f}  ({min(cpus):.1f}–{max(cpus):.1f})")


if __name__ == "__main__":
    main()
