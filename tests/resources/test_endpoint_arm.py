"""Routing endpoints and enrichments as a hub's body says them."""

from dataclasses import replace
from typing import Any

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.resources.arm import hub_to_arm
from isthmus.resources.arm_patch import apply_body, apply_patch
from isthmus.resources.hub import Hub
from isthmus.resources.hub_identity import AttachedIdentity, HubIdentity
from isthmus.resources.routing_endpoint import (
    BlobEncoding,
    EndpointAuthentication,
    EndpointKind,
    RoutingEndpoint,
    StorageSettings,
)
from routing.fakes import HUB

IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/writer"
PLANT = replace(HUB, identity=HubIdentity(True, "principal", (AttachedIdentity(IDENTITY, "p", "c"),)))
QUEUE_STRING = "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=send;SharedAccessKey=c2VjcmV0;EntityPath=q"
STORE_STRING = "DefaultEndpointsProtocol=https;AccountName=store;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"
QUEUE = {"name": "queue", "connectionString": QUEUE_STRING}
EVENTS = {"name": "hot", "endpointUri": "sb://ns.servicebus.windows.net", "entityPath": "e",
          "authenticationType": "identityBased"}  # fmt: skip
STORE = {"name": "store", "connectionString": STORE_STRING, "containerName": "telemetry"}


def with_endpoints(hub: Hub = PLANT, **kinds: list[dict[str, Any]]) -> Hub:
    return apply_patch(hub, {"properties": {"routing": {"endpoints": kinds}}})


def shown(hub: Hub) -> dict[str, Any]:
    properties: Any = hub_to_arm(hub)["properties"]
    endpoints: dict[str, Any] = properties["routing"]["endpoints"]
    return endpoints


def test_each_kind_is_read_and_numbered() -> None:
    hub = with_endpoints(serviceBusQueues=[QUEUE], eventHubs=[EVENTS], storageContainers=[STORE])
    assert [(each.name, each.kind, each.number) for each in hub.endpoints] == [
        ("hot", EndpointKind.EVENT_HUB, 2),
        ("queue", EndpointKind.QUEUE, 3),
        ("store", EndpointKind.STORAGE, 4),
    ]
    hot, queue, store = hub.endpoints
    assert (hot.authentication, hot.host, hot.entity) == (
        EndpointAuthentication.IDENTITY,
        "ns.servicebus.windows.net",
        "e",
    )
    assert (queue.authentication, queue.host, queue.entity) == (
        EndpointAuthentication.KEY,
        "ns.servicebus.windows.net",
        "q",
    )
    assert (store.host, store.entity) == ("store.blob.core.windows.net", "telemetry")
    assert store.storage == StorageSettings("telemetry")


def test_numbers_are_never_given_twice() -> None:
    hub = with_endpoints(serviceBusQueues=[QUEUE])
    hub = with_endpoints(hub, serviceBusQueues=[])
    hub = with_endpoints(hub, serviceBusQueues=[QUEUE])
    assert [each.number for each in hub.endpoints] == [3]
    moved = with_endpoints(hub, serviceBusQueues=[], serviceBusTopics=[QUEUE])
    assert [each.number for each in moved.endpoints] == [4]


def test_keys_are_masked_and_a_mask_means_the_key_that_there_is() -> None:
    hub = with_endpoints(serviceBusQueues=[QUEUE], storageContainers=[STORE])
    [queue], [store] = shown(hub)["serviceBusQueues"], shown(hub)["storageContainers"]
    assert "c2VjcmV0" not in str(hub_to_arm(hub))
    assert "c2VjcmV0" not in repr(hub)
    assert queue["connectionString"].endswith("SharedAccessKey=****;EntityPath=q")
    again = with_endpoints(hub, serviceBusQueues=[queue], storageContainers=[store | {"batchFrequencyInSeconds": 60}])
    assert [each.connection_string for each in again.endpoints] == [QUEUE_STRING, STORE_STRING]
    other = queue["connectionString"].replace("ns.", "elsewhere.")
    with pytest.raises(HubError, match="asterisks"):
        with_endpoints(hub, serviceBusQueues=[queue | {"connectionString": other}])


def test_a_whole_body_that_was_printed_changes_nothing() -> None:
    hub = with_endpoints(serviceBusQueues=[QUEUE], eventHubs=[EVENTS], storageContainers=[STORE])
    assert apply_body(hub, hub_to_arm(hub)) == hub


def test_a_body_without_endpoints_takes_them_away() -> None:
    hub = with_endpoints(serviceBusQueues=[QUEUE])
    assert apply_body(hub, {"properties": {"routing": {}}}).endpoints == ()


def test_an_endpoint_goes_from_key_to_identity_and_stays_the_same() -> None:
    hub = with_endpoints(serviceBusQueues=[QUEUE])
    by_identity = EVENTS | {"name": "QUEUE", "entityPath": "q", "identity": {"userAssignedIdentity": IDENTITY}}
    [changed] = with_endpoints(hub, serviceBusQueues=[by_identity]).endpoints
    assert (changed.number, changed.name, changed.identity) == (2, "queue", IDENTITY)
    assert changed.connection_string == ""


def test_blobs_are_set_within_bounds() -> None:
    said = {
        "fileNameFormat": "{iothub}/{partition}_{YYYY}-{MM}-{DD}_{HH}_{mm}",
        "batchFrequencyInSeconds": 60,
        "maxChunkSizeInBytes": 10_485_760,
        "encoding": "json",
    }
    [store] = with_endpoints(storageContainers=[STORE | said]).endpoints
    assert store.storage == StorageSettings("telemetry", str(said["fileNameFormat"]), 60, 10_485_760, BlobEncoding.JSON)


@pytest.mark.parametrize(
    ("kind", "endpoint", "named"),
    [
        ("serviceBusQueues", QUEUE | {"name": "events"}, "every hub has"),
        ("serviceBusQueues", QUEUE | {"name": "FileNotifications"}, "every hub has"),
        ("serviceBusQueues", QUEUE | {"name": "a b"}, "name"),
        ("serviceBusQueues", QUEUE | {"surprise": 1}, "surprise"),
        ("serviceBusQueues", {"name": "q"}, "connectionString"),
        ("serviceBusQueues", QUEUE | {"connectionString": QUEUE_STRING.replace(";EntityPath=q", "")}, "EntityPath"),
        ("serviceBusQueues", QUEUE | {"connectionString": QUEUE_STRING.replace("sb://", "amqp://")}, "sb://"),
        ("serviceBusQueues", QUEUE | {"connectionString": "Endpoint=sb://x/;EntityPath=q"}, "SharedAccessKeyName"),
        ("serviceBusQueues", QUEUE | {"connectionString": "x" * 5_000}, "4096"),
        ("serviceBusQueues", QUEUE | {"identity": {"userAssignedIdentity": IDENTITY}}, "identity"),
        ("serviceBusQueues", QUEUE | {"authenticationType": "none"}, "keyBased"),
        ("eventHubs", EVENTS | {"endpointUri": None}, "endpointUri"),
        ("eventHubs", EVENTS | {"entityPath": None}, "event hub"),
        ("eventHubs", EVENTS | {"endpointUri": "https://ns"}, "sb://"),
        ("eventHubs", EVENTS | {"endpointUri": "sb://["}, "sb://"),
        ("eventHubs", EVENTS | {"connectionString": QUEUE_STRING}, "connectionString"),
        ("eventHubs", EVENTS | {"identity": {"userAssignedIdentity": "/other"}}, "identity assign"),
        ("storageContainers", STORE | {"containerName": "Caps"}, "containerName"),
        ("storageContainers", STORE | {"containerName": None}, "containerName"),
        ("storageContainers", STORE | {"fileNameFormat": "{iothub}"}, "fileNameFormat"),
        (
            "storageContainers",
            STORE | {"fileNameFormat": "../{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}"},
            "slashes",
        ),
        (
            "storageContainers",
            STORE | {"fileNameFormat": "{iothub}{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}"},
            "once",
        ),
        ("storageContainers", STORE | {"batchFrequencyInSeconds": 59}, "60 to 720"),
        ("storageContainers", STORE | {"maxChunkSizeInBytes": 1}, "10485760"),
        ("storageContainers", STORE | {"encoding": "xml"}, "Avro"),
        ("storageContainers", STORE | {"connectionString": "AccountName=x"}, "AccountKey"),
        (
            "storageContainers",
            STORE | {"connectionString": STORE_STRING + ";BlobEndpoint=http://store.example.test"},
            "TLS",
        ),
    ],
)
def test_what_cannot_be_delivered_to_is_refused(kind: str, endpoint: dict[str, Any], named: str) -> None:
    with pytest.raises(HubError) as refused:
        with_endpoints(PLANT, **{kind: [endpoint]})
    assert refused.value.code is Code.ARGUMENT_INVALID
    assert named in refused.value.message


def test_an_emulator_on_this_machine_may_do_without_tls() -> None:
    string = STORE_STRING + ";BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1"
    assert with_endpoints(storageContainers=[STORE | {"connectionString": string}]).endpoints[0].host == "127.0.0.1"


def test_the_hub_needs_the_identity_when_the_endpoint_is_made_and_may_lose_it_later() -> None:
    nobody = replace(PLANT, identity=HubIdentity())
    with pytest.raises(HubError, match="identity of its own"):
        with_endpoints(nobody, eventHubs=[EVENTS])
    hub = replace(with_endpoints(eventHubs=[EVENTS]), identity=HubIdentity())
    assert with_endpoints(hub, serviceBusQueues=[QUEUE]).endpoints[0].name == "hot"


def test_names_are_one_endpoints_across_kinds_and_ten_are_the_most() -> None:
    with pytest.raises(HubError, match="two endpoints queue"):
        with_endpoints(serviceBusQueues=[QUEUE], serviceBusTopics=[QUEUE | {"name": "Queue"}])
    with pytest.raises(HubError) as refused:
        with_endpoints(serviceBusQueues=[QUEUE | {"name": f"q{each}"} for each in range(11)])
    assert refused.value.code is Code.QUOTA_EXCEEDED


def test_the_encoding_of_blobs_cannot_be_changed() -> None:
    hub = with_endpoints(storageContainers=[STORE])
    with pytest.raises(HubError, match="encoding cannot be changed"):
        with_endpoints(hub, storageContainers=[STORE | {"encoding": "json"}])


def test_routes_and_enrichments_need_their_endpoints() -> None:
    hub = with_endpoints(serviceBusQueues=[QUEUE])
    route = {"name": "r", "source": "DeviceMessages", "endpointNames": ["Queue"]}
    enrichment = {"key": "site", "value": "$twin.tags.site", "endpointNames": ["events", "queue"]}
    hub = apply_patch(hub, {"properties": {"routing": {"routes": [route], "enrichments": [enrichment]}}})
    with pytest.raises(HubError, match="the route r names the endpoint Queue"):
        with_endpoints(hub, serviceBusQueues=[])
    hub = apply_patch(hub, {"properties": {"routing": {"routes": []}}})
    with pytest.raises(HubError, match="the enrichment site names the endpoint queue"):
        with_endpoints(hub, serviceBusQueues=[])


@pytest.mark.parametrize(
    "enrichment",
    [
        {"key": "", "value": "v", "endpointNames": ["events"]},
        {"key": "a\n", "value": "v", "endpointNames": ["events"]},
        {"key": "k", "value": "", "endpointNames": ["events"]},
        {"key": "k", "value": "$twin.labels.a", "endpointNames": ["events"]},
        {"key": "k", "value": "$twin.tags.", "endpointNames": ["events"]},
        {"key": "k", "value": "v", "endpointNames": []},
        {"key": "k", "value": "v", "endpointNames": ["events", "EVENTS"]},
        {"key": "k", "value": "v", "endpointNames": ["events"], "surprise": 1},
    ],
)
def test_enrichments_that_mean_nothing_are_refused(enrichment: dict[str, Any]) -> None:
    with pytest.raises(HubError) as refused:
        apply_patch(PLANT, {"properties": {"routing": {"enrichments": [enrichment]}}})
    assert refused.value.code is Code.ARGUMENT_INVALID


def test_ten_enrichments_are_the_most() -> None:
    many = [{"key": f"k{each}", "value": "v", "endpointNames": ["events"]} for each in range(11)]
    with pytest.raises(HubError, match="at most 10"):
        apply_patch(PLANT, {"properties": {"routing": {"enrichments": many}}})


def test_outbound_rules_are_names_in_normal_form() -> None:
    said = {"restrictOutboundNetworkAccess": True, "allowedFqdnList": ["Store.Blob.Core.Windows.net.", "10.0.0.1"]}
    hub = apply_patch(PLANT, {"properties": said})
    assert hub.restrict_outbound
    assert hub.allowed_fqdns == ("store.blob.core.windows.net", "10.0.0.1")
    assert apply_body(hub, hub_to_arm(hub)) == hub
    assert not apply_body(hub, {}).restrict_outbound
    with pytest.raises(HubError, match="host name"):
        apply_patch(PLANT, {"properties": {"allowedFqdnList": ["a b"]}})


def test_a_connection_string_without_a_host_has_none() -> None:
    endpoint = RoutingEndpoint(2, "", "q", EndpointKind.QUEUE, EndpointAuthentication.KEY, "Endpoint=;EntityPath=q")
    assert (endpoint.host, endpoint.entity) == ("", "q")
