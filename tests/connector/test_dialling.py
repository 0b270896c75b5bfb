"""The ways to a hub: direct, and through forward proxies, plain and over TLS."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509

from clients.forward_proxy import ForwardProxy, forward_proxy
from connector.fake_hub import TLS_NAME, FakeHub, Signer, server_pem
from isthmus.base.clock import SystemClock
from isthmus.connector.dialling import DialFailed, Dialler, Target
from isthmus.connector.folder import held
from isthmus.connector.line import Line
from isthmus.connector.proxies import Proxies, Proxy
from isthmus.connector.stream import LineStream
from isthmus.wire.proxy_protocol import ProxyHeader, encode_header
from isthmus.wire.tls import client_context

HEADER = encode_header(ProxyHeader("192.0.2.1", 40_000, "10.0.0.5", 8883))


@pytest.fixture
def context(hub: FakeHub, tmp_path: Path) -> ssl.SSLContext:
    """TLS of an enrolled connector."""
    with held(tmp_path / "own") as folder:
        identity = hub.identity(folder)
    return client_context(authorities=hub.ca_pem, certificate=str(identity.path))


async def test_a_hub_is_reached_through_a_proxy(
    hub: FakeHub, context: ssl.SSLContext, loopback_addresses: Callable[[], str]
) -> None:
    with forward_proxy(loopback_addresses()) as proxy:
        dialler = Dialler(Proxies(Proxy(proxy.address, proxy.port)), SystemClock())
        await _there_and_back(hub, await dialler.dial(_target(hub), context))
        assert proxy.targets == [hub.hub]


async def test_an_exception_is_reached_directly(
    hub: FakeHub, context: ssl.SSLContext, loopback_addresses: Callable[[], str]
) -> None:
    with forward_proxy(loopback_addresses()) as proxy:
        dialler = Dialler(Proxies(Proxy(proxy.address, proxy.port), (hub.address,)), SystemClock())
        await _there_and_back(hub, await dialler.dial(_target(hub), context))
        assert proxy.targets == []


async def test_a_hub_is_reached_through_a_proxy_that_speaks_tls(
    hub: FakeHub,
    context: ssl.SSLContext,
    tmp_path: Path,
    loopback_addresses: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TLS in TLS, the proxy's by what this machine trusts."""
    async with _tls_proxy(tmp_path, loopback_addresses(), monkeypatch) as proxy:
        dialler = Dialler(Proxies(proxy), SystemClock())
        await _there_and_back(hub, await dialler.dial(_target(hub), context))


async def test_a_proxy_that_is_not_trusted_is_not_told_anything(
    hub: FakeHub,
    context: ssl.SSLContext,
    tmp_path: Path,
    loopback_addresses: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _tls_proxy(tmp_path, loopback_addresses(), monkeypatch) as proxy:
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(DialFailed, match=r"opens no tunnel .* certificate verify failed") as failed:
            await Dialler(Proxies(proxy), SystemClock()).dial(_target(hub), context)
        assert not failed.value.judged


async def test_a_proxy_that_refuses_is_named_with_its_words(
    hub: FakeHub, context: ssl.SSLContext, loopback_addresses: Callable[[], str]
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()

    address = loopback_addresses()
    server = await asyncio.start_server(refuse, address, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        dialler = Dialler(Proxies(Proxy(address, port)), SystemClock())
        with pytest.raises(DialFailed, match=rf"the proxy {address}:{port} opens no tunnel .*: it answered 407 Proxy"):
            await dialler.dial(_target(hub), context)


async def test_a_hub_by_another_name_is_judged(hub: FakeHub, context: ssl.SSLContext) -> None:
    dialler = Dialler(Proxies(), SystemClock())
    with pytest.raises(DialFailed, match="not trusted as the hub: certificate verify failed") as failed:
        await dialler.dial(Target(hub.address, hub.port, "other.isthmus.test"), context)
    assert failed.value.judged


async def test_nobody_there_is_not_a_judgement(hub: FakeHub, context: ssl.SSLContext) -> None:
    await hub.stop()
    with pytest.raises(DialFailed, match="was not reached: connection refused") as failed:
        await Dialler(Proxies(), SystemClock()).dial(_target(hub), context)
    assert not failed.value.judged


async def test_a_peer_that_is_silent_is_left(
    context: ssl.SSLContext, loopback_addresses: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.connector.dialling.DIAL_SECONDS", 0.05)
    with socket.create_server((loopback_addresses(), 0)) as silent:
        target = Target(str(silent.getsockname()[0]), int(silent.getsockname()[1]), TLS_NAME)
        with pytest.raises(DialFailed, match="did not answer within"):
            await Dialler(Proxies(), SystemClock()).dial(target, context)


def _target(hub: FakeHub) -> Target:
    return Target(hub.address, hub.port, TLS_NAME)


async def _there_and_back(hub: FakeHub, line: Line) -> None:
    stream = LineStream(line)
    try:
        stream.write(HEADER + b"ping")
        end = await hub.end()
        assert await end.read(4) == b"ping"
        end.write(b"pong")
        await stream.wait(5.0)
        assert stream.take() == b"pong"
    finally:
        stream.close()


@contextlib.asynccontextmanager
async def _tls_proxy(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """A proxy whose own connections are TLS, by an authority that the machine trusts through SSL_CERT_FILE."""
    authority = Signer.make("proxy CA")
    (folder / "proxy.pem").write_text(server_pem(authority, "proxy", x509.IPAddress(ipaddress.ip_address(address))))
    (folder / "trusted.pem").write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "trusted.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "proxy.pem")
    with forward_proxy(address) as plain:
        server = await asyncio.start_server(_unwrap(plain), address, 0, ssl=context)
        async with server:
            yield Proxy(address, server.sockets[0].getsockname()[1], secure=True)


def _unwrap(plain: ForwardProxy) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Takes TLS off and hands the rest to a plain proxy."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(plain.address, plain.port)
        try:
            await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))
        finally:
            to_writer.transport.abort()
            writer.transport.abort()

    return carry


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()
