"""Two AMQP peers in memory: a server's connection and a client's, with every byte passed by hand."""

import re
import struct
from collections.abc import Callable

from isthmus.wire.amqp import performatives as p
from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.decode import decode
from isthmus.wire.amqp.events import Event, LinkAttached, SaslInit
from isthmus.wire.amqp.handshake import AMQP_HEADER
from isthmus.wire.amqp.limits import FRAME_BYTES_MAX
from isthmus.wire.amqp.link import Link, LinkRole
from isthmus.wire.amqp.outlet import frame
from isthmus.wire.amqp.performatives import Attach, Open, SaslChoice
from isthmus.wire.amqp.session import Session
from isthmus.wire.amqp.states import Source, Target
from isthmus.wire.amqp.values import AmqpValue, Described

IDENTITY = re.compile(r" object at 0x[0-9a-f]+")
Handler = Callable[[Event], None]


class Peers:
    """A client and a server; events collect what each was told, `client_frames` the bodies of what the client got."""

    def __init__(self, *, idle_timeout_ms: int = 0) -> None:
        self.now = 1000.0
        self.server = Connection("server", self.now, idle_timeout_ms=idle_timeout_ms)
        self.client = Connection("client", self.now, idle_timeout_ms=0)
        self.server_events: list[Event] = []
        self.client_events: list[Event] = []
        self.client_frames: list[bytes] = []
        self.session: Session
        self.on_server: Handler = self.accept_everything

    def accept_everything(self, event: Event) -> None:
        """The default behaviour of the server."""
        match event:
            case SaslInit():
                self.server.sasl_accept()
            case LinkAttached(link):
                link.accept()

    def run(self) -> None:
        """Passes bytes until both are silent."""
        while True:
            for event in self.server.events():
                self.server_events.append(event)
                self.on_server(event)
            self.client_events.extend(self.client.events())
            upward, downward = self.client.data_to_send(), self.server.data_to_send()
            if not upward and not downward:
                return
            if upward:
                self.server.receive(upward, self.now)
            if downward:
                self.client_frames.extend(frames(downward))
                self.client.receive(downward, self.now)

    def open(self, sasl: SaslChoice | None = None, *, max_frame_size: int = FRAME_BYTES_MAX) -> "Peers":
        """Opens the connection."""
        self.client.open(Open("client", "hub.example", max_frame_size), sasl)
        self.run()
        return self

    def begin(self) -> Session:
        """A session, from the client."""
        self.session = self.client.begin()
        self.run()
        return self.session

    def attach(
        self,
        session: Session,
        name: str,
        role: LinkRole,
        *,
        source: Source | None = None,
        target: Target | None = None,
    ) -> tuple[Link, Link]:
        """A link from the client; returns the client's and the server's end."""
        attach = Attach(
            name,
            0,
            False,
            source=source or Source(f"{name}-source"),
            target=target or Target(f"{name}-target"),
            initial_delivery_count=0 if role is LinkRole.SENDER else None,
        )
        link = session.attach(attach, role)
        self.run()
        return link, self.server_link(name)

    def told_client(self, code: int) -> list[list[AmqpValue]]:
        """The fields of those performatives the client got that have this descriptor."""
        values = [decode(body) for body in self.client_frames if body[2] == code]
        return [value.value for value in values if isinstance(value, Described) and isinstance(value.value, list)]

    def server_link(self, name: str) -> Link:
        """The server's end of the newest link of that name."""
        return [e.link for e in self.server_events if isinstance(e, LinkAttached) and e.link.name == name][-1]


def sending(*, credit: int = 100) -> tuple[Peers, Link, Link]:
    """Peers with a link from the server to the client: the client's end and the server's."""
    peers = Peers().open()
    client, server = peers.attach(peers.begin(), "down", LinkRole.RECEIVER)
    client.grant(credit)
    peers.run()
    return peers, client, server


def receiving() -> tuple[Peers, Link, Link]:
    """Peers with a link from the client to the server: the client's end and the server's."""
    peers = Peers().open()
    client, server = peers.attach(peers.begin(), "up", LinkRole.SENDER)
    return peers, client, server


def raw(*bodies: p.Performative | bytes) -> Connection:
    """A server that was told this on channel 0, after an open and a begin with a small window."""
    server = Connection("server", 0.0, idle_timeout_ms=0)
    said: list[p.Performative | bytes] = [p.Open("c"), p.Begin(None, 0, 5, 5), *bodies]
    encoded = [body if isinstance(body, bytes) else body.encode() for body in said]
    server.receive(AMQP_HEADER + b"".join(frame(0, body) for body in encoded), 0.0)
    return server


def feed(server: Connection, data: bytes, now: float = 0.0) -> list[Event]:
    """The events that these bytes bring about."""
    server.receive(data, now)
    return list(server.events())


def frames(data: bytes) -> list[bytes]:
    """The bodies of the frames in `data`, protocol headers left out."""
    bodies = []
    while data:
        size = 8 if data[:4] == b"AMQP" else struct.unpack_from(">I", data)[0]
        if data[:4] != b"AMQP":
            bodies.append(data[8:size])
        data = data[size:]
    return bodies


def server_told(pieces: list[bytes]) -> tuple[list[str], bytes]:
    """Events, as text without identities, and answers of a server that accepts all."""
    server = Connection("server", 0.0)
    told, answers = [], b""
    for piece in pieces:
        server.receive(piece, 0.0)
        for event in server.events():
            told.append(IDENTITY.sub("", repr(event)))
            match event:
                case SaslInit():
                    server.sasl_accept()
                case LinkAttached(link):
                    link.accept()
        answers += server.data_to_send()
    return told, answers
