"""A server as its owner runs it: hubs made and deleted, seeds, kills, deep folders, ordinary users."""

import gc
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from app.starting import KEY, seed_of, wait_for
from clients.raw import RawMqtt
from clients.sas import sas_token
from isthmus.app import serving
from isthmus.base.places import MANAGEMENT_SOCKET
from isthmus.cli.transport import LocalServer, Request
from support.server import RunningHub

ACCEPTED = b"\x20\x02\x00\x00"
PUBACK = b"\x40\x02\x00\x01"
WITHOUT_THE_RIGHT = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")
"""Root, but not where ports are concerned; an ordinary user has no such right anyway."""
UNPRIVILEGED_FROM = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
LARGE_SEED = 10_000
RULES = """
[hub]
public_network_access = false

[[hubs]]
name = "second"

[[devices]]
id = "press"
hub = "second"
modules = ["vision"]
tags = { hall = 2 }
desired = { interval = 5 }

"""


def test_the_ready_file_tells_where_everything_is(running_hub: RunningHub) -> None:
    assert running_hub.ready == {
        "hostname": running_hub.host_name,
        "bind": [running_hub.address],
        "ports": {"mqtt": 8883, "amqp": 5671, "https": 443},
        "ca": str(running_hub.data / "tls" / "ca.pem"),
        "data": str(running_hub.data),
        "pid": running_hub.pid,
    }
    assert list(running_hub.ready_file.parent.glob("ready.json.*")) == []


def test_a_hub_made_at_run_time_works_and_goes_with_everything(make_hub: Callable[..., RunningHub]) -> None:
    hub = make_hub(hostname="first.isthmus.test")
    hub.json("device-identity", "create", "-d", "press")
    second = hub.json("iot", "hub", "create", "--name", "second", "--partition-count", "2", "--tags", "hall=2")
    assert second["properties"]["hostName"] == "second.isthmus.test"
    assert second["properties"]["eventHubEndpoints"]["events"]["partitionCount"] == 2
    assert second["tags"] == {"hall": "2"}
    of_second = ("--hub-name", "second")
    key = hub.json("device-identity", "create", "-d", "press", *of_second)["authentication"]["symmetricKey"]
    token = sas_token("second.isthmus.test/devices/press", key["primaryKey"])
    with RawMqtt(hub, server_name="second.isthmus.test") as device:
        user = "second.isthmus.test/press/?api-version=2021-04-12"
        assert device.connect("press", user, token) == ACCEPTED
        assert device.publish("devices/press/messages/events/", b"hello") == PUBACK
        hub.isthmus("c2d-message", "send", "-d", "press", "--da", "well?", "--ack", "full", *of_second)
        assert hub.json("device-twin", "show", "-d", "press", *of_second)["cloudToDeviceMessageCount"] == 1

        hub.isthmus("iot", "hub", "delete", "--name", "second")

        assert device.read(1) == b""
    assert [each["name"] for each in hub.json("iot", "hub", "list")] == ["first"]
    wait_for(lambda: documents(hub, 2) == 0)
    assert documents(hub, 1) > 0
    again = hub.json("iot", "hub", "create", "--name", "second")
    assert again["name"] == "second"
    assert hub.json("device-identity", "list", *of_second) == []


def test_what_a_deleted_hub_left_is_gone_after_the_next_start(make_hub: Callable[..., RunningHub]) -> None:
    """Killed right behind the deletion, or a request that wrote behind the sweep."""
    hub = make_hub(hostname="first.isthmus.test")
    hub.isthmus("iot", "hub", "create", "--name", "second")
    hub.isthmus("iot", "hub", "delete", "--name", "second")
    hub.kill()
    with sqlite3.connect(hub.data / "state.db") as state:
        state.execute("INSERT INTO documents VALUES ('twin', 2, 'late', 1, 0, x'7b7d')")
    state.close()

    hub.start()

    assert documents(hub, 2) == 0
    assert marks(hub) == 0


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"hostName": "second.elsewhere.example"}, "The CA may not vouch for second.elsewhere.example"),
        ({"hostName": "second/../.isthmus.test"}, "is none"),
        ({"eventHubEndpoints": {"events": {"partitionCount": 33}}}, "partitions is 1 to 32"),
        ({"publicNetworkAccess": "Perhaps"}, "publicNetworkAccess"),
        ({"hatch": "open"}, "hatch"),
    ],
)
def test_a_hub_that_cannot_be_as_it_was_asked_for_is_not_made(
    make_hub: Callable[..., RunningHub], properties: dict[str, object], words: str
) -> None:
    hub = make_hub("--ephemeral", hostname="first.isthmus.test")
    path = f"{hub.json('iot', 'hub', 'show')['id'].rpartition('/')[0]}/second"

    answer = over_the_socket(hub, "PUT", path, json.dumps({"properties": properties}))

    assert words in answer
    assert len(hub.json("iot", "hub", "list")) == 1


def test_killed_and_started_again_it_is_the_same_hub(running_hub: RunningHub) -> None:
    string = running_hub.create_device("press")

    running_hub.restart()

    assert running_hub.device_connection_string("press") == string
    assert running_hub.json("health")["ok"] is True


def test_a_deep_data_folder_works(tmp_path: Path, loopback_address: str) -> None:
    hub = RunningHub(tmp_path / ("deep" * 20) / ("deeper" * 20), loopback_address)
    try:
        hub.start()
        assert len(str(hub.data / MANAGEMENT_SOCKET)) > 200
        assert hub.json("health")["ok"] is True
        hub.restart()
        assert hub.json("health")["ok"] is True
        hub.stop()
        assert not (hub.data / MANAGEMENT_SOCKET).exists()
    finally:
        hub.kill()


def test_an_ephemeral_hub_is_seeded_and_forgets(
    tmp_path: Path, make_hub: Callable[..., RunningHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    hub = make_hub("--ephemeral", "--seed", str(seed_of(tmp_path, 3, RULES)), hostname="first.isthmus.test")
    assert_seeded(hub)
    hub.isthmus("device-identity", "create", "-d", "fleeting", "-n", "first")
    assert [path.name.partition("-")[0] for path in scratch.iterdir()] == ["isthmus"]
    kept = ["audit", MANAGEMENT_SOCKET, "sealing.json", "sealing.key", "server.lock", "tls"]
    assert sorted(path.name for path in hub.data.iterdir()) == kept
    hub.stop()
    assert list(scratch.iterdir()) == []

    hub.start()

    assert_seeded(hub)
    assert "not registered" in hub.isthmus("device-identity", "show", "-d", "fleeting", "-n", "first", code=1)


def test_a_durable_hub_takes_of_a_seed_what_is_not_there(tmp_path: Path, make_hub: Callable[..., RunningHub]) -> None:
    hub = make_hub("--seed", str(seed_of(tmp_path, 3, RULES)), hostname="first.isthmus.test")
    assert_seeded(hub)
    twin = ("device-twin", "update", "-d", "press", "-n", "second")
    hub.isthmus(*twin, "--tags", '{"hall": 7}')

    hub.stop()
    hub.start()

    assert hub.json("device-twin", "show", "-d", "press", "-n", "second")["tags"] == {"hall": 7}
    assert len(hub.json("device-identity", "list", "-n", "first")) == 3


@pytest.mark.parametrize("flag", ["--ephemeral", "--durable"])
def test_a_large_seed_is_there_when_the_hub_is_ready(
    tmp_path: Path, make_hub: Callable[..., RunningHub], flag: str
) -> None:
    hub = make_hub(flag, "--seed", str(seed_of(tmp_path, LARGE_SEED)))

    last = hub.json("device-identity", "show", "-d", f"d{LARGE_SEED - 1}")

    assert last["authentication"]["symmetricKey"]["primaryKey"] == KEY
    statistics = over_the_socket(hub, "GET", "/hubs/isthmus/statistics/devices?api-version=2021-04-12")
    assert json.loads(statistics)["totalDeviceCount"] == LARGE_SEED


def test_without_the_right_to_443_it_takes_another_https_port(tmp_path: Path, loopback_address: str) -> None:
    if int(UNPRIVILEGED_FROM.read_text()) <= 443:
        pytest.skip("here anybody may bind port 443")
    under = WITHOUT_THE_RIGHT if os.geteuid() == 0 else ()
    hub = RunningHub(tmp_path / "hub", loopback_address, hostname="hub.isthmus.test", under=under)
    try:
        hub.start()
        assert hub.ready["ports"] == {"mqtt": 8883, "amqp": 5671, "https": 8443}
        assert "Port 443 may not be bound by this user" in hub.words()
        hub.isthmus("device-identity", "create", "-d", "press")
        running = strings(hub)
        hub.stop()
        assert running["service"].startswith("HostName=hub.isthmus.test:8443;")
        assert running["device"].startswith("HostName=hub.isthmus.test;DeviceId=press;")
        assert running["events"].startswith("Endpoint=sb://hub.isthmus.test/;")
        assert strings(hub) == running
    finally:
        hub.kill()


def strings(hub: RunningHub) -> dict[str, str]:
    return {
        "service": hub.connection_string(),
        "events": hub.events_connection_string(),
        "device": hub.device_connection_string("press"),
    }


def assert_seeded(hub: RunningHub) -> None:
    assert hub.json("iot", "hub", "show", "-n", "first")["properties"]["publicNetworkAccess"] == "Disabled"
    assert hub.json("iot", "hub", "show", "-n", "second")["properties"]["hostName"] == "second.isthmus.test"
    twin = hub.json("device-twin", "show", "-d", "press", "-n", "second")
    assert (twin["tags"], twin["properties"]["desired"]["interval"]) == ({"hall": 2}, 5)
    assert hub.json("module-identity", "show", "-d", "press", "-m", "vision", "-n", "second")["moduleId"] == "vision"
    assert f"SharedAccessKey={KEY}" in hub.isthmus("connection-string", "-d", "d2", "-n", "first")


def over_the_socket(hub: RunningHub, method: str, target: str, body: str = "") -> str:
    """What the management socket answers, whatever its status."""
    answer = LocalServer(hub.data).send(Request(method, target, json.loads(body) if body else None))
    return answer.body.decode()


def documents(hub: RunningHub, number: int) -> int:
    return counted(hub, f"hub = {number}")


def marks(hub: RunningHub) -> int:
    return counted(hub, "kind = 'meta' AND name LIKE 'deleted %'")


def counted(hub: RunningHub, condition: str) -> int:
    state = sqlite3.connect(f"file:{hub.data / 'state.db'}?mode=ro", uri=True)
    try:
        found: int = state.execute(f"SELECT count(*) FROM documents WHERE {condition}").fetchone()[0]
        return found
    finally:
        state.close()


def test_what_the_start_made_is_not_looked_through_again_and_the_rest_seldom() -> None:
    """A look through everything holds all connections up."""
    kept, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        serving._set_garbage_aside()
        assert gc.get_threshold() == (20_000, 10, 5)
        assert gc.get_freeze_count() > frozen
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*kept)
