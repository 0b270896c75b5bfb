"""Stock @azure/event-hubs against a hosted Event Hubs namespace: TCP and WebSockets, keys and bearer tokens."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.identity import ClientSecretCredential

from clients.hosted import Namespace, namespace
from clients.node import node
from isthmus.base.partitioning import partition_of
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
HUB_SETTINGS = "[authority]\nenabled = true\n"
ENTITY = "telemetry"
TENANT = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Namespace]:
    """A namespace with an event hub of two partitions."""
    with namespace(hub, "eventhubs") as made:
        made.make("eventhub", "create", "-n", ENTITY, "--partition-count", "2")
        yield made


def run(plant: Namespace, *arguments: str) -> dict[str, Any]:
    return node("event_hubs.cjs", *arguments, ca=plant.hub.ca, names={plant.host: plant.hub.address})


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_events_are_sent_and_read(plant: Namespace, transport: str) -> None:
    seen = run(plant, plant.connection_string(), ENTITY, transport)
    assert "error" not in seen, seen
    assert (seen["partitions"], seen["failed"]) == (["0", "1"], [])
    keyed = [event for event in seen["events"] if event.get("partitionKey") == "press-1"]
    assert [event["body"] for event in keyed] == [{"number": number} for number in range(3)]
    assert keyed[1]["properties"] == {"number": 1, "flag": True, "text": "ü"}
    assert [event["messageId"] for event in keyed] == ["m0", "m1", "m2"]
    assert {event["partition"] for event in keyed} == {str(partition_of("press-1", 2))}
    (direct,) = (event for event in seen["events"] if event["body"] == "direct")
    assert (direct["partition"], direct["contentType"]) == ("1", "text/plain")
    buffered = [event["body"] for event in seen["events"] if str(event["body"]).startswith("buffered")]
    assert sorted(buffered) == sorted(f"buffered {number}" for number in range(20))


def test_a_bearer_token_needs_roles(plant: Namespace) -> None:
    made = plant.hub.json("identity", "create", "-n", "of-node")
    secret = plant.hub.json("identity", "secret", "create", "-n", "of-node")["secretText"]
    authority: dict[str, Any] = {"authority": f"https://{plant.hub.address}", "connection_verify": str(plant.hub.ca)}
    credential = ClientSecretCredential(
        TENANT, made["clientId"], secret, disable_instance_discovery=True, retry_total=0, **authority
    )
    token = credential.get_token("https://eventhubs.azure.net//.default").token
    assert run(plant, plant.host, ENTITY, "tcp", token)["error"]["code"] == "UnauthorizedError"
    who = ("--assignee-object-id", made["principalId"], "--scope", plant.resource_id)
    for role in ("Sender", "Receiver"):
        plant.hub.json("role", "assignment", "create", *who, "--role", f"Azure Event Hubs Data {role}")
    assert len(run(plant, plant.host, ENTITY, "tcp", token)["events"]) == 4
    plant.hub.isthmus("identity", "delete", "-n", "of-node")


def test_a_wrong_key_is_an_unauthorized_error(plant: Namespace) -> None:
    forged = plant.connection_string().replace("AccessKey=", "AccessKey=AAAA")
    assert run(plant, forged, ENTITY, "tcp")["error"]["code"] == "UnauthorizedError"


def test_an_event_hub_that_is_not_there_is_not_found(plant: Namespace) -> None:
    assert run(plant, plant.connection_string(), "nothing", "tcp")["error"]["code"] == "MessagingEntityNotFoundError"
