"""A stock device's messages at each kind of target, read by its stock client: by identities, and by no key at all."""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import fastavro
import pytest
from azure.core.exceptions import HttpResponseError
from azure.eventhub import EventHubConsumerClient
from azure.eventhub.exceptions import EventHubError
from azure.iot.device import X509, IoTHubDeviceClient, Message
from azure.servicebus import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import ServiceBusError
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives import hashes

from clients.devices import until
from clients.site import ENTITY, HOST, SUBSCRIPTION, Site, make_site
from isthmus.base.partitioning import partition_of
from support.certificates import issue, write_pem
from support.loopback import Loopback
from support.server import RunningHub

DEVICE: Final = "press-1"
COUNT: Final = 20
BODIES: Final = [{"number": number} for number in range(COUNT)]
WAIT_SECONDS: Final = 30


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All targets closed to the public, a route to each, and the messages of one device on their way."""
    with Loopback() as loopback:
        folder, settings = tmp_path_factory.mktemp("site"), "[authority]\nenabled = true\n"
        hub = RunningHub(folder, loopback.take(), hostname=HOST, settings=settings)
        try:
            hub.start()
            site = make_site(hub, loopback.take)
            _route_to_all(site)
            _send(site, folder)
            yield site
            hub.stop()
        finally:
            hub.kill()


def test_an_event_hub(site: Site) -> None:
    events = _events(site)
    assert [json.loads(event.body_as_str()) for event in events] == BODIES
    annotations = events[0].raw_amqp_message.annotations
    assert annotations[b"iothub-connection-device-id"] == DEVICE.encode()
    assert annotations[b"iothub-message-source"] == b"Telemetry"
    assert {event.partition_key for event in events} == {DEVICE.encode()}
    assert events[0].properties == {b"level": b"hot"}
    assert (events[0].content_type, events[0].message_id) == ("application/json", "m0")


@pytest.mark.parametrize("entity", ["orders", "news"])
def test_a_queue_and_a_topic(site: Site, entity: str) -> None:
    client = ServiceBusClient(site.bus.host, site.reader, connection_verify=str(site.hub.ca))
    with site.inside(), client, _receiver(client, entity) as receiver:
        messages: list[Any] = []
        while len(messages) < COUNT and (some := receiver.receive_messages(COUNT, max_wait_time=WAIT_SECONDS)):
            for message in some:
                receiver.complete_message(message)
            messages += some
    assert [json.loads(str(message)) for message in messages] == BODIES
    properties = {key.decode(): value for key, value in messages[0].application_properties.items()}
    assert properties["level"] == b"hot"
    assert properties["iothub-connection-device-id"] == DEVICE.encode()
    assert (messages[0].content_type, messages[0].message_id) == ("application/json", "m0")


def test_blobs_of_json_lines(site: Site) -> None:
    until(lambda: len(_lines(site)) == COUNT)
    lines = _lines(site)
    assert [line["Body"] for line in lines] == BODIES
    assert lines[0]["Properties"] == {"level": "hot"}
    assert lines[0]["SystemProperties"]["connectionDeviceId"] == DEVICE
    assert json.loads(lines[0]["SystemProperties"]["connectionAuthMethod"])["type"] == "x509"


@pytest.mark.parametrize("container", ["avro", "avrodeflate"])
def test_blobs_of_avro(site: Site, container: str) -> None:
    until(lambda: len(_records(site, container)) == COUNT)
    records = _records(site, container)
    assert [json.loads(record["Body"]) for record in records] == BODIES
    assert records[0]["SystemProperties"]["messageId"] == "m0"


def test_the_public_door_of_every_target_is_closed(site: Site) -> None:
    """The same reader with the same roles, from outside: each target refuses him in its own words."""
    with site.outside():
        consumer = _consumer(site, retry_total=0)
        with consumer, pytest.raises(EventHubError, match="Ip has been prevented to connect to the endpoint"):
            consumer.get_partition_ids()
        client = ServiceBusClient(site.bus.host, site.reader, connection_verify=str(site.hub.ca), retry_total=0)
        with client, pytest.raises(ServiceBusError) as refused, client.get_queue_receiver("orders") as receiver:
            receiver.receive_messages(1, max_wait_time=1)
        assert "Ip has been prevented to connect to the endpoint" in str(refused.value.inner_exception)
        with _storage(site) as service, pytest.raises(HttpResponseError) as caught:
            list(service.get_container_client("json").list_blobs())
        assert (caught.value.status_code, caught.value.error_code) == (403, "AuthorizationFailure")


def test_no_key_is_in_the_configuration(site: Site) -> None:
    endpoints = site.hub.isthmus("iot", "hub", "message-endpoint", "list")
    assert "identityBased" in endpoints
    assert "SharedAccessKey" not in endpoints
    assert "AccountKey" not in endpoints
    health = site.hub.json("iot", "hub", "message-endpoint", "show-health")
    assert {each["healthStatus"] for each in health} == {"healthy"}


def _route_to_all(site: Site) -> None:
    site.add_endpoint("hub", "eventhub", "--endpoint-uri", f"sb://{site.events.host}", "--entity-path", ENTITY)
    uri = f"sb://{site.bus.host}"
    site.add_endpoint("queue", "servicebus-queue", "--endpoint-uri", uri, "--entity-path", "orders")
    site.add_endpoint("topic", "servicebus-topic", "--endpoint-uri", uri, "--entity-path", "news")
    for encoding in ("json", "avro", "avrodeflate"):
        site.add_container(encoding, encoding)
    for endpoint in ("hub", "queue", "topic", "json", "avro", "avrodeflate"):
        site.route_all(endpoint)


def _send(site: Site, folder: Path) -> None:
    """A device that has no key either: it shows a certificate."""
    certificate = issue(DEVICE)
    thumbprint = certificate.certificate.fingerprint(hashes.SHA256()).hex().upper()
    site.hub.isthmus(
        *("device-identity", "create", "-d", DEVICE, "--auth-method", "x509_thumbprint"),
        *("--primary-thumbprint", thumbprint, "--secondary-thumbprint", thumbprint),
    )
    pem = str(write_pem(folder / "device.pem", certificate))
    device = IoTHubDeviceClient.create_from_x509_certificate(
        X509(pem, pem), site.hub.address, DEVICE, server_verification_cert=site.hub.ca.read_text()
    )
    device.connect()
    for number, body in enumerate(BODIES):
        message = Message(json.dumps(body), f"m{number}", "utf-8", "application/json")
        message.custom_properties["level"] = "hot"
        device.send_message(message)
    device.shutdown()


def _consumer(site: Site, **options: Any) -> EventHubConsumerClient:
    return EventHubConsumerClient(
        site.events.host, ENTITY, "$Default", site.reader, connection_verify=str(site.hub.ca), **options
    )


def _events(site: Site) -> list[Any]:
    """What is in the device's partition, up to as many as were sent."""
    found: list[Any] = []
    enough = threading.Event()

    def take(context: Any, event: Any) -> None:
        found.append(event)
        if len(found) == COUNT:
            enough.set()

    with site.inside(), _consumer(site) as consumer:
        place = str(partition_of(DEVICE, 4))
        options = {"on_event": take, "partition_id": place, "starting_position": "-1"}
        reading = threading.Thread(target=_receive, args=(consumer, options))
        reading.start()
        enough.wait(WAIT_SECONDS)
        consumer.close()
        reading.join()
    return found


def _receive(consumer: EventHubConsumerClient, options: dict[str, Any]) -> None:
    with suppress(EventHubError):
        consumer.receive(**options)


def _receiver(client: ServiceBusClient, entity: str) -> ServiceBusReceiver:
    if entity == "orders":
        return client.get_queue_receiver("orders")
    return client.get_subscription_receiver("news", SUBSCRIPTION)


def _storage(site: Site) -> BlobServiceClient:
    return BlobServiceClient(
        f"https://{site.storage.host}", site.reader, connection_verify=str(site.hub.ca), retry_total=0
    )


def _blobs(site: Site, container: str) -> list[bytes]:
    with site.inside(), _storage(site) as service:
        there = service.get_container_client(container)
        return [there.download_blob(blob.name).readall() for blob in there.list_blobs()]


def _lines(site: Site) -> list[Any]:
    return [json.loads(line) for blob in _blobs(site, "json") for line in blob.splitlines()]


def _records(site: Site, container: str) -> list[Any]:
    blobs = _blobs(site, container)
    return [record for blob in blobs if blob for record in fastavro.reader(io.BytesIO(blob))]
