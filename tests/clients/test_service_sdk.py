"""The azure-iot-hub client (REST by requests, C2D by uamqp), against a running hub."""

import queue
import threading
import time

import pytest
import uamqp
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from clients.devices import client_of, connected, make_device, until
from clients.feedback import FeedbackReader
from clients.sas import sas_token
from support.server import RunningHub


def test_device_is_created_read_updated_and_deleted(service: IoTHubRegistryManager, device_id: str) -> None:
    created = service.create_device_with_sas(device_id, "", "", "enabled")
    assert created.device_id == device_id
    assert created.status == "enabled"
    assert created.connection_state == "Disconnected"
    assert len(created.authentication.symmetric_key.primary_key) == 44
    assert service.get_device(device_id).etag == created.etag
    keys = created.authentication.symmetric_key
    updated = service.update_device_with_sas(device_id, created.etag, keys.primary_key, keys.secondary_key, "disabled")
    assert updated.status == "disabled"
    assert updated.etag != created.etag
    with refused(412):
        service.update_device_with_sas(device_id, created.etag, keys.primary_key, keys.secondary_key, "enabled")
    with refused(412):
        service.delete_device(device_id, created.etag)
    service.delete_device(device_id)
    with refused(404):
        service.get_device(device_id)


def test_device_that_exists_is_not_created_again(service: IoTHubRegistryManager, device_id: str) -> None:
    service.create_device_with_sas(device_id, "", "", "enabled")
    with refused(409):
        service.create_device_with_sas(device_id, "", "", "enabled")


def test_x509_and_ca_identities_keep_what_they_were_given(service: IoTHubRegistryManager, device_id: str) -> None:
    created = service.create_device_with_x509(device_id, "A" * 40, "B" * 64, "enabled")
    assert created.authentication.type == "selfSigned"
    assert created.authentication.x509_thumbprint.primary_thumbprint == "A" * 40
    assert service.create_device_with_certificate_authority(f"{device_id}-ca", "enabled").authentication.type == (
        "certificateAuthority"
    )


def test_modules_are_created_listed_and_deleted(service: IoTHubRegistryManager, device_id: str) -> None:
    service.create_device_with_sas(device_id, "", "", "enabled")
    module = service.create_module_with_sas(device_id, "vision", "me", "", "")
    assert (module.module_id, module.device_id, module.managed_by) == ("vision", device_id, "me")
    service.create_module_with_sas(device_id, "sound", "", "", "")
    assert {one.module_id for one in service.get_modules(device_id)} == {"vision", "sound"}
    keys = module.authentication.symmetric_key
    updated = service.update_module_with_sas(
        device_id, "vision", "you", module.etag, keys.primary_key, keys.secondary_key
    )
    assert updated.managed_by == "you"
    twin = service.update_module_twin(
        device_id,
        "vision",
        Twin(properties=TwinProperties(desired={"fps": 25})),
        service.get_module_twin(device_id, "vision").etag,
    )
    assert twin.properties.desired["fps"] == 25
    service.delete_module(device_id, "sound")
    with refused(404):
        service.get_module(device_id, "sound")
    with refused(404):
        service.create_module_with_sas(f"{device_id}-none", "vision", "", "", "")


def test_twin_is_patched_replaced_and_guarded_by_its_etag(service: IoTHubRegistryManager, device_id: str) -> None:
    service.create_device_with_sas(device_id, "", "", "enabled")
    first = service.get_twin(device_id)
    assert first.etag == "AAAAAAAAAAE="
    patch = Twin(tags={"hall": {"row": 1, "place": "a"}}, properties=TwinProperties(desired={"x": {"y": 1}, "z": 2}))
    second = service.update_twin(device_id, patch, first.etag)
    assert second.tags == {"hall": {"row": 1, "place": "a"}}
    assert second.properties.desired["$version"] == 2
    assert second.properties.desired["$metadata"]["x"]["y"]["$lastUpdatedVersion"] == 2
    with refused(412):
        service.update_twin(device_id, patch, first.etag)
    third = service.update_twin(device_id, Twin(tags={"hall": {"row": None}}), second.etag)
    assert third.tags == {"hall": {"place": "a"}}
    fourth = service.replace_twin(device_id, Twin(tags={"n": 1}, properties=TwinProperties(desired={"only": 1})))
    assert fourth.tags == {"n": 1}
    assert set(fourth.properties.desired) == {"only", "$version", "$metadata"}


def test_query_pages_through_all_devices(service: IoTHubRegistryManager, device_id: str) -> None:
    for number in range(5):
        service.create_device_with_sas(f"{device_id}-{number}", "", "", "enabled")
        service.update_twin(f"{device_id}-{number}", Twin(tags={"batch": device_id, "n": number}))
    found: list[str] = []
    token = None
    while True:
        query = QuerySpecification(query=f"SELECT * FROM devices WHERE tags.batch = '{device_id}'")
        page = service.query_iot_hub(query, token, 2)
        found += [twin.device_id for twin in page.items]
        token = page.continuation_token
        if token is None:
            break
    assert found == [f"{device_id}-{number}" for number in range(5)]
    (one,) = service.query_iot_hub(
        QuerySpecification(query=f"select * from devices where tags.batch = '{device_id}' and tags.n = 3")
    ).items
    assert one.device_id == f"{device_id}-3"
    with refused(400):
        service.query_iot_hub(QuerySpecification(query="SELECT nonsense !"))


def test_statistics_count_devices(service: IoTHubRegistryManager, hub: RunningHub, device_id: str) -> None:
    before = service.get_device_registry_statistics()
    service.create_device_with_sas(device_id, "", "", "enabled")
    service.create_device_with_sas(f"{device_id}-off", "", "", "disabled")
    after = service.get_device_registry_statistics()
    assert after.total_device_count == before.total_device_count + 2
    assert after.enabled_device_count == before.enabled_device_count + 1
    assert after.disabled_device_count == before.disabled_device_count + 1
    with connected(hub, device_id, create=False):
        until(lambda: service.get_device(device_id).connection_state == "Connected")
        assert service.get_service_statistics().connected_device_count >= 1
    until(lambda: service.get_device(device_id).connection_state == "Disconnected")


def test_method_refusals_carry_the_documented_codes(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    method = CloudToDeviceMethod(method_name="m", response_timeout_in_seconds=5, connect_timeout_in_seconds=0)
    with refused(404, "DeviceNotFound"):
        service.invoke_device_method(f"{device_id}-none", method)
    make_device(hub, device_id)
    with refused(404, "DeviceNotOnline"):
        service.invoke_device_method(device_id, method)
    with connected(hub, device_id, create=False) as device:
        silent = threading.Event()
        device.on_method_request_received = lambda request: silent.set()
        method.connect_timeout_in_seconds = 10
        with refused(504, "GatewayTimeout"):
            service.invoke_device_method(device_id, method)
        assert silent.is_set()


def test_feedback_tells_what_became_of_a_message(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    feedback = FeedbackReader(hub.connection_string(), hub.json("iot", "hub", "show")["name"])
    make_device(hub, device_id)
    service.send_c2d_message(device_id, "done?", {"messageId": "m-done", "iothub-ack": "full"})
    with connected(hub, device_id, create=False) as device:
        received = threading.Event()
        device.on_message_received = lambda message: received.set()
        assert received.wait(30)
    record = feedback.wait_for("m-done")
    assert record["statusCode"] == "Success"
    assert record["description"] == "Success"
    assert record["deviceId"] == device_id
    assert record["deviceGenerationId"] == service.get_device(device_id).generation_id
    expired = {"messageId": "m-old", "iothub-ack": "negative", "expiryTimeUtc": int(time.time() * 1000) + 1500}
    service.send_c2d_message(device_id, "too late", expired)
    assert feedback.wait_for("m-old")["statusCode"] == "Expired"


def test_a_purged_queue_is_empty_and_its_senders_hear_of_it(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    feedback = FeedbackReader(hub.connection_string(), hub.json("iot", "hub", "show")["name"])
    make_device(hub, device_id)
    for number in range(3):
        service.send_c2d_message(device_id, "to be purged", {"messageId": f"m-{number}", "iothub-ack": "full"})
    purge = service.protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue
    purged = purge(device_id)
    assert (purged.total_messages_purged, purged.device_id) == (3, device_id)
    assert [feedback.wait_for(f"m-{number}")["statusCode"] for number in range(3)] == ["Purged"] * 3
    assert purge(device_id).total_messages_purged == 0
    with refused(404, "DeviceNotFound"):
        purge(f"{device_id}-none")
    with connected(hub, device_id, create=False) as device:
        received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        device.on_message_received = lambda message: received.put(message.data)
        service.send_c2d_message(device_id, "afterwards", {})
        assert received.get(timeout=30) == b"afterwards"


def test_c2d_to_an_unknown_device_and_beyond_the_depth_is_refused(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    with pytest.raises(Exception, match="C2D message send failure"):
        service.send_c2d_message(f"{device_id}-none", "hello", {})
    make_device(hub, device_id)
    for number in range(50):
        service.send_c2d_message(device_id, str(number), {})
    with pytest.raises(Exception, match="C2D message send failure"):
        service.send_c2d_message(device_id, "one too many", {})
    assert hub.json("c2d-message", "purge", "-d", device_id)["totalMessagesPurged"] == 50


def test_disabled_device_is_cut_and_refused(service: IoTHubRegistryManager, hub: RunningHub, device_id: str) -> None:
    with connected(hub, device_id, connection_retry=False) as device:
        dropped = threading.Event()
        device.on_connection_state_change = lambda: dropped.set() if not device.connected else None
        identity = service.get_device(device_id)
        keys = identity.authentication.symmetric_key
        service.update_device_with_sas(device_id, identity.etag, keys.primary_key, keys.secondary_key, "disabled")
        assert dropped.wait(30)
    again = client_of(hub, hub.device_connection_string(device_id), connection_retry=False)
    with pytest.raises(Exception, match=r"."):
        again.connect()
    again.shutdown()


class refused:  # noqa: N801 - reads like pytest.raises
    """Expects the REST call to fail with this status, and with this code in the body when one is given."""

    def __init__(self, status: int, code: str = "") -> None:
        self.status, self.code = status, code

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, HttpOperationError), f"expected HTTP {self.status}, got {error!r}"
        assert error.response.status_code == self.status
        assert self.code in ("", error.response.headers["iothub-errorcode"])
        return True


def test_readers_of_the_hub_are_sent_to_the_built_in_endpoint(hub: RunningHub) -> None:
    host, policy, key = hub.host_name, "service", hub.connection_string("service").rsplit("SharedAccessKey=", 1)[1]
    name = hub.json("iot", "hub", "show")["name"]
    auth = uamqp.authentication.SASLPlain(host, f"{policy}@sas.root.{name}", sas_token(host, key, policy))
    client = uamqp.ReceiveClient(f"amqps://{host}/messages/events/ConsumerGroups/$Default/Partitions/0", auth=auth)
    try:
        with pytest.raises(uamqp.errors.LinkRedirect) as raised:
            client.receive_message_batch(timeout=20_000)
    finally:
        client.close()
    assert raised.value.hostname == host.encode()
    assert raised.value.port == 5671
    assert raised.value.address == f"amqps://{host}:5671/{name}/ConsumerGroups/$Default/Partitions/0".encode()
