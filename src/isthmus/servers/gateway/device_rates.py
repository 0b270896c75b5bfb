"""How fast devices may send by single requests, which no connection holds back."""

import math
from collections import OrderedDict

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef
from isthmus.base.limits import DEVICE_MESSAGES_PER_SECOND
from isthmus.servers.gateway.shaping import TokenBucket

REMEMBERED_MAX = 4_096
"""Devices whose rate is remembered, the longest unseen forgotten first: after a second of silence nothing is owed."""


class DeviceRates:
    """A token bucket for each device and module that sent lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[DeviceRef, TokenBucket] = OrderedDict()

    def require_room(self, ref: DeviceRef) -> None:
        """Raises `HubError` `DEVICE_THROTTLED` with the refusal `limit.device-rate` while a device owes messages."""
        bucket = self._buckets.get(ref)
        owed = 0.0 if bucket is None else bucket.take(0, self._clock.monotonic())
        if owed > 0:
            remedy = f"Send at most {DEVICE_MESSAGES_PER_SECOND} messages a second."
            refusal = Refusal(Hop.LIMIT, "limit.device-rate", f"{owed:.1f} s ahead", remedy)
            said = f"The request has been throttled. Wait {math.ceil(owed)} seconds and try again."
            raise HubError(Code.DEVICE_THROTTLED, said, refusal)

    def sent(self, ref: DeviceRef, count: int) -> None:
        """Counts messages of a device."""
        now = self._clock.monotonic()
        bucket = self._buckets.setdefault(ref, TokenBucket(DEVICE_MESSAGES_PER_SECOND, now))
        bucket.take(count, now)
        self._buckets.move_to_end(ref)
        if len(self._buckets) > REMEMBERED_MAX:
            self._buckets.popitem(last=False)
