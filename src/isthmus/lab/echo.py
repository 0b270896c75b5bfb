"""ICMP echoes (RFC 792) through a tunnel, to know whether it carries."""

import os
import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from isthmus.base.clock import Clock
from isthmus.lab.kernel import inside_namespace

REQUEST: Final = 8
REPLY: Final = 0
HEADER: Final = struct.Struct(">BBHHH")
PACKET_BYTES_MAX: Final = 1500


@dataclass(frozen=True, slots=True)
class Echo:
    """A socket inside a namespace that asks one address; `ident` tells its answers from others'."""

    socket: socket.socket
    target: str
    ident: int

    def ask(self, number: int) -> bool:
        """Sends an echo; False when there is no way to send it."""
        head = HEADER.pack(REQUEST, 0, 0, self.ident, number)
        packet = HEADER.pack(REQUEST, 0, _checksum(head), self.ident, number)
        try:
            self.socket.sendto(packet, (self.target, 0))
        except OSError:
            return False
        return True

    def answered(self, number: int) -> bool:
        """True when the answer to an echo is among what has come by now; takes all that has come."""
        found = False
        while True:
            try:
                packet, (source, _) = self.socket.recvfrom(PACKET_BYTES_MAX)
            except OSError:
                return found
            body = packet[(packet[0] & 0x0F) * 4 :]
            if source == self.target and len(body) >= HEADER.size:
                kind, _code, _sum, ident, echoed = HEADER.unpack_from(body)
                found = found or (kind, ident, echoed) == (REPLY, self.ident, number)


def open_echo(namespace: str, target: str, ident: int) -> Echo:
    """Makes the socket, which needs root."""
    made = inside_namespace(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
    made.setblocking(False)
    return Echo(made, target, (os.getpid() + ident) & 0xFFFF)


def ask_all(echoes: Sequence[Echo], number: int, seconds: float, clock: Clock) -> list[bool]:
    """Asks all at once and tells who has answered within the time; always takes that time."""
    number &= 0xFFFF
    waiting = {index for index, echo in enumerate(echoes) if echo.ask(number)}
    answers = [False] * len(echoes)
    deadline = clock.monotonic() + seconds
    while (left := deadline - clock.monotonic()) > 0:
        ready, _, _ = select.select([echoes[index].socket for index in waiting], [], [], left)
        for index in [index for index in waiting if echoes[index].socket in ready]:
            if echoes[index].answered(number):
                answers[index] = True
                waiting.discard(index)
    return answers


def _checksum(head: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(head) // 2}H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
