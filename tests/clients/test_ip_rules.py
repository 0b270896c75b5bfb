"""IP rules: who comes from where, on each plane; live sessions obey, and the owner reads why."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from azure.eventhub import EventHubConsumerClient
from azure.eventhub.exceptions import EventHubError

from clients.devices import key_of, make_device, until
from clients.raw import ACCEPTED, NOT_AUTHORIZED, RawMqtt
from clients.reading import EventCollector
from clients.sas import sas_token
from support.server import RunningHub

PLANT, OFFICE = "127.77.0.9", "127.88.0.9"
"""Where the tests' peers come from: all of 127.0.0.0/8 is this machine."""
DEFAULT_SOURCE = "127.0.0.1"
"""Where the SDKs come from, which cannot be told another source."""
RULE_SETS = "properties.networkRuleSets"
PLANT_RULE = ("--add", f"{RULE_SETS}.ipRules", "filterName=plant", "action=Allow", "ipMask=127.77.0.0/16")
CUT_SECONDS = 1.0
"""A session that a rule does not admit any more ends within a second."""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(autouse=True)
def rules_removed(hub: RunningHub) -> Iterator[None]:
    """Everybody may come in again afterwards."""
    yield
    update(hub, "--set", f"{RULE_SETS}=null")


def test_devices_are_admitted_by_their_address(hub: RunningHub) -> None:
    make_device(hub, "press")
    give_rules(hub, *PLANT_RULE)
    assert sign_in(hub, "press", PLANT) == ACCEPTED
    assert sign_in(hub, "press", OFFICE) == NOT_AUTHORIZED
    refusal = hub.json("explain", "--device-id", "press")[0]
    assert (refusal["plane"], refusal["hop"], refusal["rule"]) == ("mqtt", "network", "network.ip-rule")
    assert refusal["address"] == OFFICE
    assert OFFICE in refusal["value"]
    assert "network rules" in refusal["remedy"]
    update(hub, "--add", f"{RULE_SETS}.ipRules", "filterName=office", "action=Allow", f"ipMask={OFFICE}")
    assert sign_in(hub, "press", OFFICE) == ACCEPTED
    update(hub, "--remove", f"{RULE_SETS}.ipRules[filterName=plant]")
    assert sign_in(hub, "press", PLANT) == NOT_AUTHORIZED


@needs_curl
def test_services_are_admitted_by_their_address(hub: RunningHub) -> None:
    give_rules(hub, *PLANT_RULE)
    assert call(hub, PLANT)[0] == 200
    status, body = call(hub, OFFICE)
    assert status == 401
    assert "rule" not in body.lower()
    refusal = hub.json("explain", "--address", OFFICE)[0]
    assert (refusal["plane"], refusal["rule"]) == ("https", "network.ip-rule")
    assert refusal["trackingId"] in body


def test_the_flag_says_whether_readers_are_judged_too(hub: RunningHub) -> None:
    give_rules(hub, *PLANT_RULE)
    read_event_hub(hub)
    update(hub, "--set", f"{RULE_SETS}.applyToBuiltInEventHubEndpoint=true")
    with pytest.raises(EventHubError):
        read_event_hub(hub)
    refusal = hub.json("explain", "--address", DEFAULT_SOURCE)[0]
    assert (refusal["plane"], refusal["rule"]) == ("amqp", "network.ip-rule")
    update(hub, "--add", f"{RULE_SETS}.ipRules", "filterName=reader", "action=Allow", f"ipMask={DEFAULT_SOURCE}/32")
    read_event_hub(hub)


def test_no_rule_and_deny_keeps_everybody_out_and_the_owner_repairs_it(hub: RunningHub) -> None:
    make_device(hub, "alone")
    update(hub, "--set", f"{RULE_SETS}.applyToBuiltInEventHubEndpoint=true", f"{RULE_SETS}.ipRules=[]")
    assert hub.json("iot", "hub", "show")["properties"]["networkRuleSets"]["defaultAction"] == "Deny"
    assert sign_in(hub, "alone", PLANT) == NOT_AUTHORIZED
    with pytest.raises(EventHubError):
        read_event_hub(hub)
    update(hub, "--set", f"{RULE_SETS}.defaultAction=Allow")
    assert sign_in(hub, "alone", PLANT) == ACCEPTED
    read_event_hub(hub)


def test_live_devices_are_cut_and_others_go_on(hub: RunningHub) -> None:
    for device_id in ("inside", "outside"):
        make_device(hub, device_id)
    with RawMqtt(hub, source=PLANT) as inside, RawMqtt(hub, source=OFFICE) as outside:
        assert connect(hub, inside, "inside") == connect(hub, outside, "outside") == ACCEPTED
        assert outside.publish("devices/outside/messages/events/", b"before") != b""
        give_rules(hub, *PLANT_RULE)
        assert ends_in_time(lambda: outside.read(1) == b"")
        assert inside.publish("devices/inside/messages/events/", b"after") != b""
    refusal = hub.json("explain", "--device-id", "outside")[0]
    assert (refusal["rule"], refusal["address"]) == ("network.ip-rule", OFFICE)


def test_live_readers_are_cut_by_the_flag(hub: RunningHub, collect: Callable[..., EventCollector]) -> None:
    make_device(hub, "teller")
    reader = collect(retry_total=0)
    with RawMqtt(hub, source=PLANT) as device:
        assert connect(hub, device, "teller") == ACCEPTED
        give_rules(hub, *PLANT_RULE)
        assert device.publish("devices/teller/messages/events/", b"read all the same") != b""
        reader.of_device("teller")
        update(hub, "--set", f"{RULE_SETS}.applyToBuiltInEventHubEndpoint=true")
        reader.wait_for_error()


@needs_curl
def test_requests_under_way_are_cut(hub: RunningHub) -> None:
    make_device(hub, "silent")
    method = {"methodName": "wait", "connectTimeoutInSeconds": 60, "responseTimeoutInSeconds": 60}
    until(lambda: live_sessions(hub) == 0)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(call, hub, OFFICE, "POST", "/twins/silent/methods", json.dumps(method))
        until(lambda: live_sessions(hub) > 0)
        give_rules(hub, *PLANT_RULE)
        assert ends_in_time(lambda: asked.result()[0] == 401)


def test_classic_rules_are_refused_by_name(hub: RunningHub) -> None:
    rule = '[{"filterName": "a", "action": "Reject", "ipMask": "127.88.0.0/16"}]'
    said = hub.isthmus("iot", "hub", "update", "--set", f"properties.ipFilterRules={rule}", code=1)
    assert "ipFilterRules" in said
    assert RULE_SETS in said
    assert hub.json("iot", "hub", "show")["properties"]["ipFilterRules"] == []


def update(hub: RunningHub, *edits: str) -> None:
    hub.isthmus("iot", "hub", "update", *edits)


def give_rules(hub: RunningHub, *more: str) -> None:
    update(hub, "--set", f"{RULE_SETS}.applyToBuiltInEventHubEndpoint=false", *more)


def connect(hub: RunningHub, connection: RawMqtt, device_id: str) -> bytes:
    token = sas_token(f"{hub.host_name}/devices/{device_id}", key_of(hub.device_connection_string(device_id)))
    return connection.connect(device_id, f"{hub.host_name}/{device_id}/?api-version=2021-04-12", token)


def sign_in(hub: RunningHub, device_id: str, source: str) -> bytes:
    with RawMqtt(hub, source=source) as connection:
        return connect(hub, connection, device_id)


def call(
    hub: RunningHub, source: str, verb: str = "GET", path: str = "/statistics/devices", body: str = ""
) -> tuple[int, str]:
    token = sas_token(hub.host_name, key_of(hub.connection_string()), "iothubowner")
    command = ["curl", "-sS", "--cacert", str(hub.ca), "--interface", source, "-X", verb, "-w", "\n%{http_code}"]
    command += ["-H", f"Authorization: {token}", "-H", "Content-Type: application/json", "-m", "30"]
    command += ["-d", body] if body else []
    command.append(f"https://{hub.host_name}{path}?api-version=2021-04-12")
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    text, status = done.stdout.rsplit("\n", 1)
    return int(status), text


def read_event_hub(hub: RunningHub) -> None:
    client = EventHubConsumerClient.from_connection_string(
        hub.events_connection_string(), "$Default", connection_verify=str(hub.ca), retry_total=0
    )
    with client:
        client.get_eventhub_properties()


def live_sessions(hub: RunningHub) -> int:
    lines = hub.isthmus("metrics").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("isthmus_sessions ")).split(".")[0])


def ends_in_time(ended: Callable[[], bool]) -> bool:
    """True when it ends, and within the time a cut may take after the change was answered."""
    began = time.monotonic()
    return ended() and time.monotonic() - began < CUT_SECONDS
