"""What is carried arrives as it was sent, ends as it ended, and says whose it is."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from connector.conftest import Running, device, free_port, receive
from connector.fake_hub import LINK_ID, FakeHub, HubEnd
from isthmus.connector.carrying import READ_BYTES
from isthmus.wire.link.messages import EndpointSetup, Setup

Place = tuple[str, int]
MEBIBYTE = 1_048_576


@pytest.fixture
async def place(hub: FakeHub, run: Callable[..., Awaitable[Running]], loopback_addresses: Callable[[], str]) -> Place:
    """A private endpoint that a connector listens for."""
    address = loopback_addresses()
    port = free_port(address)
    hub.setup = Setup(generation=1, endpoints=(EndpointSetup(address=address, ports=(port,), name="pe"),), spares=2)
    running = await run(hub)
    await running.set_up()
    return address, port


async def test_the_hub_hears_who_is_there_first(
    hub: FakeHub, place: Place, loopback_addresses: Callable[[], str]
) -> None:
    source = loopback_addresses()
    async with device(*place, source) as opened:
        await _send(opened, b"hello")
        end = await hub.end()
        assert await end.read(5) == b"hello"
        assert end.header.source_address == source
        assert end.header.source_port == opened.getsockname()[1]
        assert (end.header.destination_address, end.header.destination_port) == place
        assert end.header.link_id == LINK_ID


async def test_a_device_that_waits_to_be_greeted_is(hub: FakeHub, place: Place) -> None:
    async with device(*place) as opened:
        end = await hub.end()
        end.write(b"220 ready")
        assert await receive(opened, 9) == b"220 ready"


async def test_bytes_arrive_as_they_were_sent_both_ways_at_once(hub: FakeHub, place: Place) -> None:
    up, down = os.urandom(3 * MEBIBYTE + 17), os.urandom(2 * MEBIBYTE + 5)
    async with device(*place) as opened:
        end = await _begun(hub, opened)
        end.write(down)
        sending = asyncio.create_task(_send(opened, up))
        assert await receive(opened, len(down)) == down
        assert await end.read(len(up)) == up
        await sending


async def test_a_device_that_ends_is_answered_still(hub: FakeHub, place: Place) -> None:
    async with device(*place) as opened:
        end = await _begun(hub, opened)
        await _send(opened, b"last words")
        opened.shutdown(socket.SHUT_WR)
        assert await end.read(100) == b"last words"
        answer = os.urandom(MEBIBYTE)
        end.write(answer)
        end.finish()
        assert await receive(opened, len(answer) + 1) == answer


async def test_a_hub_that_ends_is_told_more_still(hub: FakeHub, place: Place) -> None:
    async with device(*place) as opened:
        end = await _begun(hub, opened)
        end.write(b"last words")
        end.finish()
        assert await receive(opened, 100) == b"last words"
        more = os.urandom(MEBIBYTE)
        await _send(opened, more)
        opened.shutdown(socket.SHUT_WR)
        assert await end.read(len(more) + 1) == more


async def test_a_reset_of_the_device_reaches_the_hub(hub: FakeHub, place: Place) -> None:
    async with device(*place) as opened:
        end = await _begun(hub, opened)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with pytest.raises(ConnectionError):
        await end.read(1)


async def test_a_reset_of_the_hub_reaches_the_device(hub: FakeHub, place: Place) -> None:
    async with device(*place) as opened:
        end = await _begun(hub, opened)
        end.cut()
        with pytest.raises(ConnectionResetError):
            await receive(opened, 1)


async def test_whoever_does_not_read_is_not_sent_more(hub: FakeHub, place: Place) -> None:
    """The connector holds one read, the kernel its buffers; the rest stays with the sender."""
    async with device(*place) as opened:
        end = await _begun(hub, opened)
        end.pause()
        sent = await _send_until_stuck(opened)
        assert sent < 64 * MEBIBYTE
        end.resume()
        assert len(await end.read(sent)) == sent


async def _begun(hub: FakeHub, opened: socket.socket) -> HubEnd:
    """The hub's end of a connection on which something came through."""
    await _send(opened, b"?")
    end = await hub.end()
    assert await end.read(1) == b"?"
    return end


async def _send(opened: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(opened, data)


async def _send_until_stuck(opened: socket.socket) -> int:
    """Sends until the kernel takes no more for a while; returns how much it took."""
    writable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_writer(opened, writable.set)
    sent = 0
    try:
        while True:
            writable.clear()
            async with asyncio.timeout(0.5):
                await writable.wait()
            sent += opened.send(b"x" * READ_BYTES)
    except TimeoutError:
        return sent
    finally:
        loop.remove_writer(opened)
