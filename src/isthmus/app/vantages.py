"""Who walks paths: this process, on sockets of its own or of a network namespace, and connectors in their networks."""

import asyncio
import os
import socket

import msgspec

from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigurationError
from isthmus.base.ids import Ids
from isthmus.base.sockets import SocketKind
from isthmus.namespaces.client import NamespaceClient
from isthmus.network.virtual_networks import PresenceKind
from isthmus.paths.errand import Errand, Walk, decode_walk, encode_errand, no_walk
from isthmus.paths.ground import Ground, ThisMachine
from isthmus.paths.walk import walk
from isthmus.servers.gateway.link_door import LinkDoor


class Vantages:
    """Walks from the place that a network is present in."""

    def __init__(self, namespaces: NamespaceClient, link: LinkDoor, clock: Clock, ids: Ids) -> None:
        self._namespaces = namespaces
        self._link = link
        self._clock = clock
        self._ids = ids

    async def walk(self, place: str, errand: Errand) -> Walk:
        """Walks from a place; raises HubError when its connector is not there."""
        kind, _, name = place.partition(":")
        if kind == PresenceKind.CONNECTOR:
            return await self._by_connector(name, errand)
        ground: Ground = InNamespace(self._namespaces, place) if place else ThisMachine(inside=not errand.own_resolver)
        return await walk(errand, ground, self._clock, self._ids)

    async def _by_connector(self, name: str, errand: Errand) -> Walk:
        result = await self._link.check(name, {"path": encode_errand(errand)})
        if not result.ok:
            return no_walk(str(result.body.get("error", "the connector does not say why")))
        try:
            return decode_walk(result.body)
        except msgspec.ValidationError:
            return no_walk(f"the connector {name} answers what is no walk")


class InNamespace:
    """A network namespace; its sockets come from the helper."""

    def __init__(self, namespaces: NamespaceClient, place: str) -> None:
        self._namespaces = namespaces
        self._place = place

    async def connect(self, address: str, port: int, kind: SocketKind) -> socket.socket:
        """A connected socket; cancelling closes it."""
        try:
            opened = await self._namespaces.connecting_socket(self._place, address, port, kind)
        except ConfigurationError as error:
            raise OSError(str(error)) from error
        try:
            await _writable(opened)
            code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
        except BaseException:
            opened.close()
            raise
        return opened


async def _writable(opened: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(opened, tell)
    try:
        await ready
    finally:
        loop.remove_writer(opened)
