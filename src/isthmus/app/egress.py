"""How the hub's own process goes out to storage: its identities' tokens, its trust, and where names lead."""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

from isthmus.base.errors import HubError
from isthmus.base.ids import HubId
from isthmus.resources.token_authority import TokenAuthority
from isthmus.routing.sink import Destination, FailureKind, SinkFailure


class HubEgress:
    """Implements `Egress` beside the authority."""

    def __init__(self, authority: TokenAuthority, ca_file: Path) -> None:
        self._authority = authority
        self._ca_file = ca_file

    @property
    def ca_file(self) -> Path:
        return self._ca_file

    async def token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        try:
            return await self._authority.token(hub, identity, scope)
        except HubError as error:
            raise SinkFailure(FailureKind.IDENTITY, error.message, error.code.wire_name) from error

    async def resolve(self, hub: HubId, host: str, port: int) -> Sequence[Destination]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            reason = f"{host} does not resolve: {error.strerror or error}"
            raise SinkFailure(FailureKind.NAME, reason, "NameNotResolved") from error
        return tuple(dict.fromkeys(Destination(str(address[0]), port) for *_, address in found))
