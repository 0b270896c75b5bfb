"""Events over HTTPS: paths, single events, batches, and what is none."""

import json

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.servers.gateway.event_hub_contract import EventHubAddress, EventHubNode
from isthmus.servers.gateway.event_hub_rest import BATCH_TYPE, address_of, message_of
from isthmus.servers.gateway.hosted_event import Sender, take
from isthmus.wire.amqp.message import BATCH_FORMAT, Message

SEND = EventHubNode.SEND


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("telemetry/messages", EventHubAddress(SEND, "telemetry/messages", "telemetry")),
        ("t/Partitions/1/messages", EventHubAddress(SEND, "t/Partitions/1/messages", "t", partition="1")),
        ("t/publishers/p/Messages", EventHubAddress(SEND, "t/publishers/p/Messages", "t", publisher="p")),
        ("telemetry", None),
        ("", None),
        ("a/b/messages", None),
    ],
)
def test_paths(path: str, address: EventHubAddress | None) -> None:
    assert address_of(path.split("/")) == address


def test_the_text_of_one_event() -> None:
    encoded, message_format = message_of(b"21.5", "text/plain", '{"PartitionKey": "press", "MessageId": "m1"}')
    event = Message(encoded)
    assert (message_format, event.data) == (0, [b"21.5"])
    assert (event.properties.content_type, event.properties.message_id) == ("text/plain", "m1")
    assert take(encoded, message_format, Sender("", "")).partition_key == "press"
    bare, _ = message_of(b"", "", "")
    assert Message(bare).data == [b""]


def test_a_batch_keeps_types_and_shares_its_first_key() -> None:
    events = [
        {"Body": "ä", "BrokerProperties": {"PartitionKey": "press"}, "UserProperties": {"n": 5, "f": 0.5, "b": True}},
        {"Body": "second", "UserProperties": {"none": None, "text": "x"}},
    ]
    encoded, message_format = message_of(json.dumps(events).encode(), f"{BATCH_TYPE}; charset=utf-8", "")
    assert message_format == BATCH_FORMAT
    first, second = (Message(each) for each in Message(encoded).data)
    assert (first.data, first.application_properties) == (["ä".encode()], {"n": 5, "f": 0.5, "b": True})
    assert second.application_properties == {"none": None, "text": "x"}
    assert take(encoded, message_format, Sender("", "")).partition_key == "press"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'[{"Text": "x"}]', b'[{"Body": 5}]', b'[{"Body": "x", "UserProperties": {"a": []}}]']
)
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(HubError) as refused:
        message_of(body, BATCH_TYPE, "")
    assert refused.value.code is Code.ARGUMENT_INVALID


def test_broker_properties_are_json() -> None:
    with pytest.raises(HubError, match="BrokerProperties"):
        message_of(b"x", "", "PartitionKey=press")
