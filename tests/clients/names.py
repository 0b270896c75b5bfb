"""Names that resolve as inside the plant: what private DNS does, for the SDKs of this process."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def resolved(host_name: str, address: str) -> Iterator[None]:
    """While it lasts, `host_name` resolves to `address` for everything in Python; the SDKs stay as they are."""
    ask = socket.getaddrinfo

    def answer(host: Any, *arguments: Any, **options: Any) -> Any:
        return ask(address if host in (host_name, host_name.encode()) else host, *arguments, **options)

    socket.getaddrinfo = answer
    try:
        yield
    finally:
        socket.getaddrinfo = ask
