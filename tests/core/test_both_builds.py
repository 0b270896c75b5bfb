"""The compiled core does what the source says: the same events, bytes and errors for the same input."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.answers import ANSWERS, answer
from core.pure import PureCore
from isthmus import CORE
from isthmus.wire.amqp.encode import encode
from isthmus.wire.amqp.values import AmqpValue
from wire.amqp.values_strategy import VALUES

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"
OF = {"mqtt": "mqtt", "amqp": "amqp", "values": "amqp", "message": "amqp", "records": "log", "tls": "tls"}
"""Whose corpus the questions begin with."""
SEEDS = {name: [path.read_bytes() for path in sorted((CORPUS / folder).iterdir())] for name, folder in OF.items()}
DAMAGE = st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 255)), max_size=4)

pytestmark = pytest.mark.skipif(not CORE.is_compiled, reason=f"there is only one build: {CORE.reason}")


@pytest.fixture(scope="module")
def pure() -> Iterator[PureCore]:
    with PureCore() as core:
        assert core.word == "pure Python: ISTHMUS_PURE is set"
        yield core


@pytest.mark.parametrize("name", ANSWERS)
def test_the_corpus_is_answered_alike(pure: PureCore, name: str) -> None:
    for seed in SEEDS[name]:
        assert answer(name, seed) == pure.answer(name, seed)


@pytest.mark.parametrize("name", ANSWERS)
@given(st.data())
@settings(max_examples=150)
def test_damaged_input_is_answered_alike(pure: PureCore, name: str, given_data: st.DataObject) -> None:
    data = bytearray(given_data.draw(st.sampled_from(SEEDS[name])))
    for position, value in given_data.draw(DAMAGE) if data else ():
        data[position % len(data)] = value
    start = given_data.draw(st.integers(0, len(data)))
    whole = bytes(data[start:]) + given_data.draw(st.binary(max_size=12))
    assert answer(name, whole) == pure.answer(name, whole)


@given(st.lists(VALUES, max_size=3))
def test_values_of_all_types_are_answered_alike(pure: PureCore, values: list[AmqpValue]) -> None:
    data = b"".join(map(encode, values))
    assert answer("values", data) == pure.answer("values", data)


@given(st.binary(max_size=120))
def test_any_bytes_are_answered_alike(pure: PureCore, data: bytes) -> None:
    for name in ANSWERS:
        assert answer(name, data) == pure.answer(name, data)
