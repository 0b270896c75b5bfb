"""The query language by the stock clients and the command line: twins, modules and jobs of a running hub."""

import json
from typing import Any

import pytest
from azure.iot.device import IoTHubModuleClient
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import JobRequest, QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from clients.devices import until
from clients.node import node
from support.server import RunningHub

DEVICES = 5


@pytest.fixture
def batch(service: IoTHubRegistryManager, device_id: str) -> str:
    """The tag that five devices have in common; their ids are numbered behind it."""
    for number in range(DEVICES):
        service.create_device_with_sas(f"{device_id}-{number}", "", "", "disabled" if number == 4 else "enabled")
        tags: dict[str, Any] = {"batch": device_id, "n": number, "odd": number % 2 == 1}
        if number < 3:
            tags["group"] = {"name": "east" if number else "west", "rows": [number, number + 1]}
        desired = TwinProperties(desired={"interval": number * 10})
        service.update_twin(f"{device_id}-{number}", Twin(tags=tags, properties=desired))
    return device_id


CONDITIONS: tuple[tuple[str, list[int]], ...] = (
    ("tags.n > 1", [2, 3, 4]),
    ("tags.n != 1 AND tags.n <= 3", [0, 2, 3]),
    ("tags.odd OR status = 'disabled'", [1, 3, 4]),
    ("NOT tags.odd", [0, 2, 4]),
    ("tags.[[group]].name IN ['west', 'east'] AND tags.n NIN [0]", [1, 2]),
    ("tags.[[group]].name != 'west'", [1, 2]),
    ("NOT is_defined(tags.[[group]])", [3, 4]),
    ("tags.[[group]].rows[1] = 2 OR ARRAY_CONTAINS(tags.[[group]].rows, 0)", [0, 1]),
    ("properties.desired.interval = tags.n * 10 AND properties.desired.interval / 20 >= 1.5", [3, 4]),
    ("properties.desired.$version = 2 AND tags.n < 1", [0]),
    ("properties.desired.$metadata.interval.$lastUpdated > '2020-01-01' AND tags.n = 1", [1]),
    ("ENDSWITH(deviceId, '-3') OR id = 'nobody'", [3]),
    ("etag = 'AAAAAAAAAAI=' AND tags.n = 2", [2]),
)


def test_conditions_find_devices(service: IoTHubRegistryManager, batch: str) -> None:
    for condition, numbers in CONDITIONS:
        found = rows(service, f"SELECT deviceId FROM devices WHERE tags.batch = '{batch}' AND ({condition})")
        assert [row["deviceId"] for row in found] == [f"{batch}-{number}" for number in numbers], condition


def test_pages_and_the_first_rows(service: IoTHubRegistryManager, batch: str) -> None:
    twins = asked(service, f"SELECT TOP 4 * FROM devices WHERE tags.batch = '{batch}' AND tags.n >= 0", size=3)
    assert [twin.device_id for twin in twins] == [f"{batch}-{number}" for number in range(4)]
    assert {twin.properties.desired["$version"] for twin in twins} == {2}


def test_modules_with_what_they_reported(hub: RunningHub, service: IoTHubRegistryManager, device_id: str) -> None:
    service.create_device_with_sas(device_id, "", "", "enabled")
    for name in ("one", "two"):
        service.create_module_with_sas(device_id, name, "", "", "")
    string = hub.device_connection_string(device_id, "one")
    module = IoTHubModuleClient.create_from_connection_string(string, server_verification_cert=hub.ca.read_text())
    module.patch_twin_reported_properties({"lastDesiredVersion": 1, "lastDesiredStatus": {"code": 200}})
    module.shutdown()
    where = "properties.desired.$version = properties.reported.lastDesiredVersion"
    query = f"SELECT * FROM devices.modules WHERE devices.deviceId = '{device_id}' AND {where}"
    (twin,) = asked(service, f"{query} AND properties.reported.lastDesiredStatus.code = 200")
    assert (twin.device_id, twin.module_id) == (device_id, "one")
    assert asked(service, f"{query} AND properties.reported.lastDesiredStatus.code != 200") == []
    text = f"select moduleId from devices.modules where deviceId IN ['{device_id}'] and moduleId > 'one'"
    assert rows(service, text) == [{"moduleId": "two"}]


def test_devices_are_counted_and_grouped(service: IoTHubRegistryManager, batch: str) -> None:
    where = f"WHERE tags.batch = '{batch}'"
    assert rows(service, f"SELECT COUNT() AS numberOfDevices FROM devices {where}") == [{"numberOfDevices": DEVICES}]
    text = "tags.[[group]].name AS name, COUNT() AS n, AVG(tags.n) AS mean, MAX(deviceId) AS last"
    found = rows(service, f"SELECT {text} FROM devices {where} GROUP BY tags.[[group]].name", size=2)
    assert sorted(found, key=str) == sorted(
        [
            {"name": "west", "n": 1, "mean": 0.0, "last": f"{batch}-0"},
            {"name": "east", "n": 2, "mean": 1.5, "last": f"{batch}-2"},
            {"n": 2, "mean": 3.5, "last": f"{batch}-4"},
        ],
        key=str,
    )


CONFORMANCE = (
    "SELECT * FROM devices",
    "select * from devices where deviceId = 'x'",
    "select deviceId from devices",
    "SELECT deviceId, deviceScope FROM devices",
    "select * from devices where capabilities.iotEdge = true",
    "select deviceId from devices where array_contains(parentScopes, 'ms-azure-iot-edge://p-1')",
    "select count() AS numberOfDevices from devices",
    "select deviceId from devices where not startswith(deviceId, 'keep')",
    "SELECT * FROM devices WHERE STARTSWITH(id, 'pre')",
    "SELECT * FROM devices WHERE properties.reported.connectivity IN ['wired', 'wifi']",
    "SELECT * FROM devices WHERE is_defined(properties.reported.connectivity)",
    "SELECT * FROM devices WHERE tags.[[group]].name = 'v'",
    "SELECT DeviceId, LastActivityTime FROM devices WHERE status = 'enabled' AND connectionState = 'Disconnected'",
    "select * from devices.modules where devices.deviceId = 'd'",
    "SELECT * FROM devices.modules WHERE properties.reported.status = 'scanning'"
    " AND deviceId IN ['device1', 'device2']",
    "select deviceId from devices.modules where moduleId = '$edgeAgent' and configurations.[[c12]].status = 'Applied'"
    " and properties.desired.$version = properties.reported.lastDesiredVersion"
    " and properties.reported.lastDesiredStatus.code != 200",
    "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'j' AND devices.jobs.status = 'completed'"
    " AND devices.jobs.createdTimeUtc > '2016-09-01'",
    "SELECT properties.reported.telemetryConfig.status AS status, COUNT() AS numberOfDevices FROM devices"
    " GROUP BY properties.reported.telemetryConfig.status",
)
"""What the documents of the service and its tools send."""


def test_what_tools_send_is_answered(service: IoTHubRegistryManager) -> None:
    for text in CONFORMANCE:
        asked(service, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT * FROM devices WHERE LIKE(deviceId, 'x')", "no function LIKE() at position 29"),
        ("SELECT * FROM devices WHERE location = 'x'", "devices have no member 'location' at position 29"),
        ("SELECT * FROM devices ORDER BY deviceId", "unexpected 'ORDER' at position 23"),
        ("SELECT deviceId, COUNT() AS n FROM devices", "deviceId, by which nothing is grouped, at position 8"),
        ("SELECT COUNT() AS n FROM devices.jobs", "only SELECT * can be asked"),
        ("SELECT * FROM devices.jobs WHERE tags.x = 1", "rows of devices.jobs have no member 'tags' at position 34"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(service: IoTHubRegistryManager, text: str, said: str) -> None:
    with pytest.raises(HttpOperationError) as refused:
        asked(service, text)
    assert refused.value.response.status_code == 400
    assert refused.value.response.headers["iothub-errorcode"] == "ArgumentInvalid"
    assert said in json.loads(refused.value.response.text)["Message"]


def test_a_job_is_for_those_its_condition_finds(hub: RunningHub, service: IoTHubRegistryManager, batch: str) -> None:
    jobs = IoTHubJobManager.from_connection_string(hub.connection_string())
    condition = f"tags.batch = '{batch}' AND (tags.n > 2 OR NOT tags.odd) AND deviceId NIN ['{batch}-0']"
    request = JobRequest(
        job_id=batch,
        type="scheduleUpdateTwin",
        query_condition=condition,
        update_twin=Twin(etag="*", tags={"done": True}),
        max_execution_time_in_seconds=60,
    )
    jobs.create_scheduled_job(batch, request)
    until(lambda: jobs.get_scheduled_job(batch).status == "completed")
    done = rows(service, f"SELECT tags.n FROM devices WHERE tags.batch = '{batch}' AND tags.done")
    assert done == [{"n": 2}, {"n": 3}, {"n": 4}]
    text = f"SELECT TOP 2 * FROM devices.jobs WHERE jobId = '{batch}' AND NOT STARTSWITH(status, 'fail')"
    assert [row.device_id for row in asked(service, text, size=1)] == [f"{batch}-2", f"{batch}-3"]
    patch = ("--twin-patch", json.dumps({"tags": {"by": "ids"}}), "--wait", "--poll-interval", "1")
    named = f"deviceId IN ['{batch}-4', '{batch}-1', 'nobody'] AND tags.odd != true"
    wanted = ("--job-id", f"{batch}-ids", "--job-type", "scheduleUpdateTwin", "-q", named)
    ended = hub.json("iot", "hub", "job", "create", *wanted, *patch)
    assert (ended["status"], ended["deviceJobStatistics"]["deviceCount"]) == ("completed", 1)
    wrong = ("--job-id", f"{batch}-wrong", "--job-type", "scheduleUpdateTwin", "-q", "tags.n LIKE 3")
    assert "unexpected 'LIKE'" in hub.isthmus("iot", "hub", "job", "create", *wrong, *patch, code=1)


def test_the_command_line_asks(hub: RunningHub, batch: str) -> None:
    where = f"WHERE tags.batch = '{batch}' AND tags.n > 1"
    found = hub.json("iot", "hub", "query", "-q", f"SELECT deviceId, tags.n FROM devices {where}", "--top", "2")
    assert found == [{"deviceId": f"{batch}-2", "n": 2}, {"deviceId": f"{batch}-3", "n": 3}]
    assert hub.json("query", "-q", f"SELECT SUM(tags.n) AS sum FROM devices {where}") == [{"sum": 9}]
    refused = hub.isthmus("query", "-q", "SELECT * FROM devices WHERE tags.n => 1", code=1)
    assert "at position 37" in refused


def test_the_node_client_asks(hub: RunningHub, batch: str) -> None:
    told = node("queries.cjs", hub.connection_string(), batch, ca=hub.ca, names={})
    assert told["twins"] == [
        [[f"{batch}-1", 1], [f"{batch}-2", 2]],
        [[f"{batch}-3", 3], [f"{batch}-4", 4]],
    ]
    assert told["named"] == [
        [{"deviceId": f"{batch}-2", "n": 2}, {"deviceId": f"{batch}-3", "n": 3}],
        [{"deviceId": f"{batch}-4", "n": 4}],
    ]
    assert sorted(told["counted"], key=str) == sorted([{"odd": False, "n": 3}, {"odd": True, "n": 2}], key=str)
    assert told["wrong"][0] == "ArgumentError"
    assert "no function LIKE()" in told["wrong"][1]


def asked(service: IoTHubRegistryManager, text: str, *, size: int = 100) -> list[Any]:
    """What the client makes of the rows of all pages, none of which has more than `size`: twins, or jobs."""
    found: list[Any] = []
    token = None
    while True:
        page = service.query_iot_hub(QuerySpecification(query=text), token, size)
        assert len(page.items) <= size
        found += page.items
        token = page.continuation_token
        if token is None:
            return found


def rows(service: IoTHubRegistryManager, text: str, *, size: int = 100) -> list[Any]:
    """The rows themselves: the client knows no others than twins, but shows the answer beside them."""
    found: list[Any] = []
    token = None
    while True:
        answer = service.protocol.query.get_twins(QuerySpecification(query=text), token, size, raw=True).response
        assert answer.headers["x-ms-item-type"] == "Raw"
        assert len(answer.json()) <= size
        found += answer.json()
        token = answer.headers.get("x-ms-continuation")
        if token is None:
            return found
