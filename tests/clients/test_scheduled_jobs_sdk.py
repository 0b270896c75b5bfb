"""Scheduled jobs by the azure-iot-hub client and the command line, with devices on the azure-iot-device client."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from azure.eventhub import EventData
from azure.iot.device import MethodResponse
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from clients.devices import connected, until
from clients.reading import EventCollector
from support.server import RunningHub

ENDED = {"completed", "failed", "cancelled"}


@pytest.fixture
def jobs(hub: RunningHub) -> IoTHubJobManager:
    return IoTHubJobManager.from_connection_string(hub.connection_string())


def test_a_twin_job_writes_the_twins_that_its_condition_names(
    jobs: IoTHubJobManager, service: IoTHubRegistryManager, device_id: str
) -> None:
    for number in range(3):
        service.create_device_with_sas(f"{device_id}-{number}", "", "", "enabled")
        service.update_twin(f"{device_id}-{number}", Twin(tags={"building": device_id if number else "other"}))
    patch = Twin(etag="*", tags={"done": True}, properties=TwinProperties(desired={"x": 1}))
    request = JobRequest(
        job_id=device_id,
        type="scheduleUpdateTwin",
        query_condition=f"tags.building = '{device_id}'",
        update_twin=patch,
        max_execution_time_in_seconds=60,
    )
    made = jobs.create_scheduled_job(device_id, request)
    assert (made.job_id, made.type) == (device_id, "scheduleUpdateTwin")
    ended = end_of(jobs, device_id)
    statistics = ended.device_job_statistics
    assert (ended.status, statistics.device_count, statistics.succeeded_count) == ("completed", 2, 2)
    assert ended.end_time >= ended.start_time >= ended.created_time
    found = [service.get_twin(f"{device_id}-{number}") for number in range(3)]
    assert [twin.tags.get("done") for twin in found] == [None, True, True]
    assert found[1].properties.desired["x"] == 1
    text = f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{device_id}' AND devices.jobs.status = 'completed'"
    page = service.query_iot_hub(QuerySpecification(query=text), None, 1)
    assert [row.device_id for row in page.items] == [f"{device_id}-1"]
    page = service.query_iot_hub(QuerySpecification(query=text), page.continuation_token, 1)
    assert ([row.device_id for row in page.items], page.continuation_token) == ([f"{device_id}-2"], None)
    with pytest.raises(HttpOperationError) as refused:
        jobs.create_scheduled_job(device_id, request)
    assert refused.value.response.headers["iothub-errorcode"] == "JobAlreadyExists"


def test_a_method_job_waits_for_devices_that_come_later(
    hub: RunningHub, jobs: IoTHubJobManager, service: IoTHubRegistryManager, device_id: str
) -> None:
    for name in ("now", "later"):
        service.create_device_with_sas(f"{device_id}-{name}", "", "", "enabled")
    request = JobRequest(
        job_id=device_id,
        type="scheduleDeviceMethod",
        query_condition=f"deviceId IN ['{device_id}-now', '{device_id}-later']",
        cloud_to_device_method=CloudToDeviceMethod(method_name="reboot", payload={"in": 5}),
        max_execution_time_in_seconds=120,
    )

    def answering(device: Any) -> None:
        device.on_method_request_received = lambda asked: device.send_method_response(
            MethodResponse.create_from_method_request(asked, 200, {"got": asked.payload})
        )

    def counted(count: int) -> bool:
        return bool(jobs.get_scheduled_job(device_id).device_job_statistics.succeeded_count == count)

    with connected(hub, f"{device_id}-now", create=False) as first:
        answering(first)
        jobs.create_scheduled_job(device_id, request)
        until(lambda: counted(1))
    with connected(hub, f"{device_id}-later", create=False) as second:
        answering(second)
        assert end_of(jobs, device_id).status == "completed"
    rows = hub.json("query", "-q", f"SELECT * FROM devices.jobs WHERE jobId = '{device_id}'")
    assert [row["outcome"]["deviceMethodResponse"] for row in rows] == [
        {"status": 200, "payload": {"got": {"in": 5}}}
    ] * 2


def test_the_command_line_schedules_lists_and_cancels(hub: RunningHub, device_id: str) -> None:
    hub.create_device(device_id)
    create = ("iot", "hub", "job", "create", "--job-id", device_id, "-q", f"deviceId = '{device_id}'")
    patch = json.dumps({"tags": {"by": "job"}})
    ended = hub.json(
        *create, "--job-type", "scheduleUpdateTwin", "--twin-patch", patch, "--wait", "--poll-interval", "1"
    )
    assert (ended["status"], ended["deviceJobStatistics"]["succeededCount"]) == ("completed", 1)
    assert hub.json("device-twin", "show", "-d", device_id)["tags"] == {"by": "job"}
    later = f"{device_id}-later"
    wanted = ("--job-type", "scheduleDeviceMethod", "--method-name", "m", "--start-time", "2099-01-01T00:00:00Z")
    assert "within a year" in hub.isthmus("job", "create", "--job-id", later, "-q", "*", *wanted, code=1)
    made = hub.json("job", "create", "--job-id", later, "-q", "*", *wanted[:-2])
    assert made["type"] == "scheduleDeviceMethod"
    assert {later, device_id} <= {each["jobId"] for each in hub.json("job", "list")}
    assert hub.json("job", "cancel", "--job-id", later)["status"] == "cancelled"
    assert hub.json("job", "show", "--job-id", later)["status"] == "cancelled"
    assert "JobNotFound" in hub.isthmus("job", "show", "--job-id", "none", code=1)


def test_a_route_brings_the_states_of_jobs_to_readers(
    hub: RunningHub, jobs: IoTHubJobManager, device_id: str, collect: Callable[..., EventCollector]
) -> None:
    hub.isthmus("message-route", "create", "--rn", "jobs", "-t", "DeviceJobLifecycleEvents", "--en", "events")
    hub.create_device(device_id)
    patch = Twin(etag="*", tags={"a": 1})
    request = JobRequest(
        job_id=device_id, type="scheduleUpdateTwin", query_condition=f"deviceId = '{device_id}'", update_twin=patch
    )
    jobs.create_scheduled_job(device_id, request)
    events = collect().wait(lambda event: is_about(event, device_id), 3)
    assert [event.properties[b"opType"] for event in events] == [b"queued", b"running", b"completed"]
    assert {event.properties[b"iothub-message-schema"] for event in events} == {b"deviceJobNotification"}
    assert b"iothub-connection-device-id" not in events[0].system_properties
    last = events[-1].body_as_json()
    assert (last["status"], last["deviceJobStatistics"]["succeededCount"]) == ("completed", 1)


def is_about(event: EventData, job_id: str) -> bool:
    """True for the event of a job's state."""
    source = event.system_properties[b"iothub-message-source"]
    return bool(source == b"deviceJobLifecycleEvents" and event.body_as_json()["jobId"] == job_id)


def end_of(jobs: IoTHubJobManager, job_id: str) -> Any:
    """The job when it has ended."""
    until(lambda: jobs.get_scheduled_job(job_id).status in ENDED)
    return jobs.get_scheduled_job(job_id)
