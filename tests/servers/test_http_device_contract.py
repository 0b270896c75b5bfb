"""Headers and bodies of devices as messages, and commands as headers."""

import json

import pytest

from isthmus.base.errors import HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.limits import TELEMETRY_BYTES_MAX
from isthmus.commands.cloud_to_device import Ack, C2DMessage, Locked
from isthmus.servers.gateway.http_device_contract import (
    BATCH_MESSAGES_MAX,
    batch_messages,
    devicebound_headers,
    single_message,
)
from isthmus.telemetry.message import PropertyValue

DEVICE = DeviceRef(HubId(1), "dev1")


def test_headers_are_system_and_application_properties() -> None:
    headers = [
        ("IoTHub-MessageId", "m"),
        ("iothub-correlationid", "c"),
        ("iothub-userid", "u"),
        ("iothub-to", "/devices/dev1/messages/events"),
        ("iothub-contenttype", "application/json"),
        ("iothub-contentencoding", "utf-8"),
        ("iothub-expiry", "2026-01-01T00:00:00Z"),
        ("iothub-creationtimeutc", "01/01/2026 00:00:01"),
        ("iothub-messageschema", "s"),
        ("iothub-interface-id", "i"),
        ("dt-subject", "d"),
        ("iothub-ack", "full"),
        ("iothub-operation", "d2c"),
        ("iothub-connection-device-id", "another"),
        ("Content-Type", "text/plain"),
        ("IOTHUB-APP-Hall", "north side"),
        ("iothub-app-Hall", "south"),
    ]
    message = single_message(headers, b"x")
    assert message.payload == b"x"
    assert message.bag.system == {
        "message-id": "m",
        "correlation-id": "c",
        "user-id": "u",
        "to": "/devices/dev1/messages/events",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "absolute-expiry-time": 1_767_225_600_000,
        "creation-time": 1_767_225_601_000,
        "iothub-message-schema": "s",
        "iothub-interface-id": "i",
        "dt-subject": "d",
    }
    assert message.bag.properties == {"iothub-ack": "full", "Hall": "south"}


@pytest.mark.parametrize(
    "header",
    [
        ("iothub-app-", "nameless"),
        ("iothub-app-a b", "v"),
        ("iothub-app-ä", "v"),
        ("iothub-app-a", "ä"),
        ("iothub-app-a", "\udcff"),
        ("iothub-messageid", "ä"),
        ("iothub-expiry", "tomorrow"),
    ],
)
def test_what_is_no_property_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(HubError) as raised:
        single_message([header], b"")
    assert rule(raised) == "contract.message-header"


def test_names_and_values_count_for_the_size() -> None:
    headers = [("iothub-app-abc", "xyz"), ("iothub-messageid", "1234")]
    single_message(headers, bytes(TELEMETRY_BYTES_MAX - 10))
    with pytest.raises(HubError) as raised:
        single_message(headers, bytes(TELEMETRY_BYTES_MAX - 9))
    assert rule(raised) == "limit.message-size"


def test_a_batch_is_base64_unless_it_says_otherwise() -> None:
    entries: list[object] = [
        {"body": "aGVsbG8=", "properties": {"iothub-app-k": "v", "iothub-messageid": "1"}, "more": [1]},
        {"body": "grün", "base64Encoded": False},
        {"body": "", "base64Encoded": True, "properties": {"iothub-app-n": 5, "iothub-app-b": False}},
        {"body": "", "properties": {"iothub-app-z": None, "iothub-messageid": None, "iothub-app-f": 1.5}},
    ]
    messages = batch_messages(json.dumps(entries).encode())
    assert [message.payload for message in messages] == [b"hello", "grün".encode(), b"", b""]
    assert messages[0].bag.system == {"message-id": "1"}
    assert messages[0].bag.properties == {"k": "v"}
    assert messages[2].bag.properties == {"n": "5", "b": "false"}
    assert (messages[3].bag.system, messages[3].bag.properties) == ({}, {"z": None, "f": "1.5"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"{}",
        b"[1]",
        b"[{}]",
        b'[{"body":1}]',
        b"[]",
        b'[{"body":"a"}]',
        b'[{"body":"a-_="}]',
        b'[{"body":"","properties":{"iothub-app-a":[1]}}]',
        b'[{"body":"\xff"}]',
        b"[" * 100_000,
    ],
)
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(HubError) as raised:
        batch_messages(body)
    assert (rule(raised), raised.value.code.http_status) == ("contract.batch", 400)


def test_a_batch_has_so_many_messages_and_no_more() -> None:
    entry = b'{"body":""}'
    assert len(batch_messages(b"[%b]" % b",".join([entry] * BATCH_MESSAGES_MAX))) == BATCH_MESSAGES_MAX
    with pytest.raises(HubError) as raised:
        batch_messages(b"[%b]" % b",".join([entry] * (BATCH_MESSAGES_MAX + 1)))
    assert rule(raised) == "limit.batch"


def test_a_command_is_told_in_headers() -> None:
    properties: dict[str, PropertyValue] = {"s": "v", "n": 5, "t": True, "b": b"\0", "z": None}
    message = C2DMessage(
        b"x",
        message_id="m",
        correlation_id="c",
        user_id="u",
        content_type="text/plain",
        content_encoding="utf-8",
        to="/elsewhere",
        ack=Ack.FULL,
        properties=properties,
    )
    assert devicebound_headers(DEVICE, locked(message)) == {
        "Content-Type": "application/octet-stream",
        "ETag": '"token"',
        "iothub-sequencenumber": "7",
        "iothub-to": "/devices/dev1/messages/devicebound",
        "iothub-enqueuedtime": "2026-01-01T00:00:00.0000000Z",
        "iothub-expiry": "2026-01-01T01:00:00.0000000Z",
        "iothub-deliverycount": "2",
        "iothub-ack": "full",
        "iothub-messageid": "m",
        "iothub-correlationid": "c",
        "iothub-userid": "u",
        "ContentType": "text/plain",
        "ContentEncoding": "utf-8",
        "iothub-app-s": "v",
        "iothub-app-n": "5",
        "iothub-app-t": "true",
        "iothub-app-b": "AA==",
        "iothub-app-z": "",
    }


@pytest.mark.parametrize(
    "message",
    [
        C2DMessage(b"", properties={"a b": "v"}),
        C2DMessage(b"", properties={"": "v"}),
        C2DMessage(b"", properties={"a": "v\r\niothub-app-forged: 1"}),
        C2DMessage(b"", message_id="m\0"),
    ],
)
def test_what_headers_cannot_carry(message: C2DMessage) -> None:
    assert devicebound_headers(DEVICE, locked(message)) is None


def locked(message: C2DMessage) -> Locked:
    return Locked("token", 2, 7, 1_767_225_600_000, 1_767_229_200_000, message)


def rule(raised: pytest.ExceptionInfo[HubError]) -> str:
    assert raised.value.refusal is not None
    return raised.value.refusal.rule
