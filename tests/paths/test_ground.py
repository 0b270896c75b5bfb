"""Where connections of a walk come from."""

import asyncio
import ipaddress

import pytest

from isthmus.base.sockets import SocketKind
from isthmus.paths.ground import ThisMachine


async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize(("inside", "source"), [(True, "127.8.9.10"), (False, "127.0.0.1")])
async def test_inside_a_connection_comes_from_where_it_goes(*, inside: bool, source: str) -> None:
    server = await asyncio.start_server(nobody, "127.8.9.10", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with await ThisMachine(inside=inside).connect("127.8.9.10", port, SocketKind.STREAM) as opened:
            assert opened.getsockname()[0] == source


async def test_an_endpoint_is_found_where_it_is_listened_at() -> None:
    server = await asyncio.start_server(nobody, "127.8.9.11", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        ground = ThisMachine({"10.20.0.4": "127.8.9.11"}.__getitem__, inside=True)
        with await ground.connect("10.20.0.4", port, SocketKind.STREAM) as opened:
            assert opened.getpeername()[0] == "127.8.9.11"


async def test_listening_everywhere_means_the_machines_own_address() -> None:
    server = await asyncio.start_server(nobody, "0.0.0.0", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with await ThisMachine(lambda address: "0.0.0.0", inside=True).connect(
            "10.20.0.4", port, SocketKind.STREAM
        ) as opened:
            near, far = opened.getsockname()[0], opened.getpeername()[0]
    assert near == far
    assert not ipaddress.ip_address(near).is_unspecified
