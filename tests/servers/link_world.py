"""The link door on the running loop, over a domain in memory, and a small connector that dials it.

The network `plant` has a connector `plant-a` and a private endpoint at 10.1.0.4, and so has `other` with a connector
`plant-b`, at the same address. What is carried ends at pumps that remember.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from isthmus.access.connector_authority import ConnectorAuthority, IssuedCertificate
from isthmus.access.journal import Decision
from isthmus.app.domain import Domain
from isthmus.backends.memory import MemoryState
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Refusal
from isthmus.base.ids import RandomIds
from isthmus.base.state import JournalFilter
from isthmus.network.door import Door
from isthmus.resources.virtual_network_arm import network_id
from isthmus.servers.gateway.budget import SocketBudget
from isthmus.servers.gateway.connection import Handler
from isthmus.servers.gateway.link_certifying import Issuing
from isthmus.servers.gateway.link_door import Inside, LinkDoor, LinkSettings, LinkTrust
from isthmus.servers.gateway.listener import Listeners
from isthmus.servers.gateway.plane import Plane
from isthmus.wire.link.connector_side import ConnectorEnrolment, ConnectorLink
from isthmus.wire.link.messages import (
    CONTROL_PROTOCOL,
    ENROL_SERVER_NAME,
    VERSION,
    Certificate,
    Hello,
    HubMessage,
    Refused,
)
from isthmus.wire.proxy_protocol import ProxyHeader, encode_header
from isthmus.wire.tls import LinkContexts, ServerContexts, TlsLayer, link_context, server_context
from resources.world import endpoint_body, in_subnet, network_body
from servers.front_door import WAIT_SECONDS, Pump, client_context
from support.certificates import issue, write_pem

PORT = 8883
PORT_OF_DOOR = 9443
CLIENT = ("10.1.0.77", 50_000)
ENDPOINT = "10.1.0.4"
HEADER = ProxyHeader(*CLIENT, ENDPOINT, PORT)


@dataclass
class LinkWorld:
    """`refusals` are those of sockets, in order; `pumps` those of carried connections."""

    domain: Domain
    door: LinkDoor
    listeners: Listeners
    folder: Path
    address: str
    refusals: list[tuple[Door, Plane, str, Refusal]]
    pumps: asyncio.Queue[Pump]
    hours: list[float]
    opened: list["Outer"] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where the door really listens."""
        return next(bound.port for bound in self.listeners.bound if bound.plane is Plane.LINK)

    @property
    def rules(self) -> list[str]:
        """The rules by which sockets were refused."""
        return [refusal.rule for _, _, _, refusal in self.refusals]

    async def invited(self, name: str = "plant-a") -> str:
        """The secret of a token."""
        return (await self.domain.connectors.invite(name, "", 900))[1]

    async def enrol(self, secret: str, csr: str) -> Certificate | Refused:
        """Asks for a certificate as `connector run` does."""
        outer = await self.dial(server_name=ENROL_SERVER_NAME)
        enrolment = ConnectorEnrolment(secret, csr)
        outer.writer.write(enrolment.request)
        async with asyncio.timeout(WAIT_SECONDS):
            while (answer := enrolment.receive(await outer.read())) is None:
                pass
        await outer.end()
        return answer

    async def identity(self, name: str = "plant-a") -> Path:
        """A PEM file with the key and certificate of a connector that was enrolled."""
        key, csr = new_request()
        answer = await self.enrol(await self.invited(name), csr)
        assert isinstance(answer, Certificate)
        path = self.folder / f"{name}-{RandomIds().uuid()}.pem"
        path.write_text(key + answer.pem)
        return path

    async def dial(
        self,
        certificate: Path | None = None,
        *,
        control: bool = False,
        server_name: str = "hub.example.test",
        version: ssl.TLSVersion | None = None,
    ) -> "Outer":
        """A connection of the link door, its handshake done as far as the client can tell."""
        context = client_context(version, certificate)
        if control:
            context.set_alpn_protocols([CONTROL_PROTOCOL])
        reader, writer = await asyncio.open_connection(
            self.address, self.port, ssl=context, server_hostname=server_name
        )
        return self.keep(Outer(reader, writer))

    def keep(self, outer: "Outer") -> "Outer":
        """Closes it in the end."""
        self.opened.append(outer)
        return outer

    async def carry(self, certificate: Path, header: ProxyHeader = HEADER) -> "Carried":
        """A carried connection, the device's handshake done."""
        carried = Carried(await self.dial(certificate))
        carried.outer.writer.write(encode_header(header))
        await carried.shake_hands()
        return carried

    async def control(self, certificate: Path, name: str = "plant-a", instance: str = "one") -> "Control":
        """A control connection that has said hello."""
        outer = await self.dial(certificate, control=True)
        return Control(outer, Hello(version=VERSION, name=name, instance=instance, hostname="gateway"))

    async def pump(self) -> Pump:
        """The next pump, once its connection is open."""
        pump = await asyncio.wait_for(self.pumps.get(), WAIT_SECONDS)
        await asyncio.wait_for(pump.is_open.wait(), WAIT_SECONDS)
        return pump

    async def noted(self) -> list[Decision]:
        """What the journal holds, oldest first."""
        return list(reversed(await self.domain.journal.read(JournalFilter())))


class Outer:
    """A connector's TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> bytes:
        """Some bytes; raises ConnectionResetError at the end."""
        data = await asyncio.wait_for(self.reader.read(65_536), WAIT_SECONDS)
        if not data:
            raise ConnectionResetError("ended")
        return data

    async def until_end(self) -> bytes:
        """Everything up to the end, however it ends."""
        data = b""
        try:
            while True:
                data += await self.read()
        except OSError:
            return data

    async def end(self) -> None:
        """Closes it with a reset."""
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Carried:
    """A device's TLS inside a connector's."""

    def __init__(self, outer: Outer, server_name: str = "hub.example.test") -> None:
        self.outer = outer
        self.inner = TlsLayer(client_context(), server_side=False, server_name=server_name)

    async def shake_hands(self) -> None:
        """Until both sides are established."""
        while not self.inner.established:
            self._flush()
            self.inner.receive(await self.outer.read())
        self._flush()

    def send(self, data: bytes) -> None:
        """Sends what the device says."""
        self.inner.send(data)
        self._flush()

    def finish(self) -> None:
        """Says the device's goodbye."""
        self.inner.finish()
        self._flush()

    async def receive(self, size: int) -> bytes:
        """So many bytes for the device."""
        data = b""
        while len(data) < size:
            data += self.inner.receive(await self.outer.read())
        return data

    def _flush(self) -> None:
        self.outer.writer.write(self.inner.outgoing())


class Control:
    """A connector's control connection over the protocol's own engine."""

    def __init__(self, outer: Outer, hello: Hello) -> None:
        self.outer = outer
        self.engine = ConnectorLink(hello, 0.0)
        self._heard: list[HubMessage] = []
        self.flush()

    def flush(self) -> None:
        """Sends what the engine has to say."""
        self.outer.writer.write(self.engine.data_to_send())

    async def hear(self) -> HubMessage:
        """The hub's next message; raises ConnectionResetError at the end."""
        while not self._heard:
            self._heard += self.engine.receive(await self.outer.read(), 0.0)
        return self._heard.pop(0)

    async def refusal(self) -> Refused:
        """The refusal that the hub answers with."""
        refused = await self.hear()
        assert isinstance(refused, Refused)
        return refused


@asynccontextmanager
async def link_world(
    folder: Path,
    address: str,
    *,
    make: Callable[[], Pump] = lambda: Pump(echo=True),
    allow: tuple[str, ...] = (),
    sockets_max: int = 1_000,
) -> AsyncIterator[LinkWorld]:
    """Yields the door, listening; every descriptor must be back afterwards."""
    domain = await _domain()
    refusals: list[tuple[Door, Plane, str, Refusal]] = []
    pumps: asyncio.Queue[Pump] = asyncio.Queue()
    listeners = Listeners(
        clock=SystemClock(),
        ids=RandomIds(),
        budget=SocketBudget(sockets_max),
        owner_of=domain.endpoints.door_of,
        on_refused=lambda *what: refusals.append(what),
    )
    hours = [24.0]

    def make_handler() -> Handler:
        pump = make()
        pumps.put_nowait(pump)
        return pump

    door = LinkDoor(
        LinkSettings((address,), PORT_OF_DOOR, allow),
        _trust(folder, hours),
        Inside(_inner_contexts(folder), lambda: {Plane.MQTT: PORT}, {Plane.MQTT: make_handler}),
        listeners=listeners,
        connectors=domain.connectors,
        endpoints=domain.endpoints,
        journal=domain.journal,
        clock=SystemClock(),
    )
    domain.connectors.on_change(door.connector_changed)
    domain.endpoints.on_change(door.endpoint_changed)
    door.open()
    world = LinkWorld(domain, door, listeners, folder, address, refusals, pumps, hours)
    yield world
    for outer in world.opened:
        await outer.end()
    listeners.shut_down()
    await listeners.drain(0)
    await door.close()
    assert listeners.connections == 0
    assert (door.links.carried, door.links.spares, door.links.connected) == (0, 0, 0)


async def until(condition: Callable[[], object]) -> None:
    """Returns once it is so; whatever makes it so runs on this loop."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110 - many things make it so
            await asyncio.sleep(0)


def new_request(name: str = "whoever") -> tuple[str, str]:
    """A key and a certificate request, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return text, csr.public_bytes(Encoding.PEM).decode()


async def _domain() -> Domain:
    domain = Domain(MemoryState(), SystemClock(), RandomIds(), lambda _place, _address: "")
    hub = await domain.hubs.create("hub", host_name="hub.example.test", partitions=1)
    for network, connector in (("plant", "plant-a"), ("other", "plant-b")):
        body = network_body("10.1.0.0/16", s="10.1.0.0/24")
        body["properties"]["presence"] = f"connector:{connector}"
        await domain.networks.put_network(network, body)
        subnet = f"{network_id(network)}/subnets/s"
        await domain.endpoints.create(
            f"pe-{network}", in_subnet(endpoint_body(hub.resource_id, ""), subnet, dynamic=True)
        )
    return domain


def _trust(folder: Path, hours: list[float]) -> LinkTrust:
    authority = ConnectorAuthority.load_or_create(folder, SystemClock())
    server = str(write_pem(folder / "link.pem", issue("hub")))

    def certify(csr: str, name: str, link_id: int) -> IssuedCertificate:
        return authority.issue(csr, name, link_id, hours[0])

    strict = link_context(server, trusted=str(authority.trust_path), protocols=[CONTROL_PROTOCOL])
    opening = link_context(server, trusted=None, protocols=[])
    return LinkTrust(LinkContexts(strict, ENROL_SERVER_NAME, opening), Issuing(certify, "the hub's CA"))


def _inner_contexts(folder: Path) -> ServerContexts:
    pem = write_pem(folder / "hub.pem", issue("hub"))
    return ServerContexts(server_context(str(pem), request_client_certificate=True))
