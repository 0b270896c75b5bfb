"""Replays the committed corpus of the AMQP engine, and what Hypothesis makes of it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.amqp_target import check, run

CORPUS = sorted((Path(__file__).parent / "corpus" / "amqp").iterdir())
SEEDS = [path.read_bytes() for path in CORPUS]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus_keeps_the_invariant(path: Path) -> None:
    check(path.read_bytes())


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), max_size=4),
    st.binary(max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_damaged_corpus_keeps_the_invariant(seed: bytes, damage: list[tuple[int, int]], tail: bytes) -> None:
    fuzzed = bytearray(seed)
    for position, value in damage:
        fuzzed[position % len(fuzzed)] = value
    check(bytes(fuzzed) + tail)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_recorded_clients_are_understood(path: Path) -> None:
    told, _ = run([path.read_bytes()])
    assert not [line for line in told if "error=Error" in line]
    assert any(line.startswith("LinkDetached") for line in told), "understood to the end"
