"""The socket budget: who may hold a descriptor, and who must give one up; pure, the time is passed in.

Theory of operation. Each accepted socket takes a ticket. A ticket is *unproven* until its peer has proved who it is;
proven tickets are only counted. An unproven ticket is *silent* until its peer takes a first step of the handshake, then
*moving*; it is *stalled* once nothing happened for `STALLED_SECONDS`.

- When all tickets are taken, the ticket that went longest without progress is evicted: any silent or stalled one. When
  there is none, all are proven or moving, and the newcomer is turned away: a peer that makes progress never is.
- When one source holds `STALLED_PER_SOURCE_MAX` stalled tickets, its oldest stalled one is evicted for its next socket.
  Stalled ones alone count, since a whole plant may come back from one translated address at once.

Every operation costs the same however many tickets there are, amortised: the unproven are kept in order of their last
progress, and those that have grown stalled are moved over from the front before each decision.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import NewType

Ticket = NewType("Ticket", int)
"""Names one accepted socket; never used again."""

STALLED_SECONDS = 5.0
"""Without progress for so long, a peer counts as stalled: several round trips of a slow radio link."""

STALLED_PER_SOURCE_MAX = 256
"""Stalled sockets of one source; more is either an attack or a network that loses them anyway."""

DESCRIPTORS_RESERVED = 256
"""Descriptors kept free of the budget: listeners, log segments, databases, worker pipes, the owner's own socket."""

IPV6_SOURCE_PREFIX = 64
"""One IPv6 network counts as one source: its owner has 2^64 addresses (RFC 4291 §2.5.4)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a new socket: its ticket, or None when it is turned away, and the tickets that must be closed."""

    ticket: Ticket | None
    evicted: tuple[Ticket, ...] = ()


class SocketBudget:
    """Counts the sockets of all doors; see the theory of operation above."""

    def __init__(self, sockets_max: int) -> None:
        """`sockets_max` is at least 1; see `sockets_for`."""
        if sockets_max < 1:
            raise ValueError("sockets_max must be at least 1")
        self.sockets_max = sockets_max
        self._next = 1
        self._sources: dict[Ticket, str] = {}
        self._silent: OrderedDict[Ticket, float] = OrderedDict()
        self._moving: OrderedDict[Ticket, float] = OrderedDict()
        self._stalled: OrderedDict[Ticket, None] = OrderedDict()
        self._stalled_of: dict[str, OrderedDict[Ticket, None]] = {}

    @property
    def taken(self) -> int:
        """Sockets that hold a ticket."""
        return len(self._sources)

    @property
    def unproven(self) -> int:
        """Sockets whose peer has not proved who it is."""
        return len(self._silent) + len(self._moving) + len(self._stalled)

    def take(self, source: str, now: float) -> Taken:
        """Gives a new socket of `source` a ticket; evicted tickets are released, the caller closes their sockets."""
        self._age(now)
        evicted = []
        own = self._stalled_of.get(source)
        if own and len(own) >= STALLED_PER_SOURCE_MAX:
            evicted.append(next(iter(own)))
        elif self.taken >= self.sockets_max:
            oldest = next(iter(self._stalled), None) or next(iter(self._silent), None)
            if oldest is None:
                return Taken(None)
            evicted.append(oldest)
        for ticket in evicted:
            self.release(ticket)
        ticket = Ticket(self._next)
        self._next += 1
        self._sources[ticket] = source
        self._silent[ticket] = now
        return Taken(ticket, tuple(evicted))

    def advance(self, ticket: Ticket, now: float) -> None:
        """The peer took a step of the handshake; without effect on proven and released tickets."""
        if self._forget_progress(ticket):
            self._moving[ticket] = now

    def prove(self, ticket: Ticket) -> None:
        """The peer has proved who it is: its ticket is never evicted; without effect on released tickets."""
        self._forget_progress(ticket)

    def reopen(self, ticket: Ticket, source: str, now: float) -> tuple[Ticket, ...]:
        """Makes a proven ticket one of `source` whose peer has proved nothing; gives the tickets to be closed for it.

        A socket that was carried here is worth no more than one that came by itself. Without effect on released ones.
        """
        if ticket not in self._sources:
            return ()
        self._age(now)
        self._forget_progress(ticket)
        own = self._stalled_of.get(source)
        evicted = (next(iter(own)),) if own and len(own) >= STALLED_PER_SOURCE_MAX else ()
        for each in evicted:
            self.release(each)
        self._sources[ticket] = source
        self._silent[ticket] = now
        return evicted

    def release(self, ticket: Ticket) -> None:
        """Takes the ticket back; without effect when it was released or evicted before."""
        self._forget_progress(ticket)
        self._sources.pop(ticket, None)

    def _age(self, now: float) -> None:
        """Moves what has grown stalled, oldest progress of both queues first, so that `_stalled` is in order."""
        while True:
            queue = min((self._silent, self._moving), key=_first_progress)
            if _first_progress(queue) > now - STALLED_SECONDS:
                return
            ticket, _ = queue.popitem(last=False)
            self._stalled[ticket] = None
            self._stalled_of.setdefault(self._sources[ticket], OrderedDict())[ticket] = None

    def _forget_progress(self, ticket: Ticket) -> bool:
        """Removes an unproven ticket from its queue; False when it was in none."""
        for queue in (self._silent, self._moving):
            if ticket in queue:
                del queue[ticket]
                return True
        if ticket not in self._stalled:
            return False
        del self._stalled[ticket]
        source = self._sources[ticket]
        own = self._stalled_of[source]
        del own[ticket]
        if not own:
            del self._stalled_of[source]
        return True


def sockets_for(descriptors_max: int) -> int:
    """The budget of a process that may have so many descriptors open; at least 1."""
    return max(1, descriptors_max - DESCRIPTORS_RESERVED)


def source_of(address: str, place: str = "") -> str:
    """What counts as one source: an IPv4 address, the /64 of an IPv6 address, or the text when it is neither.

    In two places the same address is two sources: neither notices the other.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return place + address
    if parsed.version == 4:
        return place + str(parsed)
    return place + str(ipaddress.ip_network((parsed, IPV6_SOURCE_PREFIX), strict=False))


def _first_progress(queue: "OrderedDict[Ticket, float]") -> float:
    return next(iter(queue.values()), float("inf"))
