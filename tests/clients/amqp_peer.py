"""The client half of the AMQP engine on a socket, for tests that have to know of each message what became of it.

The stock clients resend by themselves when a connection breaks; this one does nothing by itself. An `AmqpPeer` is used
by one task; a connection that is gone raises OSError.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from clients.raw import tls_context
from clients.sas import sas_token
from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.events import (
    ConnectionClosed,
    CreditGranted,
    Disposition,
    Event,
    LinkAttached,
    LinkDetached,
    Opened,
    Transfer,
)
from isthmus.wire.amqp.link import Link, LinkRole
from isthmus.wire.amqp.message import Message
from isthmus.wire.amqp.performatives import Attach, Open, SaslChoice
from isthmus.wire.amqp.session import Session
from isthmus.wire.amqp.states import ACCEPTED_STATE, DeliveryState, Source, Target
from support.server import RunningHub

READ_BYTES = 65_536
Found = TypeVar("Found")


@contextlib.asynccontextmanager
async def amqp_peer(hub: RunningHub, user: str, password: str) -> AsyncIterator["AmqpPeer"]:
    """A connection that has proved itself by SASL PLAIN, and is closed without a word afterwards."""
    reader, writer = await asyncio.open_connection(
        hub.address, 5671, ssl=tls_context(hub), server_hostname=hub.host_name
    )
    try:
        peer = AmqpPeer(reader, writer, hub.host_name)
        await peer.open(f"\0{user}\0{password}".encode())
        yield peer
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


def service_credentials(hub: RunningHub) -> tuple[str, str]:
    """User name and password of the owner's policy (IoT Hub developer guide, "SASL PLAIN")."""
    name = hub.json("iot", "hub", "show")["name"]
    key = hub.connection_string().rsplit("SharedAccessKey=", 1)[1]
    return f"iothubowner@sas.root.{name}", sas_token(hub.host_name, key, "iothubowner")


class AmqpPeer:
    """One connection with one session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host_name: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host_name = host_name
        self._engine = Connection("peer", self._now(), idle_timeout_ms=0)
        self._session: Session
        self._links = 0

    async def open(self, response: bytes) -> None:
        """Proves itself, opens the connection and begins the session."""
        self._engine.open(Open("peer", self._host_name), SaslChoice("PLAIN", response, self._host_name))
        await self._until(lambda event: event if isinstance(event, Opened) else None)
        self._session = self._engine.begin()

    async def sender(self, address: str) -> Link:
        """A link that may send."""
        link = self._attach(address, LinkRole.SENDER)
        await self._until(lambda event: event if isinstance(event, CreditGranted) and event.link is link else None)
        return link

    async def receiver(self, address: str, credit: int) -> Link:
        """A link whose peer may send so many messages."""
        link = self._attach(address, LinkRole.RECEIVER)
        await self._until(lambda event: event if isinstance(event, LinkAttached) and event.link is link else None)
        link.grant(credit)
        return link

    async def send(self, link: Link, encoded: bytes) -> DeliveryState:
        """Sends a message, given as encoded sections, and returns what became of it."""
        if not link.sendable:
            await self._until(lambda event: event if isinstance(event, CreditGranted) and link.sendable else None)
        sent = link.send(encoded)
        return await self._until(
            lambda event: event.state if isinstance(event, Disposition) and event.delivery_id == sent else None
        )

    async def receive(self, link: Link) -> tuple[int, Message]:
        """The next message, and the number to accept it by."""
        came = await self._until(lambda event: event if isinstance(event, Transfer) and event.link is link else None)
        return came.delivery_id, Message(came.payload)

    def accept(self, link: Link, delivery_id: int) -> None:
        """Accepts a message and lets the peer send another."""
        link.settle(delivery_id, ACCEPTED_STATE)
        link.grant(link.credit + 1)
        self._flush()

    async def _until(self, wanted: Callable[[Event], Found | None]) -> Found:
        while True:
            for event in self._engine.events():
                if isinstance(event, ConnectionClosed | LinkDetached):
                    raise ConnectionResetError(str(event.error))
                if (found := wanted(event)) is not None:
                    self._flush()
                    return found
            self._flush()
            await self._read()

    async def _read(self) -> None:
        """Reads what comes until the engine has to say something by itself: a heartbeat."""
        try:
            async with asyncio.timeout_at(self._engine.next_deadline):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError:
            self._engine.tick(self._now())
            return
        if not data:
            raise ConnectionResetError("the peer closed")
        self._engine.receive(data, self._now())

    def _flush(self) -> None:
        if data := self._engine.data_to_send():
            self._writer.write(data)

    def _attach(self, address: str, role: LinkRole) -> Link:
        self._links += 1
        initial = 0 if role is LinkRole.SENDER else None
        attach = Attach(
            f"link-{self._links}",
            0,
            role is LinkRole.RECEIVER,
            source=Source(address),
            target=Target(address),
            initial_delivery_count=initial,
        )
        return self._session.attach(attach, role)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
