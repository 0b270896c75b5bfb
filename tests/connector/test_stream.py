"""A line as a stream: what is held in either direction is bounded, and beyond the bound the line has ended."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from isthmus.connector.dialling import READ_BYTES
from isthmus.connector.line import Line
from isthmus.connector.stream import HELD_BYTES_MAX, LineStream
from isthmus.servers.gateway.connection import PlainLayer


class Ends:
    """A stream, and the socket of the hub at its other end."""

    def __init__(self) -> None:
        ours, self.hub = socket.socketpair()
        for each in (ours, self.hub):
            each.setblocking(False)
        self.stream = LineStream(Line(ours, PlainLayer(), "hub:9443", 0.0))

    async def ended(self) -> str:
        async with asyncio.timeout(10):
            while not self.stream.ended:
                await self.stream.wait(1)
        return self.stream.ended


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    made = Ends()
    yield made
    made.stream.close()
    made.hub.close()


async def test_what_comes_waits_until_it_is_taken(ends: Ends) -> None:
    ends.hub.send(b"hello")
    await ends.stream.wait(10)
    assert ends.stream.take() == b"hello"
    assert ends.stream.take() == b""
    ends.stream.write(b"hello back")
    assert ends.hub.recv(100) == b"hello back"


async def test_a_hub_that_sends_more_than_is_taken_waits(ends: Ends) -> None:
    sent = 3 * HELD_BYTES_MAX
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(ends.hub, b"x" * sent))
    async with asyncio.timeout(10):
        while ends.stream.held <= HELD_BYTES_MAX:
            await ends.stream.wait(1)
        assert ends.stream.held <= HELD_BYTES_MAX + READ_BYTES
        assert not sending.done()
        got = 0
        while got < sent:
            got += len(ends.stream.take())
            await ends.stream.wait(0.1)
        await sending
    assert (got, ends.stream.ended) == (sent, "")


async def test_a_hub_that_does_not_read_is_given_up(ends: Ends) -> None:
    for _ in range(4):
        ends.stream.write(b"x" * HELD_BYTES_MAX)
    assert await ends.ended() == "the hub does not read"
