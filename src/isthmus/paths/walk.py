"""Walks one path: name, TCP, TLS, and then the conversation of its protocol.

Theory of operation. The stations follow each other, each with its own time limit; the first that is not passed ends the
walk, because nothing behind it could be reached by a client either. What is said is said by the client halves of the
protocols' own engines. The walk knows no socket of its own: `Ground` connects, from this machine, from a network
namespace, or from where a connector is. Cancelling closes whatever is open.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.base.sockets import SocketKind
from isthmus.names.asking import Told, address_query, told_by
from isthmus.paths.amqp_talk import amqp, events
from isthmus.paths.errand import Errand, Station, Walk, Way
from isthmus.paths.ground import Ground
from isthmus.paths.https_talk import https
from isthmus.paths.mqtt_talk import mqtt
from isthmus.paths.steps import Ended, Met, Steps, Trouble
from isthmus.paths.talk import Talk, secured
from isthmus.wire.tls import client_context

NAME_SECONDS_MAX = 1.5
"""For one name service's answer: it is in the network, or on the machine."""

DATAGRAM_BYTES_MAX = 65_535

Conversation = Callable[[Errand, Talk, Steps, Clock], Awaitable[None]]

CONVERSATIONS: Mapping[Way, Conversation] = MappingProxyType(
    {Way.MQTT: mqtt, Way.AMQP: amqp, Way.HTTPS: https, Way.EVENTS: events}
)


async def walk(errand: Errand, ground: Ground, clock: Clock, ids: Ids) -> Walk:
    """Walks as far as the path goes; raises nothing for what is met on it."""
    steps = Steps(clock)
    with contextlib.suppress(Ended):
        await steps.take(Station.NAME, _resolved(errand, ground, ids))
        plain = await steps.take(Station.TCP, _connected(errand, ground))
        talk = await steps.take(Station.TLS, _secured(errand, plain))
        try:
            await CONVERSATIONS[errand.way](errand, talk, steps, clock)
        finally:
            talk.close()
    return Walk(tuple(steps.taken))


async def _connected(errand: Errand, ground: Ground) -> Met[socket.socket]:
    return Met(await ground.connect(errand.address, errand.port, SocketKind.STREAM), f"{errand.address}:{errand.port}")


async def _secured(errand: Errand, plain: socket.socket) -> Met[Talk]:
    talk = await secured(plain, client_context(authorities=errand.authorities), errand.host_name)
    return Met(talk, f"{talk.version}, certificate until {talk.expires}")


# ── the name ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _resolved(errand: Errand, ground: Ground, ids: Ids) -> Met[None]:
    if errand.own_resolver:
        return await _by_machine(errand)
    for server, port in errand.name_servers:
        told = await _asked(errand, ground, (server, port), int(ids.uuid()[:4], 16))
        if told is not None:
            return _judged(errand, told, server)
    if not errand.name_servers:
        return Met(None, "this hub serves no names there; clients need theirs to know the address", skipped=True)
    asked = ", ".join(server for server, _ in errand.name_servers)
    return Met(None, f"no name service answers at {asked}; clients need theirs to know the address", skipped=True)


def _judged(errand: Errand, told: Told, server: str) -> Met[None]:
    name, found = errand.host_name, ", ".join(told.addresses)
    if errand.address in told.addresses:
        return Met(None, f"{name} is {found}, says {server}")
    if set(told.addresses) & set(errand.public):
        raise Trouble(f"resolved the public address: {server} says that {name} is {found}, not {errand.address}")
    if told.addresses:
        return Met(None, f"{server} sends clients to {found} instead", skipped=True)
    raise Trouble(f"{server} answers {told.code} for {name}, and no address")


async def _asked(errand: Errand, ground: Ground, server: tuple[str, int], query_id: int) -> Told | None:
    """What a name service says; None when it says nothing in time."""
    loop = asyncio.get_running_loop()
    query = address_query(errand.host_name, query_id, ipv6=":" in errand.address)
    try:
        async with asyncio.timeout(NAME_SECONDS_MAX):
            with await ground.connect(*server, SocketKind.DATAGRAM) as asking:
                await loop.sock_sendall(asking, query)
                while True:
                    told = told_by(await loop.sock_recv(asking, DATAGRAM_BYTES_MAX), query_id)
                    if told is not None:
                        return told
    except OSError:
        return None


async def _by_machine(errand: Errand) -> Met[None]:
    """A client outside asks the machine's resolver, whatever that is; it cannot be judged for other machines."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(errand.host_name, errand.port, type=socket.SOCK_STREAM)
    except OSError:
        return Met(None, f"this machine's resolver does not know {errand.host_name}", skipped=True)
    addresses = {str(each[4][0]) for each in found}
    told = f"{errand.host_name} is {', '.join(sorted(addresses))} for this machine"
    return Met(None, told, skipped=errand.address not in addresses)
