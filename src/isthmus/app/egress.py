"""How the hub's own process goes out to storage: its identities' tokens, its trust, and where names lead."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from isthmus.app.domain import Domain
from isthmus.base.errors import HubError
from isthmus.base.hosts import is_address, normal_host
from isthmus.base.ids import HubId
from isthmus.routing.sink import Destination, FailureKind, SinkFailure


class HubEgress:
    """Implements `Egress` beside the authority; `own_door` is where this server listens for HTTPS."""

    def __init__(self, domain: Domain, ca_file: Path, own_door: Callable[[], Destination]) -> None:
        self._domain = domain
        self._ca_file = ca_file
        self._own_door = own_door

    @property
    def ca_file(self) -> Path:
        return self._ca_file

    async def token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        try:
            return await self._domain.authority.token(hub, identity, scope)
        except HubError as error:
            raise SinkFailure(FailureKind.IDENTITY, error.message, error.code.wire_name) from error

    async def resolve(self, hub: HubId, host: str, port: int) -> Sequence[Destination]:
        name = normal_host(host)
        self._judge(hub, name)
        if self._domain.directory.by_host(name) is not None:
            return (self._own_door(),)
        if is_address(name):
            return (Destination(name, port),)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError as error:
            reason = f"{name} does not resolve: {error.strerror or error}"
            raise SinkFailure(FailureKind.NAME, reason, "NameNotResolved") from error
        return tuple(dict.fromkeys(Destination(str(address[0]), port) for *_, address in found))

    def _judge(self, number: HubId, name: str) -> None:
        hub = self._domain.hubs.by_number(number)
        if hub is not None and hub.restrict_outbound and name not in hub.allowed_fqdns:
            reason = f"{name} is not in allowedFqdnList of the hub {hub.name}, which restricts outbound access"
            raise SinkFailure(FailureKind.OUTBOUND, reason, "OutboundAccessRestricted")
