"""Connections on real sockets: handshake, delivery, back-pressure, closing, and peers that misbehave."""

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from isthmus.base.errors import Hop
from isthmus.servers.gateway import connection as connection_module
from isthmus.servers.gateway.connection import WRITE_BYTES_MAX, WRITE_HIGH_BYTES
from isthmus.wire.tls import TlsLayer
from servers.front_door import WAIT_SECONDS, FrontDoor, Pump, client_context, front_door
from support.certificates import issue, write_pem

CHUNK = b"0123456789abcdef" * 4096


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    async with front_door(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_connection_knows_its_peer(
    door: FrontDoor, loopback_address: str, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    device = issue("dev1")
    context = client_context(version, write_pem(tmp_path / "dev1.pem", device))
    bound = door.open(loopback_address)

    _, writer = await door.connect(bound, context)
    connection = (await door.pump()).connection

    assert connection.peer_chain == (device.der,)
    assert connection.tls_version == version.name.replace("_", ".")
    assert connection.server_name == "hub.isthmus.test"
    assert (connection.peer_address, connection.peer_port) == writer.get_extra_info("sockname")
    assert connection.local_address == loopback_address
    await end(writer)


async def test_everything_is_echoed_in_order(door: FrontDoor, loopback_address: str) -> None:
    reader, writer = await door.connect(door.open(loopback_address, lambda: Pump(echo=True)))
    sent = b"".join(bytes([number]) * 100_003 for number in range(30))

    writer.write(sent)

    assert await within(reader.readexactly(len(sent))) == sent
    await end(writer)


async def test_writes_of_one_callback_leave_as_one_record(door: FrontDoor, loopback_address: str) -> None:
    class Chatty(Pump):
        def received(self, data: bytes) -> None:
            for _ in range(50):
                self.connection.write(b"0123456789")

    bound = door.open(loopback_address, Chatty)
    tls = await asyncio.to_thread(blocking_client, bound.address, bound.port)
    with tls:
        await asyncio.to_thread(tls.sendall, b"go")

        # A read of a TLS socket gives one record.
        assert await asyncio.to_thread(tls.recv, 16_384) == b"0123456789" * 50


async def test_writes_from_elsewhere_are_sent_at_once(door: FrontDoor, loopback_address: str) -> None:
    reader, writer = await door.connect(door.open(loopback_address))
    pump = await door.pump()

    pump.connection.write(b"by the way")

    assert pump.connection.buffered == 0
    assert await within(reader.readexactly(10)) == b"by the way"
    await end(writer)


async def test_stalled_reader_congests_and_recovers(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    tls = await asyncio.to_thread(blocking_client, bound.address, bound.port)
    pump = await door.pump()
    written = congest(pump)
    assert pump.connection.buffered > WRITE_HIGH_BYTES
    assert pump.writable_calls == 0

    read = asyncio.create_task(asyncio.to_thread(read_exactly, tls, written))
    await pump.until(lambda: pump.writable_calls == 1)

    assert not pump.connection.congested
    assert await within(read) == CHUNK * (written // len(CHUNK))
    tls.close()


async def test_handler_that_ignores_congestion_is_cut(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    tls = await asyncio.to_thread(blocking_client, bound.address, bound.port)
    pump = await door.pump()

    for _ in range(10 * WRITE_BYTES_MAX // len(CHUNK)):
        pump.connection.write(CHUNK)
    await within(pump.is_closed.wait())

    assert pump.reasons == ["write buffer full"]
    assert pump.connection.buffered == 0
    tls.close()


async def test_close_sends_what_was_written_then_ends(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    tls = await asyncio.to_thread(blocking_client, bound.address, bound.port)
    pump = await door.pump()

    pump.connection.write(CHUNK * 100)
    pump.connection.close()
    pump.connection.write(b"too late")

    assert await asyncio.to_thread(read_exactly, tls, 100 * len(CHUNK)) == CHUNK * 100
    assert await asyncio.to_thread(tls.recv, 1) == b""
    await within(pump.is_closed.wait())
    assert pump.reasons == ["closed"]
    tls.close()


async def test_close_while_the_peer_sends_does_not_reset_the_last_words(door: FrontDoor, loopback_address: str) -> None:
    class Refusing(Pump):
        def received(self, data: bytes) -> None:
            self.connection.write(b"refused")
            self.connection.close()

    bound = door.open(loopback_address, Refusing)
    tls = await asyncio.to_thread(blocking_client, bound.address, bound.port)
    with tls:
        await asyncio.to_thread(tls.sendall, CHUNK * 30)

        assert await asyncio.to_thread(tls.recv, 100) == b"refused"


async def test_nothing_is_delivered_after_close(door: FrontDoor, loopback_address: str) -> None:
    reader, writer = await door.connect(door.open(loopback_address))
    pump = await door.pump()
    pump.connection.close()

    writer.write(b"anybody there?")

    assert await within(reader.read()) == b""
    await within(pump.is_closed.wait())
    assert pump.bytes_received == b""
    await end(writer)


async def test_peer_that_takes_nothing_is_cut_at_the_deadline(
    door: FrontDoor, loopback_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_SECONDS", 0.05)
    bound = door.open(loopback_address)
    tls = await asyncio.to_thread(blocking_client, bound.address, bound.port)
    pump = await door.pump()
    congest(pump)

    pump.connection.close()
    await within(pump.is_closed.wait())

    assert pump.reasons == ["closed"]
    tls.close()


async def test_abort_resets(door: FrontDoor, loopback_address: str) -> None:
    reader, writer = await door.connect(door.open(loopback_address))
    pump = await door.pump()

    pump.connection.abort()
    pump.connection.abort()
    pump.connection.close()

    with pytest.raises(ConnectionResetError):
        await within(reader.read())
    await within(pump.is_closed.wait())
    assert pump.reasons == ["aborted"]
    writer.transport.abort()


async def test_end_of_the_peer_is_told_once(door: FrontDoor, loopback_address: str) -> None:
    _, writer = await door.connect(door.open(loopback_address))
    pump = await door.pump()
    writer.write(b"bye")
    await end(writer)

    await within(pump.is_closed.wait())
    pump.connection.close()

    assert pump.bytes_received == b"bye"
    assert pump.reasons == ["closed by peer"]


async def test_a_connection_that_has_ended_holds_no_tls(door: FrontDoor, loopback_address: str) -> None:
    _, writer = await door.connect(door.open(loopback_address))
    pump = await door.pump()
    assert any(isinstance(held, TlsLayer) for held in gc.get_referents(pump.connection))
    await end(writer)
    await within(pump.is_closed.wait())
    pump.connection.abort()

    assert not any(isinstance(held, TlsLayer) for held in gc.get_referents(pump.connection))


async def test_reset_by_the_peer_is_told_once(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    tls = await asyncio.to_thread(blocking_client, bound.address, bound.port)
    pump = await door.pump()
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tls.close()

    await within(pump.is_closed.wait())

    assert pump.reasons == ["reset by peer"]


async def test_peer_that_half_closes_still_gets_what_was_written(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    tls = await asyncio.to_thread(blocking_client, bound.address, bound.port)
    pump = await door.pump()
    congest(pump)
    tls.shutdown(socket.SHUT_WR)

    # The socket's end is read raw: the standard library refuses to decrypt after it shut down one side.
    await asyncio.to_thread(drain, tls)
    await within(pump.is_closed.wait())

    assert pump.reasons == ["closed by peer"]
    assert pump.connection.buffered == 0
    tls.close()


async def test_paused_reading_holds_the_peer_back(door: FrontDoor, loopback_address: str) -> None:
    _, writer = await door.connect(door.open(loopback_address))
    pump = await door.pump()
    pump.connection.pause_reading()
    writer.write(CHUNK * 4)
    await within(writer.drain())

    assert pump.bytes_received == b""
    pump.connection.resume_reading()
    await pump.until(lambda: len(pump.bytes_received) == 4 * len(CHUNK))
    await end(writer)


async def test_bytes_decrypted_before_a_pause_are_delivered_at_resume(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address, lambda: Pump(pauses=True))
    tls = await asyncio.to_thread(first_words, bound.address, bound.port, b"early")
    pump = await door.pump()
    assert pump.bytes_received == b""

    pump.connection.resume_reading()
    await pump.until(lambda: pump.bytes_received == b"early")
    tls.close()


async def test_failing_handler_is_cut(door: FrontDoor, loopback_address: str, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Pump):
        def received(self, data: bytes) -> None:
            raise RuntimeError("a bug")

    _, writer = await door.connect(door.open(loopback_address, Failing))
    pump = await door.pump()
    writer.write(b"x")
    await within(pump.is_closed.wait())

    assert pump.reasons == ["internal error"]
    assert "connection handler failed" in caplog.messages
    writer.transport.abort()


async def test_garbage_instead_of_a_handshake_is_explained(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    reader, writer = await asyncio.open_connection(bound.address, bound.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")

    await within(reader.read())

    assert [refusal.value for _, _, _, refusal in door.refusals] == ["http request"]
    assert door.pumps.empty()
    await end(writer)


async def test_client_that_does_not_trust_us_is_explained(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)

    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(blocking_client, bound.address, bound.port, ssl.create_default_context())
    await door.settle(bound)

    refusal = door.refusals[0][3]
    assert (refusal.hop, refusal.value) == (Hop.TLS, "tlsv1 alert unknown ca")
    assert "isthmus ca" in refusal.remedy


async def test_probe_that_says_nothing_is_nobodys_failure(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address)
    _, writer = await asyncio.open_connection(bound.address, bound.port)
    await end(writer)
    await door.settle(bound)

    assert door.refusals == []


async def test_handshake_byte_by_byte_succeeds(door: FrontDoor, loopback_address: str) -> None:
    bound = door.open(loopback_address, lambda: Pump(echo=True))

    assert await asyncio.to_thread(slow_client, bound.address, bound.port) == b"slow"


async def test_handshake_that_takes_too_long_is_cut(
    door: FrontDoor, loopback_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_SECONDS", 0.05)
    bound = door.open(loopback_address)
    reader, writer = await asyncio.open_connection(bound.address, bound.port)
    writer.write(b"\x16\x03")

    assert await within(reader.read()) == b""

    assert [refusal.rule for _, _, _, refusal in door.refusals] == ["tls.time"]
    await end(writer)


async def test_peer_that_never_authenticates_is_cut(
    door: FrontDoor, loopback_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PROOF_SECONDS", 0.05)
    _, writer = await door.connect(door.open(loopback_address, lambda: Pump(proves=False)))
    pump = await door.pump()

    await within(pump.is_closed.wait())

    assert pump.reasons == ["not authenticated in time"]
    assert [refusal.rule for _, _, _, refusal in door.refusals] == ["auth.time"]
    writer.transport.abort()


Result = TypeVar("Result")


async def within(awaited: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(awaited, WAIT_SECONDS)


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await within(writer.wait_closed())


def blocking_client(address: str, port: int, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    raw = socket.create_connection((address, port), WAIT_SECONDS)
    return (context or client_context()).wrap_socket(raw, server_hostname="hub.isthmus.test")


def congest(pump: Pump) -> int:
    """Writes until the kernel takes no more and the high-water mark is passed; returns how many bytes."""
    written = 0
    while not pump.connection.congested:
        pump.connection.write(CHUNK)
        written += len(CHUNK)
    return written


def read_exactly(tls: ssl.SSLSocket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        data += tls.recv(65_536)
    return bytes(data)


def drain(connected: socket.socket) -> None:
    while connected.recv(65_536):
        pass


def first_words(address: str, port: int, words: bytes) -> socket.socket:
    """Sends the last flight of the handshake and application bytes in one piece."""
    raw = socket.create_connection((address, port), WAIT_SECONDS)
    layer = TlsLayer(client_context(ssl.TLSVersion.TLSv1_3), server_side=False)
    raw.sendall(layer.outgoing())
    while not layer.established:
        layer.receive(raw.recv(65_536))
    layer.send(words)
    raw.sendall(layer.outgoing())
    return raw


def slow_client(address: str, port: int) -> bytes:
    """Sends every byte of the handshake in a segment of its own, then asks for an echo."""
    with socket.create_connection((address, port), WAIT_SECONDS) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        layer = TlsLayer(client_context(), server_side=False)
        while not layer.established:
            for byte in layer.outgoing():
                raw.sendall(bytes([byte]))
            layer.receive(raw.recv(65_536))
        layer.send(b"slow")
        raw.sendall(layer.outgoing())
        answer = b""
        while not answer:
            answer = layer.receive(raw.recv(65_536))
        return answer
