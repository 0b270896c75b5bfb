"""Addresses of the network namespace that the calling thread is in: looked up, added, taken back."""

import errno
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from isthmus.namespaces.orders import Address

LOOPBACK_INDEX = 1
"""The interface `lo`, which every namespace has from its beginning."""

IFA_F_NODAD = 0x02
"""An IPv6 address that is used at once; nobody else has it, by declaration (RFC 4862 §5.4 says when to look)."""

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Held:
    """An address that an interface has; `index` is the interface's."""

    index: int
    interface: Interface


class _Message(Protocol):
    """One address as the kernel tells it (rtnetlink(7), ifaddrmsg)."""

    def get(self, name: str) -> object: ...
    def __getitem__(self, name: str) -> int: ...


def held() -> tuple[Held, ...]:
    """All addresses that interfaces have."""
    with IPRoute() as routing:
        return _held(routing.get_addr())


def interface_for(address: Address, there: Iterable[Held]) -> int:
    """The index of the interface whose network holds an address, the closest where several do; of `lo` where none."""
    owners = [each for each in there if address in each.interface.network]
    closest = max(owners, key=lambda each: each.interface.network.prefixlen, default=None)
    return closest.index if closest is not None else LOOPBACK_INDEX


def add(address: Address, index: int) -> None:
    """Adds an address alone (/32 or /128) to an interface, without effect where it is already; raises OSError."""
    flags = IFA_F_NODAD if address.version == 6 else 0
    with IPRoute() as routing:
        try:
            if index == LOOPBACK_INDEX:
                # An address on an interface that is down is nobody's, and a new namespace's `lo` is down.
                routing.link("set", index=index, state="up")
            routing.addr("add", index=index, address=str(address), prefixlen=address.max_prefixlen, ifa_flags=flags)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise OSError(error.code, str(error)) from error


def remove(address: Address, index: int) -> None:
    """Takes an address that was added back; without effect where it is not there any more. Raises OSError."""
    with IPRoute() as routing:
        try:
            routing.addr("del", index=index, address=str(address), prefixlen=address.max_prefixlen)
        except NetlinkError as error:
            if error.code not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise OSError(error.code, str(error)) from error


def _held(messages: Iterable[_Message]) -> tuple[Held, ...]:
    """An interface's own address stands in IFA_LOCAL; IFA_ADDRESS is the peer's on a point-to-point link."""
    found = []
    for message in messages:
        text = message.get("IFA_LOCAL") or message.get("IFA_ADDRESS")
        if text:
            found.append(Held(message["index"], ipaddress.ip_interface(f"{text}/{message['prefixlen']}")))
    return tuple(found)
