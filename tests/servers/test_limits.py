"""Limits of what is sent to hosted neighbours: what is at the limit is taken, and one more is refused or cut.

The numbers stand here once more, so that whoever raises a limit is asked whether he meant to.
"""

from collections.abc import Callable

import pytest

from isthmus.base.errors import HubError
from isthmus.neighbours.bus_message import BusMessage, decode_message, edited, encode_message
from isthmus.servers.gateway.bus_codec import take_one
from isthmus.servers.gateway.event_hub_rest import BATCH_TYPE, message_of
from isthmus.servers.gateway.http_device_contract import batch_messages
from isthmus.wire.amqp import message
from isthmus.wire.amqp.message import Section
from isthmus.wire.amqp.values import Symbol


def device_batch(count: int) -> object:
    return batch_messages(b"[%b]" % b",".join([b'{"body":""}'] * count))


def events_over_https(count: int) -> object:
    return message_of(b"[%b]" % b",".join([b'{"Body":"x"}'] * count), BATCH_TYPE, "")


def partition_key(length: int) -> object:
    annotations = message.annotations(Section.MESSAGE_ANNOTATIONS, {Symbol("x-opt-partition-key"): "k" * length})
    return take_one(annotations + message.data(b"body"), lambda: "made")


@pytest.mark.parametrize(
    ("make", "most"),
    [(device_batch, 5_000), (events_over_https, 8_192), (partition_key, 128)],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_at_the_limit_and_one_above(make: Callable[[int], object], most: int) -> None:
    make(most)
    with pytest.raises(HubError):
        make(most + 1)


def test_of_what_receivers_set_on_a_message_the_first_are_kept() -> None:
    change = edited({f"p{number}": number for number in range(65)})
    assert change is not None
    kept = decode_message(change(encode_message(BusMessage(sections=b""))))
    assert list(kept.edits) == [f"p{number}" for number in range(64)]
