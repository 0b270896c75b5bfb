"""A cable between two addresses that can be cut: what listens at one end leads to the same ports of the other."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Self

START_SECONDS_MAX = 10.0
PIECE_BYTES = 65_536


class Cable:
    """Carries TCP connections from `near` to `far`, on a loop in a thread of its own."""

    def __init__(self, near: str, far: str, ports: Sequence[int]) -> None:
        self._near = near
        self._far = far
        self._ports = ports
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[asyncio.Server] = []
        self._carried: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS_MAX)
        self._loop.close()

    def cut(self) -> None:
        """Ends every connection, and takes no more until `mend`."""
        self._do(self._cut())

    def mend(self) -> None:
        """Carries again."""
        self._do(self._listen())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS_MAX)

    async def _listen(self) -> None:
        for port in self._ports:
            self._servers.append(await asyncio.start_server(self._carry_to(port), self._near, port))

    async def _cut(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        carried = tuple(self._carried)
        for task in carried:
            task.cancel()
        await asyncio.gather(*carried, return_exceptions=True)

    def _carry_to(self, port: int) -> Any:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._carried.add(task)
            task.add_done_callback(self._carried.discard)
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(self._far, port)
                try:
                    await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
                finally:
                    far_writer.transport.abort()
            writer.transport.abort()

        return carry


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE_BYTES):
        writer.write(data)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
