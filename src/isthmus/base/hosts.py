"""Host names as they are compared: lower case, without port, brackets and the dot of the root."""

import ipaddress

NO_NAMES = frozenset({"", "localhost"})
"""What a client says that does not know a name; a bare address counts the same."""


def normal_host(text: str) -> str:
    """`Hub.Example.Test:8443` gives `hub.example.test`; `[::1]:443` gives `::1`."""
    host = text.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    if host.count(":") == 1:
        host = host.partition(":")[0]
    return host.rstrip(".")


def is_unnamed(host: str) -> bool:
    """True for a normal host that names no resource: nothing, `localhost` or an address."""
    return host in NO_NAMES or is_address(host)


def is_address(text: str) -> bool:
    """True for an IPv4 or IPv6 address without port and brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """True for `localhost` and addresses of this machine alone (RFC 6761 §6.3, RFC 6890), in normal form."""
    return host == "localhost" or host.endswith(".localhost") or (is_address(host) and _is_loopback(host))


def address_and_port(text: str, port: int) -> tuple[str, int] | None:
    """`10.0.0.1:5353`, `[fd00::1]:53`, or an address alone, which has the given port; None when it is neither."""
    if is_address(text):
        return normal_address(text), port
    host, _, digits = text.rpartition(":")
    address = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not is_address(address) or not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65_536):
        return None
    return normal_address(address), int(digits)


def normal_address(text: str) -> str:
    """The shortest form of an address; IPv4 for an IPv4 address mapped into IPv6; other text as it is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(normal_address(address)).is_loopback
