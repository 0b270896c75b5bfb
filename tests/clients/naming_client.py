"""A client in a network that knows the hub by its usual name alone: its program, run inside a network namespace.

Takes its task as JSON from standard input and prints as JSON what each resolver said, and what came of a message: glibc
by `/etc/resolv.conf`, dnspython's stock resolver over UDP and over TCP, and the device SDK.
"""

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dns.exception
import dns.resolver
from azure.iot.device import IoTHubDeviceClient

LIFETIME_SECONDS = 10.0


def by_glibc(host: str) -> list[str]:
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, 8883, type=socket.SOCK_STREAM)})


def by_dnspython(host: str, *, tcp: bool) -> list[str]:
    said = dns.resolver.resolve(host, "A", tcp=tcp, lifetime=LIFETIME_SECONDS)
    return [str(said.canonical_name), *sorted(record.to_text() for record in said)]


def sent(connection_string: str, ca: str) -> bool:
    device = IoTHubDeviceClient.create_from_connection_string(
        connection_string, server_verification_cert=Path(ca).read_text()
    )
    try:
        device.connect()
        device.send_message("by name")
    finally:
        device.shutdown()
    return True


def tried(act: Callable[[], Any]) -> Any:
    """What it gives, or the name of its error."""
    try:
        return act()
    except (OSError, dns.exception.DNSException) as error:
        return type(error).__name__


def main() -> None:
    """Does the task."""
    task = json.load(sys.stdin)
    host = task["host"]
    said: dict[str, Any] = {
        "glibc": tried(lambda: by_glibc(host)),
        "udp": tried(lambda: by_dnspython(host, tcp=False)),
        "tcp": tried(lambda: by_dnspython(host, tcp=True)),
        "other": tried(lambda: by_dnspython(task["other"], tcp=False)),
    }
    if task.get("connection_string"):
        said["sent"] = sent(task["connection_string"], task["ca"])
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
