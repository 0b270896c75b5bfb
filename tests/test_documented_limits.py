"""Limits at their edge, by the numbers that the documentation of the services or ours has: one more is refused.

The numbers stand here as they stand there, so that nobody changes one without being told whose it is.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from devices.fakes import NOW_MS, CountedIds
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, HubId
from isthmus.commands.file_upload import blob_of
from isthmus.commands.methods import parse_method
from isthmus.configurations.configuration import parse_configuration
from isthmus.devices.identity import new_identity, parse_identity
from isthmus.devices.twin import client_section
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.names import target_of
from isthmus.neighbours.event_hub import EventHub
from isthmus.neighbours.event_hub_arm import apply_body
from isthmus.query.lexer import tokens
from isthmus.resources.door_policies import parse_door_policy
from isthmus.resources.routes import checked_routes
from isthmus.servers.gateway.mqtt_contract import intent_of, parse_user_name
from isthmus.wire.mqtt.errors import ProtocolError
from isthmus.wire.mqtt.packets import Subscribe, encode
from isthmus.wire.mqtt.reader import PacketReader

REF = DeviceRef(HubId(1), "dev1")


@dataclass(frozen=True, slots=True)
class Limit:
    """What is read at a size, the greatest size, and how the next one is refused."""

    name: str
    most: int
    read: Callable[[int], object]
    refused: Code | StorageCode | str

    def __str__(self) -> str:
        return self.name


def _identity(**members: object) -> object:
    return parse_identity(REF, {"deviceId": "dev1", **members})


def _key(size: int) -> object:
    key = base64.b64encode(bytes(size)).decode()
    body = {"deviceId": "dev1", "authentication": {"symmetricKey": {"primaryKey": key, "secondaryKey": key}}}
    return new_identity(REF, parse_identity(REF, body), CountedIds(), NOW_MS)


def _method(**members: object) -> object:
    said = "".join(f',"{name}":{value}' for name, value in members.items())
    return parse_method(f'{{"methodName":"m"{said}}}'.encode())


def _route(name: str) -> dict[str, object]:
    return {"name": name, "source": "DeviceMessages", "condition": "true", "endpointNames": ["events"]}


def _configuration(**members: Any) -> object:
    return parse_configuration("c1", {"id": "c1", "content": {"deviceContent": {"properties.desired.a": 1}}, **members})


def _queries(count: int) -> dict[str, object]:
    return {"queries": {f"m{number}": "SELECT deviceId FROM devices" for number in range(count)}}


def _subscribed(count: int) -> object:
    reader = PacketReader(100_000)
    reader.feed(encode(Subscribe(1, tuple((f"t/{number}", 0) for number in range(count)))))
    return reader.next()


def _event_hub(**properties: object) -> object:
    return apply_body(EventHub(HubId(7), HubId(2), "e"), {"properties": properties}, is_new=True)


LIMITS = (
    Limit("status reason", 128, lambda size: _identity(statusReason="x" * size), Code.ARGUMENT_INVALID),
    Limit("symmetric key", 64, _key, Code.ARGUMENT_INVALID),
    Limit("twin key", 1_024, lambda size: client_section({"k" * size: 1}, "tags"), Code.ARGUMENT_INVALID),
    Limit("twin value", 4_096, lambda size: client_section({"k": "v" * size}, "tags"), Code.ARGUMENT_INVALID),
    Limit("response seconds", 300, lambda size: _method(responseTimeoutInSeconds=size), Code.ARGUMENT_INVALID),
    Limit("connect seconds", 300, lambda size: _method(connectTimeoutInSeconds=size), Code.ARGUMENT_INVALID),
    Limit(
        "routes",
        100,
        lambda size: checked_routes([_route(f"r{number}") for number in range(size)], "r"),
        Code.ARGUMENT_INVALID,
    ),
    Limit(
        "doors of a policy",
        32,
        lambda size: parse_door_policy(
            "p", {"properties": {"deviceIds": ["d"], "doors": [f"d{each}" for each in range(size)]}}
        ),
        Code.ARGUMENT_INVALID,
    ),
    Limit("partitions of an event hub", 100, lambda size: _event_hub(partitionCount=size), Code.ARGUMENT_INVALID),
    Limit("metric queries", 5, lambda size: _configuration(metrics=_queries(size)), Code.INVALID_METRICS_QUERY),
    Limit("priority", 2_147_483_647, lambda size: _configuration(priority=size), Code.ARGUMENT_INVALID),
    Limit("filters of a packet", 64, _subscribed, "limit"),
    Limit(
        "request id", 256, lambda size: intent_of(REF, f"$iothub/twin/GET/?$rid={'1' * size}"), Code.INVALID_OPERATION
    ),
    Limit(
        "model id", 2_048, lambda size: parse_user_name(f"h.test/d/?model-id={'m' * size}"), Code.UNAUTHORIZED_ACCESS
    ),
    Limit("digits of a number", 64, lambda size: list(tokens("1" * size)), Code.ARGUMENT_INVALID),
    Limit("upload blob name", 1_024, lambda size: blob_of("dev1", "n" * (size - len("dev1/"))), Code.ARGUMENT_INVALID),
    Limit("upload segments", 254, lambda size: blob_of("dev1", "/".join("n" * (size - 1))), Code.ARGUMENT_INVALID),
    Limit(
        "blob name", 1_024, lambda size: target_of(f"/box/{'n' * size}", of_container=False), StorageCode.INVALID_URI
    ),
    Limit(
        "blob segments", 254, lambda size: target_of("/box" + "/n" * size, of_container=False), StorageCode.INVALID_URI
    ),
)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
def test_what_fits_is_taken_and_one_more_is_refused(limit: Limit) -> None:
    limit.read(limit.most)
    with pytest.raises((HubError, StorageError, ProtocolError)) as raised:
        limit.read(limit.most + 1)
    error: Exception = raised.value
    if isinstance(error, ProtocolError):
        assert error.rule == limit.refused
    else:
        assert isinstance(error, HubError)
        assert (error.storage_code if isinstance(error, StorageError) else error.code) == limit.refused
