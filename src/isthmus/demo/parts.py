"""What the demo's processes share: one JSON line a happening, and names that resolve as inside the plant."""

import json
import socket
import sys
from typing import Any

CONNECTION_STRING = "ISTHMUS_DEMO_CONNECTION_STRING"
"""The variable that an actor finds its connection string in: the key is nobody's to read in a list of processes."""


def tell(what: str, **details: Any) -> None:
    """Prints one happening as a JSON line for the view."""
    sys.stdout.write(json.dumps({"what": what} | details) + "\n")
    sys.stdout.flush()


def resolve_privately(host_name: str, address: str) -> None:
    """Makes this process resolve the hub's name to the private endpoint, as the plant's own DNS would.

    The SDKs stay as they are: they ask the resolver for the hub's usual name and check its certificate for that name.
    """
    ask = socket.getaddrinfo

    def answer(host: Any, *arguments: Any, **options: Any) -> Any:
        return ask(address if host == host_name else host, *arguments, **options)

    socket.getaddrinfo = answer
