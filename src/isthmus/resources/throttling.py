"""How much of what a hub lets through in how much time: the sizes' rates, and what an installation chose of them.

Numbers are those of "IoT Hub quotas and throttling" and of the sizes' daily messages ("Choose the right IoT Hub tier").
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Final

from isthmus.base.limits import DEVICE_MESSAGES_PER_SECOND
from isthmus.resources.hub import Sku, SkuName


class Operation(StrEnum):
    """What is metered; methods by their bytes, everything else by the piece."""

    CONNECTIONS = "connections"
    TELEMETRY = "telemetry"
    COMMANDS = "commands"
    COMMAND_RECEIVES = "command_receives"
    METHODS = "methods"
    TWIN_READS = "twin_reads"
    TWIN_UPDATES = "twin_updates"
    IDENTITIES = "identities"
    QUERIES = "queries"
    JOBS = "jobs"
    UPLOADS = "uploads"
    CONFIGURATIONS = "configurations"


PER_MINUTE: Final = frozenset(
    (
        Operation.COMMANDS,
        Operation.COMMAND_RECEIVES,
        Operation.IDENTITIES,
        Operation.QUERIES,
        Operation.JOBS,
        Operation.UPLOADS,
        Operation.CONFIGURATIONS,
    )
)
"""Operations whose rate is given by the minute: as many come at once as a minute allows."""

METHOD_METER_BYTES: Final = 4_096
"""Methods are counted in pieces of this size."""

DAY_METER_BYTES: Final = 4_096
FREE_METER_BYTES: Final = 512
"""A longer message counts as several among those of a day."""

DAY_MS: Final = 86_400_000

_EACH_MINUTE: Final = 1 / 60
_BURST: Final = ((100.0, 12.0), (0.0, 120.0), (0.0, 6_000.0))
_FEW: Final = ((0.0, 100 * _EACH_MINUTE), (0.0, 100 * _EACH_MINUTE), (0.0, 5_000 * _EACH_MINUTE))

_RATES: Final[Mapping[Operation, tuple[tuple[float, float], ...]]] = {
    Operation.CONNECTIONS: _BURST,
    Operation.TELEMETRY: _BURST,
    Operation.COMMANDS: _FEW,
    Operation.COMMAND_RECEIVES: (
        (0.0, 1_000 * _EACH_MINUTE),
        (0.0, 1_000 * _EACH_MINUTE),
        (0.0, 50_000 * _EACH_MINUTE),
    ),
    Operation.METHODS: ((0.0, 160 * 1024), (0.0, 480 * 1024), (0.0, 24 * 1024**2)),
    Operation.TWIN_READS: ((100.0, 0.0), (100.0, 10.0), (0.0, 500.0)),
    Operation.TWIN_UPDATES: ((50.0, 0.0), (50.0, 5.0), (0.0, 250.0)),
    Operation.IDENTITIES: _FEW,
    Operation.QUERIES: ((0.0, 20 * _EACH_MINUTE), (0.0, 20 * _EACH_MINUTE), (0.0, 1_000 * _EACH_MINUTE)),
    Operation.JOBS: _FEW,
    Operation.UPLOADS: _FEW,
    Operation.CONFIGURATIONS: ((0.0, 20 * _EACH_MINUTE), (0.0, 20 * _EACH_MINUTE), (0.0, 20 * _EACH_MINUTE)),
}
"""For each row of sizes (1, 2, 3) the rate a second that a hub has at least, and that of each unit."""

_DAILY: Final = (400_000, 6_000_000, 300_000_000)
_DAILY_FREE: Final = 8_000
"""Messages a day of one unit, by the row of sizes; and of the free size."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens a second, and how many may come at once."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class ThrottlePolicy:
    """What an installation chose; nothing is throttled by default but a single device.

    `profile` is `off`, `sku` for each hub's own size and units, or a size of which every hub has `units`. `rates` are a
    second's, over those of the profile; 0 takes one away. `device_messages_per_second` is one device's telemetry, 0 for
    any. `daily_messages` is how many messages a hub takes between two midnights UTC, None for what the profile's size
    has, 0 for any number.
    """

    profile: str = "off"
    units: int = 1
    rates: Mapping[Operation, float] = field(default_factory=dict)
    device_messages_per_second: float = DEVICE_MESSAGES_PER_SECOND
    daily_messages: int | None = 0

    def size_of(self, sku: Sku) -> Sku | None:
        """The size that a hub of this size is held to; None for none."""
        if self.profile == "off":
            return None
        return sku if self.profile == "sku" else Sku(SkuName(self.profile), self.units)

    def rates_of(self, sku: Sku) -> Mapping[Operation, Rate]:
        """The rates of a hub of this size; what is not in it is not metered."""
        size = self.size_of(sku)
        rates = {} if size is None else {each: rate_of(each, size) for each in Operation}
        for operation, per_second in self.rates.items():
            rates[operation] = _rate(operation, per_second)
        return {operation: rate for operation, rate in rates.items() if rate.per_second > 0}

    def daily_messages_of(self, sku: Sku) -> int:
        """How many messages a day a hub of this size takes; 0 for any number."""
        size = self.size_of(sku)
        if self.daily_messages is not None:
            return self.daily_messages
        return 0 if size is None else daily_messages(size)

    def day_meter_of(self, sku: Sku) -> int:
        """Bytes of a message that count as one of the day's."""
        size = self.size_of(sku)
        return FREE_METER_BYTES if size is not None and size.name is SkuName.F1 else DAY_METER_BYTES

    @property
    def meters_telemetry(self) -> bool:
        """False when no hub's telemetry can be metered, so that nobody need look."""
        return self.profile != "off" or self.rates.get(Operation.TELEMETRY, 0) > 0

    @property
    def counts_days(self) -> bool:
        """False when no hub's daily messages are limited."""
        return self.daily_messages != 0 and (self.daily_messages is not None or self.profile != "off")


DEFAULT_POLICY: Final = ThrottlePolicy()
"""Nothing is throttled but a single device."""


def rate_of(operation: Operation, size: Sku) -> Rate:
    """The rate of an operation at a size."""
    least, each = _RATES[operation][_row(size)]
    return _rate(operation, max(least, each * size.units))


def daily_messages(size: Sku) -> int:
    """Messages a day of a size."""
    return (_DAILY_FREE if size.name is SkuName.F1 else _DAILY[_row(size)]) * size.units


def day_of(utc_ms: int) -> int:
    """The number of a UTC day."""
    return utc_ms // DAY_MS


def metered(size: int, meter: int) -> int:
    """How many messages one of this size counts as; an empty one counts."""
    return max(1, ceil(size / meter))


def _rate(operation: Operation, per_second: float) -> Rate:
    return Rate(per_second, max(1.0, per_second * (60 if operation in PER_MINUTE else 1)))


def _row(size: Sku) -> int:
    """The size's row in the tables, which ends its name."""
    return int(size.name[-1]) - 1
