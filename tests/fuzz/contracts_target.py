"""Fuzz targets of what topics, addresses and messages of MQTT and AMQP mean to a hub.

Invariant: an intent, an address or a message comes out, or a `HubError` with its refusal; whatever came out can be
stored and is sent on; a property bag that was read is read again from what is written of it.
"""

import itertools
from contextlib import suppress

import msgspec

from fuzz.target import pure
from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.neighbours.bus_entity import EntityKind, decode_entity, encode_entity, new_entity, put_rule
from isthmus.servers.gateway import bus_codec, hosted_event
from isthmus.servers.gateway.amqp_commands import decode_command
from isthmus.servers.gateway.amqp_contract import parse_address, parse_selector, partition_number
from isthmus.servers.gateway.amqp_replies import Answer, decode_request, encode_answer
from isthmus.servers.gateway.bus_contract import parse_bus_address
from isthmus.servers.gateway.bus_rule_codec import rule_description, rule_of
from isthmus.servers.gateway.event_hub_contract import parse_event_hub_address
from isthmus.servers.gateway.mqtt_contract import devicebound_topic, intent_of, parse_user_name, will_bag
from isthmus.servers.gateway.mqtt_subscriptions import feed_of
from isthmus.servers.gateway.property_bag import decode_bag, encode_bag
from isthmus.telemetry.message import Envelope, decode_envelope, encode_envelope
from isthmus.wire.amqp import encode
from isthmus.wire.amqp.decode import decode
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.message import Message
from isthmus.wire.mqtt.packets import Will

DEVICE = DeviceRef(HubId(1), "dev1")
MODULE = DeviceRef(HubId(1), "dev1", "mod1")
NOW_MS = 1_767_225_600_000
BATCH_FORMAT = 0x80013700


def check_user_name(data: bytes) -> None:
    """A CONNECT's user name, which MQTT has decoded."""
    with suppress(HubError):
        claimed = parse_user_name(data.decode(errors="replace"))
        assert claimed.host
        assert claimed.device_id
        assert claimed.name.startswith(claimed.device_id)


def check_topic(data: bytes) -> None:
    """A topic that a device or module publishes to, has in its will, or subscribes to."""
    text = data.decode(errors="replace")
    for ref in (DEVICE, MODULE):
        with suppress(HubError):
            intent_of(ref, text)
        with suppress(HubError):
            will_bag(ref, Will(text, b"", 1, retain=False))
        with suppress(HubError):
            feed_of(ref, text)


def check_property_bag(data: bytes) -> None:
    """The bag of a telemetry topic."""
    with suppress(HubError):
        bag = decode_bag(data.decode(errors="replace"))
        assert bag.size >= 0
        assert decode_bag(encode_bag(bag.properties.items())).properties == bag.properties
        envelope = Envelope(device_id="dev1", system=bag.system, properties=bag.properties)
        assert decode_envelope(encode_envelope(envelope)) == envelope
        devicebound_topic(DEVICE, system=bag.system, properties=bag.properties, expiry_ms=NOW_MS, ack=None)


def check_amqp_address(data: bytes) -> None:
    """Addresses of all kinds of resources, and what stands in a reader's filter."""
    text = data.decode(errors="replace")
    parse_address(text)
    parse_event_hub_address(text)
    parse_bus_address(text)
    with suppress(HubError):
        parse_selector(text)
    with suppress(HubError):
        assert 0 <= partition_number(text, 4) < 4


def check_amqp_message(data: bytes) -> None:
    """A message's sections, as each node that takes messages reads them."""
    with suppress(HubError):
        to, command = decode_command(data)
        assert to is None or isinstance(to, str)
        msgspec.msgpack.encode(command)
    with suppress(HubError):
        encode_answer(decode_request(data), Answer(200, "OK"))
    with suppress(DecodeError):
        message = Message(data)
        message.properties, message.application_properties, message.annotations  # noqa: B018
    numbers = itertools.count(1)
    for message_format in (0, BATCH_FORMAT):
        with suppress(HubError):
            hosted_event.take(data, message_format, hosted_event.Sender("device", "public", "p"))
        with suppress(HubError):
            for incoming in bus_codec.take(data, message_format, lambda: str(next(numbers))):
                bus_codec.facts_of(incoming.message)


def check_bus_rule(data: bytes) -> None:
    """A rule as a request to `$management` describes it, stored and told again."""
    with suppress(HubError, DecodeError):
        subscription = new_entity(HubId(1), EntityKind.SUBSCRIPTION, "s", topic="t", now_ms=NOW_MS)
        subscription = put_rule(subscription, rule_of("r", decode(data)))
        stored = decode_entity(encode_entity(subscription), 0)
        assert stored == subscription
        for rule in stored.rules:
            decode(encode.encode(rule_description(rule)))


TARGETS = (
    pure("mqtt-user-name", check_user_name),
    pure("mqtt-topic", check_topic),
    pure("property-bag", check_property_bag),
    pure("amqp-address", check_amqp_address),
    pure("amqp-message", check_amqp_message),
    pure("bus-rule", check_bus_rule),
)
