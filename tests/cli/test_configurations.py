"""`configuration`, `iot edge` and `digital-twin`."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Run
from cli.management import FakeManagement

PATH = "/hubs/hub/configurations/c1"
DEVICE = {"deviceContent": {"properties.desired.x": 1}}
WHOLE: dict[str, Any] = {
    "modulesContent": {
        "$edgeAgent": {"properties.desired": {"modules": {}}},
        "$edgeHub": {"properties.desired": {"routes": {}}},
    }
}
CONFIGURATION: dict[str, Any] = {
    "id": "c1",
    "content": DEVICE,
    "etag": "MQ==",
    "priority": 1,
    "metrics": {"queries": {"m": "select * from devices"}},
    "systemMetrics": {"queries": {"appliedCount": "select deviceId from devices"}},
}


def test_create_sends_the_content_of_a_file_under_a_small_name(
    management: FakeManagement, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "content.json"
    file.write_text(json.dumps({"content": {"$schema": "x", **DEVICE}, "metrics": {"queries": {"m": "select"}}}))
    management.on("PUT", PATH, CONFIGURATION)
    words = ("-c", "C1", "-k", str(file), "-m", str(file), "--tc", "*", "--pri", "3", "--cl", "a=b", "c=d")
    assert run("iot", "hub", "configuration", "create", *words).code == 0
    assert management.last.body == {
        "id": "c1",
        "schemaVersion": "2.0",
        "content": DEVICE,
        "targetCondition": "*",
        "priority": 3,
        "labels": {"a": "b", "c": "d"},
        "metrics": {"queries": {"m": "select"}},
    }
    assert "if-match" not in management.last.headers


def test_update_sends_what_it_read_with_its_etag(management: FakeManagement, run: Run) -> None:
    management.on("GET", PATH, CONFIGURATION)
    management.on("PUT", PATH, CONFIGURATION)
    assert run("configuration", "update", "-c", "c1", "--set", "priority=7").code == 0
    assert management.last.body == {**CONFIGURATION, "priority": 7}
    assert management.last.headers["if-match"] == '"MQ=="'


def test_configurations_and_deployments_are_listed_apart(management: FakeManagement, run: Run) -> None:
    deployment = {**CONFIGURATION, "id": "d1", "content": WHOLE}
    management.on("GET", "/hubs/hub/configurations", [CONFIGURATION, deployment])
    assert [each["id"] for each in json.loads(run("configuration", "list").out)] == ["c1"]
    assert [each["id"] for each in json.loads(run("iot", "edge", "deployment", "list").out)] == ["d1"]
    assert json.loads(run("configuration", "list", "--top", "0").out) == []


@pytest.mark.parametrize("metric", [("m",), ("appliedCount", "--mt", "system")])
def test_a_metric_is_asked_by_its_query(management: FakeManagement, run: Run, metric: tuple[str, ...]) -> None:
    management.on("GET", PATH, CONFIGURATION)
    management.on("POST", "/hubs/hub/devices/query", [{"deviceId": "d"}])
    shown = json.loads(run("configuration", "show-metric", "-c", "c1", "-m", *metric).out)
    assert (shown["metric"], shown["result"]) == (metric[0], [{"deviceId": "d"}])
    assert management.last.body == {"query": shown["query"]}


def test_delete_says_any_etag_unless_one_is_given(management: FakeManagement, run: Run) -> None:
    management.on("DELETE", PATH, status=204)
    for words, etag in (((), '"*"'), (("-e", "MQ=="), '"MQ=="')):
        assert run("iot", "edge", "deployment", "delete", "-d", "C1", *words) == (0, "", "")
        assert management.last.headers["if-match"] == etag


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("configuration", "create", "-c", "c", "-k", json.dumps(WHOLE)), "deviceContent"),
        (("iot", "edge", "deployment", "create", "-d", "d", "-k", json.dumps(DEVICE)), "modulesContent"),
        (("iot", "edge", "deployment", "create", "-d", "d", "-k", '{"modulesContent": {"m": {}}}'), "--layered"),
        (("iot", "edge", "set-modules", "-d", "d", "-k", '{"modulesContent": {"m": {}}}'), "$edgeAgent"),
        (("configuration", "create", "-c", "c", "-k", "[]"), "JSON object"),
    ],
)
def test_content_of_another_kind_is_not_sent(
    management: FakeManagement, run: Run, words: tuple[str, ...], said: str
) -> None:
    done = run(*words)
    assert done.code == 1
    assert said in done.err
    assert management.asked == []


def test_set_modules_lists_the_modules(management: FakeManagement, run: Run) -> None:
    management.on("POST", "/hubs/hub/devices/d/applyConfigurationContent", status=204)
    management.on("GET", "/hubs/hub/devices/d/modules", [{"moduleId": "$edgeAgent"}])
    old = {"content": {"moduleContent": WHOLE["modulesContent"]}}
    done = run("iot", "edge", "set-modules", "-d", "d", "--content", json.dumps(old))
    assert json.loads(done.out)[0]["moduleId"] == "$edgeAgent"
    assert management.asked[-2].body == WHOLE


def test_a_command_of_a_component_is_called(management: FakeManagement, run: Run) -> None:
    path = "/hubs/hub/digitaltwins/d/components/part/commands/run"
    management.on("POST", path, {"ok": True}, headers={"x-ms-command-statuscode": "201"})
    words = ("-d", "d", "--cn", "run", "--component-path", "part", "--payload", "5", "--cto", "1", "--rto", "9")
    assert json.loads(run("iot", "hub", "digital-twin", "invoke-command", *words).out)["status"] == "201"
    assert management.last.body == 5
    assert management.last.query["connectTimeoutInSeconds"] == "1"
    assert management.last.query["responseTimeoutInSeconds"] == "9"


def test_one_operation_may_stand_for_a_patch(management: FakeManagement, run: Run) -> None:
    management.on("PATCH", "/hubs/hub/digitaltwins/d", status=202)
    management.on("GET", "/hubs/hub/digitaltwins/d", {"$dtId": "d"})
    operation = {"op": "add", "path": "/a", "value": 1}
    done = run("digital-twin", "update", "-d", "d", "--patch", json.dumps(operation))
    assert json.loads(done.out)["$dtId"] == "d"
    assert management.asked[-2].body == [operation]
