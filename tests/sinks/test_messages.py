"""Messages as event hubs and Service Bus entities are given them, and that the clients encode whatever was sent."""

from collections.abc import Callable
from typing import Any

import pytest
from azure.eventhub import EventDataBatch
from azure.servicebus import ServiceBusMessageBatch
from hypothesis import given
from hypothesis import strategies as st

from isthmus.routing.sink import Delivery
from isthmus.sinks.event_hubs import event_of
from isthmus.sinks.service_bus import message_of
from isthmus.telemetry.message import MessageSource, Properties
from sinks.deliveries import AUTH_METHOD, INGRESS_MS, delivery

SENT: Properties = {
    "message-id": "m",
    "user-id": "u",
    "to": "/devices/device-1/messages/events",
    "correlation-id": "c",
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "creation-time": INGRESS_MS,
    "absolute-expiry-time": INGRESS_MS + 1,
    "dt-subject": "thermostat",
    "Diagnostic-Id": "d",
}
values = st.one_of(
    st.text(max_size=20),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.binary(max_size=20),
)
FORMS: list[Callable[[Delivery], Any]] = [event_of, message_of]


def test_an_event_has_the_hub_s_words_in_its_annotations() -> None:
    event = event_of(delivery(system=SENT, module_id="module-1", model_id="dtmi:a;1", properties={"level": "hot"}))
    assert plain(event.annotations) == {
        "iothub-enqueuedtime": INGRESS_MS,
        "iothub-connection-device-id": "device-1",
        "iothub-connection-module-id": "module-1",
        "iothub-connection-auth-method": AUTH_METHOD,
        "iothub-connection-auth-generation-id": "636930642531278483",
        "iothub-message-source": "Telemetry",
        "dt-dataschema": "dtmi:a;1",
        "dt-subject": "thermostat",
        "Diagnostic-Id": "d",
        "x-opt-partition-key": "device-1",
    }
    assert plain(event.application_properties) == {"level": "hot"}
    found = event.properties
    assert (found.message_id, found.user_id, found.correlation_id) == ("m", b"u", "c")
    assert (found.content_type, found.content_encoding) == ("application/json", "utf-8")
    assert (found.creation_time, found.absolute_expiry_time) == (INGRESS_MS, INGRESS_MS + 1)


def test_a_message_has_the_hub_s_words_in_its_application_properties() -> None:
    message = message_of(delivery(system=SENT, properties={"level": "hot"}, source=MessageSource.TWIN_CHANGES))
    assert plain(message.application_properties) == {
        "level": "hot",
        "iothub-connection-device-id": "device-1",
        "iothub-connection-auth-method": AUTH_METHOD,
        "iothub-connection-auth-generation-id": "636930642531278483",
        "iothub-message-source": "twinChangeEvents",
        "dt-subject": "thermostat",
        "Diagnostic-Id": "d",
    }
    found = message.properties
    assert (found.message_id, found.correlation_id, found.content_type) == ("m", "c", "application/json")


@pytest.mark.parametrize("form", FORMS)
def test_the_body_is_untouched(form: Callable[[Delivery], Any]) -> None:
    assert b"".join(form(delivery(b"\x00\xff")).body) == b"\x00\xff"


@given(properties=st.dictionaries(st.text(max_size=20), values, max_size=6), payload=st.binary(max_size=50))
def test_the_clients_encode_whatever_was_sent(properties: Properties, payload: bytes) -> None:
    sent = delivery(payload, properties=properties, system=SENT)
    events, messages = EventDataBatch(100_000), ServiceBusMessageBatch(100_000)
    events.add(event_of(sent))
    messages.add_message(message_of(sent))
    assert (len(events), len(messages)) == (1, 1)


def plain(properties: dict[str, Any]) -> dict[str, Any]:
    """Values without the types that stand beside them."""
    return {name: value["VALUE"] if isinstance(value, dict) else value for name, value in properties.items()}
