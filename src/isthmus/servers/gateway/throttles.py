"""What hubs and devices may send and ask in how much time, and how the rest is held back or refused.

Theory of operation. Each hub has a token bucket for each operation its size has a rate for (`resources.throttling`);
none by default. What can be asked again at once is refused with the seconds to wait, before any of its work is done
(`require`). Telemetry over MQTT is not refused: its connection is read more slowly (`delay`), as Azure's traffic
shaping does, and what was read is taken in. Only when so much is owed that a message would wait longer than
`SHAPED_SECONDS_MAX` is the connection closed before its messages are taken (`require_shapeable`), and its device sends
them again. So nothing that was acknowledged is ever thrown away, and what is thrown away was never acknowledged.

Buckets follow the hub's size: they are made when the hub is first seen, and anew when its size changes.

A slow reading is told to the owner: `slowed` journals it, once a minute for each connection.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from isthmus.access.journal import Decision, Verdict
from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal, ThrottledError
from isthmus.base.ids import HubId
from isthmus.base.token_bucket import TokenBucket
from isthmus.resources.guarded import Guarded
from isthmus.resources.hub import Hub, Sku
from isthmus.resources.throttling import DEFAULT_POLICY, METHOD_METER_BYTES, Operation, Rate, ThrottlePolicy, metered
from isthmus.servers.gateway.gate import Peer
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.plane import Plane

SHAPED_SECONDS_MAX = 10.0
"""How long telemetry may be held back; what would have to wait longer is refused ("Wait 10 seconds and try again")."""

TOLD_SECONDS = 60.0
"""Between two entries of the journal about one connection that is read slowly."""

TYPES: Mapping[Operation, str] = MappingProxyType(
    {
        Operation.CONNECTIONS: "Device connections",
        Operation.TELEMETRY: "DeviceToCloudSends",
        Operation.COMMANDS: "CloudToDeviceSends",
        Operation.COMMAND_RECEIVES: "CloudToDeviceReceives",
        Operation.METHODS: "DirectMethods",
        Operation.TWIN_READS: "TwinReads",
        Operation.TWIN_UPDATES: "TwinUpdates",
        Operation.IDENTITIES: "CRUD",
        Operation.QUERIES: "Queries",
        Operation.JOBS: "Jobs",
        Operation.UPLOADS: "FileUploads",
        Operation.CONFIGURATIONS: "ConfigurationOperations",
    }
)
"""Operations in the words of a refusal."""


METERED: Mapping[Action, Operation] = MappingProxyType(
    {
        Action.LIST_DEVICES: Operation.IDENTITIES,
        Action.GET_IDENTITY: Operation.IDENTITIES,
        Action.PUT_IDENTITY: Operation.IDENTITIES,
        Action.DELETE_IDENTITY: Operation.IDENTITIES,
        Action.LIST_MODULES: Operation.IDENTITIES,
        Action.BULK: Operation.IDENTITIES,
        Action.RENEW_KEYS: Operation.IDENTITIES,
        Action.GET_TWIN: Operation.TWIN_READS,
        Action.PATCH_TWIN: Operation.TWIN_UPDATES,
        Action.PUT_TWIN: Operation.TWIN_UPDATES,
        Action.INVOKE_METHOD: Operation.METHODS,
        Action.GET_DIGITAL_TWIN: Operation.TWIN_READS,
        Action.PATCH_DIGITAL_TWIN: Operation.TWIN_UPDATES,
        Action.INVOKE_COMMAND: Operation.METHODS,
        Action.QUERY: Operation.QUERIES,
        Action.QUERY_SCHEDULED_JOBS: Operation.QUERIES,
        Action.CREATE_JOB: Operation.JOBS,
        Action.LIST_JOBS: Operation.JOBS,
        Action.GET_JOB: Operation.JOBS,
        Action.CANCEL_JOB: Operation.JOBS,
        Action.CREATE_SCHEDULED_JOB: Operation.JOBS,
        Action.GET_SCHEDULED_JOB: Operation.JOBS,
        Action.CANCEL_SCHEDULED_JOB: Operation.JOBS,
        Action.LIST_CONFIGURATIONS: Operation.CONFIGURATIONS,
        Action.GET_CONFIGURATION: Operation.CONFIGURATIONS,
        Action.PUT_CONFIGURATION: Operation.CONFIGURATIONS,
        Action.DELETE_CONFIGURATION: Operation.CONFIGURATIONS,
        Action.TEST_QUERIES: Operation.CONFIGURATIONS,
        Action.APPLY_CONTENT: Operation.CONFIGURATIONS,
    }
)
"""What requests of services count as; requests over the management socket are the owner's and count as nothing."""


class Notes(Protocol):
    """Where delays are noted; `access.journal.Journal` is it."""

    def write(self, decision: Decision) -> bool:
        """Stores or counts a decision."""


class Days(Protocol):
    """Messages of hubs by the day; `resources.daily_messages.DailyMessages` has them."""

    def used(self, hub: HubId) -> int:
        """Messages of today."""

    def take(self, hub: HubId, messages: int) -> None:
        """Counts messages of today."""

    def seconds_left(self) -> float:
        """Until the next midnight."""


@dataclass(frozen=True, slots=True)
class _Metered:
    """What is metered of a hub at a size; a daily limit of 0 is none."""

    sku: Sku
    rates: Mapping[Operation, Rate]
    buckets: Mapping[Operation, TokenBucket]
    daily_max: int
    day_meter: int


class Throttles:
    """The meters of all hubs; belongs to one event loop.

    `meters_telemetry`, `counts_days` and `limits_hubs`, which is either, are False where nobody need look.
    `device_rate` is one device's telemetry a second, 0 for any.
    """

    def __init__(
        self,
        clock: Clock,
        policy: ThrottlePolicy = DEFAULT_POLICY,
        *,
        notes: Notes | None = None,
        days: Days | None = None,
    ) -> None:
        self._clock = clock
        self.policy = policy
        self._notes = notes
        self._days = days
        self._hubs: dict[HubId, _Metered] = {}
        self.meters_telemetry = policy.meters_telemetry
        self.counts_days = policy.counts_days and days is not None
        self.limits_hubs = self.meters_telemetry or self.counts_days
        self.device_rate = policy.device_messages_per_second
        self.refused: Counter[Operation] = Counter()
        """Refusals since the start."""
        self.slowed_seconds = 0.0
        """Time that connections were not read for a rate, since the start."""
        self.over_quota = 0
        """Messages refused for a day's number, since the start."""

    async def resource_changed(self, old: Guarded | None, new: Guarded | None) -> None:
        """Listens to hubs: the buckets of one that is gone go."""
        if old is not None and new is None:
            self._hubs.pop(old.number, None)

    def require(self, hub: Hub, operation: Operation, count: float = 1.0) -> None:
        """Takes `count` of an operation; raises `ThrottledError` (`THROTTLED`, `limit.hub-rate`) when there are not."""
        metered_hub = self._metered(hub)
        bucket = metered_hub.buckets.get(operation)
        if bucket is None:
            return
        seconds = bucket.take_if_there(count, self._clock.monotonic())
        if seconds > 0:
            self.refused[operation] += 1
            raise self._throttled(Code.THROTTLED, metered_hub, operation, seconds)

    def owe(self, hub: Hub, operation: Operation, count: float) -> None:
        """Takes what turned out to be more than was required; those who come next wait for it."""
        bucket = self._metered(hub).buckets.get(operation)
        if bucket is not None and count > 0:
            bucket.take(count, self._clock.monotonic())

    def delay(self, hub: Hub, messages: int, now: float) -> float:
        """Takes messages of telemetry that were read already; returns the seconds not to read, 0 for none."""
        bucket = self._metered(hub).buckets.get(Operation.TELEMETRY)
        return 0.0 if bucket is None else bucket.take(messages, now)

    def telemetry_refusal(self, hub: Hub, seconds: float) -> Refusal:
        """Why telemetry of a hub is held back."""
        return hub_rate_refusal(Operation.TELEMETRY, self._metered(hub).rates, seconds)

    def admit(self, hub: Hub, size: int) -> None:
        """Judges a message of telemetry that `delay` will be told of, and counts it among the day's.

        Raises `HubError` as `require_shapeable` and `require_day`.
        """
        self.require_shapeable(hub)
        self.require_day(hub)
        self.count_day(hub, size)

    def require_shapeable(self, hub: Hub) -> None:
        """Raises `ThrottledError` (`THROTTLE_BACKLOG`, `limit.hub-rate`) when messages would wait too long."""
        metered_hub = self._metered(hub)
        bucket = metered_hub.buckets.get(Operation.TELEMETRY)
        seconds = 0.0 if bucket is None else bucket.take(0, self._clock.monotonic())
        if seconds > SHAPED_SECONDS_MAX:
            self.refused[Operation.TELEMETRY] += 1
            raise self._throttled(Code.THROTTLE_BACKLOG, metered_hub, Operation.TELEMETRY, seconds)

    def require_day(self, hub: Hub) -> None:
        """Raises `HubError` (`QUOTA_EXCEEDED`, `limit.daily-messages`) when the hub has had its day's messages."""
        metered_hub = self._metered(hub)
        if self._days is None or not metered_hub.daily_max or self._days.used(hub.number) < metered_hub.daily_max:
            return
        self.over_quota += 1
        left = self._days.seconds_left()
        remedy = f"Wait {left / 3600:.1f} h for midnight UTC, or raise throttles.daily_messages or the hub's size."
        refusal = Refusal(Hop.LIMIT, "limit.daily-messages", f"{metered_hub.daily_max} messages a day", remedy)
        raise HubError(Code.QUOTA_EXCEEDED, "Total number of messages on IotHub exceeded the allocated quota", refusal)

    def count_day(self, hub: Hub, size: int) -> None:
        """Counts a message of this size among those of today."""
        metered_hub = self._metered(hub)
        if self._days is not None and metered_hub.daily_max:
            self._days.take(hub.number, metered(size, metered_hub.day_meter))

    def day_of(self, hub: Hub) -> tuple[int, int]:
        """Messages of today, and the most there may be; 0 for any number."""
        used = 0 if self._days is None else self._days.used(hub.number)
        return used, self._metered(hub).daily_max

    def slowed(self, connection: Peer, plane: Plane, *, hub: str, device: str, principal: str, why: Refusal) -> None:
        """Journals that a connection is read slowly, and for which rate."""
        if self._notes is not None:
            self._notes.write(
                Decision(
                    Verdict.DELAYED,
                    hub=hub,
                    plane=plane.value,
                    door=connection.door.label,
                    address=connection.peer_address,
                    device=device,
                    principal=principal,
                    hop=why.hop.value,
                    rule=why.rule,
                    value=why.value,
                    remedy=why.remedy,
                )
            )

    def _metered(self, hub: Hub) -> _Metered:
        found = self._hubs.get(hub.number)
        if found is None or found.sku != hub.sku:
            found = self._hubs[hub.number] = self._made(hub.sku)
        return found

    def _made(self, sku: Sku) -> _Metered:
        rates, now = self.policy.rates_of(sku), self._clock.monotonic()
        buckets = {each: TokenBucket(rate.per_second, now, capacity=rate.burst) for each, rate in rates.items()}
        policy = self.policy
        return _Metered(sku, rates, buckets, policy.daily_messages_of(sku), policy.day_meter_of(sku))

    def _throttled(self, code: Code, metered_hub: _Metered, operation: Operation, seconds: float) -> ThrottledError:
        return ThrottledError(code, TYPES[operation], seconds, hub_rate_refusal(operation, metered_hub.rates, seconds))


def cost_of(operation: Operation, body_bytes: int) -> float:
    """What a request of a service costs: a method by its size, in whole pieces, everything else 1."""
    if operation is not Operation.METHODS:
        return 1.0
    return float(metered(body_bytes, METHOD_METER_BYTES) * METHOD_METER_BYTES)


def hub_rate_refusal(operation: Operation, rates: Mapping[Operation, Rate], seconds: float) -> Refusal:
    """Why a hub's rate holds something back."""
    rate = rates[operation].per_second
    value = f"{operation}: {rate:.4g} a second, {seconds:.1f} s ahead"
    remedy = f"Ask less often, raise throttles.rates.{operation}, or choose a larger size (throttles.profile)."
    return Refusal(Hop.LIMIT, "limit.hub-rate", value, remedy)


def device_rate_refusal(rate: float, seconds: float) -> Refusal:
    """Why a device's own rate holds it back."""
    remedy = f"Send at most {rate:g} messages a second, or raise throttles.device_messages_per_second."
    return Refusal(Hop.LIMIT, "limit.device-rate", f"{seconds:.1f} s ahead", remedy)
