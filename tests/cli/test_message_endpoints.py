"""`message-endpoint`, `message-enrichment` and the older words: what they make of a hub's document."""

import json
from typing import Any

import pytest

from cli.conftest import Run
from cli.management import HUB_ID, FakeManagement

IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/writer"
STRING = "Endpoint=sb://ns.test/;SharedAccessKeyName=s;SharedAccessKey=c2VjcmV0;EntityPath=q"
NAMESPACE = HUB_ID.partition("/Microsoft.Devices")[0] + "/Microsoft.ServiceBus/namespaces/ns"
ACCOUNT = HUB_ID.partition("/Microsoft.Devices")[0] + "/Microsoft.Storage/storageAccounts/store"


def hub(**routing: Any) -> dict[str, Any]:
    endpoints: dict[str, Any] = {
        "eventHubs": [],
        "serviceBusQueues": [{"name": "hot", "connectionString": "masked"}],
        "serviceBusTopics": [],
        "storageContainers": [],
        "cosmosDBSqlContainers": [],
    }
    route = {"name": "r", "source": "DeviceMessages", "endpointNames": ["hot"]}
    enrichments = [
        {"key": "site", "value": "$twin.tags.site", "endpointNames": ["Hot", "events"]},
        {"key": "only", "value": "v", "endpointNames": ["hot"]},
    ]
    parts = {"endpoints": endpoints, "routes": [route], "enrichments": enrichments} | routing
    return {"id": HUB_ID, "name": "hub", "etag": "AAAA=", "properties": {"routing": parts}}


@pytest.fixture
def told(management: FakeManagement) -> FakeManagement:
    management.on("GET", HUB_ID, hub())
    management.on("PUT", HUB_ID, hub())
    return management


def put(management: FakeManagement) -> dict[str, Any]:
    """The routing that was sent."""
    sent = management.asked[-1]
    assert (sent.method, sent.headers["if-match"]) == ("PUT", '"AAAA="')
    routing: dict[str, Any] = sent.body["properties"]["routing"]
    return routing


@pytest.mark.parametrize(
    ("words", "place", "endpoint"),
    [
        (
            ["eventhub", "--identity", "[system]", "--endpoint-uri", "sb://ns", "--entity-path", "e"],
            "eventHubs",
            {"authenticationType": "identityBased", "identity": None, "connectionString": None}
            | {"endpointUri": "sb://ns", "entityPath": "e"},
        ),
        (
            ["servicebus-topic", "--identity", IDENTITY, "--endpoint-uri", "sb://ns", "--entity-path", "t"],
            "serviceBusTopics",
            {"authenticationType": "identityBased", "identity": {"userAssignedIdentity": IDENTITY}}
            | {"connectionString": None, "endpointUri": "sb://ns", "entityPath": "t"},
        ),
        (
            ["servicebus-queue", "-c", STRING, "--erg", "g", "-s", "s"],
            "serviceBusQueues",
            {"authenticationType": "keyBased", "connectionString": STRING, "identity": None, "endpointUri": None}
            | {"entityPath": None, "resourceGroup": "g", "subscriptionId": "s"},
        ),
        (
            [
                "storage-container",
                "-c",
                "AccountName=a",
                "--container",
                "c",
                "--encoding",
                "json",
                "-b",
                "60",
                "-w",
                "10",
            ],
            "storageContainers",
            {"authenticationType": "keyBased", "connectionString": "AccountName=a", "identity": None}
            | {"endpointUri": None, "containerName": "c", "encoding": "json"}
            | {"batchFrequencyInSeconds": 60, "maxChunkSizeInBytes": 10_485_760},
        ),
    ],
)
def test_an_endpoint_is_added_to_those_of_its_kind(
    told: FakeManagement, run: Run, words: list[str], place: str, endpoint: dict[str, Any]
) -> None:
    done = run("iot", "hub", "message-endpoint", "create", *words, "--en", "new")
    assert (done.code, json.loads(done.out)["name"]) == (0, "hub")
    assert put(told)["endpoints"][place][-1] == {"name": "new", **endpoint}


def test_a_hosted_namespace_gives_its_key(told: FakeManagement, run: Run) -> None:
    told.on("POST", f"{NAMESPACE}/queues/q/authorizationRules/send/listKeys", {"primaryConnectionString": STRING})
    words = ("--namespace", "ns", "--entity-path", "q", "--policy-name", "send")
    assert run("message-endpoint", "create", "servicebus-queue", "--en", "new", *words).code == 0
    assert put(told)["endpoints"]["serviceBusQueues"][-1]["connectionString"] == STRING
    lacking = run("message-endpoint", "create", "servicebus-queue", "--en", "new", "--namespace", "ns")
    assert (lacking.code, "--endpoint-policy-name" in lacking.err) == (1, True)


def test_a_hosted_account_gives_its_key(told: FakeManagement, run: Run) -> None:
    told.on("GET", ACCOUNT, {"properties": {"primaryEndpoints": {"blob": "https://store.blob.test/"}}})
    told.on("POST", f"{ACCOUNT}/listKeys", {"keys": [{"value": "c2VjcmV0"}]})
    words = ("--en", "new", "--endpoint-account", "store", "--container", "c")
    assert run("message-endpoint", "create", "storage-container", *words).code == 0
    string = put(told)["endpoints"]["storageContainers"][-1]["connectionString"]
    assert string == (
        "DefaultEndpointsProtocol=https;AccountName=store;AccountKey=c2VjcmV0;BlobEndpoint=https://store.blob.test/"
    )


def test_a_key_and_an_identity_are_too_much(told: FakeManagement, run: Run) -> None:
    for command in ("create", "update"):
        words = ("--en", "hot", "-c", STRING, "--identity", "[system]")
        done = run("message-endpoint", command, "servicebus-queue", *words)
        assert (done.code, "either" in done.err) == (1, True)


def test_a_name_is_given_once(told: FakeManagement, run: Run) -> None:
    done = run("message-endpoint", "create", "eventhub", "--en", "HOT", "-c", STRING)
    assert (done.code, "already" in done.err) == (1, True)


def test_an_endpoint_is_changed_from_key_to_identity(told: FakeManagement, run: Run) -> None:
    words = ("--identity", "[system]", "--endpoint-uri", "sb://ns", "--entity-path", "q")
    assert run("message-endpoint", "update", "servicebus-queue", "--en", "hot", *words).code == 0
    [changed] = put(told)["endpoints"]["serviceBusQueues"]
    assert changed == {
        "name": "hot",
        "authenticationType": "identityBased",
        "identity": None,
        "connectionString": None,
        "endpointUri": "sb://ns",
        "entityPath": "q",
    }


def test_an_endpoint_is_deleted_with_what_names_it_when_forced(told: FakeManagement, run: Run) -> None:
    assert run("message-endpoint", "delete", "--en", "hot").code == 0
    assert (len(put(told)["routes"]), put(told)["endpoints"]["serviceBusQueues"]) == (1, [])
    assert run("message-endpoint", "delete", "--type", "servicebus-queue", "--force", "-y").code == 0
    routing = put(told)
    assert routing["routes"] == []
    assert routing["enrichments"] == [{"key": "site", "value": "$twin.tags.site", "endpointNames": ["events"]}]


def test_endpoints_are_listed_and_shown(told: FakeManagement, run: Run) -> None:
    assert set(json.loads(run("message-endpoint", "list").out)) >= {"eventHubs", "storageContainers"}
    [listed] = json.loads(run("message-endpoint", "list", "-t", "servicebus-queue").out)
    assert json.loads(run("message-endpoint", "show", "--en", "HOT").out) == listed
    missing = run("message-endpoint", "show", "--en", "cold")
    assert (missing.code, "this hub has: hot" in missing.err) == (1, True)


def test_health_is_that_of_all_or_of_one(told: FakeManagement, run: Run) -> None:
    told.on("GET", f"{HUB_ID}/routingEndpointsHealth", {"value": [{"endpointId": "events"}, {"endpointId": "hot"}]})
    assert len(json.loads(run("message-endpoint", "show-health").out)) == 2
    assert json.loads(run("message-endpoint", "show-health", "--en", "Hot").out) == {"endpointId": "hot"}
    assert run("message-endpoint", "show-health", "--en", "cold").code == 1


def test_enrichments_are_made_changed_and_deleted(told: FakeManagement, run: Run) -> None:
    made = run("message-enrichment", "create", "-k", "new", "-v", "$iothubname", "-e", "hot", "events")
    assert made.code == 0
    assert put(told)["enrichments"][-1] == {"key": "new", "value": "$iothubname", "endpointNames": ["hot", "events"]}
    assert run("message-enrichment", "create", "-k", "Site", "-v", "v", "-e", "hot").code == 1
    assert run("message-enrichment", "update", "-k", "site", "-v", "v").code == 0
    assert put(told)["enrichments"][0] == {"key": "site", "value": "v", "endpointNames": ["Hot", "events"]}
    assert run("message-enrichment", "update", "-k", "only", "-e", "events").code == 0
    assert put(told)["enrichments"][1]["endpointNames"] == ["events"]
    assert run("message-enrichment", "delete", "-k", "only").code == 0
    assert [each["key"] for each in put(told)["enrichments"]] == ["site"]
    assert json.loads(run("message-enrichment", "show", "-k", "only").out)["value"] == "v"
    assert len(json.loads(run("message-enrichment", "list").out)) == 2
    assert run("message-enrichment", "show", "-k", "none").code == 1


def test_the_older_words_do_the_same(told: FakeManagement, run: Run) -> None:
    words = ("--auth-type", "identitybased", "--endpoint-uri", "https://store.test", "--container", "c")
    done = run("iot", "hub", "routing-endpoint", "create", "--en", "new", "-t", "azurestoragecontainer", *words)
    assert done.code == 0, done.err
    assert put(told)["endpoints"]["storageContainers"][-1] == {
        "name": "new",
        "authenticationType": "identityBased",
        "identity": None,
        "connectionString": None,
        "endpointUri": "https://store.test",
        "containerName": "c",
    }
    assert run("iot", "hub", "routing-endpoint", "list", "-t", "servicebusqueue").code == 0
    assert run("iot", "hub", "routing-endpoint", "delete", "--en", "hot").code == 0
    assert "--route-name" in run("iot", "hub", "routing", "test", "--help").out


def test_dead_letters_are_asked_for_by_endpoint(management: FakeManagement, run: Run) -> None:
    letters = f"{HUB_ID}/deadLetters"
    management.on("GET", letters, {"value": []})
    management.on("GET", f"{letters}/hot", {"value": [{"number": 3}]})
    management.on("POST", f"{letters}/hot/letters/3/show", {"number": 3})
    management.on("POST", f"{letters}/hot/redrive", {"redriven": 1})
    management.on("POST", f"{letters}/hot/purge", {"purged": 1})
    assert json.loads(run("dead-letter", "list").out) == []
    assert json.loads(run("dead-letter", "list", "--en", "hot", "--first", "3", "--top", "1").out) == [{"number": 3}]
    assert json.loads(run("dead-letter", "show", "--en", "hot", "--number", "3").out) == {"number": 3}
    assert run("dead-letter", "redrive", "--en", "hot").code == 0
    assert management.asked[-1].body == {}
    management.on("POST", f"{letters}/hot/bury", {"endpointName": "hot"})
    assert json.loads(run("dead-letter", "bury", "--en", "hot").out) == {"endpointName": "hot"}
    assert run("dead-letter", "purge", "--en", "hot", "--until", "3").code == 0
    assert management.asked[-1].body == {"until": 3}
