"""Replays the committed corpus of DNS queries, and what Hypothesis makes of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.dns_target import check

CORPUS = sorted((Path(__file__).parent / "corpus" / "dns").iterdir())
SEEDS = [path.read_bytes() for path in CORPUS]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus_keeps_the_invariant(path: Path) -> None:
    check(path.read_bytes())


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), max_size=4),
    st.binary(max_size=12),
)
def test_damaged_corpus_keeps_the_invariant(seed: bytes, damage: list[tuple[int, int]], tail: bytes) -> None:
    data = bytearray(seed)
    for position, value in damage:
        data[position % len(data)] = value
    check(bytes(data) + tail)


@given(st.binary(max_size=600))
def test_any_bytes_keep_the_invariant(data: bytes) -> None:
    check(data)
