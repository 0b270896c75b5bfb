"""Damaged stretches of the log: what is reported instead of being served."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from isthmus.telemetry.ports import Partition

REPORTS_REMEMBERED_MAX = 1024
"""Damage that has been reported is not reported again; beyond this many, the first reports are forgotten."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Events of a partition that can no longer be read, by sequence number, both ends included."""

    partition: Partition
    first_sequence: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Log positions from `start` up to `end` hold no intact record; an empty stretch is the header of a segment.

    `lost` names the events known to have been there. `acknowledged` is True when the stretch was known to be durable
    once, False when it is not known (a power cut may leave the committed mark behind).
    """

    start: int
    end: int
    lost: tuple[Lost, ...]
    acknowledged: bool


OnDamage = Callable[[Damage], None]


class Damages:
    """What of a log is known to be damaged, whoever found it; of one stretch all losses are told together."""

    def __init__(self, on_damage: OnDamage) -> None:
        """`on_damage` hears of each once, and again when more is known of it."""
        self._on_damage = on_damage
        self._known: dict[tuple[int, int], Damage] = {}

    def __iter__(self) -> Iterator[Damage]:
        return iter(list(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)

    @property
    def lost_events(self) -> int:
        """How many events are known to be lost."""
        numbers: dict[Partition, list[tuple[int, int]]] = {}
        for lost in (lost for damage in self._known.values() for lost in damage.lost):
            numbers.setdefault(lost.partition, []).append((lost.first_sequence, lost.last_sequence))
        return sum(map(_count, numbers.values()))

    def add(self, damage: Damage) -> None:
        """Takes damage; what is known already is passed over."""
        place = (damage.start, damage.end)
        known = self._known.get(place)
        if known is not None:
            more = tuple(lost for lost in damage.lost if lost not in known.lost)
            if not more:
                return
            damage = replace(known, lost=known.lost + more)
        elif len(self._known) >= REPORTS_REMEMBERED_MAX:
            del self._known[next(iter(self._known))]
        self._known[place] = damage
        self._on_damage(damage)

    def forget_before(self, position: int) -> None:
        """Forgets what retention has let go."""
        self._known = {place: damage for place, damage in self._known.items() if place[1] > position}


def _count(ranges: list[tuple[int, int]]) -> int:
    """Numbers in ranges that may overlap."""
    total, behind = 0, -1
    for first, last in sorted(ranges):
        total += max(0, last - max(first, behind) + 1)
        behind = max(behind, last + 1)
    return total
