"""Twins, methods, commands and events."""

import base64
import json

import pytest

from cli.conftest import Run
from cli.management import FakeManagement

TWIN = {
    "deviceId": "a",
    "etag": "AAAAAAAAAAE=",
    "tags": {"hall": 2, "old": True},
    "properties": {"desired": {"interval": 5, "$version": 3, "$metadata": {}}, "reported": {"$version": 1}},
}


def test_twin_update_sends_a_patch(management: FakeManagement, run: Run) -> None:
    management.on("PATCH", "/hubs/hub/twins/a", TWIN)
    run("device-twin", "update", "-d", "a", "--desired", '{"interval": 2}', "--tags", '{"old": null}')
    assert management.last.body == {"properties": {"desired": {"interval": 2}}, "tags": {"old": None}}
    assert management.last.headers["if-match"] == '"*"'


def test_twin_set_sends_the_difference_under_the_etag(management: FakeManagement, run: Run) -> None:
    management.on("GET", "/hubs/hub/twins/a", TWIN)
    management.on("PATCH", "/hubs/hub/twins/a", TWIN)
    run(
        "device-twin",
        "update",
        "-d",
        "a",
        "--set",
        "properties.desired.mode=fast",
        "tags.hall=3",
        "--remove",
        "tags.old",
    )
    assert management.last.body == {"tags": {"old": None, "hall": 3}, "properties": {"desired": {"mode": "fast"}}}
    assert management.last.headers["if-match"] == '"AAAAAAAAAAE="'


def test_twin_replace_puts_the_document(management: FakeManagement, run: Run) -> None:
    management.on("PUT", "/hubs/hub/twins/a/modules/m", TWIN)
    run("module-twin", "replace", "-d", "a", "-m", "m", "--json", '{"tags": {}}')
    assert management.last.body == {"tags": {}}


def test_json_that_is_none_is_told_with_its_flag(management: FakeManagement, run: Run) -> None:
    done = run("device-twin", "update", "-d", "a", "--desired", "{")
    assert done.code == 1
    assert "--desired" in done.err


def test_a_method_waits_for_both_timeouts(management: FakeManagement, run: Run) -> None:
    management.on("POST", "/hubs/hub/twins/a/methods", {"status": 200, "payload": {"done": True}})
    done = run("invoke-device-method", "-d", "a", "--mn", "calibrate", "--mp", '{"axis": "z"}', "--to", "7")
    assert json.loads(done.out) == {"status": 200, "payload": {"done": True}}
    assert management.last.body == {
        "methodName": "calibrate",
        "payload": {"axis": "z"},
        "responseTimeoutInSeconds": 7,
        "connectTimeoutInSeconds": 7,
    }


def test_a_refused_method_is_one_sentence(management: FakeManagement, run: Run) -> None:
    """The Message of its error body is itself JSON."""
    inner = {"errorCode": 404103, "trackingId": "abc-G:0", "message": "Timed out waiting for device to connect."}
    body = {"Message": json.dumps(inner), "ExceptionMessage": ""}
    management.on("POST", "/hubs/hub/twins/a/methods", body, status=404)
    done = run("invoke-device-method", "-d", "a", "--mn", "calibrate")
    assert done.err == "isthmus: Timed out waiting for device to connect. (abc-G:0)\n"


@pytest.mark.parametrize("seconds", ["4", "301"])
def test_a_method_timeout_has_bounds(run: Run, seconds: str) -> None:
    assert run("invoke-device-method", "-d", "a", "--mn", "calibrate", "--to", seconds).code == 2


def test_a_command_is_sent_with_its_properties(management: FakeManagement, run: Run) -> None:
    management.on("POST", "/hubs/hub/messages/devicebound", status=204)
    done = run(
        *("iot", "device", "c2d-message", "send", "-d", "a", "--data", "oil it", "--props", "a=1;b=2"),
        *("--ack", "full", "--mid", "m-1", "--expiry", "1700000000000"),
    )
    assert (done.code, done.out) == (0, "")
    assert base64.b64decode(management.last.body.pop("body")) == b"oil it"
    assert management.last.body == {
        "deviceId": "a",
        "messageId": "m-1",
        "contentEncoding": "utf-8",
        "expiryTimeUtc": "2023-11-14T22:13:20.0000000Z",
        "ack": "full",
        "properties": {"a": "1", "b": "2"},
    }


def test_data_of_a_command_is_the_folder_when_it_is_one(
    management: FakeManagement, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--data` is the message in `az` and the folder everywhere else here; both may stand there."""
    monkeypatch.setenv("ISTHMUS_DATA", "/nowhere")
    management.on("POST", "/hubs/hub/messages/devicebound", status=204)
    done = run("c2d-message", "send", "-d", "a", "--data", "oil it", "--data", str(management.data))
    assert done.code == 0
    assert base64.b64decode(management.last.body["body"]) == b"oil it"


def test_purge_tells_how_many(management: FakeManagement, run: Run) -> None:
    management.on("DELETE", "/hubs/hub/devices/a/commands", {"deviceId": "a", "totalMessagesPurged": 3})
    assert json.loads(run("c2d-message", "purge", "-d", "a").out)["totalMessagesPurged"] == 3


def test_events_are_shown_one_by_one(management: FakeManagement, run: Run) -> None:
    events = [{"event": {"origin": "a", "payload": number}} for number in range(3)]
    management.on("GET", "/hubs/hub/events", lines=events)
    done = run(
        "monitor-events", "-d", "a", "--mc", "2", "--props", "sys", "app", "--et", "0", "--query", "event.payload"
    )
    assert done.out == "0\n1\n"
    assert management.last.query == {
        "consumerGroup": "$Default",
        "start": "earliest",
        "deviceId": "a",
        "properties": "sys,app",
    }


def test_events_refuse_an_unknown_kind_of_property(management: FakeManagement, run: Run) -> None:
    assert run("monitor-events", "-p", "most").code == 1


def test_a_query_has_two_flags_of_that_name(management: FakeManagement, run: Run) -> None:
    management.on("POST", "/hubs/hub/devices/query", [{"deviceId": "a", "etag": "x"}])
    done = run("iot", "hub", "query", "-q", "select * from devices", "--query", "[0].deviceId")
    assert done.out == '"a"\n'
