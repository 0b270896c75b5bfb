"""What the helper can be asked, in which words, and what it may be asked at all; pure.

An order is one packet with a JSON object, an answer another one; a socket comes beside the answer (SCM_RIGHTS).
Whatever is not exactly an order ends the connection.
"""

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from isthmus.base.errors import ConfigurationError
from isthmus.base.sockets import METADATA_ADDRESS, METADATA_PORT, SocketKind

ORDER_BYTES_MAX = 4_096
"""Of an order or answer; the longest there is has some hundred bytes."""

NAMESPACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
"""The name of a namespace; no path and no option can be made of it (ip-netns(8))."""

PORTS_USUAL = (53, 443, 5671, 8443, 8883)
"""What an endpoint listens at unless somebody chose other ports: names, HTTPS and its second choice, AMQP, MQTT."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Block = ipaddress.IPv4Network | ipaddress.IPv6Network


class Task(StrEnum):
    """What there is to do.

    LISTEN: have the address, and a socket bound to it. HOLD: have the address, and go on having it. RELEASE: take the
    address back when this helper added it and nobody else holds it. CONNECT: a socket that is being connected to the
    address, from inside; the address is not had by it.
    """

    LISTEN = "listen"
    HOLD = "hold"
    RELEASE = "release"
    CONNECT = "connect"


class Spot(msgspec.Struct, frozen=True):
    """An address in a namespace, or on this machine for no name."""

    namespace: str
    address: str


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One order; `port` and `kind` count for LISTEN and CONNECT only."""

    task: Task
    namespace: str
    address: str
    port: int = 0
    kind: SocketKind = SocketKind.STREAM

    @property
    def spot(self) -> Spot:
        """Where."""
        return Spot(self.namespace, self.address)


class Answer(msgspec.Struct, frozen=True):
    """What became of it; `reason` is a sentence with the remedy when nothing did.

    `cookie` tells the network namespace apart from all others, also from an earlier one of the same name; 0 where the
    kernel does not tell (SO_NETNS_COOKIE, Linux 5.14).
    """

    reason: str = ""
    cookie: int = 0


def decode_order(packet: bytes) -> Order:
    """The order in a packet; raises `msgspec.MsgspecError` when it is none."""
    return msgspec.json.decode(packet, type=Order)


def decode_answer(packet: bytes) -> Answer:
    """The answer in a packet; raises `msgspec.MsgspecError` when it is none."""
    return msgspec.json.decode(packet, type=Answer)


@dataclass(frozen=True, slots=True)
class Permissions:
    """What may be ordered; an empty tuple of namespaces, blocks or ports stands for all of them."""

    namespaces: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    ports: tuple[int, ...] = PORTS_USUAL
    this_machine: bool = False

    def objection(self, order: Order) -> str:
        """Why an order is not carried out, a sentence with the remedy; empty when it is."""
        return self._of_namespace(order.namespace) or self._of_address(order.address) or self._of_port(order)

    def _of_namespace(self, name: str) -> str:
        if not name:
            return "" if self.this_machine else "Addresses of the machine itself need --this-machine at the helper."
        if not NAMESPACE.fullmatch(name):
            return "That is no name of a network namespace: letters, digits, - _ . are, 64 at most."
        if self.namespaces and name not in self.namespaces:
            return f"The namespace helper may not enter {name}: start it with --namespace {name}."
        return ""

    def _of_address(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return "That is no IP address."
        if str(address) != text or not _is_somebodys(address):
            return f"{text} cannot be an endpoint's: give a unicast address in its normal form."
        if self.blocks and not any(address in block for block in self.blocks):
            return f"The namespace helper may not have {text}: start it with --address {text}/{address.max_prefixlen}."
        return ""

    def _of_port(self, order: Order) -> str:
        if order.task not in (Task.LISTEN, Task.CONNECT):
            return ""
        if not 0 < order.port < 65_536:
            return "A port is a number from 1 to 65535."
        if (order.address, order.port) == (METADATA_ADDRESS, METADATA_PORT):
            return ""
        if self.ports and order.port not in self.ports:
            return f"The namespace helper may not use port {order.port}: start it with --port {order.port}."
        return ""


def permissions_of(
    namespaces: tuple[str, ...], blocks: tuple[str, ...], ports: tuple[int, ...], *, this_machine: bool
) -> Permissions:
    """What a command line permits; raises `ConfigurationError` in a sentence."""
    try:
        networks = tuple(ipaddress.ip_network(each) for each in blocks)
    except ValueError as error:
        raise ConfigurationError(f"--address takes addresses and CIDR blocks: {error}.") from error
    wrong = next((each for each in namespaces if not NAMESPACE.fullmatch(each)), None)
    if wrong is not None:
        raise ConfigurationError(f"--namespace takes names of network namespaces, and {wrong!r} is none.")
    return Permissions(namespaces, networks, ports or PORTS_USUAL, this_machine)


def _is_somebodys(address: Address) -> bool:
    """False for addresses that no single interface in a network has."""
    if str(address) == METADATA_ADDRESS:
        # Each namespace may have one of its own, for no packet to it leaves the namespace.
        return True
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped is None and not (
        address.is_unspecified or address.is_multicast or address.is_loopback or address.is_link_local
        or address == ipaddress.IPv4Address(0xFFFFFFFF)
    )  # fmt: skip
