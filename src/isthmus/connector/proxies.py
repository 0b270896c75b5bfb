"""Forward proxies: which one leads to a host, what it is asked, and what its answer means; pure.

A proxy is named by a URL, `http://[user:password@]host[:port]` or `https://…` for one that speaks TLS itself. Who names
none on the command line is taken at the word of the environment: `HTTPS_PROXY` and `NO_PROXY`, in either case, as
everywhere. `NO_PROXY` is a list of names, which mean their subdomains too, addresses, and networks in CIDR; `*` is all.
"""

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from isthmus.base.errors import ConfigurationError

ANSWER_BYTES_MAX = 16_384
"""Of a proxy's answer before the tunnel begins: its headers, and the page it may show beside a refusal's headers."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy; `secure` when the way to it is TLS itself. Its `authorization` is not in its repr."""

    host: str
    port: int
    secure: bool = False
    authorization: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which way leads to a host."""

    proxy: Proxy | None = None
    exceptions: tuple[str, ...] = ()

    def to(self, host: str) -> Proxy | None:
        """The proxy that leads to a host, None when the way is direct."""
        if self.proxy is None or any(_covers(exception, host) for exception in self.exceptions):
            return None
        return self.proxy


class ProxyRefused(Exception):  # noqa: N818 - what the proxy did
    """The proxy does not open the tunnel; the text says its words."""


def proxies_of(option: str, environment: Mapping[str, str]) -> Proxies:
    """What `--proxy` says, else the environment. `NO_PROXY` counts for the environment's proxy only.

    Raises `ConfigurationError` for a URL that names no proxy.
    """
    if option:
        return Proxies(parse_proxy(option, "--proxy"))
    url = environment.get("HTTPS_PROXY") or environment.get("https_proxy") or ""
    if not url:
        return Proxies()
    exceptions = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    words = (word.strip().lower() for word in exceptions.replace(",", " ").split())
    return Proxies(parse_proxy(url, "HTTPS_PROXY"), tuple(words))


def parse_proxy(url: str, source: str) -> Proxy:
    """A proxy by its URL, `http` where no scheme is given; `ConfigurationError` names the source, never the URL."""
    wrong = ConfigurationError(f"{source} is not the URL of a proxy: http://HOST:PORT or https://HOST:PORT.")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in _PORTS or not host or parts.path not in ("", "/"):
        raise wrong
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(host, port or _PORTS[parts.scheme], parts.scheme == "https", authorization)


def tunnel_request(proxy: Proxy, host: str, port: int) -> bytes:
    """The request for a tunnel (RFC 9110 §9.3.6)."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


class TunnelAnswer:
    """Takes a proxy's answer until its head is whole."""

    __slots__ = ("_held", "rest")

    def __init__(self) -> None:
        self._held = b""
        self.rest = b""
        """What came through the tunnel behind the answer."""

    def receive(self, data: bytes) -> bool:
        """True once the tunnel is open; raises `ProxyRefused` when it will not be, or the answer is none."""
        self._held += data
        head, end, rest = self._held.partition(b"\r\n\r\n")
        if not end:
            if len(self._held) > ANSWER_BYTES_MAX:
                raise ProxyRefused("its answer has no end")
            return False
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise ProxyRefused("its answer is not HTTP")
        # Any answer of the 2xx class means that the tunnel is open (RFC 9110 §9.3.6).
        if not words[1].startswith("2"):
            raise ProxyRefused(f"it answered {' '.join(words[1:])}"[:200])
        self.rest = rest
        return True


def _covers(exception: str, host: str) -> bool:
    if exception == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(exception, strict=False)
    except ValueError:
        name = exception.removeprefix("*").removeprefix(".")
        return bool(name) and (host.lower() == name or host.lower().endswith(f".{name}"))
