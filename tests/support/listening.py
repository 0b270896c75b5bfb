"""What a process listens at, as the kernel tells it (proc_pid_net(5)), whatever the process says itself."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp."""
ACCEPTS = 0x10000
"""__SO_ACCEPTCON in /proc/net/unix."""

Place = tuple[str, str, int]
"""Protocol, address or path, port."""


def listening(pid: int) -> set[Place]:
    """Every TCP and Unix socket of the process that accepts connections, and every UDP socket that it has."""
    own = set(_sockets(pid))
    return {place for inode, place in _places(pid) if inode in own}


def _sockets(pid: int) -> Iterator[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]


def _places(pid: int) -> Iterator[tuple[str, Place]]:
    for protocol, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for fields in _rows(pid, protocol):
            if fields[3] == LISTENING:
                yield fields[9], (protocol, *_address(fields[1], family))
    for protocol, family in (("udp", socket.AF_INET), ("udp6", socket.AF_INET6)):
        for fields in _rows(pid, protocol):
            yield fields[9], (protocol, *_address(fields[1], family))
    for fields in _rows(pid, "unix"):
        if int(fields[3], 16) & ACCEPTS:
            yield fields[6], ("unix", fields[7] if len(fields) > 7 else "", 0)


def _rows(pid: int, table: str) -> Iterator[list[str]]:
    path = Path(f"/proc/{pid}/net/{table}")
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    return (line.split() for line in lines)


def _address(text: str, family: socket.AddressFamily) -> tuple[str, int]:
    """The kernel prints each 32-bit word of an address in its own byte order."""
    address, _, port = text.partition(":")
    words = bytes.fromhex(address)
    count = len(words) // 4
    packed = struct.pack(f"={count}I", *struct.unpack(f">{count}I", words))
    return socket.inet_ntop(family, packed), int(port, 16)
