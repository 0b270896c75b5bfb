"""An HTTP forward proxy that only knows CONNECT (RFC 9110 §9.3.6), as zones have at their border."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from clients.reading import WAIT_SECONDS

HEAD_BYTES_MAX = 65_536


class ForwardProxy:
    """Carries tunnels and remembers where to; runs on a loop in a thread of its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.port = 0
        self.targets: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)

    def start(self) -> None:
        """Returns when it listens."""
        self._thread.start()
        assert self._ready.wait(WAIT_SECONDS)

    def close(self) -> None:
        """Ends it and its tunnels."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def hold(self) -> None:
        """Carries nothing more, opens nothing, and says so to nobody, as a network that is cut; until `release`."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def release(self) -> None:
        """Carries again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._tunnel, self.address, 0, limit=HEAD_BYTES_MAX)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        tunnels = asyncio.all_tasks() - {asyncio.current_task()}
        for tunnel in tunnels:
            tunnel.cancel()
        await asyncio.gather(*tunnels, return_exceptions=True)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        verb, target, _ = head.split("\r\n", 1)[0].split(" ")
        if verb != "CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        self.targets.append(target)
        await self._flowing.wait()
        host, _, port = target.rpartition(":")
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(self._carry(reader, to_writer), self._carry(to_reader, writer))
        finally:
            writer.transport.abort()
            to_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of a tunnel, to its end."""
        with suppress(ConnectionError):
            while data := await reader.read(HEAD_BYTES_MAX):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            writer.write_eof()


@contextmanager
def forward_proxy(address: str) -> Iterator[ForwardProxy]:
    """A proxy at an address, ended afterwards."""
    proxy = ForwardProxy(address)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
