"""Which front a request is for: the hubs' own, their relay, or that of a neighbour, as its names and its door say."""

from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from isthmus.base.errors import HubError
from isthmus.resources.guarded import Guarded, ResourceKind
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.gate import Gate
from isthmus.servers.gateway.http_app import Front, HttpPeer, connection_of, host_names
from isthmus.servers.gateway.plane import Plane
from isthmus.servers.gateway.relay import RelayFront


class NeighbourFront(Protocol):
    """Answers the requests to one kind of neighbour."""

    async def handle(self, request: web.BaseRequest, connection: HttpPeer, neighbour: Guarded) -> web.StreamResponse:
        """Answers a request to a neighbour; never raises but for cancellation, which follows when the peer is gone."""


class HttpDispatch:
    """Takes requests to their fronts; `handle` is a handler for `aiohttp.web.Server`."""

    def __init__(
        self, gate: Gate, hubs: Front, relay: RelayFront, neighbours: Mapping[ResourceKind, NeighbourFront]
    ) -> None:
        self._gate = gate
        self._hubs = hubs
        self._relay = relay
        self._neighbours = neighbours

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request; one whose names mean nothing is the hubs' front's to refuse."""
        connection = connection_of(request)
        named = None if connection is None else self._named(connection, request)
        if connection is not None and isinstance(named, Hub) and self._relay.takes(request):
            return await self._relay.handle(request, connection, named)
        front = self._neighbours.get(named.kind) if named is not None and not _upgrades(request) else None
        if connection is None or named is None or front is None:
            return await self._hubs.handle(request)
        return await front.handle(request, connection, named)

    def _named(self, connection: HttpPeer, request: web.BaseRequest) -> Guarded | None:
        try:
            return self._gate.find(connection, Plane.HTTPS, *host_names(request))
        except HubError:
            return None


def _upgrades(request: web.BaseRequest) -> bool:
    """True for a WebSocket, which the hubs' front makes of a request to any resource that speaks by it."""
    return request.headers.get("Upgrade", "").lower() == "websocket"
