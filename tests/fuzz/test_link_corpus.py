"""Replays the committed corpus of the link protocol, and what Hypothesis makes of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.link_target import check

CORPUS = sorted((Path(__file__).parent / "corpus" / "link").iterdir())
SEEDS = [path.read_bytes() for path in CORPUS]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus_keeps_the_invariant(path: Path) -> None:
    check(path.read_bytes())


@given(
    st.lists(st.sampled_from(SEEDS), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4),
)
def test_damaged_corpus_keeps_the_invariant(seeds: list[bytes], damage: list[tuple[int, int]]) -> None:
    data = bytearray(b"".join(seeds))
    for position, value in damage:
        data[position % len(data)] = value
    check(bytes(data))
