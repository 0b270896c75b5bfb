"""Events sent to a hosted event hub over plain HTTPS, and the answers of the real service where one is refused."""

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from clients.hosted import Namespace, namespace
from clients.reading import EventCollector
from isthmus.base.sas_token import sign
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
ENTITY = "telemetry"
BATCH = {"Content-Type": "application/vnd.microsoft.servicebus.json"}


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[Namespace]:
    """A namespace with an event hub of two partitions."""
    with namespace(hub, "eventhubs") as made:
        made.make("eventhub", "create", "-n", ENTITY, "--partition-count", "2")
        yield made


def post(plant: Namespace, path: str, body: bytes, *, token: str = "", **headers: str) -> tuple[int, str]:
    """Status and body of a request; with a token of the root rule unless another is given."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPSConnection(
        plant.host, plant.hub.ready["ports"]["https"], context=ssl.create_default_context(cafile=plant.hub.ca)
    )
    connection.request("POST", path, body, {"Authorization": token or root_token(plant), **named})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def root_token(plant: Namespace) -> str:
    fields = dict(field.partition("=")[::2] for field in plant.connection_string().split(";"))
    expires = int(time.time()) + 600
    return sign(f"https://{plant.host}/", fields["SharedAccessKey"], expires, fields["SharedAccessKeyName"])


def test_one_event_and_a_batch(plant: Namespace) -> None:
    broker = json.dumps({"PartitionKey": "press"})
    assert post(plant, f"/{ENTITY}/messages?timeout=60", b"single", BrokerProperties=broker) == (201, "")
    events = [{"Body": "first", "UserProperties": {"n": 1}}, {"Body": "second"}]
    assert post(plant, f"/{ENTITY}/partitions/1/messages", json.dumps(events).encode(), **BATCH)[0] == 201
    reader = EventCollector(plant.connection_string(ENTITY), str(plant.hub.ca))
    seen = {event.body_as_str(): event for event in reader.wait(lambda event: True, 3)}
    reader.close()
    assert set(seen) == {"single", "first", "second"}
    assert seen["single"].partition_key == b"press"
    assert seen["first"].properties == {b"n": 1}
    assert reader.partition_of(seen["second"]) == "1"


def test_refusals_are_xml_with_the_words_of_the_service(plant: Namespace) -> None:
    status, text = post(plant, f"/{ENTITY}/messages", b"x", token="SharedAccessSignature sr=x&sig=x&se=1&skn=x")
    assert (status, "<Code>401</Code>" in text, "Unauthorized access." in text) == (401, True, True)
    rule = ("eventhub", "authorization-rule", "create", "--eventhub-name", ENTITY)
    plant.make(*rule, "-n", "listens", "--rights", "Listen")
    fields = dict(field.partition("=")[::2] for field in plant.connection_string(ENTITY, "listens").split(";"))
    listens = sign(f"https://{plant.host}/{quote(ENTITY)}", fields["SharedAccessKey"], int(time.time()) + 60, "listens")
    status, text = post(plant, f"/{ENTITY}/messages", b"x", token=listens)
    assert (status, "'Send' claim(s) are required" in text) == (401, True)
    assert post(plant, "/nothing/messages", b"x")[0] == 404
    assert post(plant, f"/{ENTITY}/elsewhere", b"x")[0] == 501
    assert post(plant, f"/{ENTITY}/messages", bytes(1_048_577))[0] == 413
    update = ("eventhubs", "namespace", "network-rule-set", "update", "-n", plant.name)
    plant.hub.json(*update, "--public-network-access", "Disabled")
    status, text = post(plant, f"/{ENTITY}/messages", b"x")
    assert (status, "<Detail>Ip has been prevented to connect to the endpoint." in text) == (401, True)
    assert "TrackingId:" in text
