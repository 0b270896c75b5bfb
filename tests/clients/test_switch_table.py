"""The switch table: identity, identity-based endpoint, role, trusted flag; all sixteen, at each of four closed targets.

A target is written to only when all four are on. Whichever else is told, by the target in its documented words and by
the endpoint's health, is the first that is off in the order in which they are judged: a key makes no exception at a
firewall, so nothing else matters behind it; then there must be an identity to ask a token for; the network is judged
before the role. What devices sent meanwhile waits, and arrives in order when the switches are set right, by itself.
"""

import base64
import itertools
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any, Final

import pytest
from azure.eventhub import EventHubConsumerClient
from azure.iot.device import IoTHubDeviceClient
from azure.servicebus import ServiceBusClient
from azure.storage.blob import BlobServiceClient

from clients.devices import until
from clients.site import ENTITY, HOST, NOBODY, SUBSCRIPTION, Site, make_site
from isthmus.cli.transport import LocalServer, Request
from support.loopback import Loopback
from support.server import RunningHub

SWITCHES: Final = ("identity", "authenticationType", "role", "trustedServices")
TABLE: Final = [frozenset(on) for count in range(4) for on in itertools.combinations(SWITCHES, count)]
"""All but the one with all on, which is where every test ends."""

KINDS: Final = ("eventHubs", "serviceBusQueues", "serviceBusTopics", "storageContainers")
NAMES: Final = dict(zip(KINDS, ("hub", "queue", "topic", "json"), strict=True))
ROLES: Final = {
    "eventHubs": "Azure Event Hubs Data Sender",
    "serviceBusQueues": "Azure Service Bus Data Sender",
    "serviceBusTopics": "Azure Service Bus Data Sender",
    "storageContainers": "Storage Blob Data Contributor",
}
CLOSED: Final = dict.fromkeys(KINDS, "Ip has been prevented to connect to the endpoint") | {
    "storageContainers": "AuthorizationFailure"
}
NO_ROLE: Final = dict.fromkeys(KINDS, "'Send' claim(s) are required to perform this operation") | {
    "storageContainers": "AuthorizationPermissionMismatch"
}


def first_off(on: frozenset[str]) -> str:
    """The switch that is judged first among those that are off."""
    order = ("authenticationType", "identity", "trustedServices", "role")
    return next(switch for switch in order if switch not in on)


class Board:
    """The switches of a site, set by ARM's calls."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._server = LocalServer(site.hub.data)
        self._hub_id = site.hub.json("iot", "hub", "show")["id"]
        self._assigned: list[str] = []
        listed = site.hub.json("role", "definition", "list")
        self._roles = {each["roleName"]: each["id"] for each in listed}
        self._scopes = {
            "eventHubs": f"{site.events.resource_id}/eventhubs/{ENTITY}",
            "serviceBusQueues": f"{site.bus.resource_id}/queues/orders",
            "serviceBusTopics": f"{site.bus.resource_id}/topics/news",
            "storageContainers": f"{site.storage.resource_id}/blobServices/default/containers/json",
        }
        string_of = ("connection-string", "--namespace")
        self._keys = {
            "events": site.hub.isthmus(*string_of, site.events.name, "--entity", ENTITY).strip(),
            "bus": site.hub.isthmus(*string_of, site.bus.name).strip(),
            "storage": site.hub.json("storage", "account", "show-connection-string", "-n", site.storage.name)[
                "connectionString"
            ],
        }

    def set(self, on: frozenset[str]) -> None:
        """Sets all switches of all targets; the identity goes last, as an endpoint is not taken without it."""
        self._trust(on="trustedServices" in on)
        hub = self._call("PATCH", self._hub_id, {"identity": {"type": "SystemAssigned"}})
        self._allow(hub["identity"]["principalId"], on="role" in on)
        lists = {kind: [self._endpoint(kind, by_identity="authenticationType" in on)] for kind in KINDS}
        self._call("PATCH", self._hub_id, {"properties": {"routing": {"endpoints": lists}}})
        if "identity" not in on:
            self._call("PATCH", self._hub_id, {"identity": {"type": "None"}})

    def health(self) -> dict[str, dict[str, Any]]:
        """What is known of each endpoint of its own."""
        found = self._call("GET", f"{self._hub_id}/routingEndpointsHealth")["value"]
        return {each["endpointId"]: each for each in found if each["endpointId"] != "events"}

    def _allow(self, principal: str, *, on: bool) -> None:
        for assignment in self._assigned:
            self._call("DELETE", assignment)
        self._assigned.clear()
        if not on:
            return
        for kind, scope in self._scopes.items():
            place = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
            body = {"roleDefinitionId": self._roles[ROLES[kind]], "principalId": principal}
            self._assigned.append(self._call("PUT", place, {"properties": body})["id"])

    def _trust(self, *, on: bool) -> None:
        for neighbour in (self._site.events, self._site.bus):
            rules = {
                "defaultAction": "Deny",
                "ipRules": [{"ipMask": NOBODY, "action": "Allow"}],
                "trustedServiceAccessEnabled": on,
            }
            self._call("PUT", f"{neighbour.resource_id}/networkRuleSets/default", {"properties": rules})
        acls = {"defaultAction": "Deny", "bypass": "AzureServices" if on else "None"}
        self._call("PATCH", self._site.storage.resource_id, {"properties": {"networkAcls": acls}})

    def _endpoint(self, kind: str, *, by_identity: bool) -> dict[str, Any]:
        """The endpoint of a kind, as it is taken by key or by identity."""
        site = self._site
        made: dict[str, Any] = {"name": NAMES[kind]}
        entity = {"eventHubs": ENTITY, "serviceBusQueues": "orders", "serviceBusTopics": "news"}.get(kind, "")
        owner = "storage" if kind == "storageContainers" else "events" if kind == "eventHubs" else "bus"
        if kind == "storageContainers":
            made |= {"containerName": "json", "encoding": "json", "batchFrequencyInSeconds": 60}
            uri = f"https://{site.storage.host}"
        else:
            uri = f"sb://{(site.events if owner == 'events' else site.bus).host}"
        if by_identity:
            made |= {"authenticationType": "identityBased", "endpointUri": uri}
            return made | ({"entityPath": entity} if entity else {})
        string = self._keys[owner]
        if entity and "EntityPath" not in string:
            string = f"{string.rstrip(';')};EntityPath={entity}"
        return made | {"authenticationType": "keyBased", "connectionString": string}

    def _call(self, method: str, path: str, body: object = None) -> Any:
        return self._server.send(Request(method, f"{path}{'&' if '?' in path else '?'}api-version=1", body)).json()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Loopback() as loopback:
        settings = "[authority]\nenabled = true\n"
        hub = RunningHub(tmp_path_factory.mktemp("site"), loopback.take(), hostname=HOST, settings=settings)
        try:
            hub.start()
            made = make_site(hub, loopback.take)
            made.add_endpoint("hub", "eventhub", "--endpoint-uri", f"sb://{made.events.host}", "--entity-path", ENTITY)
            bus = ("--endpoint-uri", f"sb://{made.bus.host}")
            made.add_endpoint("queue", "servicebus-queue", *bus, "--entity-path", "orders")
            made.add_endpoint("topic", "servicebus-topic", *bus, "--entity-path", "news")
            made.add_container("json", "json")
            for endpoint in NAMES.values():
                made.route_all(endpoint)
            yield made
            hub.stop()
        finally:
            hub.kill()


class Sender:
    """A stock device that sends numbers."""

    def __init__(self, hub: RunningHub) -> None:
        string = hub.create_device("press-1").replace(f"HostName={HOST}", f"HostName={hub.address}")
        self._device = IoTHubDeviceClient.create_from_connection_string(
            string, server_verification_cert=hub.ca.read_text()
        )
        self._device.connect()
        self.sent = 0

    def send(self) -> None:
        self._device.send_message(json.dumps({"number": self.sent}))
        self.sent += 1

    def close(self) -> None:
        self._device.shutdown()


def test_only_all_on_delivers_and_whatever_else_names_what_is_off(site: Site) -> None:
    board, sender = Board(site), Sender(site.hub)
    try:
        for on in TABLE:
            board.set(on)
            sender.send()
            fails(board, on)
            if len(on) == len(SWITCHES) - 1:
                board.set(frozenset(SWITCHES))
                until(lambda: all(delivers(each) for each in board.health().values()), 60)
    finally:
        sender.close()
    wanted = list(range(sender.sent))
    with site.inside():
        assert first_seen(events_of(site, sender.sent)) == wanted
        assert first_seen(messages_of(site, "orders", sender.sent)) == wanted
        assert first_seen(messages_of(site, "news", sender.sent)) == wanted
        assert first_seen(lines_of(site)) == wanted


def fails(board: Board, on: frozenset[str]) -> None:
    """Returns when every endpoint tells which switch is off, in its target's words."""
    until(lambda: all(told(each) == first_off(on) for each in board.health().values()), 30)
    for kind in KINDS:
        check_words(kind, on, board.health()[NAMES[kind]])


def told(health: dict[str, Any]) -> str:
    return str(health.get("lastKnownErrorSwitch")) if health["healthStatus"] == "unhealthy" else ""


def delivers(health: dict[str, Any]) -> bool:
    return bool(health["healthStatus"] == "healthy" and health["behindBytes"] == 0)


def check_words(kind: str, on: frozenset[str], health: dict[str, Any]) -> None:
    said = f"{health['lastKnownErrorCode']} {health['lastKnownError']}"
    match first_off(on):
        case "authenticationType" | "trustedServices":
            assert CLOSED[kind] in said
        case "role":
            assert NO_ROLE[kind] in said
        case _:
            assert "has no identity of its own" in said


def first_seen(numbers: list[int]) -> list[int]:
    """The numbers in the order in which they came first; what came again is at least once."""
    return list(dict.fromkeys(numbers))


def events_of(site: Site, count: int) -> list[int]:
    numbers: list[int] = []
    over = threading.Event()
    client = EventHubConsumerClient(
        site.events.host, ENTITY, "$Default", site.reader, connection_verify=str(site.hub.ca)
    )

    def take(_: Any, events: list[Any]) -> None:
        numbers.extend(json.loads(event.body_as_str())["number"] for event in events)
        if len(set(numbers)) == count:
            over.set()

    options = {"starting_position": "-1"}
    with client:
        threading.Thread(target=client.receive_batch, args=(take,), kwargs=options, daemon=True).start()
        over.wait(60)
    return numbers


def messages_of(site: Site, entity: str, count: int) -> list[int]:
    numbers: list[int] = []
    client = ServiceBusClient(site.bus.host, site.reader, connection_verify=str(site.hub.ca))
    with client:
        receiver = (
            client.get_queue_receiver(entity)
            if entity == "orders"
            else client.get_subscription_receiver(entity, SUBSCRIPTION)
        )
        with receiver:
            while len(set(numbers)) < count and (some := receiver.receive_messages(count, max_wait_time=10)):
                for message in some:
                    numbers.append(json.loads(str(message))["number"])
                    receiver.complete_message(message)
    return numbers


def lines_of(site: Site) -> list[int]:
    numbers: list[int] = []
    with BlobServiceClient(f"https://{site.storage.host}", site.reader, connection_verify=str(site.hub.ca)) as service:
        container = service.get_container_client("json")
        for blob in container.list_blobs():
            for line in container.download_blob(blob.name).readall().splitlines():
                # A body is base64 where its sender did not say what it is.
                numbers.append(json.loads(base64.b64decode(json.loads(line)["Body"]))["number"])
    return numbers
