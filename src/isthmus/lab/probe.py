"""A client with valid credentials, run inside a namespace: it tries addresses on every plane and tells what it met.

Reads an `Errand` as JSON from standard input and prints a list of verdicts. Each try goes as far as the plane's
documented answer: resolve, TCP, TLS with the hub's usual name checked against its CA, then MQTT's CONNACK
[MQTT-3.2.2-6], SASL's outcome for PLAIN (AMQP 1.0 §5.3.3.6), or the status of a request.
The library of Python only, so that it starts quickly and imports nothing of the hub it judges.
"""

import base64
import errno
import http.client
import json
import os
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

CONNECT_SECONDS_MAX = 2.0
"""The kernel answers for a listener at once, however busy the machine is. A router tells of a missing way at once, too,
but only five times in a burst to one host, and then once a second: silence is what the rest hears."""

ANSWER_SECONDS_MAX = 10.0
"""For the hub's answer, while a dozen probes share the machine."""

TRIES_AT_ONCE_MAX = 16
"""Threads of one probe; the rest of the tries wait."""

FRAME_BYTES_MAX = 65_536
"""The longest AMQP frame or WebSocket frame a probe reads."""

OPEN = "open"
REFUSED = "refused"
UNREACHABLE = "unreachable"
LINK = "link"
"""The plane of the link door."""

CLOSED = "closed"
"""Nobody listens there."""

NO_SUCH_NAME = "no such name"
NO_NAME_SERVER = "no name server"
"""None answers."""

NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETDOWN})


@dataclass(frozen=True, slots=True)
class Errand:
    """What one probe is sent out for; a try is a plane, an address, and whether the usual name has to lead there."""

    host_name: str
    ca: str
    device_id: str
    device_token: str
    policy: str
    policy_token: str
    tries: tuple[tuple[str, str, bool], ...]


class Stream(Protocol):
    """Bytes there and back."""

    def send(self, data: bytes) -> None:
        """Sends all of it."""

    def read(self, count: int) -> bytes:
        """Exactly so many bytes; raises EOFError when the peer ends before."""


class TlsStream:
    """The bytes inside TLS."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls

    def send(self, data: bytes) -> None:
        self._tls.sendall(data)

    def read(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            part = self._tls.recv(count - len(got))
            if not part:
                raise EOFError
            got += part
        return got


class WebSocketStream:
    """The bytes inside binary frames (RFC 6455 §5.2), after the opening handshake."""

    def __init__(self, below: Stream, host_name: str, protocol: str) -> None:
        self._below = below
        self._read = b""
        key = base64.b64encode(os.getrandom(16)).decode()
        lines = (
            "GET /$iothub/websocket HTTP/1.1",
            f"Host: {host_name}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {protocol}",
        )
        below.send("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += below.read(1)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise EOFError

    def send(self, data: bytes) -> None:
        length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0x80 | 126, len(data))
        # A mask of zeros is a mask: it leaves the bytes as they are, and secrecy is TLS's here.
        self._below.send(b"\x82" + length + bytes(4) + data)

    def read(self, count: int) -> bytes:
        while len(self._read) < count:
            self._read += self._frame()
        got, self._read = self._read[:count], self._read[count:]
        return got

    def _frame(self) -> bytes:
        first, length = self._below.read(2)
        if length == 126:
            (length,) = struct.unpack(">H", self._below.read(2))
        if first & 0x0F == 8 or length > FRAME_BYTES_MAX:
            raise EOFError
        return self._below.read(length)


def run(errand: Errand) -> list[str]:
    """The verdict of each try, in their order: `open`, `refused`, `unreachable`, `closed`, or what went wrong."""
    with ThreadPoolExecutor(TRIES_AT_ONCE_MAX) as threads:
        return list(threads.map(lambda each: _verdict(errand, *each), errand.tries))


def _verdict(errand: Errand, plane: str, address: str, by_name: bool) -> str:
    port, act = PLANES[plane]
    try:
        meant = _meaning(errand.host_name) if by_name else {address}
        if meant != {address}:
            return f"the name means {', '.join(sorted(meant))}"
        with _connected(address, port) as plain:
            context = ssl.create_default_context(cafile=errand.ca)
            with context.wrap_socket(plain, server_hostname=errand.host_name) as tls:
                return OPEN if act(errand, tls) else REFUSED
    except socket.gaierror as error:
        return NO_NAME_SERVER if error.errno == socket.EAI_AGAIN else NO_SUCH_NAME
    except (TimeoutError, OSError, EOFError) as error:
        return _failure(error)


def _meaning(host_name: str) -> set[str]:
    return {str(found[4][0]) for found in socket.getaddrinfo(host_name, None, socket.AF_INET, socket.SOCK_STREAM)}


def _connected(host: str, port: int) -> socket.socket:
    plain = socket.create_connection((host, port), CONNECT_SECONDS_MAX)
    plain.settimeout(ANSWER_SECONDS_MAX)
    return plain


def _failure(error: OSError | EOFError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate: {error.verify_message}"
        case ConnectionRefusedError():
            return CLOSED
        case TimeoutError():
            return UNREACHABLE
        case OSError() if error.errno in NO_WAY:
            return UNREACHABLE
    return f"cut: {type(error).__name__}"


def _mqtt(errand: Errand, stream: Stream) -> bool:
    user = f"{errand.host_name}/{errand.device_id}/?api-version=2021-04-12"
    fields = b"".join(_text(text) for text in (errand.device_id, user, errand.device_token))
    body = _text("MQTT") + b"\x04\xc2\x00\x3c" + fields
    length = bytes([len(body) % 128 | 0x80, len(body) // 128]) if len(body) > 127 else bytes([len(body)])
    stream.send(b"\x10" + length + body)
    return stream.read(4)[3] == 0


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


def _amqp(errand: Errand, stream: Stream) -> bool:
    stream.send(b"AMQP\x03\x01\x00\x00")
    stream.read(8)
    _sasl_frame(stream)
    user = f"{errand.policy}@sas.root.{errand.host_name.partition('.')[0]}"
    response = f"\0{user}\0{errand.policy_token}".encode()
    fields = b"\xa3\x05PLAIN" + b"\xb0" + struct.pack(">I", len(response)) + response
    init = b"\x00\x53\x41\xd0" + struct.pack(">II", len(fields) + 4, 2) + fields
    stream.send(struct.pack(">IBBH", len(init) + 8, 2, 1, 0) + init)
    outcome = _sasl_frame(stream)
    # sasl-outcome (0x44) is a list whose first field is the code, an ubyte; 0 is ok.
    return outcome[:3] == b"\x00\x53\x44" and b"\x50\x00" in outcome[3:]


def _sasl_frame(stream: Stream) -> bytes:
    (size,) = struct.unpack(">I", stream.read(4))
    if not 8 <= size <= FRAME_BYTES_MAX:
        raise EOFError
    return stream.read(size - 4)[4:]


def _https(errand: Errand, tls: ssl.SSLSocket) -> bool:
    request = (
        f"GET /twins/{errand.device_id}?api-version=2021-04-12 HTTP/1.1\r\n"
        f"Host: {errand.host_name}\r\nAuthorization: {errand.policy_token}\r\nConnection: close\r\n\r\n"
    )
    tls.sendall(request.encode())
    answer = http.client.HTTPResponse(tls)
    try:
        answer.begin()
    except http.client.HTTPException as error:
        raise EOFError from error
    return answer.status == 200


def _link(errand: Errand, tls: ssl.SSLSocket) -> bool:
    """The link door wants a client certificate, and TLS 1.3 tells so after the client's part of the handshake."""
    try:
        return bool(tls.recv(1))
    except ssl.SSLError as error:
        if error.reason and "CERTIFICATE_REQUIRED" in error.reason:
            return False
        raise


PLANES: Mapping[str, tuple[int, Callable[[Errand, ssl.SSLSocket], bool]]] = MappingProxyType(
    {
        "mqtt": (8883, lambda errand, tls: _mqtt(errand, TlsStream(tls))),
        "amqp": (5671, lambda errand, tls: _amqp(errand, TlsStream(tls))),
        "https": (443, _https),
        "mqtt-ws": (443, lambda errand, tls: _mqtt(errand, _web_socket(errand, tls, "mqtt"))),
        "amqp-ws": (443, lambda errand, tls: _amqp(errand, _web_socket(errand, tls, "AMQPWSB10"))),
        LINK: (9443, _link),
    }
)
"""Each plane's port, and what a client says there."""


def _web_socket(errand: Errand, tls: ssl.SSLSocket, protocol: str) -> WebSocketStream:
    return WebSocketStream(TlsStream(tls), errand.host_name, protocol)


def main() -> None:
    given: dict[str, Any] = json.load(sys.stdin)
    tries = tuple((str(plane), str(address), bool(by_name)) for plane, address, by_name in given.pop("tries"))
    json.dump(run(Errand(tries=tries, **given)), sys.stdout)


if __name__ == "__main__":
    main()
