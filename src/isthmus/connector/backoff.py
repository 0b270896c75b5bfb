"""How long to wait before trying again: longer each time, and never as long as everybody else."""

from isthmus.base.ids import Ids

FIRST_SECONDS = 0.25
"""The first pause: a hub that restarts is back soon."""

SECONDS_MAX = 15.0
"""The longest pause: after an outage of hours everything is back within that time."""


class Backoff:
    """Pauses that double from `FIRST_SECONDS` to `SECONDS_MAX`, each shortened by up to a half at random."""

    __slots__ = ("_ids", "_seconds")

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._seconds = FIRST_SECONDS

    def next_seconds(self) -> float:
        """The next pause."""
        seconds = self._seconds
        self._seconds = min(SECONDS_MAX, seconds * 2)
        # The first eight digits of a random UUID are random bits (RFC 9562 §5.4).
        return seconds * (1 - int(self._ids.uuid()[:8], 16) / 2**33)

    def reset(self) -> None:
        """It worked: the next pause is the first again."""
        self._seconds = FIRST_SECONDS
