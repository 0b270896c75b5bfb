"""Nothing is changed by management without a record that tells who, what, before and after; no route is left out."""

from collections.abc import Sequence
from typing import Any

import pytest

from isthmus.access.journal import Decision, Verdict
from isthmus.resources.hub import GROUP_PATH
from isthmus.servers.management.arm import _pattern
from resources.world import (
    endpoint_body,
    group_body,
    in_subnet,
    line_body,
    link_body,
    network_body,
    peering_body,
    site_body,
)
from servers.management_world import ADDRESS, ENDPOINTS, HUB, HUBS, OWNER, ManagementWorld

NETWORK = f"{GROUP_PATH}/providers/Microsoft.Network"
PLANT, OFFICE = f"{NETWORK}/virtualNetworks/plant", f"{NETWORK}/virtualNetworks/office"
PEERING = f"{PLANT}/virtualNetworkPeerings/to-office"
SITE = f"{NETWORK}/localNetworkGateways/site"
ENDPOINT = f"{ENDPOINTS}/plant"
ZONE = f"{NETWORK}/privateDnsZones/privatelink.example.test"
LINK, GROUP = f"{ZONE}/virtualNetworkLinks/here", f"{ENDPOINT}/privateDnsZoneGroups/default"
READERS = f"{HUB}/eventHubEndpoints/events/ConsumerGroups/readers"
POLICY = f"{HUB}/doorPolicies/floor"
CONNECTION = f"{HUB}/privateEndpointConnections"

IDENTITY = f"{GROUP_PATH}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/plant"
SECRET = f"{IDENTITY}/secrets/first"
ROLE = "/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-0000000000aa"
ASSIGNED = {
    "roleDefinitionId": "IoT Hub Data Reader",
    "principalId": "00000000-0000-0000-0000-0000000000bb",
    "principalType": "ServicePrincipal",
}

QUESTIONS = {
    "microsoft.eventhub/checknameavailability",
    "microsoft.servicebus/checknameavailability",
    "microsoft.storage/checknameavailability",
    "microsoft.devices/checknameavailability",
    "microsoft.devices/iothubs/*/routing/*/$testall",
    "microsoft.devices/iothubs/*/routing/*/$testnew",
    "microsoft.devices/iothubs/*/deadletters/*/letters/*/show",
}
"""Routes of POST that change nothing and tell no secret."""

# Those of certificates need a code of the one before: `test_arm_certificates.py` looks at what is told of them.
OF_WORKERS = {f"microsoft.devices/iothubs/*/deadletters/*/{verb}" for verb in ("bury", "redrive", "purge")}
"""Routes that need a running delivery; `test_management_endpoints` looks at their records."""

Step = tuple[str, str, object]
TAGS = {"tags": {"a": "b"}}

PROVIDERS = f"{GROUP_PATH}/providers"
EVENT_HUBS = f"{PROVIDERS}/Microsoft.EventHub/namespaces/plant-events"
SERVICE_BUS = f"{PROVIDERS}/Microsoft.ServiceBus/namespaces/plant-bus"
EVENT_HUB = f"{EVENT_HUBS}/eventhubs/telemetry"
GROUP_OF_HUB = f"{EVENT_HUB}/consumergroups/second"


def records(**members: object) -> dict[str, Any]:
    return {"properties": {"ttl": 60, **members}}


RECORD_SETS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("A", {"aRecords": [{"ipv4Address": "10.1.0.9"}]}),
    ("AAAA", {"aaaaRecords": [{"ipv6Address": "fd00::1"}]}),
    ("CNAME", {"cnameRecord": {"cname": "other.test"}}),
    ("TXT", {"txtRecords": [{"value": ["x"]}]}),
)

MAKING: Sequence[Step] = (
    ("PUT", f"{HUBS}/second", {}),
    ("PATCH", HUB, TAGS),
    ("PUT", PLANT, network_body("10.1.0.0/16")),
    ("PUT", OFFICE, network_body("10.2.0.0/16")),
    ("PATCH", PLANT, TAGS),
    ("PUT", f"{PLANT}/subnets/line", line_body("10.1.0.0/24")),
    ("PUT", PEERING, peering_body("office")),
    ("PUT", SITE, site_body("plant", "10.9.0.0/24")),
    ("PATCH", SITE, TAGS),
    ("PUT", ENDPOINT, in_subnet(endpoint_body(HUB, ADDRESS, manual=True), f"{PLANT}/subnets/line")),
    (
        "PUT",
        CONNECTION,
        {"properties": {"privateLinkServiceConnectionState": {"status": "Approved", "description": ""}}},
    ),
    ("PUT", READERS, {"properties": {"name": "readers"}}),
    ("PUT", POLICY, {"properties": {"doors": ["public"], "deviceIds": ["press"]}}),
    ("PUT", ZONE, {"location": "global"}),
    ("PATCH", ZONE, TAGS),
    ("PUT", LINK, link_body("plant")),
    ("PATCH", LINK, TAGS),
    ("PUT", GROUP, group_body(main="privatelink.example.test")),
    *(("PUT", f"{ZONE}/{kind}/{kind.lower()}", records(**members)) for kind, members in RECORD_SETS),
    *(("PATCH", f"{ZONE}/{kind}/{kind.lower()}", {"properties": {"ttl": 7}}) for kind, _ in RECORD_SETS),
    ("PUT", IDENTITY, {"location": "local"}),
    ("PATCH", IDENTITY, TAGS),
    ("PUT", SECRET, {}),
    ("PUT", ROLE, {"properties": ASSIGNED}),
    ("POST", f"{HUB}/listkeys", None),
    ("POST", f"{HUB}/IotHubKeys/service/listkeys", None),
)
REMOVING: Sequence[Step] = (
    ("DELETE", ROLE, None),
    ("DELETE", SECRET, None),
    ("DELETE", IDENTITY, None),
    *(("DELETE", f"{ZONE}/{kind}/{kind.lower()}", None) for kind, _ in RECORD_SETS),
    ("DELETE", GROUP, None),
    ("DELETE", LINK, None),
    ("DELETE", ZONE, None),
    ("DELETE", POLICY, None),
    ("DELETE", READERS, None),
    ("DELETE", CONNECTION, None),
    ("DELETE", ENDPOINT, None),
    ("DELETE", SITE, None),
    ("DELETE", PEERING, None),
    ("DELETE", f"{PLANT}/subnets/line", None),
    ("DELETE", OFFICE, None),
    ("DELETE", f"{HUBS}/second", None),
)


def rule_steps(owner: str) -> tuple[Step, ...]:
    """The life of an authorization rule."""
    rule = f"{owner}/authorizationRules/sends"
    return (
        ("PUT", rule, {"properties": {"rights": ["Send"]}}),
        ("POST", f"{rule}/listKeys", {}),
        ("POST", f"{rule}/regenerateKeys", {"keyType": "PrimaryKey"}),
        ("DELETE", rule, None),
    )


def namespace_steps(namespace: str, *inside: Step) -> tuple[Step, ...]:
    """The life of a namespace, with what is `inside`."""
    decided = {"properties": {"privateLinkServiceConnectionState": {"status": "Approved", "description": ""}}}
    endpoint = endpoint_body(namespace, ADDRESS, manual=True, group="namespace")
    return (
        ("PUT", namespace, {}),
        ("PATCH", namespace, TAGS),
        ("PUT", f"{namespace}/networkRuleSets/default", {"properties": {"defaultAction": "Deny"}}),
        *rule_steps(namespace),
        *inside,
        ("PUT", ENDPOINT, endpoint),
        ("PUT", f"{namespace}/privateEndpointConnections", decided),
        ("DELETE", f"{namespace}/privateEndpointConnections", None),
        ("DELETE", ENDPOINT, None),
        ("DELETE", namespace, None),
    )


IN_EVENT_HUBS: tuple[Step, ...] = (
    ("PUT", EVENT_HUB, {}),
    *rule_steps(EVENT_HUB),
    ("PUT", GROUP_OF_HUB, {}),
    ("DELETE", GROUP_OF_HUB, None),
    ("DELETE", EVENT_HUB, None),
)
QUEUE, TOPIC = f"{SERVICE_BUS}/queues/work", f"{SERVICE_BUS}/topics/news"
SUBSCRIPTION = f"{TOPIC}/subscriptions/mine"
IN_SERVICE_BUS: tuple[Step, ...] = (
    ("PUT", QUEUE, {}),
    *rule_steps(QUEUE),
    ("PUT", TOPIC, {}),
    *rule_steps(TOPIC),
    ("PUT", SUBSCRIPTION, {}),
    (
        "PUT",
        f"{SUBSCRIPTION}/rules/all",
        {"properties": {"filterType": "CorrelationFilter", "correlationFilter": {"label": "x"}}},
    ),
    ("DELETE", f"{SUBSCRIPTION}/rules/all", None),
    ("DELETE", SUBSCRIPTION, None),
    ("DELETE", TOPIC, None),
    ("DELETE", QUEUE, None),
)
STORAGE = f"{PROVIDERS}/Microsoft.Storage/storageAccounts/plantblobs"
CONTAINER = f"{STORAGE}/blobServices/default/containers/box"
STORAGE_STEPS: tuple[Step, ...] = (
    ("PUT", STORAGE, {}),
    ("PATCH", STORAGE, TAGS),
    ("POST", f"{STORAGE}/listKeys", {}),
    ("POST", f"{STORAGE}/regenerateKey", {"keyName": "key1"}),
    ("PUT", CONTAINER, {}),
    ("DELETE", CONTAINER, None),
    ("PUT", ENDPOINT, endpoint_body(STORAGE, ADDRESS, manual=True, group="blob")),
    (
        "PUT",
        f"{STORAGE}/privateEndpointConnections",
        {"properties": {"privateLinkServiceConnectionState": {"status": "Approved", "description": ""}}},
    ),
    ("DELETE", f"{STORAGE}/privateEndpointConnections", None),
    ("DELETE", ENDPOINT, None),
    ("DELETE", STORAGE, None),
)
NEIGHBOURS: Sequence[Step] = (
    *STORAGE_STEPS,
    *namespace_steps(EVENT_HUBS, *IN_EVENT_HUBS),
    *namespace_steps(SERVICE_BUS, *IN_SERVICE_BUS),
)


async def test_every_step_of_management_leaves_a_record_of_who_what_before_and_after() -> None:
    world = await ManagementWorld().start()
    taken: set[tuple[str, str]] = set()
    for method, target, body in (*MAKING, *REMOVING, *NEIGHBOURS):
        path = await connection_path(world, target) if target.endswith("privateEndpointConnections") else target
        count = len(await world.noted())
        answer = await world.ask(method, path, body)
        assert answer.status < 300, (method, path, answer.json)
        taken.add((method, pattern(path)))
        told = (await world.noted())[count:]
        assert told, f"{method} {path} left no record"
        assert all(is_complete(decision, method) for decision in told), (method, path, told)
    changing = {
        route
        for route in world.api.arm._routes
        if route[0] != "GET" and route[1] not in QUESTIONS | OF_WORKERS and "/certificates/" not in route[1]
    }
    assert taken == changing, "each route that changes something has its step here"


async def test_tokens_leave_records_without_their_secret() -> None:
    world = await ManagementWorld().start()
    made = (await world.ask("PUT", "/tokens/plant", {"role": "Reader"})).json
    await world.ask("DELETE", "/tokens/plant")
    created, deleted = await world.noted()
    assert is_complete(created, "PUT")
    assert is_complete(deleted, "DELETE")
    assert made["token"] not in created.after + deleted.before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_what_was_refused_is_no_change(method: str) -> None:
    world = await ManagementWorld().start()
    assert (await world.ask(method, f"{HUBS}/no-such-hub/doorPolicies/x", {})).status >= 400
    assert await world.noted() == []


def is_complete(decision: Decision, method: str) -> bool:
    if decision.principal != OWNER or not decision.detail:
        return False
    if decision.verdict is Verdict.READ:
        return method == "POST"
    created, removed = not decision.before, not decision.after
    return decision.verdict is Verdict.CHANGED and not (created and removed) and removed is (method == "DELETE")


async def connection_path(world: ManagementWorld, connections: str) -> str:
    """The connection of the one endpoint, whose name the resource has made."""
    listed = (await world.ask("GET", connections)).json
    (connection,) = listed["value"] if isinstance(listed, dict) else listed
    return f"{connections}/{connection['name']}"


def pattern(path: str) -> str:
    return _pattern(path.lower().partition("/providers/")[2].split("/"))
