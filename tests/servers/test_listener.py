"""Listeners: doors by address, opening and closing while others run, refused ports, the budget, the local socket."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.network.door import LOCAL_DOOR, PUBLIC_DOOR, Door, DoorKind
from isthmus.servers.gateway import accepting
from isthmus.servers.gateway.listener import UNACKNOWLEDGED_MS, PortNotPermitted
from servers.front_door import WAIT_SECONDS, FrontDoor, Pump, client_context, front_door, open_descriptors

PRIVATE_DOOR = Door(DoorKind.PRIVATE, "/hubs/one", "plant")
OTHER_DOOR = Door(DoorKind.PRIVATE, "/hubs/two", "works")


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    async with front_door(tmp_path) as opened:
        yield opened


async def test_connection_carries_the_door_of_its_listener(
    door: FrontDoor, loopback_addresses: Callable[[], str]
) -> None:
    public = door.open(loopback_addresses())
    private = door.open(loopback_addresses(), door=PRIVATE_DOOR)

    assert await door_of(door, public.address, public.port) == PUBLIC_DOOR
    assert await door_of(door, private.address, private.port) == PRIVATE_DOOR
    assert set(door.listeners.bound) == {public, private}


async def test_under_a_wildcard_the_reached_address_decides(
    tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    owned, free = loopback_addresses(), loopback_addresses()
    async with front_door(tmp_path, owners={owned: PRIVATE_DOOR}) as door:
        bound = door.open("0.0.0.0")

        assert await door_of(door, owned, bound.port) == PRIVATE_DOOR
        assert await door_of(door, free, bound.port) == PUBLIC_DOOR


async def test_owned_address_is_never_public_whatever_its_listener_says(tmp_path: Path, loopback_address: str) -> None:
    owners: dict[str, Door] = {}
    async with front_door(tmp_path, owners=owners) as door:
        bound = door.open(loopback_address)
        owners[loopback_address] = PRIVATE_DOOR

        assert await door_of(door, bound.address, bound.port) == PRIVATE_DOOR


async def test_wildcard_listener_serves_later_addresses(door: FrontDoor, loopback_address: str) -> None:
    wildcard = door.open("0.0.0.0")

    assert door.open(loopback_address, port=wildcard.port, door=PRIVATE_DOOR) == wildcard
    assert door.listeners.bound == (wildcard,)


async def test_ipv6_has_listeners_of_its_own(door: FrontDoor) -> None:
    bound = door.open("::")
    with socket.socket() as probe:
        probe.settimeout(WAIT_SECONDS)
        assert probe.connect_ex(("127.0.0.1", bound.port)) == errno.ECONNREFUSED

    _, writer = await door.connect(bound, address="::1")
    pump = await door.pump()

    assert (pump.connection.peer_address, pump.connection.local_address) == ("::1", "::1")
    await end(writer)


async def test_closed_listener_refuses_and_its_connections_live_on(
    door: FrontDoor, loopback_addresses: Callable[[], str]
) -> None:
    closing = door.open(loopback_addresses(), lambda: Pump(echo=True))
    staying = door.open(loopback_addresses())
    reader, writer = await door.connect(closing)

    door.listeners.close(closing.address, closing.port)
    door.listeners.close(closing.address, closing.port)

    with pytest.raises(ConnectionRefusedError):
        await door.connect(closing)
    writer.write(b"still here")
    assert await asyncio.wait_for(reader.readexactly(10), WAIT_SECONDS) == b"still here"
    assert await door_of(door, staying.address, staying.port, skip=1) == PUBLIC_DOOR
    await end(writer)


async def test_released_door_has_neither_listener_nor_sockets(
    tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    """A listener outlives its namespace, so all of it must go by name; what came through a wildcard as well."""
    address, other = loopback_addresses(), loopback_addresses()
    async with front_door(tmp_path, owners={address: PRIVATE_DOOR}) as door:
        wildcard = door.open("0.0.0.0")
        leaving = door.open(other, port=0, place="netns:one", opened=listening(other), door=PRIVATE_DOOR)
        _, public = await door.connect(wildcard, address=other)
        public_pump = await door.pump()
        _, writer = await door.connect(leaving)
        pump = await door.pump()
        _, through_wildcard = await door.connect(wildcard, address=address)
        private_pump = await door.pump()

        door.listeners.release(PRIVATE_DOOR, address)
        door.listeners.release(PRIVATE_DOOR, other, "netns:one")

        await asyncio.wait_for(pump.is_closed.wait(), WAIT_SECONDS)
        await asyncio.wait_for(private_pump.is_closed.wait(), WAIT_SECONDS)
        assert pump.reasons == private_pump.reasons == ["private endpoint deleted"]
        assert door.listeners.bound == (wildcard,)
        assert not public_pump.reasons
        for each in (public, writer, through_wildcard):
            each.transport.abort()


async def test_one_address_in_two_places_has_two_doors(tmp_path: Path, loopback_addresses: Callable[[], str]) -> None:
    """Sockets of other places are made there; here two addresses stand for the one that both places have."""
    address, there = loopback_addresses(), loopback_addresses()
    owners = {"netns:one" + address: PRIVATE_DOOR, "netns:two" + address: OTHER_DOOR}
    async with front_door(tmp_path, owners=owners) as door:
        first = listening(address)
        one = door.open(address, port=0, place="netns:one", opened=first)
        second = listening(there, one.port)
        two = door.open(address, port=0, place="netns:two", opened=second)

        assert await door_of(door, address, one.port) == PRIVATE_DOOR
        assert await door_of(door, there, two.port) == OTHER_DOOR
        assert (one.address, one.port) == (two.address, two.port)
        assert {bound.place for bound in door.listeners.bound} == {"netns:one", "netns:two"}


def listening(address: str, port: int = 0) -> socket.socket:
    """A listening socket that somebody else has made."""
    return socket.create_server((address, port))


async def test_closed_address_can_be_opened_again(door: FrontDoor, loopback_address: str) -> None:
    first = door.open(loopback_address)
    _, writer = await door.connect(first)
    door.listeners.close(first.address, first.port)

    assert door.open(loopback_address, port=first.port) == first
    await end(writer)


async def test_accepted_sockets_inherit_the_options(door: FrontDoor, loopback_address: str) -> None:
    _, writer = await door.connect(door.open(loopback_address))
    accepted = (await door.pump()).connection.raw_socket

    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNACKNOWLEDGED_MS
    assert accepted.getblocking() is False
    await end(writer)


async def test_port_in_use_is_said_in_a_sentence(door: FrontDoor, loopback_address: str) -> None:
    with socket.create_server((loopback_address, 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigurationError, match=rf"^Port {port} at .* in use: .*\.$"):
            door.open(loopback_address, port=port)


async def test_forbidden_port_is_a_case_of_its_own(
    door: FrontDoor, loopback_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forbidden(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("isthmus.servers.gateway.listener.socket.socket", Forbidden)

    with pytest.raises(PortNotPermitted, match=r"^Port 443 may not be bound by this user: .*start=443.*\.$"):
        door.open(loopback_address, port=443)


@pytest.mark.parametrize(("address", "words"), [("192.0.2.1", "not an address of this machine"), ("hub", "not an IP")])
async def test_foreign_address_is_said_in_a_sentence(door: FrontDoor, address: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        door.open(address)


async def test_full_budget_costs_the_silent_peer_its_socket(tmp_path: Path, loopback_address: str) -> None:
    async with front_door(tmp_path, sockets_max=2) as door:
        bound = door.open(loopback_address)
        _, proven = await door.connect(bound)
        silent_reader, silent = await asyncio.open_connection(bound.address, bound.port)
        await door.pump()

        _, third = await door.connect(bound)
        await door.pump()

        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(silent_reader.read(), WAIT_SECONDS)
        assert [refusal.rule for _, _, _, refusal in door.refusals] == ["socket.evicted"]
        assert door.listeners.connections == 2
        for writer in (proven, silent, third):
            await end(writer)


async def test_full_budget_of_proven_peers_turns_newcomers_away(tmp_path: Path, loopback_address: str) -> None:
    async with front_door(tmp_path, sockets_max=1) as door:
        bound = door.open(loopback_address)
        _, proven = await door.connect(bound)
        await door.pump()

        reader, newcomer = await asyncio.open_connection(bound.address, bound.port)

        assert await asyncio.wait_for(reader.read(), WAIT_SECONDS) == b""
        assert [refusal.rule for _, _, _, refusal in door.refusals] == ["socket.budget"]
        for writer in (proven, newcomer):
            await end(writer)


async def test_accepting_pauses_without_descriptors_and_goes_on(
    door: FrontDoor, loopback_address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "ACCEPT_PAUSE_SECONDS", 0.01)
    accept, failures = socket.socket.accept, [errno.EMFILE, errno.ECONNABORTED]

    def sometimes(listening: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            code = failures.pop(0)
            raise OSError(code, os.strerror(code))
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", sometimes)

    _, writer = await door.connect(door.open(loopback_address))
    await door.pump()

    assert failures == []
    assert caplog.messages.count("accepting pauses") == 1
    await end(writer)


async def test_drain_closes_everybody_and_aborts_who_does_not_end(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    reader, ending = await door.connect(bound)
    ended, stalled = await door.pump(), await asyncio.to_thread(stalling_client, bound.address, bound.port)
    held = await door.pump()
    while not held.connection.congested:
        held.connection.write(bytes(65_536))
    door.listeners.stop_accepting()

    assert await door.listeners.drain(1.0) == 1

    assert await asyncio.wait_for(reader.read(), WAIT_SECONDS) == b""
    await asyncio.wait_for(held.is_closed.wait(), WAIT_SECONDS)
    assert (ended.reasons, held.reasons) == (["server stopped"], ["server stopped"])
    assert door.listeners.bound == ()
    stalled.close()
    await end(ending)


async def test_connections_leave_no_descriptor_behind(door: FrontDoor, loopback_address: str) -> None:
    """Two thousand sockets come and go, half of them without a word, some in the middle of the handshake."""
    bound = door.open(loopback_address)
    await door.settle(bound)
    before = len(list(open_descriptors()))

    await asyncio.to_thread(come_and_go, bound.address, bound.port, 2_000)
    await door.settle(bound)

    assert len(list(open_descriptors())) <= before


async def test_handshakes_leave_no_descriptor_behind(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    await door.settle(bound)
    before = len(list(open_descriptors()))

    for _ in range(100):
        (await asyncio.to_thread(stalling_client, bound.address, bound.port)).close()
        await asyncio.wait_for((await door.pump()).is_closed.wait(), WAIT_SECONDS)

    assert len(list(open_descriptors())) <= before


async def test_local_socket_knows_its_user_and_is_closed_to_others(door: FrontDoor, tmp_path: Path) -> None:
    path = tmp_path / "isthmus.sock"
    pump = Pump(echo=True, proves=False)
    door.listeners.open_unix(path, lambda: pump)

    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"who am I?")

    assert await asyncio.wait_for(reader.readexactly(9), WAIT_SECONDS) == b"who am I?"
    assert pump.connection.peer_uid == os.getuid()
    assert pump.connection.door == LOCAL_DOOR
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await end(writer)


async def test_local_socket_is_outside_the_budget(tmp_path: Path, loopback_address: str) -> None:
    async with front_door(tmp_path, sockets_max=1) as door:
        _, other = await door.connect(door.open(loopback_address))
        await door.pump()
        door.listeners.open_unix(tmp_path / "isthmus.sock", lambda: Pump(echo=True))

        reader, writer = await asyncio.open_unix_connection(tmp_path / "isthmus.sock")
        writer.write(b"x")

        assert await asyncio.wait_for(reader.readexactly(1), WAIT_SECONDS) == b"x"
        for each in (writer, other):
            await end(each)


async def test_socket_file_of_a_dead_server_is_replaced(door: FrontDoor, tmp_path: Path) -> None:
    path = tmp_path / "isthmus.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    door.listeners.open_unix(path, Pump)
    _, writer = await asyncio.open_unix_connection(path)

    await end(writer)


async def test_live_server_keeps_its_socket_file(door: FrontDoor, tmp_path: Path) -> None:
    door.listeners.open_unix(tmp_path / "isthmus.sock", Pump)

    with pytest.raises(ConfigurationError, match="runs on this folder already"):
        door.listeners.open_unix(tmp_path / "isthmus.sock", Pump)


async def test_file_in_the_way_is_not_removed(door: FrontDoor, tmp_path: Path) -> None:
    (tmp_path / "isthmus.sock").write_text("precious")

    with pytest.raises(ConfigurationError, match="in the way"):
        door.listeners.open_unix(tmp_path / "isthmus.sock", Pump)


async def test_local_socket_in_a_deep_folder(door: FrontDoor, tmp_path: Path) -> None:
    """Such a path does not fit into the kernel's address; it is bound, and found stale, through its folder."""
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    path = folder / "isthmus.sock"
    for _ in range(2):
        door.listeners.open_unix(path, lambda: Pump(proves=False))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(ConfigurationError, match="A server runs on this folder already"):
            door.listeners.open_unix(path, Pump)
        door.listeners._unix.pop(path)[1].close()  # as a killed server leaves it

    door.listeners.open_unix(path, Pump)
    door.listeners.close_unix(path)
    assert list(folder.iterdir()) == []


async def test_name_too_long_for_a_socket_is_said(door: FrontDoor, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="path too long"):
        door.listeners.open_unix(tmp_path / ("x" * 120), Pump)


async def test_shut_down_removes_the_socket_file(door: FrontDoor, tmp_path: Path) -> None:
    path = tmp_path / "isthmus.sock"
    door.listeners.open_unix(path, Pump)

    door.listeners.shut_down()

    assert not path.exists()


async def door_of(door: FrontDoor, address: str, port: int, *, skip: int = 0) -> Door:
    """Connects and tells the door that the connection carries."""
    _, writer = await asyncio.open_connection(address, port, ssl=client_context(), server_hostname="hub.isthmus.test")
    for _ in range(skip):
        await door.pump()
    pump = await door.pump()
    await end(writer)
    return pump.connection.door


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(writer.wait_closed(), WAIT_SECONDS)


def stalling_client(address: str, port: int) -> ssl.SSLSocket:
    raw = socket.create_connection((address, port), WAIT_SECONDS)
    return client_context().wrap_socket(raw, server_hostname="hub.isthmus.test")


def come_and_go(address: str, port: int, times: int) -> None:
    for number in range(times):
        with socket.create_connection((address, port), WAIT_SECONDS) as peer:
            if number % 2:
                peer.sendall(b"\x16\x03\x01\x02")
