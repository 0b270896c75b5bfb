"""Hosted namespaces by the command line: the words of `az`, and what is asked of the server for them."""

import json

import pytest

from cli.conftest import Run
from cli.management import HUB_ID, FakeManagement

GROUP = HUB_ID.partition("/Microsoft.Devices")[0]
NAMESPACE = f"{GROUP}/Microsoft.EventHub/namespaces/plant-events"
EVENT_HUB = f"{NAMESPACE}/eventhubs/telemetry"
RULE_SET = f"{NAMESPACE}/networkRuleSets/default"
SHOWN = {
    "id": NAMESPACE,
    "name": "plant-events",
    "etag": "AAAA",
    "sku": {"name": "Standard", "tier": "Standard"},
    "properties": {"publicNetworkAccess": "Enabled", "disableLocalAuth": False},
}
RULES = {
    "id": RULE_SET,
    "properties": {"defaultAction": "Allow", "ipRules": [{"ipMask": "10.0.0.1", "action": "Allow"}]},
}
ENTITY = {"id": EVENT_HUB, "name": "telemetry", "etag": "BBBB", "properties": {"partitionCount": 4}}


def test_a_namespace_is_made_and_printed_flat(management: FakeManagement, run: Run) -> None:
    management.on("PUT", NAMESPACE, SHOWN)
    printed = json.loads(run("eventhubs", "namespace", "create", "-n", "plant-events", "--tags", "a=b").out)
    assert management.last.body == {
        "location": "local",
        "sku": {"name": "Standard", "tier": "Standard"},
        "tags": {"a": "b"},
        "properties": {},
    }
    assert (printed["publicNetworkAccess"], printed["resourceGroup"]) == ("Enabled", "isthmus")
    assert "properties" not in printed


def test_an_update_says_what_changes_and_sends_the_etag(management: FakeManagement, run: Run) -> None:
    management.on("GET", NAMESPACE, SHOWN)
    management.on("PUT", NAMESPACE, SHOWN)
    flags = ("--public-network", "Disabled", "--disable-local-auth", "--set", "tags.x=y")
    run("eventhubs", "namespace", "update", "-n", "plant-events", *flags)
    assert management.last.body["properties"] == {"publicNetworkAccess": "Disabled", "disableLocalAuth": True}
    assert management.last.body["tags"] == {"x": "y"}
    assert management.last.headers["if-match"] == '"AAAA"'


@pytest.mark.parametrize("words", [("eventhubs", "namespace", "network-rule-set"), ("eventhubs", "network-rule-set")])
def test_the_network_rule_set(management: FakeManagement, run: Run, words: tuple[str, ...]) -> None:
    management.on("GET", RULE_SET, RULES)
    management.on("PUT", RULE_SET, RULES)
    flags = ("--default-action", "deny", "--enable-trusted-service-access", "true")
    run(*words, "update", "--namespace-name", "plant-events", *flags)
    assert management.last.body["properties"] == {
        "defaultAction": "Deny",
        "trustedServiceAccessEnabled": True,
        "ipRules": [{"ipMask": "10.0.0.1", "action": "Allow"}],
    }
    run(*words, "ip-rule", "add", "-n", "plant-events", "--ip-rule", "ip-address=10.0.0.2", "action=Allow")
    assert [rule["ipMask"] for rule in management.last.body["properties"]["ipRules"]] == ["10.0.0.1", "10.0.0.2"]
    run(*words, "ip-rule", "remove", "-n", "plant-events", "--ip-rule", "ip-address=10.0.0.1")
    assert management.last.body["properties"]["ipRules"] == []
    done = run(*words, "ip-rule", "remove", "-n", "plant-events", "--ip-address", "10.9.9.9")
    assert "no IP rule for 10.9.9.9" in done.err


def test_an_ip_rule_says_an_address(management: FakeManagement, run: Run) -> None:
    words = ("eventhubs", "namespace", "network-rule-set", "ip-rule", "add", "-n", "plant-events")
    assert run(*words).code == 1
    assert "takes ip-address=MASK" in run(*words, "--ip-rule", "action=Allow").err


def test_an_event_hub_with_its_retention(management: FakeManagement, run: Run) -> None:
    management.on("PUT", EVENT_HUB, ENTITY)
    words = ("eventhubs", "eventhub", "create", "-n", "telemetry", "--namespace-name", "plant-events")
    run(*words, "--partition-count", "2", "--retention-time", "3", "--cleanup-policy", "Delete")
    assert management.last.body["properties"] == {
        "partitionCount": 2,
        "retentionDescription": {"cleanupPolicy": "Delete", "retentionTimeInHours": 3},
    }
    run(*words, "--message-retention", "2")
    assert management.last.body["properties"] == {"messageRetentionInDays": 2}


@pytest.mark.parametrize("words", [("eventhubs", "eventhub", "consumer-group"), ("eventhubs", "consumer-group")])
def test_consumer_groups(management: FakeManagement, run: Run, words: tuple[str, ...]) -> None:
    group = f"{EVENT_HUB}/consumergroups/second"
    management.on("PUT", group, {"id": group, "name": "second", "properties": {"userMetadata": "x"}})
    named = ("--eventhub-name", "telemetry", "--namespace-name", "plant-events", "-n", "second")
    assert json.loads(run(*words, "create", *named, "--user-metadata", "x").out)["userMetadata"] == "x"
    assert management.last.path == group


def test_rules_of_both_places(management: FakeManagement, run: Run) -> None:
    for owner, words in (
        (NAMESPACE, ("eventhubs", "namespace")),
        (EVENT_HUB, ("eventhubs", "eventhub")),
    ):
        entity = ("--eventhub-name", "telemetry") if owner == EVENT_HUB else ()
        rule = f"{owner}/authorizationRules/sends"
        management.on("PUT", rule, {"id": rule, "name": "sends", "properties": {"rights": ["Send"]}})
        management.on("POST", f"{rule}/regenerateKeys", {"keyName": "sends"})
        named = ("-n", "sends", "--namespace-name", "plant-events", *entity)
        run(*words, "authorization-rule", "create", *named, "--rights", "Send", "Listen")
        assert management.last.body == {"properties": {"rights": ["Send", "Listen"]}}
        run(*words, "authorization-rule", "keys", "renew", *named, "--key", "SecondaryKey")
        assert management.last.body == {"keyType": "SecondaryKey"}


def test_a_connection_is_decided_by_its_name_or_its_id(management: FakeManagement, run: Run) -> None:
    connection = f"{NAMESPACE}/privateEndpointConnections/plant.1"
    state = {"privateLinkServiceConnectionState": {"status": "Pending", "description": "please"}}
    management.on("GET", connection, {"id": connection, "properties": state})
    management.on("PUT", connection, {"id": connection, "properties": state})
    words = ("eventhubs", "namespace", "private-endpoint-connection")
    run(*words, "approve", "--id", connection)
    told = management.last.body["properties"]["privateLinkServiceConnectionState"]
    assert told == {"status": "Approved", "description": "please"}
    run(*words, "reject", "-n", "plant.1", "--namespace-name", "plant-events", "--description", "no")
    told = management.last.body["properties"]["privateLinkServiceConnectionState"]
    assert told == {"status": "Rejected", "description": "no"}
    assert run(*words, "show", "-n", "plant.1").code == 1
    assert run(*words, "show", "--id", f"{HUB_ID}/privateEndpointConnections/x").code == 1


def strings(management: FakeManagement) -> None:
    management.on("GET", f"{GROUP}/Microsoft.EventHub/namespaces", {"value": [SHOWN]})
    management.on("GET", f"{GROUP}/Microsoft.ServiceBus/namespaces", {"value": []})
    management.on("GET", f"{NAMESPACE}/eventhubs", {"value": [ENTITY]})
    for owner, rule, more in (
        (NAMESPACE, "RootManageSharedAccessKey", ""),
        (EVENT_HUB, "sends", ";EntityPath=telemetry"),
    ):
        management.on("GET", f"{owner}/authorizationRules", {"value": [{"name": rule}]})
        keys = {"primaryConnectionString": f"primary of {rule}{more}", "secondaryConnectionString": f"second of {rule}"}
        management.on("POST", f"{owner}/authorizationRules/{rule}/listKeys", keys)


@pytest.mark.parametrize(
    ("flags", "printed"),
    [
        ((), "primary of RootManageSharedAccessKey"),
        (("--key-type", "secondary"), "second of RootManageSharedAccessKey"),
        (("--entity", "telemetry"), "primary of RootManageSharedAccessKey;EntityPath=telemetry"),
        (("--entity", "telemetry", "--policy", "sends"), "primary of sends;EntityPath=telemetry"),
    ],
)
def test_connection_strings(management: FakeManagement, run: Run, flags: tuple[str, ...], printed: str) -> None:
    strings(management)
    assert run("connection-string", "--namespace", "plant-events", *flags).out.strip() == printed


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--namespace", "other-events"), "namespaces here: plant-events"),
        (("--namespace", "plant-events", "--entity", "x"), "in it: telemetry"),
        (("--namespace", "plant-events", "--policy", "x"), "rules here: RootManageSharedAccessKey"),
    ],
)
def test_what_has_no_connection_string(management: FakeManagement, run: Run, flags: tuple[str, ...], told: str) -> None:
    strings(management)
    done = run("connection-string", *flags)
    assert (done.code, told in done.err) == (1, True)
