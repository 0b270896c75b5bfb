"""Refusals: strangers' answers are alike where promised, the owner's `explain` tells them apart, metrics move."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from azure.eventhub import EventHubConsumerClient, EventHubSharedKeyCredential
from azure.eventhub.exceptions import EventHubError

from clients.devices import OTHER_KEY, key_of, until
from clients.raw import ACCEPTED, NOT_AUTHORIZED, RawMqtt, https
from clients.sas import sas_token
from support.server import RunningHub


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to connect, and the rule that `explain` must name for it."""

    rule: str
    device: str
    host: str = ""
    key: str = ""
    seconds: int = 3600


def test_strangers_hear_the_same_and_the_owner_everything_over_mqtt(hub: RunningHub) -> None:
    key = key_of(hub.create_device("known"))
    off = key_of(hub.create_device("off"))
    hub.isthmus("device-identity", "update", "-d", "off", "--set", "status=disabled")
    attempts = (
        Attempt("auth.unknown-device", "nobody", key=key),
        Attempt("auth.signature", "known", key=OTHER_KEY),
        Attempt("auth.expired", "known", key=key, seconds=-3600),
        Attempt("auth.disabled", "off", key=off),
        Attempt("name.", "known", host="other.isthmus.test", key=key),
    )
    before = refusals(hub)
    for attempt in attempts:
        assert connect(hub, attempt) == NOT_AUTHORIZED, attempt
        entries = hub.json("explain", "--device-id", attempt.device)
        assert entries[0]["rule"].startswith(attempt.rule), attempt
        assert entries[0]["remedy"]
        assert entries[0]["plane"] == "mqtt"
        assert entries[0]["trackingId"]
        assert OTHER_KEY not in str(entries)
    assert refusals(hub) >= before + len(attempts)


def test_bad_topic_and_too_large_close_the_connection_and_are_explained(hub: RunningHub) -> None:
    key = key_of(hub.create_device("talker"))
    for topic, payload, rule in (
        ("devices/another/messages/events/", b"x", "contract.topic"),
        ("devices/talker/messages/events/", b"x" * 262_200, "limit.message-size"),
    ):
        with RawMqtt(hub) as connection:
            assert connection.connect("talker", user_name(hub, "talker"), token(hub, "talker", key)) == ACCEPTED
            assert connection.publish(topic, payload) == b""
        assert hub.json("explain", "--device-id", "talker")[0]["rule"] == rule


def test_strangers_hear_the_same_and_the_owner_everything_over_https(hub: RunningHub) -> None:
    key = key_of(hub.connection_string())
    reader = key_of(hub.connection_string("registryRead"))
    tries = {
        "auth.missing": "",
        "auth.signature": sas_token(hub.host_name, OTHER_KEY, "iothubowner"),
        "auth.expired": sas_token(hub.host_name, key, "iothubowner", -10),
        "auth.unknown-policy": sas_token(hub.host_name, key, "nobody"),
        "auth.right": sas_token(hub.host_name, reader, "registryRead"),
        "auth.malformed": "SharedAccessSignature nonsense",
        "auth.bearer-malformed": "Bearer nonsense",
    }
    answers: dict[str, Any] = {}
    for rule, authorization in tries.items():
        answer = https(hub, "PUT", "/devices/new-one", authorization, body={"deviceId": "new-one"})
        assert answer.status == 401, rule
        assert answer.headers["iothub-errorcode"] == "IotHubUnauthorizedAccess"
        tracking_id = re.search(r"Tracking ID:(\S+)", answer.body["ExceptionMessage"])
        assert tracking_id, answer
        (entry,) = hub.json("explain", tracking_id[1])
        assert entry["rule"] == rule
        answers[rule] = answer.body["Message"]
    assert len(set(answers.values())) == 1


def test_wrong_host_over_https_is_refused_alike(hub: RunningHub) -> None:
    authorization = sas_token(hub.host_name, key_of(hub.connection_string()), "iothubowner")
    answer = https(hub, "GET", "/devices/any", authorization, host="other.isthmus.test")
    assert answer.status == 401
    wrong_key = https(hub, "GET", "/devices/any", sas_token(hub.host_name, OTHER_KEY, "iothubowner"))
    assert answer.body["Message"] == wrong_key.body["Message"]


def test_policy_without_the_right_is_refused_as_a_device(hub: RunningHub) -> None:
    hub.create_device("borrowed")
    key = key_of(hub.connection_string("service"))
    with RawMqtt(hub) as connection:
        policy_token = sas_token(hub.host_name, key, "service")
        assert connection.connect("borrowed", user_name(hub, "borrowed"), policy_token) == NOT_AUTHORIZED
    assert hub.json("explain", "--device-id", "borrowed")[0]["rule"] == "auth.right"


def test_strangers_hear_the_same_and_the_owner_everything_over_amqp(hub: RunningHub) -> None:
    tries = {
        "auth.signature": EventHubSharedKeyCredential("iothubowner", OTHER_KEY),
        "auth.unknown-policy": EventHubSharedKeyCredential("nobody", key_of(hub.connection_string())),
    }
    answers = {rule: refused_by_amqp(hub, credential) for rule, credential in tries.items()}
    for rule, answer in answers.items():
        tracking_id = re.search(r"TrackingId:(\S+)", answer)
        assert tracking_id, answer
        (entry,) = hub.json("explain", tracking_id[1])
        assert (entry["rule"], entry["plane"]) == (rule, "amqp")
    assert len({re.sub(r"TrackingId:\S+ \S+", "", answer) for answer in answers.values()}) == 1


def test_policy_without_the_right_reads_nothing_over_amqp(hub: RunningHub) -> None:
    credential = EventHubSharedKeyCredential("registryRead", key_of(hub.connection_string("registryRead")))
    assert refused_by_amqp(hub, credential)
    assert hub.json("explain")[0]["rule"] == "auth.right"


def test_private_door_leads_to_its_own_hub_only(hub: RunningHub, loopback_address: str) -> None:
    hub.isthmus("iot", "hub", "create", "--name", "next-door")
    own = hub.json("iot", "hub", "list")[0]["name"]
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", "theirs", "--connection-name", "theirs"),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show", "-n", "next-door")["id"]),
        *("--group-id", "iotHub", "--ip-config", "name=theirs", "group-id=iotHub", "member-name=iotHub"),
        f"private-ip-address={loopback_address}",
    )
    hub.isthmus("device-identity", "create", "-d", "lost", "-n", own)
    key = hub.json("device-identity", "show", "-d", "lost", "-n", own)["authentication"]["symmetricKey"]["primaryKey"]
    with RawMqtt(hub, address=loopback_address) as connection:
        assert connection.connect("lost", user_name(hub, "lost"), token(hub, "lost", key)) == NOT_AUTHORIZED
    (entry,) = hub.json("explain", "--device-id", "lost")
    assert entry["rule"] == "network.wrong-door"
    assert entry["door"].startswith("private:theirs")
    with RawMqtt(hub) as connection:
        assert connection.connect("lost", user_name(hub, "lost"), token(hub, "lost", key)) == ACCEPTED
    hub.isthmus("network", "private-endpoint", "delete", "--name", "theirs")
    hub.isthmus("iot", "hub", "delete", "--name", "next-door")


def test_right_key_at_the_wrong_hub_is_refused_and_hubs_do_not_see_each_other(hub: RunningHub) -> None:
    hub.isthmus("iot", "hub", "create", "--name", "second")
    second = host_of(hub, "second")
    hub.isthmus("device-identity", "create", "-d", "twin-name", "-n", "second")
    own = next(one["name"] for one in hub.json("iot", "hub", "list") if one["name"] != "second")
    hub.isthmus("device-identity", "create", "-d", "twin-name", "-n", own)
    first_key = primary_key(hub, own)
    second_key = primary_key(hub, "second")
    assert first_key != second_key
    second_user = f"{second}/twin-name/?api-version=2021-04-12"
    second_token = sas_token(f"{second}/devices/twin-name", second_key)
    with RawMqtt(hub, server_name=second) as connection:
        assert connection.connect("twin-name", second_user, second_token) == ACCEPTED
        shown = ("device-identity", "show", "-d", "twin-name", "-n")
        until(lambda: hub.json(*shown, "second")["connectionState"] == "Connected")
        assert hub.json(*shown, own)["connectionState"] == "Disconnected"
    with RawMqtt(hub, server_name=second) as connection:
        forged = sas_token(f"{second}/devices/twin-name", first_key)
        assert connection.connect("twin-name", second_user, forged) == NOT_AUTHORIZED
    hub.isthmus("iot", "hub", "create", "--name", "third")
    with RawMqtt(hub, server_name=host_of(hub, "third")) as connection:
        assert connection.connect("twin-name", second_user, second_token) == NOT_AUTHORIZED
    assert hub.json("explain", "--device-id", "twin-name")[0]["rule"].startswith("name.")
    for name in ("second", "third"):
        hub.isthmus("iot", "hub", "delete", "--name", name)


def connect(hub: RunningHub, attempt: Attempt) -> bytes:
    host = attempt.host or hub.host_name
    with RawMqtt(hub) as connection:
        return connection.connect(
            attempt.device,
            f"{host}/{attempt.device}/?api-version=2021-04-12",
            sas_token(f"{host}/devices/{attempt.device}", attempt.key, seconds=attempt.seconds),
        )


def refused_by_amqp(hub: RunningHub, credential: object) -> str:
    """What the event hub's client is told when it asks for the properties."""
    client = EventHubConsumerClient(
        hub.host_name, entity(hub), "$Default", credential, connection_verify=str(hub.ca), retry_total=0
    )
    with client, pytest.raises(EventHubError) as raised:
        client.get_eventhub_properties()
    return str(raised.value)


def entity(hub: RunningHub) -> str:
    return hub.events_connection_string().rsplit("EntityPath=", 1)[1]


def user_name(hub: RunningHub, device: str) -> str:
    return f"{hub.host_name}/{device}/?api-version=2021-04-12"


def token(hub: RunningHub, device: str, key: str) -> str:
    return sas_token(f"{hub.host_name}/devices/{device}", key)


def host_of(hub: RunningHub, name: str) -> str:
    return str(hub.json("iot", "hub", "show", "-n", name)["properties"]["hostName"])


def primary_key(hub: RunningHub, name: str) -> str:
    shown = hub.json("device-identity", "show", "-d", "twin-name", "-n", name)
    return str(shown["authentication"]["symmetricKey"]["primaryKey"])


def refusals(hub: RunningHub) -> float:
    """The refusals counted so far, over all planes and rules."""
    lines = hub.isthmus("metrics").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("isthmus_refusals_total{"))
