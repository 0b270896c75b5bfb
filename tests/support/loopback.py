"""Loopback addresses that are held by one test at a time, over all processes of a machine."""

import secrets
import socket
from typing import Self

CLAIM_PORT = 50_047
"""Holding this port of an address is what makes it ours; nothing listens there."""
TRIES_MAX = 100
HOSTS = range(4, 255)
"""Last bytes; the first four and the last address of a subnet are nobody's, and tests declare /24 subnets of these."""


class Loopback:
    """Gives addresses below 127.16.0.0 to 127.239.0.0 and holds each until closed."""

    def __init__(self) -> None:
        self._claims: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for claim in self._claims:
            claim.close()
        self._claims.clear()

    def take(self) -> str:
        """An address nobody else of the suite has; raises OSError when none is to be had."""
        for _ in range(TRIES_MAX):
            address = f"127.{16 + secrets.randbelow(224)}.{secrets.randbelow(256)}.{secrets.choice(HOSTS)}"
            claim = socket.socket()
            try:
                claim.bind((address, CLAIM_PORT))
            except OSError:
                claim.close()
                continue
            self._claims.append(claim)
            return address
        raise OSError("no free loopback address")
