"""The table of states, and the stored form."""

from itertools import product

import pytest

from isthmus.queues.message import (
    TRANSITIONS,
    MessageState,
    Step,
    StoredMessage,
    decode_message,
    encode_message,
    next_state,
    sequence_name,
    split_name,
)


def test_every_state_can_be_reached_and_only_gone_is_final() -> None:
    assert {state for state, _ in TRANSITIONS} == set(MessageState) - {MessageState.GONE}
    assert set(TRANSITIONS.values()) == set(MessageState) - {MessageState.STORING}


def test_only_an_enqueued_message_is_locked() -> None:
    assert [state for state, step in TRANSITIONS if step is Step.LOCK] == [MessageState.ENQUEUED]


@pytest.mark.parametrize(("state", "step"), [pair for pair in product(MessageState, Step) if pair not in TRANSITIONS])
def test_what_is_not_in_the_table_is_a_fault(state: MessageState, step: Step) -> None:
    with pytest.raises(KeyError):
        next_state(state, step)


def test_stored_form_is_kept() -> None:
    stored = StoredMessage(1, 2, 3, b"\x00body")
    assert decode_message(encode_message(stored)) == stored
    assert encode_message(stored) == b'{"enqueuedMs":1,"expiresMs":2,"deliveryCount":3,"body":"AGJvZHk="}'


def test_names_are_in_order_of_sequence() -> None:
    names = [sequence_name("c2d/d", sequence) for sequence in (1, 9, 10, 255, 256, 2**40)]
    assert names == sorted(names)
    assert [split_name(name) for name in names][-1] == ("c2d/d", 2**40)
