"""Places to walk from in tests: name services that say what they are told, and a TLS server of the test's own."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import dns.rrset
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from isthmus.base.sockets import SocketKind
from isthmus.paths.errand import Errand, Way
from support.certificates import Issued, issue, write_pem

HOST = "hub.isthmus.test"
ADDRESS = "10.20.0.4"
SERVER = ("10.20.0.4", 53)
PUBLIC = "192.0.2.7"
NAME = "~probe-1"

Talking = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ground:
    """Name services by address with the addresses they tell, and one port where somebody listens; nobody elsewhere."""

    def __init__(self, port: int = 0, told: Mapping[tuple[str, int], tuple[str, ...]] | None = None) -> None:
        self._port = port
        self._told = told or {}
        self._answering: list[asyncio.Task[None]] = []

    async def connect(self, address: str, port: int, kind: SocketKind) -> socket.socket:
        if kind is SocketKind.STREAM:
            opened = socket.socket()
            opened.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", self._port))
            except BaseException:
                opened.close()
                raise
            return opened
        if (address, port) not in self._told:
            raise ConnectionRefusedError
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        near.setblocking(False)
        far.setblocking(False)
        self._answering.append(asyncio.ensure_future(self._answer(far, self._told[address, port])))
        return near

    async def _answer(self, far: socket.socket, addresses: tuple[str, ...]) -> None:
        loop = asyncio.get_running_loop()
        with far:
            query = dns.message.from_wire(await loop.sock_recv(far, 4_096))
            answer = dns.message.make_response(query)
            if addresses:
                answer.answer.append(dns.rrset.from_text(query.question[0].name, 10, "IN", "A", *addresses))
            await loop.sock_sendall(far, answer.to_wire())


@asynccontextmanager
async def hub_like(
    folder: Path, talking: Talking, *, name: str = HOST, days: int = 1
) -> AsyncIterator[tuple[int, str]]:
    """A TLS server for a name, with `days` left of its certificate; gives its port and its CA."""
    authority = issue("the hub's CA", authority=True)
    leaf = write_pem(folder / "hub.pem", certificate(name, authority, days=days))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talking(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], authority.certificate.public_bytes(Encoding.PEM).decode()


def certificate(name: str, issuer: Issued, *, days: int) -> Issued:
    """A server's certificate that ends in so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    return Issued(made, key)


def errand(authorities: str, way: Way = Way.MQTT, **members: object) -> Errand:
    """An errand from inside a network, without a name service."""
    usual = Errand(way, HOST, ADDRESS, 8883, authorities, NAME, "a token")
    return msgspec.structs.replace(usual, **members)
