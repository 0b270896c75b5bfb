"""The official clients of storage accounts, Event Hubs and Service Bus, set up the way a hub goes out.

Whoever reaches a target for a hub (a sink, file upload, a job) takes a client from here and gets with it: the hub's
identity as a credential, trust in the hub's own CA beside what the system trusts, and names that lead where `Egress`
says and nowhere else. A client connects when it is used first, and repeats nothing unless told to.

Storage clients ask `Egress.resolve` for every connection they make. Those of AMQP cannot be given a resolver: they are
given the address that was resolved for them, and a TLS context that asks for the target's name all the same; a target
that moved is found by the next client.
"""

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, Self, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient, ContainerClient, LinearRetry

from isthmus.base.hosts import is_address
from isthmus.base.ids import HubId
from isthmus.routing.sink import Destination, Egress

EVENT_HUBS_SCOPE: Final = "https://eventhubs.azure.net//.default"
SERVICE_BUS_SCOPE: Final = "https://servicebus.azure.net//.default"
"""What the official clients of messaging ask tokens for; the two slashes are theirs."""

CONNECT_SECONDS_MAX: Final = 10
"""A target that takes longer to answer a connection is down; whoever waits has others to serve."""

READ_SECONDS_MAX: Final = 60
"""An answer of storage; its own operations end within 30 s ("Setting timeouts for Blob service operations")."""

CONNECTIONS_MAX: Final = 64
"""Connections of one storage client; more work waits for one."""

RETRY_SECONDS: Final = 1
"""Pause between tries of clients that repeat."""

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80


class Credential(Protocol):
    """Gives access tokens: what azure-core calls `AsyncTokenCredential`."""

    async def get_token(self, *scopes: str, **options: object) -> AccessToken:
        """A token for the first scope."""

    async def close(self) -> None:
        """Gives back what it holds."""


class HubCredential:
    """A hub's identity as the official clients ask for it; `identity` as in `Egress.token`."""

    def __init__(self, hub: HubId, identity: str, egress: Egress) -> None:
        self._hub = hub
        self._identity = identity
        self._egress = egress

    async def get_token(self, *scopes: str, **options: object) -> AccessToken:
        """A token for the first scope; raises `SinkFailure` IDENTITY."""
        text, expires_s = await self._egress.token(self._hub, self._identity, scopes[0])
        return AccessToken(text, expires_s)

    async def close(self) -> None:
        """Holds nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


CredentialFactory: TypeAlias = Callable[[HubId, str, Egress], Credential]
"""Makes the credential of a hub's identity: `HubCredential`, or one of Azure's own where the targets are Azure's."""


@dataclass(frozen=True, slots=True)
class WayOut:
    """How one hub goes out: whose tokens, which names, whose certificates."""

    hub: HubId
    egress: Egress
    credentials: CredentialFactory = HubCredential

    def credential(self, identity: str) -> Credential:
        """The credential of an identity, by ARM id; empty for the hub's own."""
        return self.credentials(self.hub, identity, self.egress)

    async def resolve(self, host: str, port: int) -> list[Destination]:
        """Where a target's name leads; raises `SinkFailure` NAME or OUTBOUND."""
        return list(await self.egress.resolve(self.hub, host, port))


def blob_service_by_key(way: WayOut, connection_string: str, *, tries_again: int = 0) -> BlobServiceClient:
    """A client of the account that a connection string names and opens; close it. Raises ValueError for a bad one."""
    return BlobServiceClient.from_connection_string(connection_string, **_options(way, tries_again))


def blob_service_by_identity(
    way: WayOut, account_url: str, identity: str, *, tries_again: int = 0
) -> BlobServiceClient:
    """A client of an account (`https://{account}.blob.{domain}`) that shows the hub's tokens; close it."""
    return BlobServiceClient(account_url, credential=way.credential(identity), **_options(way, tries_again))


def container_by_address(
    way: WayOut, container_url: str, identity: str | None = None, *, tries_again: int = 0
) -> ContainerClient:
    """A client of the container at an address; without an identity the address carries its own signature. Close it."""
    credential = None if identity is None else way.credential(identity)
    return ContainerClient.from_container_url(container_url, credential=credential, **_options(way, tries_again))


def trust(way: WayOut) -> ssl.SSLContext:
    """Judges a target's certificate by the system's authorities and by the hub's own."""
    context = ssl.create_default_context()
    context.load_verify_locations(way.egress.ca_file)
    return context


def trust_by_name(way: WayOut, host: str) -> ssl.SSLContext:
    """The same for a connection that was dialled by address: the certificate must be for `host`."""
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.host = host
    context.load_default_certs()
    context.load_verify_locations(way.egress.ca_file)
    return context


class _NamedContext(ssl.SSLContext):
    """Asks for a name of its own, whatever name the client that opens the connection knows it by."""

    host: str = ""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.host, session)


def _options(way: WayOut, tries_again: int) -> dict[str, object]:
    return {
        "transport": _JudgedTransport(way),
        "retry_policy": LinearRetry(backoff=RETRY_SECONDS, retry_total=tries_again, random_jitter_range=0),
    }


class _JudgedTransport:
    """The official transport on connections that lead where the hub's way out does.

    aiohttp resolves no bare address, so these are judged here, before each request.
    """

    def __init__(self, way: WayOut) -> None:
        self._way = way
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(way), ssl=trust(way), use_dns_cache=False, limit=CONNECTIONS_MAX
        )
        session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
        )
        self._transport = AioHttpTransport(
            session=session, connection_timeout=CONNECT_SECONDS_MAX, read_timeout=READ_SECONDS_MAX
        )

    async def send(self, request: object, **options: object) -> object:
        address = urlsplit(str(getattr(request, "url", "")))
        host = address.hostname or ""
        if is_address(host):
            await self._way.resolve(host, address.port or (HTTPS_PORT if address.scheme == "https" else HTTP_PORT))
        return await self._transport.send(request, **options)

    async def open(self) -> None:
        await self._transport.open()

    async def close(self) -> None:
        await self._transport.close()

    async def sleep(self, duration: float) -> None:
        await self._transport.sleep(duration)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


class _Resolver(AbstractResolver):
    """Names as the hub's way out tells them; a failure to is raised as it is, past aiohttp and azure-core."""

    def __init__(self, way: WayOut) -> None:
        self._way = way

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [_result(host, destination) for destination in await self._way.resolve(host, port)]

    async def close(self) -> None:
        """Holds nothing."""


def _result(host: str, destination: Destination) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=destination.address,
        port=destination.port,
        family=socket.AF_INET6 if ":" in destination.address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
