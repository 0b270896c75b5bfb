"""How fast devices may send by single requests, which no connection holds back."""

from collections import OrderedDict

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, ThrottledError
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import DEVICE_MESSAGES_PER_SECOND
from isthmus.base.token_bucket import TokenBucket
from isthmus.resources.throttling import Operation
from isthmus.servers.gateway.throttles import TYPES, device_rate_refusal

REMEMBERED_MAX = 4_096
"""Devices whose rate is remembered, the longest unseen forgotten first: after a second of silence nothing is owed."""


class DeviceRates:
    """A token bucket for each device and module that sent lately; a rate of 0 stands for any."""

    def __init__(self, clock: Clock, rate: float = DEVICE_MESSAGES_PER_SECOND) -> None:
        self._clock = clock
        self._rate = rate
        self._buckets: OrderedDict[DeviceRef, TokenBucket] = OrderedDict()

    def require_room(self, ref: DeviceRef) -> None:
        """Raises `ThrottledError` (`DEVICE_THROTTLED`, `limit.device-rate`) while a device owes messages."""
        bucket = self._buckets.get(ref)
        owed = 0.0 if bucket is None else bucket.take(0, self._clock.monotonic())
        if owed > 0:
            refusal = device_rate_refusal(self._rate, owed)
            raise ThrottledError(Code.DEVICE_THROTTLED, TYPES[Operation.TELEMETRY], owed, refusal)

    def sent(self, ref: DeviceRef, count: int) -> None:
        """Counts messages of a device."""
        if not self._rate:
            return
        now = self._clock.monotonic()
        bucket = self._buckets.setdefault(ref, TokenBucket(self._rate, now))
        bucket.take(count, now)
        self._buckets.move_to_end(ref)
        if len(self._buckets) > REMEMBERED_MAX:
            self._buckets.popitem(last=False)
