"""The stock Node client, @azure/service-bus, against a hosted Service Bus namespace."""

from collections.abc import Iterator

import pytest

from clients.hosted import Namespace, namespace
from clients.node import node
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Namespace]:
    with namespace(hub, "servicebus") as made:
        made.make("queue", "create", "-n", "orders")
        made.make("topic", "create", "-n", "alarms")
        made.make("topic", "subscription", "create", "--topic-name", "alarms", "-n", "s")
        yield made


@pytest.mark.parametrize("transport", ["tcp", "ws"])
def test_queues_topics_and_rules(plant: Namespace, transport: str) -> None:
    names = {plant.host: plant.hub.address}
    arguments = (plant.connection_string(), "orders", "alarms", transport)
    seen = node("service_bus.cjs", *arguments, ca=plant.hub.ca, names=names)
    assert "error" not in seen, (seen, plant.hub.isthmus("explain", "--top", "1"))
    bodies = ["single", "complete", "abandon", "defer", "dead", {"batched": True}]
    assert [each["body"] for each in seen["peeked"]] == bodies
    assert [each["body"] for each in seen["received"]] == bodies
    single = seen["received"][0]
    assert single["applicationProperties"] == {"text": "ü", "n": 5}
    assert (single["messageId"], single["subject"], single["deliveryCount"], single["state"]) == (
        "m1",
        "s",
        0,
        "active",
    )
    assert seen["renewed"] is True
    again = seen["again"]
    assert (again["body"], again["deliveryCount"], again["applicationProperties"]) == ("abandon", 1, {"again": True})
    assert (seen["deferred"]["body"], seen["deferred"]["state"]) == ("defer", "deferred")
    assert seen["dead"] == ["dead", "broken", "both wheels", "orders"]
    assert [each["body"] for each in seen["later"]] == ["later"]
    (rule,) = seen["rules"]
    assert rule["name"] == "hot"
    assert rule["filter"]["subject"] == "hot"
    assert rule["filter"]["applicationProperties"] == {"line": 1}
    assert [each["body"] for each in seen["subscribed"]] == ["a"]
    assert seen["missing"] == "MessagingEntityNotFound"
    if transport == "tcp":
        assert seen["made"] == {"name": "orders-made", "maxDeliveryCount": 3, "exists": True, "gone": True}
