"""What topics, filters and user names of MQTT mean to an IoT hub: pure, without a connection.

A hub is no broker: a device publishes and subscribes to a handful of forms that name the device itself, and everything
else ends its connection (IoT Hub developer guide, "Communicate with an IoT hub using the MQTT protocol"). Ids stand raw
in topics and may hold characters that a topic filter gives a meaning, so they are compared by the session's own prefix
and never matched.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from isthmus.access.refusals import unauthorized
from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.ids import DeviceRef, HubId, TrackingId
from isthmus.base.limits import TELEMETRY_BYTES_MAX
from isthmus.servers.gateway.property_bag import (
    DEVICEBOUND_KEYS,
    PropertyBag,
    decode_bag,
    encode_bag,
    encode_value,
)
from isthmus.telemetry.message import PropertyValue
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.packets import Connect, Publish, Will

SILENCE_SECONDS_MAX = 1767.0
"""29.45 minutes: what a client's keep-alive is capped at, and what one without a keep-alive is given (same page)."""

TOKEN_GRACE_SECONDS = 600
"""How long a connection outlives its token: clients that wait to be cut are documented to count on ten minutes."""

REMAINING_LENGTH_MAX = TELEMETRY_BYTES_MAX + 65_535 + 1024
"""A PUBLISH: the largest message, the longest topic, which may say more than it counts, and the fields between."""

TOPIC_BYTES_MAX = 65_535
"""The longest topic name MQTT can carry (MQTT 3.1.1 §1.5.3)."""

MODEL_ID_CHARACTERS_MAX = 2_048
"""A model id, which is stored with each message (Digital Twins Definition Language, "Model identifier")."""

REQUEST_ID_CHARACTERS_MAX = 256
"""A `$rid`, which is repeated in the answer's topic; client libraries use numbers and UUIDs."""

RETAIN_PROPERTY = "mqtt-retain"
"""Set on a message that was published with RETAIN: a hub keeps none ("Communicate … using the MQTT protocol")."""

WILL_PROPERTY = ("iothub-MessageType", "Will")
"""Set on a will that is sent as telemetry (same page)."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a CONNECT claims: the hub's host name and the identity, and what its user name says beside them."""

    host: str
    device_id: str
    module_id: str = ""
    api_version: str = ""
    client_type: str = ""
    model_id: str = ""

    @property
    def name(self) -> str:
        """`device` or `device/module`, as the client id has to be."""
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id

    def ref(self, hub: HubId) -> DeviceRef:
        """The identity in the hub that the host name turned out to be."""
        return DeviceRef(hub, self.device_id, self.module_id)


def introduction(connect: Connect) -> Introduction:
    """Reads a CONNECT; raises `HubError` with the refusal `contract.user-name` or `contract.client-id`."""
    if not connect.client_id:
        refusal = Refusal(Hop.CONTRACT, "contract.client-id", "", "Use the device id as client id.")
        raise HubError(Code.ARGUMENT_NULL, "The client id is empty", refusal)
    claimed = parse_user_name(connect.user_name or "")
    if connect.client_id != claimed.name:
        remedy = f"Use {claimed.name} as client id, or name the same identity in the user name."
        raise unauthorized("contract.client-id", connect.client_id[:256], remedy, Hop.CONTRACT)
    return claimed


def parse_user_name(text: str) -> Introduction:
    """Reads `{host}/{device}[/{module}][/?query]`; the query may lack its `?`. Ids are not percent-decoded.

    Raises `HubError` with the refusal `contract.user-name`.
    """
    segments = text.split("/")
    query_at = next((index for index in range(2, len(segments)) if _is_query(segments[index])), len(segments))
    names = segments[:query_at]
    if len(names) > 2 and not names[-1]:
        names.pop()
    query = _parse_query("/".join(segments[query_at:]).removeprefix("?"))
    model_id = query.get("model-id", "")
    if not 2 <= len(names) <= 3 or not all(names) or len(model_id) > MODEL_ID_CHARACTERS_MAX:
        remedy = "Use {host}/{device id}/?api-version=2021-04-12 as user name, with /{module id} for a module."
        raise unauthorized("contract.user-name", text[:256], remedy, Hop.CONTRACT)
    return Introduction(
        host=names[0],
        device_id=names[1],
        module_id=names[2] if len(names) == 3 else "",
        api_version=query.get("api-version", ""),
        client_type=query.get("deviceclienttype", ""),
        model_id=model_id,
    )


def connect_code(error: HubError) -> ConnectCode:
    """The return code of a CONNACK that refuses: 5 for whatever says who may come in, 3 where trying again helps."""
    if error.code is Code.ARGUMENT_NULL:
        return ConnectCode.IDENTIFIER_REJECTED
    if error.code.http_status >= 500 or error.code.http_status == Code.THROTTLED.http_status:
        return ConnectCode.SERVER_UNAVAILABLE
    return ConnectCode.NOT_AUTHORIZED


# ── what a device publishes ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A device-to-cloud message with this bag."""

    bag: PropertyBag


@dataclass(frozen=True, slots=True)
class MethodResponse:
    """The answer to the direct method that was sent under `request_id`."""

    status: int
    request_id: str


@dataclass(frozen=True, slots=True)
class TwinGet:
    """A request for the twin, to be answered under `request_id`."""

    request_id: str


@dataclass(frozen=True, slots=True)
class TwinPatch:
    """A patch of the reported properties; `version` is the one it is based on, when the device gave one."""

    request_id: str
    version: int | None = None


Intent = Telemetry | MethodResponse | TwinGet | TwinPatch
"""What a PUBLISH wants."""

METHOD_RESPONSE = re.compile(r"\$iothub/methods/res/(-?[0-9]{1,10})/\?(.*)", re.DOTALL)
TWIN_GET = "$iothub/twin/GET/?"
TWIN_PATCH = "$iothub/twin/PATCH/properties/reported/?"


def telemetry_prefix(ref: DeviceRef) -> str:
    """The topic of an identity's telemetry, without the slash before the bag."""
    module = f"/modules/{ref.module_id}" if ref.module_id else ""
    return f"devices/{ref.device_id}{module}/messages/events"


def intent_of(ref: DeviceRef, topic: str) -> Intent:
    """What `ref` wants by publishing to `topic`.

    Raises `HubError` with the refusal `contract.topic` when the topic is none of the hub's or names somebody else, and
    `contract.property-bag` when its bag is not well formed.
    """
    prefix = telemetry_prefix(ref)
    if topic.startswith(prefix) and topic[len(prefix) : len(prefix) + 1] in ("", "/"):
        return Telemetry(decode_bag(topic[len(prefix) + 1 :].removesuffix("/")))
    if topic.startswith(TWIN_GET):
        return TwinGet(_request(topic, TWIN_GET)[0])
    if topic.startswith(TWIN_PATCH):
        return TwinPatch(*_request(topic, TWIN_PATCH))
    response = METHOD_RESPONSE.fullmatch(topic)
    if response is None or response[1].startswith("-"):
        raise _bad_topic(topic, f"Publish to {prefix}/ or to one of the hub's $iothub/ topics.")
    return MethodResponse(int(response[1]), _request(topic, topic[: response.start(2)])[0])


def check_publish(publish: Publish) -> None:
    """Raises `HubError` with the refusal `contract.qos` for a message of QoS 2."""
    if publish.qos == 2:
        refusal = Refusal(Hop.CONTRACT, "contract.qos", "2", "Publish with QoS 0 or 1.")
        raise HubError(Code.INVALID_OPERATION, "QoS 2 is not supported", refusal)


def will_bag(ref: DeviceRef, will: Will) -> PropertyBag:
    """The properties of the telemetry message a will becomes; raises `HubError` with the refusal `contract.will`."""
    try:
        intent = intent_of(ref, will.topic)
    except HubError:
        intent = None
    if not isinstance(intent, Telemetry) or will.qos == 2:
        remedy = f"Use the topic {telemetry_prefix(ref)}/ and QoS 0 or 1 for the will, or no will."
        refusal = Refusal(Hop.CONTRACT, "contract.will", will.topic[:256], remedy)
        raise HubError(Code.ARGUMENT_INVALID, "The will is not a telemetry message", refusal)
    properties = {**intent.bag.properties, WILL_PROPERTY[0]: WILL_PROPERTY[1]}
    if will.retain:
        properties[RETAIN_PROPERTY] = "true"
    return PropertyBag(intent.bag.system, properties)


# ── what a device is sent ────────────────────────────────────────────────────────────────────────────────────────────


def devicebound_topic(
    ref: DeviceRef,
    *,
    system: Mapping[str, PropertyValue],
    properties: Mapping[str, PropertyValue],
    expiry_ms: int | None,
    ack: str | None,
) -> bytes:
    """The topic of a cloud-to-device message: system properties first, and always `%24.to`.

    `expiry_ms` and `ack` are what the sender gave, None where it gave nothing. The topic may be longer than
    `TOPIC_BYTES_MAX`: then the message cannot be delivered by MQTT.
    """
    target = f"devices/{ref.device_id}/messages/devicebound"
    known = {**system, "to": f"/{target}", "absolute-expiry-time": None}
    if expiry_ms is not None:
        known["absolute-expiry-time"] = iso_utc(expiry_ms).replace("0000Z", "Z")
    pairs = [
        f"{key}={encode_value(known[name])}" for name, key in DEVICEBOUND_KEYS.items() if known.get(name) is not None
    ]
    if ack is not None:
        pairs.append(f"iothub-ack={encode_value(ack)}")
    if properties:
        pairs.append(encode_bag(properties.items()))
    return f"{target}/{'&'.join(pairs)}".encode()


def method_topic(name: str, request_id: str) -> bytes:
    """The topic of a direct method's request; what a topic name cannot hold in a method's name is percent-encoded."""
    return f"$iothub/methods/POST/{METHOD_UNSAFE.sub(_escape, name)}/?$rid={request_id}".encode()


METHOD_UNSAFE = re.compile(r"[/+#?%\x00-\x1f\x7f]")


def twin_reply_topic(status: int, request_id: str, version: int | None = None) -> bytes:
    """The topic of the answer to a twin request, with the new version of the reported properties after a patch."""
    tail = "" if version is None else f"&$version={version}"
    return f"$iothub/twin/res/{status}/?$rid={request_id}{tail}".encode()


def desired_topic(version: int) -> bytes:
    """The topic of the news that desired properties have changed."""
    return f"$iothub/twin/PATCH/properties/desired/?$version={version}".encode()


def twin_error_body(error: HubError, tracking_id: TrackingId, utc_ms: int) -> bytes:
    """The body of a twin request's refusal; one of the SDKs looks at nothing else."""
    words = {
        "errorCode": error.code.number,
        "trackingId": tracking_id,
        "message": error.message,
        "timestampUtc": iso_utc(utc_ms),
    }
    return json.dumps(words, separators=(",", ":")).encode()


# ── leaves ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_query(segment: str) -> bool:
    return segment.startswith("?") or "api-version=" in segment


def _parse_query(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split("&") if pair)
    return {unquote(key).lower(): unquote(value) for key, _, value in pairs}


def _request(topic: str, head: str) -> tuple[str, int | None]:
    """`$rid`, as it is written, and `$version` of the query behind `head`."""
    pairs = dict(pair.partition("=")[::2] for pair in topic[len(head) :].split("&"))
    request_id = pairs.get("$rid", "")
    version = pairs.get("$version")
    good_version = version is None or re.fullmatch(r"[0-9]{1,18}", version) is not None
    if not good_version or not 0 < len(request_id) <= REQUEST_ID_CHARACTERS_MAX:
        raise _bad_topic(topic, "End the topic with ?$rid= and a request id.")
    return request_id, None if version is None else int(version)


def _bad_topic(topic: str, remedy: str) -> HubError:
    refusal = Refusal(Hop.CONTRACT, "contract.topic", topic[:256], remedy)
    return HubError(Code.INVALID_OPERATION, "The topic is not one the device may publish to", refusal)


def _escape(match: re.Match[str]) -> str:
    return quote(match[0], safe="")
