"""ISO 8601 durations as ARM writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.resources.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("PT1H", 3_600_000),
        ("PT5S", 5_000),
        ("P2D", 172_800_000),
        ("PT1M30S", 90_000),
        ("P1DT2H", 93_600_000),
        ("PT0S", 0),
    ],
)
def test_both_ways(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds
    assert format_duration(milliseconds) == text


@pytest.mark.parametrize("text", ["", "P", "PT", "P1DT", "1H", "PT-1H", "PT1.5S", "P1Y", "PT1H ", "PT999999999S"])
def test_everything_else_is_none(text: str) -> None:
    assert parse_duration(text) is None


@given(st.integers(0, 10**9))
def test_what_is_written_is_read(seconds: int) -> None:
    assert parse_duration(format_duration(seconds * 1000)) == seconds * 1000
