"""The rates of sizes against "IoT Hub quotas and throttling", and what an installation makes of them."""

import pytest

from isthmus.resources.hub import Sku, SkuName
from isthmus.resources.throttling import (
    DAY_METER_BYTES,
    DEFAULT_POLICY,
    FREE_METER_BYTES,
    Operation,
    ThrottlePolicy,
    daily_messages,
    metered,
    rate_of,
)

MINUTE = 60.0
S1, S2, S3 = SkuName.S1, SkuName.S2, SkuName.S3


@pytest.mark.parametrize(
    ("operation", "size", "units", "per_second"),
    [
        (Operation.CONNECTIONS, S1, 1, 100),
        (Operation.CONNECTIONS, S1, 10, 120),
        (Operation.CONNECTIONS, S2, 1, 120),
        (Operation.CONNECTIONS, S3, 2, 12_000),
        (Operation.TELEMETRY, SkuName.F1, 1, 100),
        (Operation.TELEMETRY, SkuName.B1, 9, 108),
        (Operation.TELEMETRY, SkuName.B3, 1, 6_000),
        (Operation.COMMANDS, S1, 1, 100 / MINUTE),
        (Operation.COMMANDS, S3, 2, 10_000 / MINUTE),
        (Operation.COMMAND_RECEIVES, S2, 1, 1_000 / MINUTE),
        (Operation.COMMAND_RECEIVES, S3, 1, 50_000 / MINUTE),
        (Operation.METHODS, S1, 2, 2 * 160 * 1024),
        (Operation.METHODS, S2, 1, 480 * 1024),
        (Operation.METHODS, S3, 1, 24 * 1024**2),
        (Operation.TWIN_READS, S1, 5, 100),
        (Operation.TWIN_READS, S2, 11, 110),
        (Operation.TWIN_READS, S3, 1, 500),
        (Operation.TWIN_UPDATES, S1, 5, 50),
        (Operation.TWIN_UPDATES, S2, 11, 55),
        (Operation.TWIN_UPDATES, S3, 1, 250),
        (Operation.IDENTITIES, S1, 1, 100 / MINUTE),
        (Operation.IDENTITIES, S3, 1, 5_000 / MINUTE),
        (Operation.QUERIES, S1, 3, 60 / MINUTE),
        (Operation.QUERIES, S3, 1, 1_000 / MINUTE),
        (Operation.JOBS, S2, 1, 100 / MINUTE),
        (Operation.UPLOADS, S3, 1, 5_000 / MINUTE),
    ],
)
def test_a_size_has_the_documented_rate(operation: Operation, size: SkuName, units: int, per_second: float) -> None:
    rate = rate_of(operation, Sku(size, units))
    assert rate.per_second == pytest.approx(per_second)


def test_what_is_given_by_the_minute_comes_a_minute_at_once() -> None:
    assert rate_of(Operation.QUERIES, Sku(S1, 1)).burst == pytest.approx(20)
    assert rate_of(Operation.TELEMETRY, Sku(S1, 1)).burst == pytest.approx(100)


@pytest.mark.parametrize(
    ("size", "units", "messages"),
    [(SkuName.F1, 1, 8_000), (S1, 2, 800_000), (SkuName.B2, 1, 6_000_000), (S3, 10, 3_000_000_000)],
)
def test_a_size_has_the_documented_messages_a_day(size: SkuName, units: int, messages: int) -> None:
    assert daily_messages(Sku(size, units)) == messages


def test_by_default_no_hub_is_metered() -> None:
    assert DEFAULT_POLICY.rates_of(Sku(S1, 1)) == {}
    assert DEFAULT_POLICY.daily_messages_of(Sku(S1, 1)) == 0
    assert (DEFAULT_POLICY.meters_telemetry, DEFAULT_POLICY.counts_days) == (False, False)
    assert DEFAULT_POLICY.device_messages_per_second == 5_000


def test_a_profile_of_its_own_size_follows_the_hub_and_a_named_one_does_not() -> None:
    own, named = ThrottlePolicy("sku"), ThrottlePolicy("S2", 3)
    assert own.rates_of(Sku(S3, 2))[Operation.TELEMETRY].per_second == 12_000
    assert named.rates_of(Sku(S3, 2))[Operation.TELEMETRY].per_second == 360


def test_single_rates_win_over_the_profile_and_zero_takes_one_away() -> None:
    policy = ThrottlePolicy("S1", 1, {Operation.QUERIES: 0, Operation.TELEMETRY: 7})
    rates = policy.rates_of(Sku())
    assert rates[Operation.TELEMETRY].per_second == 7
    assert Operation.QUERIES not in rates
    assert set(ThrottlePolicy(rates={Operation.JOBS: 1}).rates_of(Sku())) == {Operation.JOBS}


@pytest.mark.parametrize(
    ("profile", "chosen", "messages"),
    [("off", None, 0), ("off", 5, 5), ("S1", None, 400_000), ("S1", 5, 5), ("S1", 0, 0), ("sku", None, 6_000_000)],
)
def test_the_messages_of_a_day_are_chosen_or_the_profile_s(profile: str, chosen: int | None, messages: int) -> None:
    policy = ThrottlePolicy(profile, daily_messages=chosen)
    assert policy.daily_messages_of(Sku(S2, 1)) == messages
    assert policy.counts_days == (messages > 0)


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 1), (4_096, 1), (4_097, 2), (262_144, 64)])
def test_a_long_message_counts_as_several(size: int, count: int) -> None:
    assert metered(size, DAY_METER_BYTES) == count


def test_a_free_hub_s_messages_are_counted_in_smaller_pieces() -> None:
    assert ThrottlePolicy("sku").day_meter_of(Sku(SkuName.F1, 1)) == FREE_METER_BYTES
    assert metered(513, FREE_METER_BYTES) == 2
