"""Bulk requests of azure-iot-hub and azure-iothub, and feedback over HTTPS, against a running hub."""

import threading
import time
from typing import Any

import pytest
import requests
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import ExportImportDevice

from clients.devices import connected, identity, key_of, make_device
from clients.node import node
from clients.sas import sas_token
from support.server import RunningHub

API = {"api-version": "2021-04-12"}


def test_many_devices_are_created_changed_and_deleted(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    names = [f"{device_id}-{number}" for number in range(100)]
    created = service.bulk_create_or_update_devices([_item(name, "create") for name in names])
    assert (created.is_successful, created.errors) == (True, [])
    assert service.get_device(names[-1]).authentication.symmetric_key.primary_key
    again = service.bulk_create_or_update_devices([_item(names[0], "create"), _item(names[1], "update", "disabled")])
    assert not again.is_successful
    assert [(error.device_id, error.error_code) for error in again.errors] == [(names[0], "DeviceAlreadyExists")]
    assert service.get_device(names[1]).status == "disabled"
    gone = service.bulk_create_or_update_devices([_item(name, "delete") for name in names])
    assert gone.is_successful
    with pytest.raises(Exception, match="Not Found"):
        service.get_device(names[0])


def test_a_device_that_is_deleted_in_bulk_is_cut(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    with connected(hub, device_id, connection_retry=False) as device:
        dropped = threading.Event()
        device.on_connection_state_change = lambda: dropped.set() if not device.connected else None
        service.bulk_create_or_update_devices([_item(device_id, "delete")])
        assert dropped.wait(30)


def test_too_many_at_once_are_refused_and_explained(hub: RunningHub, device_id: str) -> None:
    body = [{"id": f"{device_id}-{number}"} for number in range(101)]
    answer = requests.post(f"https://{hub.host_name}/devices", params=API, json=body, headers=_owner(hub), timeout=30)
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (413, "TooManyDevices")
    tracking_id = answer.json()["ExceptionMessage"].removeprefix("Tracking ID:")
    assert "limit.bulk" in hub.isthmus("explain", tracking_id)


def test_keys_of_many_devices_are_renewed(service: IoTHubRegistryManager, hub: RunningHub, device_id: str) -> None:
    make_device(hub, device_id)
    before = identity(hub, device_id)["authentication"]["symmetricKey"]
    body: Any = {"policyKey": "primaryKey", "devices": [{"id": device_id}, {"id": f"{device_id}-none"}]}
    address = f"https://{hub.host_name}/devices/keys/regenerate"
    answer = requests.post(address, params=API, json=body, headers=_owner(hub), timeout=30)
    assert answer.status_code == 207
    (rotated,), (error,) = answer.json()["rotatedKeys"], answer.json()["errors"]
    after = identity(hub, device_id)["authentication"]["symmetricKey"]
    assert rotated == {"id": device_id, "moduleId": None, **after}
    assert (after["primaryKey"] != before["primaryKey"], after["secondaryKey"]) == (True, before["secondaryKey"])
    assert (error["id"], error["errorCode"]) == (f"{device_id}-none", 404001)


def test_feedback_is_received_given_back_and_completed_over_https(
    service: IoTHubRegistryManager, hub: RunningHub, device_id: str
) -> None:
    make_device(hub, device_id)
    service.send_c2d_message(device_id, "done?", {"messageId": "m-https", "iothub-ack": "full"})
    service.protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue(device_id)
    session = requests.Session()
    session.headers.update(_owner(hub))
    address = f"https://{hub.host_name}/messages/serviceBound/feedback"
    first = _received(session, address)
    token = first.headers["ETag"].strip('"')
    assert first.headers["Content-Type"] == "application/vnd.microsoft.iothub.feedback.json"
    assert [(record["originalMessageId"], record["statusCode"]) for record in first.json()] == [("m-https", "Purged")]
    assert session.post(f"{address}/{token}/abandon", params=API, timeout=30).status_code == 204
    again = _received(session, address).headers["ETag"].strip('"')
    assert session.delete(f"{address}/{again}", params=API, timeout=30).status_code == 204
    lost = session.delete(f"{address}/{again}", params=API, timeout=30)
    assert (lost.status_code, lost.headers["iothub-errorcode"]) == (412, "DeviceMessageLockLost")
    session.close()


def test_the_node_client_writes_many_devices(hub: RunningHub, device_id: str) -> None:
    told = node("registry.cjs", hub.connection_string(), device_id, ca=hub.ca, names={})
    assert told == {
        "created": [True, 0],
        "again": "DeviceAlreadyExists",
        "updated": "disabled",
        "removed": [True, 0],
    }


def _received(session: requests.Session, address: str) -> requests.Response:
    """The next feedback."""
    deadline = time.monotonic() + 30
    while (answer := session.get(address, params=API, timeout=30)).status_code == 204:
        assert time.monotonic() < deadline, "no feedback within 30 s"
    assert answer.status_code == 200, answer.text
    return answer


def _item(name: str, mode: str, status: str = "enabled") -> ExportImportDevice:
    return ExportImportDevice(id=name, import_mode=mode, status=status)


def _owner(hub: RunningHub) -> dict[str, str]:
    return {"Authorization": sas_token(hub.host_name, key_of(hub.connection_string()), "iothubowner")}
