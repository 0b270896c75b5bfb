"""The stock ServiceBusAdministrationClient against a hosted namespace: entities and rules over HTTPS."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio.management import ServiceBusAdministrationClient as AsyncAdministration
from azure.servicebus.management import (
    CorrelationRuleFilter,
    FalseRuleFilter,
    ServiceBusAdministrationClient,
    SqlRuleAction,
    SqlRuleFilter,
    TrueRuleFilter,
)

from clients.bus_clients import client
from clients.hosted import Namespace, namespace
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"


@pytest.fixture(scope="module")
def plant(hub: RunningHub) -> Iterator[Namespace]:
    with namespace(hub, "servicebus") as made:
        yield made


@pytest.fixture
def name() -> str:
    return f"entity-{uuid.uuid4().hex[:8]}"


def administration(plant: Namespace, string: str = "") -> ServiceBusAdministrationClient:
    return ServiceBusAdministrationClient.from_connection_string(
        string or plant.connection_string(), connection_verify=str(plant.hub.ca), retry_total=0
    )


def test_a_queue_from_birth_to_death(plant: Namespace, name: str) -> None:
    with administration(plant) as manager:
        made = manager.create_queue(name, lock_duration=timedelta(seconds=30), max_delivery_count=5)
        assert (made.name, made.lock_duration, made.max_delivery_count) == (name, timedelta(seconds=30), 5)
        with pytest.raises(ResourceExistsError):
            manager.create_queue(name)
        made.dead_lettering_on_message_expiration = True
        manager.update_queue(made)
        assert manager.get_queue(name).dead_lettering_on_message_expiration is True
        with client(plant) as bus, bus.get_queue_sender(name) as sender:
            sender.send_messages([ServiceBusMessage("a"), ServiceBusMessage("b")])
        numbers = manager.get_queue_runtime_properties(name)
        assert (numbers.active_message_count, numbers.total_message_count) == (2, 2)
        assert name in [each.name for each in manager.list_queues()]
        manager.delete_queue(name)
        with pytest.raises(ResourceNotFoundError):
            manager.get_queue(name)
        with pytest.raises(ResourceNotFoundError):
            manager.delete_queue(name)


def test_topics_subscriptions_and_rules(plant: Namespace, name: str) -> None:
    with administration(plant) as manager:
        assert manager.create_topic(name, max_size_in_megabytes=2048).max_size_in_megabytes == 2048
        subscription = manager.create_subscription(name, "s", max_delivery_count=3)
        assert (subscription.name, subscription.max_delivery_count) == ("s", 3)
        assert [rule.name for rule in manager.list_rules(name, "s")] == ["$Default"]
        wanted = CorrelationRuleFilter(label="hot", properties={"line": 1, "day": "monday", "on": True, "x": 0.5})
        manager.create_rule(name, "s", "hot", filter=wanted)
        manager.create_rule(name, "s", "never", filter=FalseRuleFilter())
        found = manager.get_rule(name, "s", "hot").filter
        assert isinstance(found, CorrelationRuleFilter)
        assert found.label == "hot"
        assert dict(found.properties) == {"line": 1, "day": "monday", "on": True, "x": 0.5}
        assert isinstance(manager.get_rule(name, "s", "$Default").filter, TrueRuleFilter)
        assert isinstance(manager.get_rule(name, "s", "never").filter, FalseRuleFilter)
        with pytest.raises(ResourceExistsError):
            manager.create_rule(name, "s", "hot", filter=wanted)
        manager.delete_rule(name, "s", "$Default")
        assert sorted(rule.name for rule in manager.list_rules(name, "s")) == ["hot", "never"]
        assert manager.get_topic_runtime_properties(name).subscription_count == 1
        assert [each.name for each in manager.list_subscriptions(name)] == ["s"]
        assert manager.get_subscription_runtime_properties(name, "s").active_message_count == 0
        manager.delete_subscription(name, "s")
        manager.delete_topic(name)
        with pytest.raises(ResourceNotFoundError):
            manager.get_topic(name)


def test_pages_lead_on(plant: Namespace, name: str) -> None:
    with administration(plant) as manager:
        manager.create_topic(name)
        for number in range(5):
            manager.create_subscription(name, f"s{number}")
        pages = list(manager.list_subscriptions(name, max_page_size=2).by_page())
        assert [[each.name for each in page] for page in pages] == [["s0", "s1"], ["s2", "s3"], ["s4"]]
        manager.delete_topic(name)


def test_what_is_not_offered_says_so(plant: Namespace, name: str) -> None:
    with administration(plant) as manager:
        for options in ({"requires_session": True}, {"requires_duplicate_detection": True}, {"forward_to": "other"}):
            with pytest.raises(HttpResponseError, match="not offered here") as refused:
                manager.create_queue(name, **options)
            assert refused.value.status_code == 501
        manager.create_topic(name)
        manager.create_subscription(name, "s")
        with pytest.raises(HttpResponseError, match="not offered here"):
            manager.create_rule(name, "s", "sql", filter=SqlRuleFilter("color = 'red'"))
        with pytest.raises(HttpResponseError, match="not offered here"):
            manager.create_rule(name, "s", "action", action=SqlRuleAction("SET x = 1"))
        manager.delete_topic(name)


def test_namespace_properties(plant: Namespace) -> None:
    with administration(plant) as manager:
        assert manager.get_namespace_properties().name == plant.name


def test_who_may_not_manage_is_refused(plant: Namespace, name: str) -> None:
    plant.make("namespace", "authorization-rule", "create", "-n", "listens", "--rights", "Listen")
    for string in (
        plant.connection_string(policy="listens"),
        plant.connection_string().replace("AccessKey=", "AccessKey=AAAA"),
    ):
        with administration(plant, string) as manager, pytest.raises(ClientAuthenticationError):
            manager.create_queue(name)
    assert plant.hub.json("explain", "--top", "1")[0]["hub"] == plant.name


def test_a_firewall_is_told_in_the_services_words(hub: RunningHub, name: str) -> None:
    with namespace(hub, "servicebus") as closed:
        closed.make("namespace", "network-rule-set", "update", "--public-network-access", "Disabled")
        with administration(closed) as manager, pytest.raises(ClientAuthenticationError) as refused:
            manager.create_queue(name)
        assert "Ip has been prevented to connect to the endpoint" in str(refused.value)


def test_the_asynchronous_client_does_the_same(plant: Namespace, name: str) -> None:
    async def run() -> list[str]:
        manager = AsyncAdministration.from_connection_string(
            plant.connection_string(), connection_verify=str(plant.hub.ca)
        )
        async with manager:
            await manager.create_queue(name)
            found = [each.name async for each in manager.list_queues()]
            await manager.delete_queue(name)
            return found

    assert name in asyncio.run(run())
