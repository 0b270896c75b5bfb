"""The bytes a stranger sees: raw MQTT and HTTPS over TLS, without an SDK that smooths things over."""

import http.client
import json
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Any, Self

from support.server import RunningHub

TIMEOUT_SECONDS = 15.0
ACCEPTED = b"\x20\x02\x00\x00"
"""The CONNACK of a session begun."""
RESUMED = b"\x20\x02\x01\x00"
"""The CONNACK of a session that was kept [MQTT-3.2.2-2]."""
NOT_AUTHORIZED = b"\x20\x02\x00\x05"
"""The CONNACK of everybody who may not come in."""


def tls_context(hub: RunningHub) -> ssl.SSLContext:
    """Trusts the hub's CA and nothing else."""
    return ssl.create_default_context(cafile=str(hub.ca))


class RawMqtt:
    """One MQTT connection, packet by packet."""

    def __init__(
        self,
        hub: RunningHub,
        address: str = "",
        server_name: str = "",
        context: ssl.SSLContext | None = None,
        source: str = "",
    ) -> None:
        """`source` is the address it comes from, where it matters."""
        plain = socket.create_connection((address or hub.address, 8883), TIMEOUT_SECONDS, (source, 0))
        context = context or tls_context(hub)
        if server_name:
            context.check_hostname = False
        self.socket = context.wrap_socket(plain, server_hostname=server_name or hub.host_name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def connect(
        self,
        client_id: str,
        user_name: str,
        password: str,
        *,
        clean: bool = True,
        will: tuple[str, bytes] | None = None,
    ) -> bytes:
        """Sends CONNECT and returns the CONNACK, or nothing when the hub closed instead; a will is of QoS 1."""
        flags = 0xC0 | (0x02 if clean else 0) | (0x0C if will else 0)
        body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c" + text(client_id)
        if will:
            body += text(will[0]) + struct.pack(">H", len(will[1])) + will[1]
        self._send(0x10, body + text(user_name) + text(password))
        return self.read(4)

    def subscribe(self, topic_filter: str, qos: int, packet_id: int = 1) -> bytes:
        """Subscribes and returns the SUBACK, or nothing when the hub closed instead."""
        self._send(0x82, struct.pack(">H", packet_id) + text(topic_filter) + bytes([qos]))
        return self.read(5)

    def disconnect(self) -> None:
        """Says goodbye and closes."""
        self._send(0xE0, b"")
        self.socket.close()

    def publish(self, topic: str, payload: bytes, packet_id: int = 1) -> bytes:
        """Publishes at QoS 1 and returns the PUBACK, or nothing when the hub closed instead."""
        self.send_publish(topic, payload, packet_id)
        return self.read(4)

    def send_publish(self, topic: str, payload: bytes, packet_id: int) -> None:
        """Publishes at QoS 1 and reads nothing."""
        self._send(0x32, text(topic) + struct.pack(">H", packet_id) + payload)

    def receive(self) -> "Received":
        """Reads one PUBLISH of QoS 1."""
        header = self.read(1)
        assert header == b"\x32", f"expected a PUBLISH of QoS 1, got {header!r}"
        body = self.read(self._read_remaining())
        topic_end = 2 + int.from_bytes(body[:2])
        packet_id = int.from_bytes(body[topic_end : topic_end + 2])
        return Received(body[2:topic_end].decode(), body[topic_end + 2 :], packet_id)

    def acknowledge(self, received: "Received") -> None:
        """Sends the PUBACK of a PUBLISH."""
        self._send(0x40, struct.pack(">H", received.packet_id))

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, or what came before the hub closed."""
        got = b""
        while len(got) < count:
            try:
                part = self.socket.recv(count - len(got))
            except (ConnectionResetError, ssl.SSLEOFError):
                return got
            if not part:
                return got
            got += part
        return got

    def _send(self, header: int, body: bytes) -> None:
        self.socket.sendall(bytes([header]) + remaining(len(body)) + body)

    def _read_remaining(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            digit = self.read(1)[0]
            value |= (digit & 0x7F) << shift
            if digit < 0x80:
                break
        return value


@dataclass(frozen=True, slots=True)
class Received:
    """A message the hub sent."""

    topic: str
    payload: bytes
    packet_id: int


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, headers and body of a raw HTTPS request."""

    status: int
    headers: dict[str, str]
    body: Any


def https(hub: RunningHub, verb: str, path: str, token: str = "", *, body: object = None, host: str = "") -> HttpAnswer:
    """One request over TLS with nothing added that is not named here."""
    connection = http.client.HTTPSConnection(hub.address, 443, timeout=TIMEOUT_SECONDS, context=tls_context(hub))
    headers = {"Host": host or hub.host_name} | ({"Authorization": token} if token else {})
    content = None if body is None else json.dumps(body)
    try:
        connection.request(verb, f"{path}?api-version=2021-04-12", content, headers)
        answer = connection.getresponse()
        text_body = answer.read()
        return HttpAnswer(answer.status, dict(answer.getheaders()), json.loads(text_body) if text_body else None)
    finally:
        connection.close()


def text(value: str) -> bytes:
    """A length-prefixed UTF-8 string [MQTT-1.5.3]."""
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def remaining(length: int) -> bytes:
    """The remaining length, seven bits a byte [MQTT-2.2.3]."""
    encoded = bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(encoded)
