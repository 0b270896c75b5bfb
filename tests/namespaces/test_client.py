"""The hub's side: a child that lives and dies with it, a helper that comes and goes, and nothing lost on the way."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.base.sockets import SocketKind, Unattended
from isthmus.namespaces.client import AtSocket, Child, NamespaceClient, Nobody
from support.namespace_helper import NOBODY, RunningHelper
from support.netns import Namespace, namespaces

WAIT_SECONDS = 20.0
ADDRESS = "10.1.0.5"
ADDED = "10.1.0.5/32"
STREAM = SocketKind.STREAM


@pytest.fixture
def plants(own_folder: Path) -> Iterator[tuple[Namespace, Namespace]]:
    """Two customers with the same range."""
    del own_folder
    with namespaces(2) as (one, two):
        for each in (one, two):
            each.ip("link", "add", "ot0", "type", "bridge")
            each.ip("addr", "add", "10.1.0.1/24", "dev", "ot0")
            each.ip("link", "set", "ot0", "up")
        yield one, two


@pytest.fixture
def child(own_folder: Path) -> Child:
    return Child(own_folder / "added")


@pytest.fixture
async def client(child: Child) -> AsyncIterator[NamespaceClient]:
    made = NamespaceClient(child)
    yield made
    await made.close()


def place(plant: Namespace) -> str:
    return f"netns:{plant.name}"


async def test_two_places_have_one_address_and_port(
    client: NamespaceClient, plants: tuple[Namespace, Namespace]
) -> None:
    one, two = plants
    with (
        await client.listening_socket(place(one), ADDRESS, 8883, STREAM) as first,
        await client.listening_socket(place(two), ADDRESS, 8883, STREAM) as second,
    ):
        assert first.getsockname() == second.getsockname() == (ADDRESS, 8883)
        assert client.network_of(first) != client.network_of(second)
        assert client.network_of(first) == await client.hold(place(one), ADDRESS)


async def test_a_child_takes_everything_back_when_it_is_said_goodbye_to(
    own_folder: Path, child: Child, plants: tuple[Namespace, Namespace]
) -> None:
    one, two = plants
    leaving = NamespaceClient(child)
    for each in plants:
        (await leaving.listening_socket(place(each), ADDRESS, 8883, STREAM)).close()
    pid = child.pid
    assert pid is not None
    assert ADDED in one.addresses() & two.addresses()

    await leaving.close()

    assert ADDED not in one.addresses() | two.addresses()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "added" not in os.listdir(own_folder)


async def test_a_killed_child_is_replaced_and_its_sockets_live_on(
    client: NamespaceClient, child: Child, plants: tuple[Namespace, Namespace]
) -> None:
    one, _ = plants
    with await client.listening_socket(place(one), ADDRESS, 8883, STREAM) as listening:
        kill(child)
        assert ADDED in one.addresses()
        assert await client.hold(place(one), ADDRESS) == client.network_of(listening)
        with pytest.raises(ConfigurationError, match="in use there"):
            await client.listening_socket(place(one), ADDRESS, 8883, STREAM)
    await client.release(place(one), ADDRESS)
    assert ADDED not in one.addresses()


async def test_what_a_killed_child_has_left_is_cleared_up_without_being_asked_for(
    own_folder: Path, client: NamespaceClient, child: Child, plants: tuple[Namespace, Namespace]
) -> None:
    one, _ = plants
    await client.hold(place(one), ADDRESS)
    kill(child)
    later = NamespaceClient(Child(own_folder / "added"))
    await later.begin()
    await later.close()
    assert ADDED not in one.addresses()


async def test_a_connection_is_made_from_inside_and_adds_no_address(
    client: NamespaceClient, plants: tuple[Namespace, Namespace]
) -> None:
    one, other = plants
    loop = asyncio.get_running_loop()
    with (
        await client.listening_socket(place(one), ADDRESS, 8883, STREAM) as listening,
        await client.connecting_socket(place(one), ADDRESS, 8883, STREAM) as connecting,
    ):
        accepted, _ = await asyncio.wait_for(loop.sock_accept(listening), 10)
        with accepted:
            await loop.sock_sendall(connecting, b"from inside")
            assert await loop.sock_recv(accepted, 64) == b"from inside"
    with pytest.raises(ConfigurationError, match="unreachable"):
        await client.connecting_socket(place(other), "10.99.0.1", 8883, STREAM)
    assert ADDED not in other.addresses()


async def test_an_order_that_nobody_waits_for_leaves_no_socket_open(
    client: NamespaceClient, plants: tuple[Namespace, Namespace]
) -> None:
    one, _ = plants
    await client.begin()
    asking = asyncio.create_task(client.listening_socket(place(one), ADDRESS, 8883, STREAM))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (await client.listening_socket(place(one), ADDRESS, 8883, STREAM)).close()


async def test_an_external_helper_may_come_late_and_go(own_folder: Path, plants: tuple[Namespace, Namespace]) -> None:
    one, _ = plants
    helper = RunningHelper(own_folder)
    client = NamespaceClient(AtSocket(helper.socket))
    with pytest.raises(Unattended, match=r"is not at .*; start it: isthmus namespace-helper --socket"):
        await client.hold(place(one), ADDRESS)
    helper.start()
    try:
        with await client.listening_socket(place(one), ADDRESS, 8883, STREAM) as listening:
            helper.kill()
            with pytest.raises(Unattended):
                await client.hold(place(one), ADDRESS)
            helper.start()
            assert await client.hold(place(one), ADDRESS) == client.network_of(listening)
        await client.release(place(one), ADDRESS)
        assert ADDED not in one.addresses()
    finally:
        await client.close()
        helper.kill()


async def test_a_helper_that_is_not_root_is_trusted_with_nothing(own_folder: Path) -> None:
    """Who passes a socket on could keep it, and take what comes."""
    os.chmod(own_folder, 0o777)
    path = own_folder / "helper.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        os.setresuid(-1, NOBODY, 0)
        try:
            listening.bind(str(path))
            # The kernel remembers who listened (unix(7), SO_PEERCRED).
            listening.listen()
        finally:
            os.setresuid(-1, 0, 0)
        client = NamespaceClient(AtSocket(path))
        with pytest.raises(Unattended, match="is not root, and is trusted with no socket"):
            await client.begin()
        await client.close()


async def test_nobody_says_why(own_folder: Path) -> None:
    del own_folder
    client = NamespaceClient(Nobody("Start one."))
    with pytest.raises(Unattended, match=r"Start one\."):
        await client.hold("netns:plant", ADDRESS)
    await client.close()


@pytest.mark.parametrize("wrong", ["connector:plant", "netns:", "netns", "plant"])
async def test_what_is_no_namespace_is_not_asked_for(wrong: str) -> None:
    client = NamespaceClient(Nobody("Start one."))
    with pytest.raises(ConfigurationError, match="is no network namespace"):
        await client.hold(wrong, ADDRESS)
    await client.close()


def kill(child: Child) -> None:
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
