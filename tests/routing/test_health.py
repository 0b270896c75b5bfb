"""What deliveries say about an endpoint."""

import pytest

from isthmus.routing.health import FAILURES_UNHEALTHY, NOTHING_TRIED, REASON_CHARS_MAX, EndpointHealth, HealthStatus
from isthmus.routing.sink import FailureKind

NOW_MS = 1_750_000_000_000
HOUR_MS = 3_600_000


def failed(health: EndpointHealth, kind: FailureKind, now_ms: int, reason: str = "no") -> EndpointHealth:
    return health.failed(kind, reason, "Code", now_ms)


def test_nothing_is_known_before_anything_was_tried() -> None:
    assert NOTHING_TRIED.status is HealthStatus.UNKNOWN


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.TRANSIENT])
def test_what_somebody_has_to_set_right_shows_at_once(kind: FailureKind) -> None:
    assert failed(NOTHING_TRIED, kind, NOW_MS).status is HealthStatus.UNHEALTHY


def test_a_single_accident_does_not_show() -> None:
    health = NOTHING_TRIED.succeeded(NOW_MS)
    for count in range(1, FAILURES_UNHEALTHY + 1):
        health = failed(health, FailureKind.TRANSIENT, NOW_MS + count)
        is_persistent = count == FAILURES_UNHEALTHY
        assert health.status is (HealthStatus.UNHEALTHY if is_persistent else HealthStatus.HEALTHY)


def test_dead_after_an_hour_without_a_success_and_alive_with_the_next() -> None:
    health = failed(NOTHING_TRIED.succeeded(NOW_MS), FailureKind.NETWORK, NOW_MS + 1)
    assert failed(health, FailureKind.NETWORK, NOW_MS + HOUR_MS).status is HealthStatus.UNHEALTHY
    dead = failed(health, FailureKind.NETWORK, NOW_MS + 1 + HOUR_MS)
    assert dead.status is HealthStatus.DEAD
    assert failed(dead, FailureKind.TRANSIENT, NOW_MS + 2 * HOUR_MS).status is HealthStatus.DEAD
    alive = dead.succeeded(NOW_MS + 3 * HOUR_MS)
    assert (alive.status, alive.failures, alive.failing_since_ms) == (HealthStatus.HEALTHY, 0, 0)
    assert (alive.last_kind, alive.last_error_ms) == ("network", NOW_MS + 1 + HOUR_MS)


def test_a_long_answer_is_cut() -> None:
    assert len(failed(NOTHING_TRIED, FailureKind.ROLE, NOW_MS, "x" * 10_000).last_reason) == REASON_CHARS_MAX
