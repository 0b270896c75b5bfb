"""Endpoint health: what the last deliveries to an endpoint say about it ("IoT Hub endpoints", endpoint health).

States: `unknown` until something was tried; `healthy` after a delivery; `unhealthy` when deliveries fail, at once where
only a change of somebody's settings can help, at the second failure in a row where waiting may; `dead` when none has
succeeded for a time, an hour unless said otherwise. Dead is a finding, not an end: the next delivery that succeeds
makes the endpoint healthy again, and until then it is tried as any failing one.

    unknown ──success──▶ healthy ──failures──▶ unhealthy ──time──▶ dead
       └──────failures──────────────────────────▲  │               │
                            healthy ◀──success───┴──┴───────────────┘
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from isthmus.routing.sink import FailureKind

FAILURES_UNHEALTHY = 2
"""Transient failures in a row that are no accident any more."""

DEAD_AFTER_MS = 3_600_000
"""How long nothing may have been taken ("IoT Hub endpoints": more than an hour)."""

REASON_CHARS_MAX = 1_024
"""Of a target's answer; what is longer is a page of HTML."""


class HealthStatus(StrEnum):
    """What an endpoint is, in the words of Microsoft.Devices/IotHubs, `EndpointHealthData`."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """What is known; moments are milliseconds since the epoch, 0 for never.

    `failures` counts those in a row, and `failing_since_ms` is the first of them. The last error stays known after a
    success, with its kind, the target's words and its code.
    """

    status: HealthStatus = HealthStatus.UNKNOWN
    failures: int = 0
    failing_since_ms: int = 0
    last_attempt_ms: int = 0
    last_success_ms: int = 0
    last_error_ms: int = 0
    last_kind: str = ""
    last_reason: str = ""
    last_code: str = ""

    def succeeded(self, now_ms: int) -> "EndpointHealth":
        """After a delivery."""
        return replace(
            self,
            status=HealthStatus.HEALTHY,
            failures=0,
            failing_since_ms=0,
            last_attempt_ms=now_ms,
            last_success_ms=now_ms,
        )

    def failed(
        self, kind: FailureKind, reason: str, code: str, now_ms: int, dead_after_ms: int = DEAD_AFTER_MS
    ) -> "EndpointHealth":
        """After a delivery that failed."""
        since = self.failing_since_ms or now_ms
        failures = self.failures + 1
        status = self.status
        if now_ms - since >= dead_after_ms:
            status = HealthStatus.DEAD
        elif status is not HealthStatus.DEAD and (kind is not FailureKind.TRANSIENT or failures >= FAILURES_UNHEALTHY):
            status = HealthStatus.UNHEALTHY
        return replace(
            self,
            status=status,
            failures=failures,
            failing_since_ms=since,
            last_attempt_ms=now_ms,
            last_error_ms=now_ms,
            last_kind=kind.value,
            last_reason=reason[:REASON_CHARS_MAX],
            last_code=code,
        )


NOTHING_TRIED = EndpointHealth()
