"""A token bucket: tokens come at a steady rate up to a most, and what passes takes some (RFC 2698 §3 has the idea)."""


class TokenBucket:
    """Lets `rate` tokens a second pass, and `capacity` at once after a silence, a second's worth unless it is given.

    Times are seconds on a monotonic clock and never go back.
    """

    __slots__ = ("_capacity", "_rate", "_since", "_tokens")

    def __init__(self, rate: float, now: float, *, capacity: float | None = None) -> None:
        self._rate = rate
        self._capacity = rate if capacity is None else capacity
        self._tokens = self._capacity
        self._since = now

    def take(self, count: float, now: float) -> float:
        """Takes `count` tokens, there or not, and returns the seconds to wait until nothing is owed; 0 for none."""
        self._tokens = min(self._capacity, self._tokens + (now - self._since) * self._rate) - count
        self._since = now
        return -self._tokens / self._rate if self._tokens < 0 else 0.0

    def take_if_there(self, count: float, now: float) -> float:
        """Takes `count` tokens if they are there and returns 0; else takes none and returns the seconds to wait.

        More than the bucket holds passes when it is full, and is owed then, for it would never pass otherwise.
        """
        owed = self.take(0, now)
        wanted = min(count, self._capacity)
        if owed or self._tokens < wanted:
            return (wanted - self._tokens) / self._rate
        self._tokens -= count
        return 0.0
