"""Carries orders out: addresses that are had where they are needed, and taken back where they were added."""

import contextlib
import ipaddress
import logging
import socket

from isthmus.namespaces import addresses
from isthmus.namespaces.claims import Claims, TooManyClaims
from isthmus.namespaces.entering import NoNamespace, inside
from isthmus.namespaces.orders import Address, Answer, Order, Permissions, Spot, Task
from isthmus.namespaces.record import Added, Record
from isthmus.namespaces.sockets import bound_socket, connecting_socket, cookie_here

ORPHAN_SECONDS = 30.0
"""An address that nobody holds stays for so long: a hub restarts within it, and holds its own every few seconds."""

logger = logging.getLogger(__name__)


class Keeping:
    """The addresses of all namespaces that this helper looks after."""

    def __init__(self, permissions: Permissions, record: Record, now: float) -> None:
        """What an earlier helper has added is adopted: it goes when nobody claims it within `ORPHAN_SECONDS`."""
        self._permissions = permissions
        self._record = record
        self._claims = Claims()
        self._claims.adopt(record.spots, now + ORPHAN_SECONDS)

    def carry_out(self, holder: int, order: Order) -> tuple[Answer, socket.socket | None]:
        """Does what a connection orders; the socket is the caller's."""
        objection = self._permissions.objection(order)
        if objection:
            return Answer(objection), None
        if order.task is Task.RELEASE:
            if self._claims.give_up(holder, order.spot):
                self._take_back(order.spot)
            return Answer(), None
        try:
            if order.task is Task.CONNECT:
                return inside(order.namespace, lambda: _connecting(order))
            self._claims.claim(holder, order.spot)
            return inside(order.namespace, lambda: self._have(order))
        except TooManyClaims:
            return Answer("The namespace helper holds no more addresses for one hub."), None
        except OSError as error:
            return Answer(_sentence(order, error)), None

    def leave(self, holder: int, until: float) -> None:
        """A connection has ended; what it needed stays until then."""
        self._claims.leave(holder, until)

    def tidy(self, now: float) -> float | None:
        """Takes back what nobody has needed for long enough; returns when there is more to do, None when never."""
        for spot in self._claims.due(now):
            self._take_back(spot)
        return self._claims.next_due()

    def _have(self, order: Order) -> tuple[Answer, socket.socket | None]:
        """In the namespace: the address, and a socket bound to it when one is wanted."""
        address, cookie = ipaddress.ip_address(order.address), cookie_here()
        self._ensure(order.spot, address, cookie)
        opened = bound_socket(address, order.port, order.kind) if order.task is Task.LISTEN else None
        return Answer(cookie=cookie), opened

    def _ensure(self, spot: Spot, address: Address, cookie: int) -> None:
        there = addresses.held()
        if any(each.interface.ip == address for each in there):
            added = self._record.added(spot)
            if added is not None and added.cookie != cookie:
                # What was added went with the namespace that had this name before.
                self._record.strike(spot)
            return
        index = addresses.interface_for(address, there)
        self._record.note(spot, Added(index, cookie))
        addresses.add(address, index)
        logger.info("address added", extra={"namespace": spot.namespace, "address": spot.address})

    def _take_back(self, spot: Spot) -> None:
        added = self._record.added(spot)
        if added is None:
            return
        told = {"namespace": spot.namespace, "address": spot.address}
        try:
            # Without its namespace, the address is gone as well.
            with contextlib.suppress(NoNamespace):
                inside(spot.namespace, lambda: _remove(ipaddress.ip_address(spot.address), added))
            self._record.strike(spot)
        except OSError as error:
            logger.error("address stays", extra=told | {"reason": str(error)})
        else:
            logger.info("address removed", extra=told)


def _connecting(order: Order) -> tuple[Answer, socket.socket]:
    """In the namespace: a socket on its way to the address, which tells itself whether it gets there."""
    return Answer(), connecting_socket(ipaddress.ip_address(order.address), order.port, order.kind)


def _remove(address: Address, added: Added) -> None:
    if added.cookie == cookie_here():
        addresses.remove(address, added.index)


def _sentence(order: Order, error: OSError) -> str:
    if error.errno is None:
        return str(error)
    where = f"network namespace {order.namespace}" if order.namespace else "this machine"
    return f"{order.address} cannot be had in {where}: {error.strerror}."
