"""Devices without an SDK, byte by byte, and what of a token, a will and a kept session only their bytes show."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from azure.iot.device import IoTHubDeviceClient

from clients.devices import key_of, twin_of, until
from clients.raw import ACCEPTED, NOT_AUTHORIZED, RESUMED, RawMqtt
from clients.reading import EventCollector
from clients.sas import sas_token
from support.server import RunningHub

PUBACK = b"\x40\x02\x00\x01"
SUBACK = b"\x90\x03\x00\x01\x01"
ODD_DEVICE = "press.1=a%41(b)'c@d:e"
"""Every kind of character that an id may have and a URL gives a meaning to."""


def test_policy_key_connects_any_device(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    reader = collect()
    hub.create_device(device_id)
    host = hub.host_name
    for policy in ("device", "iothubowner"):
        for resource in (host, f"{host}/devices", f"{host}/devices/{device_id}"):
            with RawMqtt(hub) as device:
                token = policy_token(hub, policy, resource)
                assert device.connect(device_id, user_name(hub, device_id), token) == ACCEPTED, (policy, resource)
                assert device.publish(f"devices/{device_id}/messages/events/", b"by policy") == PUBACK
    for event in reader.of_device(device_id, 6):
        assert json.loads(event.system_properties[b"iothub-connection-auth-method"]) == {
            "scope": "hub",
            "type": "sas",
            "issuer": "iothub",
            "acceptingIpFilterRule": None,
        }


def test_policy_without_the_right_or_for_another_device_is_refused(hub: RunningHub, device_id: str) -> None:
    hub.create_device(device_id)
    other = f"{hub.host_name}/devices/{device_id}-other"
    for policy, resource, rule in (
        ("service", hub.host_name, "auth.right"),
        ("registryRead", hub.host_name, "auth.right"),
        ("device", other, "auth.scope"),
    ):
        with RawMqtt(hub) as device:
            token = policy_token(hub, policy, resource)
            assert device.connect(device_id, user_name(hub, device_id), token) == NOT_AUTHORIZED
        assert hub.json("explain", "--device-id", device_id)[0]["rule"] == rule


@pytest.mark.parametrize(
    ("encode_id", "encode"),
    [
        (str, quote_plus),
        (str, lambda text: lower_escapes(quote_plus(text))),
        (str, lambda text: mixed_escapes(quote_plus(text))),
        (str, lambda text: quote(text, safe="/")),
        (quote_plus, quote_plus),
    ],
    ids=["upper", "lower", "mixed", "slashes", "twice"],
)
def test_token_is_good_however_it_is_percent_encoded(
    hub: RunningHub, encode_id: Callable[[str], str], encode: Callable[[str], str]
) -> None:
    if not any(one["deviceId"] == ODD_DEVICE for one in hub.json("device-identity", "list")):
        hub.create_device(ODD_DEVICE)
    key = key_of(hub.device_connection_string(ODD_DEVICE))
    resource = encode(f"{hub.host_name}/devices/{encode_id(ODD_DEVICE)}")
    expiry = int(time.time()) + 3600
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    signature = lower_escapes(quote(base64.b64encode(digest), safe=""))
    token = f"SharedAccessSignature se={expiry}&sr={resource}&sig={signature}"
    with RawMqtt(hub) as device:
        assert device.connect(ODD_DEVICE, user_name(hub, ODD_DEVICE), token) == ACCEPTED
        assert device.publish(f"devices/{ODD_DEVICE}/messages/events/", b"odd") == PUBACK


def test_token_made_elsewhere_is_all_the_sdk_needs(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    key = key_of(hub.create_device(device_id))
    resource = f"{hub.host_name}/devices/{device_id}"
    device = IoTHubDeviceClient.create_from_sastoken(
        sas_token(resource, key, seconds=600), server_verification_cert=hub.ca.read_text()
    )
    device.connect()
    try:
        device.send_message("with the first")
        device.update_sastoken(sas_token(resource, key, seconds=3600))
        until(lambda: device.connected)
        device.send_message("with the second")
    finally:
        device.shutdown()
    events = collect().of_device(device_id, 2)
    assert [event.body_as_str() for event in events] == ["with the first", "with the second"]


@pytest.mark.rule("MQTT-3.1.2-8")
def test_will_of_a_device_that_was_lost_is_read(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    token = device_token(hub, device_id)
    will = (f"devices/{device_id}/messages/events/%24.ct=text%2Fplain&hall=3", b"lost")
    with RawMqtt(hub) as device:
        assert device.connect(device_id, user_name(hub, device_id), token, will=will) == ACCEPTED
    (event,) = collect().of_device(device_id)
    assert event.body_as_str() == "lost"
    assert event.properties == {b"iothub-MessageType": b"Will", b"hall": b"3"}
    assert event.system_properties[b"content-type"] == b"text/plain"
    assert event.system_properties[b"iothub-message-source"] == b"Telemetry"


@pytest.mark.rule("MQTT-3.1.2-10", "MQTT-3.1.4-2", "MQTT-3.14.4-3")
def test_will_of_a_device_that_was_taken_over_is_read_and_that_of_one_that_left_is_not(
    hub: RunningHub, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    token = device_token(hub, device_id)
    topic = f"devices/{device_id}/messages/events/"
    user = user_name(hub, device_id)
    with RawMqtt(hub) as first, RawMqtt(hub) as second:
        assert first.connect(device_id, user, token, will=(topic, b"taken over")) == ACCEPTED
        assert second.connect(device_id, user, token, will=(topic, b"left")) == ACCEPTED
        assert first.read(1) == b""
        second.disconnect()
    with RawMqtt(hub) as third:
        assert third.connect(device_id, user, token) == ACCEPTED
        assert third.publish(topic, b"the last") == PUBACK
    events = collect().of_device(device_id, 2)
    assert [event.body_as_str() for event in events] == ["taken over", "the last"]


@pytest.mark.rule("MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.2.2-2", "MQTT-4.1.0-1", "MQTT-4.6.0-1")
def test_kept_session_gets_what_waits_before_it_subscribes(hub: RunningHub, device_id: str) -> None:
    token = device_token(hub, device_id)
    user = user_name(hub, device_id)
    with RawMqtt(hub) as device:
        assert device.connect(device_id, user, token, clean=False) == ACCEPTED
        assert device.subscribe(f"devices/{device_id}/messages/devicebound/#", 1) == SUBACK
        device.disconnect()
    hub.isthmus("c2d-message", "send", "-d", device_id, "--data", "waits", "--mid", "m1")
    with RawMqtt(hub) as device:
        assert device.connect(device_id, user, token, clean=False) == RESUMED
        message = device.receive()
        assert message.payload == b"waits"
        assert message.topic.startswith(f"devices/{device_id}/messages/devicebound/%24.mid=m1&")
    with RawMqtt(hub) as device:
        assert device.connect(device_id, user, token, clean=False) == RESUMED
        message = device.receive()
        assert message.payload == b"waits", "what was not acknowledged comes again"
        device.acknowledge(message)
        until(lambda: twin_of(hub, device_id)["cloudToDeviceMessageCount"] == 0)


@pytest.mark.rule("MQTT-3.1.2-6", "MQTT-3.2.2-1", "MQTT-3.2.2-3")
def test_clean_session_forgets_the_kept_one_and_gets_nothing_before_it_subscribes(
    hub: RunningHub, device_id: str
) -> None:
    token = device_token(hub, device_id)
    user, topic = user_name(hub, device_id), f"devices/{device_id}/messages/events/"
    with RawMqtt(hub) as device:
        assert device.connect(device_id, user, token, clean=False) == ACCEPTED
        assert device.subscribe(f"devices/{device_id}/messages/devicebound/#", 1) == SUBACK
        device.disconnect()
    hub.isthmus("c2d-message", "send", "-d", device_id, "--data", "waits")
    with RawMqtt(hub) as device:
        assert device.connect(device_id, user, token) == ACCEPTED
        assert device.publish(topic, b"first") == PUBACK, "no command came before"
        assert device.subscribe(f"devices/{device_id}/messages/devicebound/#", 1) == SUBACK
        message = device.receive()
        assert message.payload == b"waits"
        device.acknowledge(message)
        device.disconnect()
    with RawMqtt(hub) as device:
        assert device.connect(device_id, user, token, clean=False) == ACCEPTED, "no session was kept"


def user_name(hub: RunningHub, device_id: str) -> str:
    return f"{hub.host_name}/{device_id}/?api-version=2021-04-12"


def device_token(hub: RunningHub, device_id: str) -> str:
    """A token of a new device, by its own key."""
    return sas_token(f"{hub.host_name}/devices/{device_id}", key_of(hub.create_device(device_id)))


def policy_token(hub: RunningHub, policy: str, resource: str) -> str:
    """A token of a shared access policy."""
    return sas_token(resource, key_of(hub.connection_string(policy)), policy)


def lower_escapes(encoded: str) -> str:
    """`%2F` as `%2f`."""
    first, *parts = encoded.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in parts)])


def mixed_escapes(encoded: str) -> str:
    """Every other escape in lower case."""
    parts = encoded.split("%")
    return "%".join(part[:2].lower() + part[2:] if at % 2 else part for at, part in enumerate(parts))
