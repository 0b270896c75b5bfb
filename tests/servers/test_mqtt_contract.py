"""Topics, user names and bodies of the MQTT contract."""

import json

import pytest

from isthmus.access.principal import Principal, PrincipalKind
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId, TrackingId
from isthmus.base.limits import TELEMETRY_BYTES_MAX
from isthmus.servers.gateway.mqtt_contract import (
    Intent,
    Introduction,
    MethodResponse,
    Telemetry,
    TwinGet,
    TwinPatch,
    check_publish,
    connect_code,
    desired_topic,
    devicebound_topic,
    intent_of,
    introduction,
    method_topic,
    parse_user_name,
    twin_error_body,
    twin_reply_topic,
    will_bag,
)
from isthmus.servers.gateway.property_bag import PropertyBag
from isthmus.servers.gateway.telemetry_contract import auth_method, check_size
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.packets import Connect, Publish, Will

HUB = HubId(1)
DEVICE = DeviceRef(HUB, "dev1")
MODULE = DeviceRef(HUB, "dev1", "mod1")
HOST = "hub.example.test"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{HOST}/dev1", Introduction(HOST, "dev1")),
        (f"{HOST}/dev1/", Introduction(HOST, "dev1")),
        (f"{HOST}/dev1/?api-version=2021-04-12", Introduction(HOST, "dev1", api_version="2021-04-12")),
        (
            f"{HOST}/dev1/?api-version=2019-10-01&DeviceClientType=py-azure-iot-device%2F2.14%20%28x%29",
            Introduction(HOST, "dev1", api_version="2019-10-01", client_type="py-azure-iot-device/2.14 (x)"),
        ),
        (
            f"{HOST}/dev1/?api-version=2021-04-12&model-id=dtmi:com:example:T;1&DeviceClientType=n",
            Introduction(HOST, "dev1", "", "2021-04-12", "n", "dtmi:com:example:T;1"),
        ),
        (
            f"{HOST}/dev1/?api-version=2020-09-30&DeviceClientType=c&model-id=dtmi%3acom%3bx",
            Introduction(HOST, "dev1", "", "2020-09-30", "c", "dtmi:com;x"),
        ),
        (
            f"{HOST}/dev1/api-version=2016-11-14&DeviceClientType=iothubclient/1.1.10 (raw)",
            Introduction(HOST, "dev1", "", "2016-11-14", "iothubclient/1.1.10 (raw)"),
        ),
        (f"{HOST}/dev1/mod1/?api-version=2020-09-30", Introduction(HOST, "dev1", "mod1", "2020-09-30")),
        (f"{HOST}/dev1/mod1", Introduction(HOST, "dev1", "mod1")),
        (f"{HOST}/d%20?v/?api-version=1", Introduction(HOST, "d%20?v", api_version="1")),
        (f"{HOST}/dev1/?api-version=1&auth-chain=leaf;parent", Introduction(HOST, "dev1", api_version="1")),
    ],
)
def test_user_names_of_all_clients_are_read(text: str, expected: Introduction) -> None:
    assert parse_user_name(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", HOST, f"{HOST}/", "/dev1", f"{HOST}//?api-version=1", f"{HOST}/a/b/c", f"{HOST}/d/?model-id=" + "x" * 2049],
)
def test_user_names_of_nobody_are_refused(text: str) -> None:
    with pytest.raises(HubError) as caught:
        parse_user_name(text)

    assert rule_of(caught.value) == "contract.user-name"
    assert connect_code(caught.value) is ConnectCode.NOT_AUTHORIZED


@pytest.mark.rule("MQTT-3.1.3-2")
def test_client_id_has_to_be_the_identity() -> None:
    assert introduction(Connect("dev1/mod1", user_name=f"{HOST}/dev1/mod1/?a=b")).ref(HUB) == MODULE
    for client_id in ("other", "dev1", "dev1/mod2"):
        with pytest.raises(HubError) as caught:
            introduction(Connect(client_id, user_name=f"{HOST}/dev1/mod1"))
        assert rule_of(caught.value) == "contract.client-id"
        assert connect_code(caught.value) is ConnectCode.NOT_AUTHORIZED


@pytest.mark.rule("MQTT-3.1.3-9")
def test_empty_client_id_is_rejected_as_identifier() -> None:
    with pytest.raises(HubError) as caught:
        introduction(Connect("", user_name=f"{HOST}/dev1"))

    assert connect_code(caught.value) is ConnectCode.IDENTIFIER_REJECTED


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (Code.UNAUTHORIZED_ACCESS, ConnectCode.NOT_AUTHORIZED),
        (Code.HUB_NOT_FOUND, ConnectCode.NOT_AUTHORIZED),
        (Code.DEVICE_DISABLED, ConnectCode.NOT_AUTHORIZED),
        (Code.SERVER_BUSY, ConnectCode.SERVER_UNAVAILABLE),
        (Code.THROTTLED, ConnectCode.SERVER_UNAVAILABLE),
    ],
)
def test_refusals_have_return_codes(code: Code, answer: ConnectCode) -> None:
    assert connect_code(HubError(code, "no")) is answer


@pytest.mark.parametrize(
    ("ref", "topic", "intent"),
    [
        (DEVICE, "devices/dev1/messages/events/", Telemetry(PropertyBag())),
        (DEVICE, "devices/dev1/messages/events", Telemetry(PropertyBag())),
        (DEVICE, "devices/dev1/messages/events/a=1", Telemetry(PropertyBag({}, {"a": "1"}))),
        (DEVICE, "devices/dev1/messages/events/a=1/", Telemetry(PropertyBag({}, {"a": "1"}))),
        (MODULE, "devices/dev1/modules/mod1/messages/events/%24.on=x/", Telemetry(PropertyBag({}, {"$.on": "x"}))),
        (DEVICE, "$iothub/methods/res/200/?$rid=a-1", MethodResponse(200, "a-1")),
        (DEVICE, "$iothub/twin/GET/?$rid=7", TwinGet("7")),
        (DEVICE, "$iothub/twin/GET/?$rid=a%20b", TwinGet("a%20b")),
        (DEVICE, "$iothub/twin/PATCH/properties/reported/?$rid=7", TwinPatch("7")),
        (DEVICE, "$iothub/twin/PATCH/properties/reported/?$rid=7&$version=4", TwinPatch("7", 4)),
    ],
)
def test_topics_of_the_hub_have_a_meaning(ref: DeviceRef, topic: str, intent: Intent) -> None:
    assert intent_of(ref, topic) == intent


@pytest.mark.parametrize(
    ("ref", "topic"),
    [
        (DEVICE, "anything"),
        (DEVICE, "devices/dev2/messages/events/"),
        (DEVICE, "devices/dev1/messages/eventsx"),
        (DEVICE, "devices/dev1/modules/mod1/messages/events/"),
        (MODULE, "devices/dev1/messages/events/"),
        (DEVICE, "devices/dev1/messages/devicebound/"),
        (DEVICE, "$iothub/methods/res/-1/?$rid=1"),
        (DEVICE, "$iothub/methods/res/x/?$rid=1"),
        (DEVICE, "$iothub/methods/res/200/?rid=1"),
        (DEVICE, "$iothub/methods/res/200/"),
        (DEVICE, "$iothub/twin/GET/?$rid="),
        (DEVICE, "$iothub/twin/GET/"),
        (DEVICE, "$iothub/twin/PATCH/properties/desired/?$rid=1"),
        (DEVICE, "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=x"),
        (DEVICE, "$SYS/broker/version"),
    ],
)
def test_other_topics_are_refused(ref: DeviceRef, topic: str) -> None:
    with pytest.raises(HubError) as caught:
        intent_of(ref, topic)

    assert rule_of(caught.value) == "contract.topic"


@pytest.mark.rule("MQTT-4.7.3-4")
def test_ids_in_topics_are_text_and_no_pattern() -> None:
    odd = DeviceRef(HUB, "d.*%20(x)")

    assert intent_of(odd, "devices/d.*%20(x)/messages/events/") == Telemetry(PropertyBag())
    with pytest.raises(HubError):
        intent_of(odd, "devices/dxx (x)/messages/events/")


def test_limits_of_a_message() -> None:
    check_size(TELEMETRY_BYTES_MAX)
    check_publish(Publish(b"t", b"", 1, 1))
    with pytest.raises(HubError) as too_large:
        check_size(TELEMETRY_BYTES_MAX + 1)
    with pytest.raises(HubError) as exactly_once:
        check_publish(Publish(b"t", b"", 2, 1))

    assert rule_of(too_large.value) == "limit.message-size"
    assert rule_of(exactly_once.value) == "contract.qos"


@pytest.mark.rule("MQTT-3.1.2-9", "MQTT-3.1.2-16")
def test_a_will_is_a_telemetry_message() -> None:
    assert will_bag(DEVICE, Will("devices/dev1/messages/events/a=1", b"", 1, True)) == PropertyBag(
        {}, {"a": "1", "iothub-MessageType": "Will", "mqtt-retain": "true"}
    )
    for will in (
        Will("devices/dev2/messages/events/", b""),
        Will("x", b""),
        Will("devices/dev1/messages/events/", b"", 2),
    ):
        with pytest.raises(HubError) as caught:
            will_bag(DEVICE, will)
        assert rule_of(caught.value) == "contract.will"


@pytest.mark.rule("MQTT-3.3.2-3")
def test_devicebound_topic_has_system_properties_first_and_always_a_bag() -> None:
    bare = devicebound_topic(DEVICE, system={}, properties={}, expiry_ms=None, ack=None)
    full = devicebound_topic(
        DEVICE,
        system={
            "content-encoding": "utf-8",
            "message-id": "m/1",
            "correlation-id": "c d",
            "user-id": "u",
            "content-type": "application/json",
        },
        properties={"a b": "x=y&z", "empty": "", "null": None, "n": 5},
        expiry_ms=1_767_225_600_123,
        ack="full",
    )

    assert bare == b"devices/dev1/messages/devicebound/%24.to=%2Fdevices%2Fdev1%2Fmessages%2Fdevicebound"
    assert full == (
        b"devices/dev1/messages/devicebound/%24.mid=m%2F1&%24.cid=c%20d&%24.uid=u"
        b"&%24.to=%2Fdevices%2Fdev1%2Fmessages%2Fdevicebound&%24.exp=2026-01-01T00%3A00%3A00.123Z"
        b"&%24.ct=application%2Fjson&%24.ce=utf-8&iothub-ack=full&a%20b=x%3Dy%26z&empty=&null&n=5"
    )


def test_topics_a_hub_sends() -> None:
    assert method_topic("reboot", "1a") == b"$iothub/methods/POST/reboot/?$rid=1a"
    assert method_topic("a/b+c#d?", "1") == b"$iothub/methods/POST/a%2Fb%2Bc%23d%3F/?$rid=1"
    assert twin_reply_topic(200, "7") == b"$iothub/twin/res/200/?$rid=7"
    assert twin_reply_topic(204, "7", 3) == b"$iothub/twin/res/204/?$rid=7&$version=3"
    assert desired_topic(8) == b"$iothub/twin/PATCH/properties/desired/?$version=8"


def test_twin_errors_have_a_body_that_every_sdk_reads() -> None:
    body = twin_error_body(HubError(Code.ARGUMENT_INVALID, "Bad patch"), TrackingId("abc-G:0"), 1_767_225_600_000)

    assert json.loads(body) == {
        "errorCode": 400004,
        "trackingId": "abc-G:0",
        "message": "Bad patch",
        "timestampUtc": "2026-01-01T00:00:00.0000000Z",
    }


def test_auth_method_is_the_documented_text() -> None:
    principal = Principal(PrincipalKind.DEVICE, "dev1", frozenset(), "device", "sas")

    assert auth_method(principal) == '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'


def rule_of(error: HubError) -> str:
    """The rule that refused."""
    assert error.refusal is not None
    return error.refusal.rule
