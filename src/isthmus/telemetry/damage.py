"""Damaged stretches of the log: what is reported instead of being served."""

from collections.abc import Callable
from dataclasses import dataclass

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


class DamageReports:
    """Passes each damage on once."""

    def __init__(self, on_damage: OnDamage) -> None:
        self._on_damage = on_damage
        self._seen: dict[Damage, None] = {}

    def add(self, damage: Damage) -> None:
        """Reports damage that was not reported before."""
        if damage in self._seen:
            return
        if len(self._seen) >= REPORTS_REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[damage] = None
        self._on_damage(damage)
