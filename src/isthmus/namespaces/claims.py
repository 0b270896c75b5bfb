"""Who needs which address, and from when on nobody does; pure, the time is passed in.

Theory of operation. A connection claims the spots it listens at or holds. A spot is *needed* while one connection
claims it. When the last claim goes by an order, the spot is free at once. When it goes because the connection ended,
the spot is an *orphan* for a while: a hub that restarts, or finds the helper anew, claims it again. So is everything
that an earlier helper left in its record. An orphan whose time is over is free. What is free is taken back, if it was
added at all.
"""

from collections.abc import Iterable

from isthmus.namespaces.orders import Spot

CLAIMS_MAX = 4_096
"""Spots of one connection: more than an installation may have private endpoints."""


class TooManyClaims(Exception):  # noqa: N818 - named by what happened
    """A connection claims more spots than it may."""


class Claims:
    """The claims of all connections, each known by a number."""

    def __init__(self) -> None:
        self._of: dict[int, set[Spot]] = {}
        self._orphans: dict[Spot, float] = {}

    def claim(self, holder: int, spot: Spot) -> None:
        """The holder needs a spot from now on; raises `TooManyClaims`."""
        claimed = self._of.setdefault(holder, set())
        if spot not in claimed and len(claimed) >= CLAIMS_MAX:
            raise TooManyClaims
        claimed.add(spot)
        self._orphans.pop(spot, None)

    def give_up(self, holder: int, spot: Spot) -> bool:
        """The holder needs a spot no more; True when nobody does, so that it is free."""
        self._of.get(holder, set()).discard(spot)
        if self._claimed(spot):
            return False
        self._orphans.pop(spot, None)
        return True

    def leave(self, holder: int, until: float) -> None:
        """The holder is gone; what nobody else claims is an orphan until then."""
        self.adopt((spot for spot in self._of.pop(holder, set()) if not self._claimed(spot)), until)

    def adopt(self, spots: Iterable[Spot], until: float) -> None:
        """Spots whose holder is not here are orphans until then."""
        self._orphans |= dict.fromkeys(spots, until)

    def due(self, now: float) -> list[Spot]:
        """Orphans whose time is over; they are forgotten here, and free."""
        over = [spot for spot, until in self._orphans.items() if until <= now]
        for spot in over:
            del self._orphans[spot]
        return over

    def next_due(self) -> float | None:
        """When the first orphan is free; None when there is none."""
        return min(self._orphans.values(), default=None)

    def _claimed(self, spot: Spot) -> bool:
        return any(spot in claimed for claimed in self._of.values())
