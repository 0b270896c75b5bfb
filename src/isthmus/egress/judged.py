"""What sinks use of the hub on their way out: tokens as they are given, names judged and resolved."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from isthmus.base.hosts import is_address, normal_address
from isthmus.base.ids import HubId
from isthmus.egress.messages import Settings
from isthmus.routing.egress_policy import OutboundRules, check_addresses, check_name, hosted_destination
from isthmus.routing.sink import Destination, FailureKind, SinkFailure

RESOLVE_SECONDS_MAX = 10.0
"""For the system's resolver, which tries its servers for longer."""

AskToken = Callable[[HubId, str, str], Awaitable[tuple[str, int]]]
"""Asks the hub; raises `SinkFailure` IDENTITY."""

Lookup = Callable[[str, int], Awaitable[Sequence[Destination]]]
"""Asks the system's resolver; raises OSError."""


class JudgedEgress:
    """`Egress` over what holds now: settings for all hubs, and each hub's outbound rules."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        rules_of: Callable[[HubId], OutboundRules],
        ask_token: AskToken,
        lookup: Lookup,
    ) -> None:
        self._settings = settings
        self._rules_of = rules_of
        self._ask_token = ask_token
        self._lookup = lookup

    @property
    def ca_file(self) -> Path:
        """As `Egress.ca_file`."""
        return Path(self._settings().ca_file)

    async def token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        """As `Egress.token`."""
        return await self._ask_token(hub, identity, scope)

    async def resolve(self, hub: HubId, host: str, port: int) -> Sequence[Destination]:
        """As `Egress.resolve`."""
        check_name(self._rules_of(hub), host)
        settings = self._settings()
        hosted = hosted_destination(settings.hosted, host, port)
        if hosted is not None:
            return (hosted,)
        if is_address(host):
            return check_addresses(settings.reachable, host, (Destination(normal_address(host), port),))
        try:
            async with asyncio.timeout(RESOLVE_SECONDS_MAX):
                found = await self._lookup(host, port)
        except OSError as error:  # a time that is up is one of them
            reason = f"{host} does not resolve: {error.strerror or 'no answer'}"
            raise SinkFailure(FailureKind.NAME, reason, "NameNotResolved") from error
        return check_addresses(settings.reachable, host, found)


async def system_lookup(host: str, port: int) -> Sequence[Destination]:
    """As the system says, each address once; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(normal_address(str(each[4][0])) for each in found)
    return tuple(Destination(address, port) for address in addresses)
