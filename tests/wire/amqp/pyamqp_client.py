"""The client engine of azure-eventhub, driven in memory: its own code against our server, without a socket."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from azure.eventhub._pyamqp._connection import Connection as PyamqpConnection
from azure.eventhub._pyamqp._decode import decode_empty_frame, decode_frame
from azure.eventhub._pyamqp._encode import encode_frame
from azure.eventhub._pyamqp.sasl import SASLAnonymousCredential, SASLTransportMixin

from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.events import Event, LinkAttached, SaslInit
from isthmus.wire.amqp.link import Link


class MemoryTransport(SASLTransportMixin):  # type: ignore[misc]
    """What pyamqp takes for a socket; behind it a server that accepts everything unless told otherwise."""

    def __init__(self, credential: Any) -> None:
        self.server = Connection("server", 0.0)
        self.events: list[Event] = []
        self.on_link: Callable[[Link], None] = Link.accept
        self.credential = credential
        self.host = "hub.example"
        self._unread = b""

    def run_server(self) -> None:
        """Lets the server answer what it was told or asked to do."""
        for event in self.server.events():
            self.events.append(event)
            if isinstance(event, SaslInit):
                self.server.sasl_accept()
            elif isinstance(event, LinkAttached):
                self.on_link(event.link)
        self._unread += self.server.data_to_send()

    def connect(self) -> None: ...

    def close(self) -> None:
        self.server.lost()

    def negotiate(self) -> None:
        if self.credential is not None:
            self._negotiate()

    @contextmanager
    def block(self) -> Iterator[None]:
        yield

    def write(self, data: bytes) -> None:
        self.server.receive(bytes(data), 0.0)
        self.run_server()

    def send_frame(self, channel: int, frame: Any, **more: Any) -> None:
        header, body = encode_frame(frame, **more)
        self.write(header if body is None else header + struct.pack(">H", channel) + body)

    def receive_frame(self, **_: Any) -> tuple[int | None, Any]:
        self.run_server()
        if not self._unread:
            return None, None
        if self._unread[:4] == b"AMQP":
            return 0, decode_empty_frame(memoryview(self._take(8)))
        frame = self._take(struct.unpack_from(">I", self._unread)[0])
        channel: int = struct.unpack_from(">H", frame, 6)[0]
        if len(frame) == 8:
            return channel, decode_empty_frame(memoryview(frame))
        return channel, decode_frame(memoryview(frame)[8:])

    def _take(self, size: int) -> bytes:
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken


class PyamqpClient:
    """A pyamqp connection with one session."""

    def __init__(self, *, credential: Any = SASLAnonymousCredential, on_link: Callable[[Link], None] = Link.accept):
        self.transport = MemoryTransport(credential() if credential else None)
        self.transport.on_link = on_link
        self.connection = PyamqpConnection("amqp://hub.example", transport=self.transport)
        self.connection.open()
        self.session = self.connection.create_session(incoming_window=65_536, outgoing_window=65_536)
        self.session.begin()

    @property
    def server(self) -> Connection:
        return self.transport.server

    def run(self) -> None:
        """Lets the client read all there is."""
        self.transport.run_server()
        while self.transport._unread:
            self.connection.listen()

    def sender(self, address: str, **more: Any) -> Any:
        link = self.session.create_sender_link(address, **more)
        link.attach()
        self.run()
        return link

    def receiver(self, address: str, received: list[Any], **more: Any) -> Any:
        link = self.session.create_receiver_link(
            address, on_transfer=lambda frame, message: received.append(message), **more
        )
        link.attach()
        self.run()
        return link

    def server_links(self) -> list[Link]:
        """The server's ends, in the order of attaching."""
        return [event.link for event in self.transport.events if isinstance(event, LinkAttached)]
