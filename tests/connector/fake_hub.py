"""A hub's link door as a connector sees it, in the test's own loop: control, data and enrolment, scripted by the test.

Its certificates are of its own two authorities; every data connection is given to the test as a `HubEnd`.
"""

import asyncio
import contextlib
import datetime
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.base.clock import SystemClock
from isthmus.connector.folder import Enrolled, Folder, Identity
from isthmus.connector.identity import certificate_request, new_key
from isthmus.connector.line import Line, reset
from isthmus.connector.stream import LineStream
from isthmus.wire.link.framing import LinkProtocolError
from isthmus.wire.link.hub_side import HubEnrolment, HubLink
from isthmus.wire.link.messages import (
    CONTROL_PROTOCOL,
    ENROL_SERVER_NAME,
    Certificate,
    ConnectorMessage,
    Enrol,
    HubMessage,
    Renew,
    Setup,
)
from isthmus.wire.link.token import EnrolmentToken
from isthmus.wire.proxy_protocol import HeaderReader, ProxyHeader
from isthmus.wire.tls import TlsLayer
from isthmus.wire.tls_error import TlsError

WAIT_SECONDS = 10.0
NAME = "plant"
LINK_ID = 0x06000123
TLS_NAME = "hub.isthmus.test"
SECRET = "s" * 43


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str) -> "Signer":
        key = ec.generate_private_key(ec.SECP256R1())
        built = _builder(name, name, key.public_key(), datetime.timedelta(days=1))
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        built = built.add_extension(_usage(authority=True), critical=True)
        return cls(built.sign(key, hashes.SHA256()), key)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def sign(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        alternative: x509.GeneralName,
        purpose: x509.ObjectIdentifier,
        life: datetime.timedelta,
    ) -> str:
        built = _builder(name, self.certificate.subject.rfc4514_string().removeprefix("CN="), key, life)
        built = built.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        built = built.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        built = built.add_extension(_usage(authority=False), critical=True)
        built = built.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        issuer = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        built = built.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False
        )
        return built.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


class HubEnd:
    """The hub's end of a data connection: its header, then a stream that can end in one direction only."""

    def __init__(self, stream: "HubStream", header: ProxyHeader, rest: bytes) -> None:
        self.header = header
        self._stream = stream
        self._received = rest

    async def read(self, count: int) -> bytes:
        """So many bytes, fewer when the connector says that no more come; raises ConnectionError when it is cut off."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self._received) < count:
                self._received += self._stream.take()
                if len(self._received) >= count or self._stream.ended == "closed":
                    break
                if self._stream.ended:
                    raise ConnectionResetError(self._stream.ended)
                await self._stream.wait(WAIT_SECONDS)
        data, self._received = self._received[:count], self._received[count:]
        return data

    def write(self, data: bytes) -> None:
        """Sends."""
        self._stream.write(data)

    def finish(self) -> None:
        """Says that no more comes."""
        self._stream.finish()

    def pause(self) -> None:
        """Reads nothing until `resume`."""
        self._stream.pause()

    def resume(self) -> None:
        """Reads again."""
        self._stream.resume()

    def cut(self) -> None:
        """Resets the connection."""
        self._stream.reset()

    def close(self) -> None:
        """Closes it in order."""
        self._stream.close()


class HubStream(LineStream):
    """A line's stream with what only tests do: it may say more after its peer has ended.

    `spare` is true while nothing but a handshake has come.
    """

    spare = True

    def write(self, data: bytes) -> None:
        self._line.layer.send(data)
        self._transmit()

    def close(self) -> None:
        self.ended = self.ended or "closed here"
        super().close()

    def pause(self) -> None:
        self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        self._loop.add_reader(self._descriptor, self._read)

    def finish(self) -> None:
        self._line.layer.finish()
        self._transmit()

    def reset(self) -> None:
        self.ended = self.ended or "reset"
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        reset(self._socket)


@dataclass
class ControlEnd:
    """The hub's end of a control connection."""

    link: HubLink
    stream: HubStream
    said: list[ConnectorMessage] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, message: HubMessage) -> None:
        self.link.send(message)
        self.stream.wake()

    def cut(self) -> None:
        self.stream.reset()


class FakeHub:
    """Listens on loopback; `setup` is what a connector is told first, `answers` what becomes of enrolments."""

    def __init__(self, folder: Path, address: str) -> None:
        self.address = address
        self.port = 0
        self.setup = Setup(generation=1)
        self.refuse_enrolment: HubMessage | None = None
        self.first_word: HubMessage | None = None
        self.renews = True
        self.renewal_life = datetime.timedelta(hours=1)
        self.data: asyncio.Queue[HubEnd] = asyncio.Queue()
        self.controls: asyncio.Queue[ControlEnd] = asyncio.Queue()
        self.enrolments: list[Enrol] = []
        self.connections = 0
        self.controls_open = 0
        self._folder = folder
        self._server = Signer.make("hub CA")
        self.connectors = Signer.make("connector CA")
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: list[HubStream] = []
        self._contexts = (self._context(strict=True), self._context(strict=False))

    @property
    def ca_pem(self) -> str:
        return self._server.pem

    @property
    def hub(self) -> str:
        return f"{self.address}:{self.port}"

    def token(self, **changes: object) -> EnrolmentToken:
        der = self._server.certificate.public_bytes(Encoding.DER)
        values: dict[str, object] = {
            "secret": SECRET,
            "name": NAME,
            "network": "plant-net",
            "hubs": (self.hub,),
            "tls_name": TLS_NAME,
            "ca_sha256": hashlib.sha256(der).hexdigest(),
            "expires": SystemClock().utc_ms() // 1000 + 900,
        }
        return EnrolmentToken(**(values | changes))  # type: ignore[arg-type]

    def certify(self, csr_pem: str, life: datetime.timedelta) -> str:
        """A connector's certificate for a request."""
        key = x509.load_pem_x509_csr(csr_pem.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        uri = x509.UniformResourceIdentifier(f"isthmus:connector:{NAME}:{LINK_ID}")
        return self.connectors.sign(NAME, key, uri, ExtendedKeyUsageOID.CLIENT_AUTH, life)

    def identity(
        self, folder: Folder, *, life: datetime.timedelta = datetime.timedelta(hours=1), hubs: tuple[str, ...] = ()
    ) -> Identity:
        """An enrolled connector's identity, stored; its hub is this one unless others are given."""
        key = new_key()
        enrolled = Enrolled(
            hubs=hubs or (self.hub,),
            tls_name=TLS_NAME,
            network="plant-net",
            ca_pem=self.ca_pem,
            obtained_ms=SystemClock().utc_ms(),
        )
        return folder.store(key, self.certify(certificate_request(key, NAME), life), enrolled)

    def adopt(self, other: "FakeHub", *, connectors: bool = True) -> None:
        """Is another address of the same hub; without `connectors`, one that has forgotten who it enrolled."""
        self._server = other._server
        if connectors:
            self.connectors = other.connectors
        self._contexts = (self._context(strict=True), self._context(strict=False))

    def show(self, other: "FakeHub") -> None:
        """Shows another hub's CA beside a certificate that this one's has signed, and to this hub's name."""
        pem = server_pem(self._server, TLS_NAME, x509.DNSName(TLS_NAME))
        (self._folder / "server.pem").write_text(pem.removesuffix(self.ca_pem) + other.ca_pem)
        self._contexts = (self._context(strict=True, renew=False), self._context(strict=False, renew=False))

    async def forget_ended(self) -> None:
        """Closes its ends of connections that are over, and waits until all of them are."""
        await eventually(lambda: all(stream.ended or stream.spare for stream in self._streams))
        for stream in [stream for stream in self._streams if stream.ended]:
            stream.close()
            self._streams.remove(stream)

    async def start(self) -> None:
        """Listens, at the same port as before after a `stop`."""
        listening = socket.create_server((self.address, self.port), backlog=1024)
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        self._listening = listening
        self._start(self._accept(listening))

    async def stop(self) -> None:
        """Ends every connection by a reset, and listens no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
        for stream in self._streams:
            stream.reset()
        self._streams.clear()

    async def control(self) -> ControlEnd:
        """The next control connection."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.controls.get()

    async def end(self) -> HubEnd:
        """The next data connection on which a header came."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.data.get()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(listening)
            self.connections += 1
            self._start(self._serve(accepted))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            hello, layer, early = await self._shake_hands(accepted)
        except (TlsError, OSError, asyncio.CancelledError):
            accepted.close()
            return
        stream = HubStream(Line(accepted, layer, self.hub, 0.0, early))
        self._streams.append(stream)
        if ENROL_SERVER_NAME.encode() in hello:
            await self._enrol(stream)
        elif CONTROL_PROTOCOL.encode() in hello:
            # It stays, as spare lines do.
            await self._control(stream)
        else:
            await self._take(stream)

    async def _shake_hands(self, accepted: socket.socket) -> tuple[bytes, TlsLayer, bytes]:
        """The ClientHello, the layer once it is established, and what came behind the handshake."""
        loop = asyncio.get_running_loop()
        hello = await _peek_hello(accepted)
        layer = TlsLayer(self._contexts[1 if ENROL_SERVER_NAME.encode() in hello else 0])
        early = b""
        while not layer.established:
            data = await loop.sock_recv(accepted, 65_536)
            if not data:
                raise ConnectionResetError
            try:
                early = layer.receive(data)
            finally:
                if flight := layer.outgoing():
                    await loop.sock_sendall(accepted, flight)
        return hello, layer, early

    async def _enrol(self, stream: HubStream) -> None:
        enrolment = HubEnrolment()
        while (request := enrolment.receive(stream.take())) is None and not stream.ended:
            await stream.wait(WAIT_SECONDS)
        if request is None:
            return
        self.enrolments.append(request)
        link = HubLink(NAME, 0.0)
        link.send(
            self.refuse_enrolment
            or Certificate(pem=self.certify(request.csr, datetime.timedelta(hours=1)), ca_pem=self.ca_pem)
        )
        stream.write(link.data_to_send())

    async def _control(self, stream: HubStream) -> None:
        end = ControlEnd(HubLink(NAME, 0.0), stream)
        self.controls_open += 1
        while not stream.ended:
            await stream.wait(WAIT_SECONDS)
            with contextlib.suppress(LinkProtocolError):
                self._hear(end, stream.take())
            stream.write(end.link.data_to_send())
        self.controls_open -= 1

    def _hear(self, end: ControlEnd, data: bytes) -> None:
        for message in end.link.receive(data, 0.0) if data else ():
            if not end.said:
                end.link.send(self.first_word or self.setup)
                self.controls.put_nowait(end)
            end.said.append(message)
            end.changed.set()
            if isinstance(message, Renew) and self.renews:
                end.link.send(Certificate(pem=self.certify(message.csr, self.renewal_life), ca_pem=self.ca_pem))

    async def _take(self, stream: HubStream) -> None:
        reader = HeaderReader()
        while not stream.ended:
            await stream.wait(WAIT_SECONDS)
            data = stream.take()
            stream.spare = stream.spare and not data
            header = reader.receive(data) if data else None
            if header is not None:
                self.data.put_nowait(HubEnd(stream, header, reader.rest))
                return

    def _context(self, *, strict: bool, renew: bool = True) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        path = self._folder / "server.pem"
        if renew:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(server_pem(self._server, TLS_NAME, x509.DNSName(TLS_NAME)))
        context.load_cert_chain(path)
        context.set_alpn_protocols([CONTROL_PROTOCOL])
        if strict:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.connectors.pem)
        return context


def server_pem(signer: Signer, name: str, alternative: x509.GeneralName) -> str:
    """A server's new key, its certificate and the authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    life = datetime.timedelta(hours=2)
    certificate = signer.sign(name, key.public_key(), alternative, ExtendedKeyUsageOID.SERVER_AUTH, life)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private + certificate + signer.pem


@contextlib.asynccontextmanager
async def fake_hub(folder: Path, address: str) -> AsyncIterator[FakeHub]:
    """A hub that listens, stopped afterwards."""
    hub = FakeHub(folder, address)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()


async def eventually(condition: Callable[[], object]) -> None:
    """Waits, looking again and again, until something is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WAIT_SECONDS
    while not condition():
        assert loop.time() < deadline, "it never came to that"
        await asyncio.sleep(0.005)


async def _peek_hello(accepted: socket.socket) -> bytes:
    """The ClientHello, left in the kernel: it tells which of the two doors is meant, and what is to be spoken."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(accepted, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(accepted)
    return accepted.recv(65_536, socket.MSG_PEEK)


def _builder(
    name: str, issuer: str, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
