"""Ways out for signed heads of the journal: a file that is only appended to, and a log server.

The log server is spoken to in RFC 5424's format: over UDP (RFC 5426), over TCP with the length in front (RFC 6587
§3.4.1), or at a Unix socket. The standard library's handler writes the older format and ends its messages with a zero.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import ConfigurationError

CONNECT_SECONDS_MAX = 5.0
"""For a log server to answer, and to take a head."""

UDP_PORT = 514
TCP_PORT = 601
"""Ports of the two transports where none is named (RFC 5426 §3.3, RFC 3195)."""

PRIORITY = 13 * 8 + 5
"""Facility log audit, severity notice (RFC 5424 §6.2.1)."""


@dataclass(frozen=True, slots=True)
class HeadsFile:
    """Appends heads to a file, each synced before it counts as exported."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def write(self, line: str) -> None:
        """Appends the head in one write, behind an end of line where the last one was cut short; raises OSError."""
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            length = os.fstat(descriptor).st_size
            cut_short = length > 0 and os.pread(descriptor, 1, length - 1) != b"\n"
            content = ("\n" if cut_short else "") + line + "\n"
            if os.write(descriptor, content.encode()) != len(content):
                raise OSError("the head was written in part")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            _sync(self.path.parent)


@dataclass(frozen=True, slots=True)
class LogServer:
    """Sends heads to a log server; `name` is its address as configured."""

    name: str
    machine: str
    process: int
    clock: Clock
    send: Callable[[bytes], None]

    def write(self, line: str) -> None:
        """Sends the head as one message; raises OSError."""
        time = iso_utc(self.clock.utc_ms())[:23] + "Z"
        header = f"<{PRIORITY}>1 {time} {self.machine} isthmus {self.process} journal-head -"
        self.send(f"{header} {line}".encode())


def log_server(url: str, *, machine: str, process: int, clock: Clock) -> LogServer:
    """The log server at `udp://HOST[:PORT]`, `tcp://HOST[:PORT]` or `unix:///PATH`; raises `ConfigurationError`."""
    return LogServer(url, machine or "-", process, clock, _sender(url))


def _sender(url: str) -> Callable[[bytes], None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad(url) from None
    match parts.scheme:
        case "udp" if host and not parts.path:
            return lambda message: _send_datagram(host, port or UDP_PORT, message)
        case "tcp" if host and not parts.path:
            return lambda message: _send_stream(host, port or TCP_PORT, message)
        case "unix" if parts.path and not host:
            return lambda message: _send_local(parts.path, message)
        case _:
            raise _bad(url)


def _bad(url: str) -> ConfigurationError:
    return ConfigurationError(
        f"audit.syslog takes udp://HOST:PORT, tcp://HOST:PORT or unix:///dev/log, and {url!r} is none of them."
    )


def _send_datagram(host: str, port: int, message: bytes) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sending:
        sending.connect(address)
        sending.send(message)


def _send_stream(host: str, port: int, message: bytes) -> None:
    with socket.create_connection((host, port), timeout=CONNECT_SECONDS_MAX) as sending:
        sending.sendall(b"%d %s" % (len(message), message))
        sending.shutdown(socket.SHUT_WR)
        while sending.recv(4_096):
            pass


def _send_local(path: str, message: bytes) -> None:
    """As syslog(3) does: datagrams, or a stream where the log server wants one."""
    for kind, content in ((socket.SOCK_DGRAM, message), (socket.SOCK_STREAM, message + b"\n")):
        with socket.socket(socket.AF_UNIX, kind) as sending:
            sending.settimeout(CONNECT_SECONDS_MAX)
            try:
                sending.connect(path)
            except OSError:
                if kind is socket.SOCK_STREAM:
                    raise
                continue
            sending.sendall(content)
            return


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
