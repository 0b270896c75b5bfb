"""`check path` and the proof before the public side is closed, against servers that run."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.connector import RunningConnector, plant
from support.netns import Namespace, join, may_make_namespaces, namespaces
from support.server import RunningHub

PLANES = ["mqtt", "amqp", "https", "events"]
HOPS = ["name", "tcp", "tls", "protocol", "authentication", "message"]
CLOSE = ("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "prove-a-path.md"
SECONDS_MAX = 30.0


def endpoint(hub: RunningHub, name: str, address: str, *more: str) -> None:
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", name, "--connection-name", name, "--group-id", "iotHub"),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"], *more),
        *("--ip-config", f"name={name}", f"private-ip-address={address}"),
    )


def connection(hub: RunningHub, verb: str) -> None:
    (found,) = hub.json("network", "private-endpoint-connection", "list", "--id", hub.json("iot", "hub", "show")["id"])
    hub.isthmus("network", "private-endpoint-connection", verb, "--id", found["id"])


def walked(hub: RunningHub, *words: str, code: int = 0) -> list[dict[str, Any]]:
    done = hub.run("check", "path", *words, "--output", "json")
    assert done.returncode == code, done.stderr
    paths: list[dict[str, Any]] = json.loads(done.stdout)
    return paths


def test_every_plane_of_an_endpoint_works(running_hub: RunningHub, loopback_address: str) -> None:
    endpoint(running_hub, "plant", loopback_address)
    paths = walked(running_hub)
    assert [path["plane"] for path in paths] == PLANES
    for path in paths:
        assert (path["endpoint"], path["from"], path["works"]) == ("plant", "this machine", True)
        assert [hop["hop"] for hop in path["hops"]] == HOPS
        assert {hop["verdict"] for hop in path["hops"][1:]} == {"ok"}
        assert path["rule"] == ""


def test_the_public_door_is_walked_from_outside(running_hub: RunningHub) -> None:
    assert [path["works"] for path in walked(running_hub, "--public", "--plane", "mqtt", "https")] == [True, True]
    running_hub.isthmus(*CLOSE, "--force")
    for path in walked(running_hub, "--public", code=1):
        assert path["hops"][-1]["hop"] == "authentication"
        assert path["rule"] == "network.public-access"
        assert "publicNetworkAccess=Enabled" in path["remedy"]


def test_a_door_that_is_not_approved_says_why(running_hub: RunningHub, loopback_address: str) -> None:
    endpoint(running_hub, "late", loopback_address, "--manual-request", "true")
    rules = {path["rule"] for path in walked(running_hub, "--private-endpoint", "late", code=1)}
    assert rules == {"network.private-endpoint-pending"}
    connection(running_hub, "approve")
    assert all(path["works"] for path in walked(running_hub))
    connection(running_hub, "reject")
    assert {path["rule"] for path in walked(running_hub, code=1)} == {"network.private-endpoint-rejected"}


def test_a_hub_without_paths_has_none_that_work(running_hub: RunningHub) -> None:
    assert walked(running_hub, code=1) == []
    assert "No private endpoint nowhere" in running_hub.isthmus(
        "check", "path", "--private-endpoint", "nowhere", code=1
    )
    assert "--plane takes" in running_hub.isthmus("check", "path", "--plane", "gopher", code=1)


def test_nobody_sees_a_probe(running_hub: RunningHub, loopback_address: str) -> None:
    hub = running_hub
    hub.create_device("press")
    endpoint(hub, "plant", loopback_address)
    assert all(path["works"] for path in walked(hub) + walked(hub, "--public"))
    assert [each["deviceId"] for each in hub.json("device-identity", "list")] == ["press"]
    assert [each["deviceId"] for each in hub.json("query", "-q", "SELECT * FROM devices")] == ["press"]
    assert [each["device"] for each in hub.json(*CLOSE, "--dry-run")] == []
    ways = ("--from", "-1", "--timeout", "1", "--output", "json")
    assert "~probe" not in hub.run("monitor-events", *ways).stdout
    seen = {each["device"] for each in hub.json("explain", "--all", "--top", "100")} - {"", "press"}
    assert seen
    assert all(name.startswith("~probe-") for name in seen)
    (name, *_) = seen
    hub.isthmus("device-identity", "create", "-d", name, code=1)
    hub.isthmus("device-twin", "show", "-d", name, code=1)


def test_closing_is_refused_without_a_private_path_that_works(running_hub: RunningHub, loopback_address: str) -> None:
    hub = running_hub
    assert "no private endpoint that is approved" in hub.isthmus(*CLOSE, code=1)
    endpoint(hub, "late", loopback_address, "--manual-request", "true")
    assert "no private endpoint that is approved" in hub.isthmus(*CLOSE, code=1)
    assert hub.json("iot", "hub", "show")["properties"]["publicNetworkAccess"] == "Enabled"
    connection(hub, "approve")
    done = hub.run(*CLOSE)
    assert done.returncode == 0
    assert done.stderr == "Proved: messages go there and back by late/mqtt, late/amqp, late/https, late/events.\n"
    assert hub.json("iot", "hub", "show")["properties"]["publicNetworkAccess"] == "Disabled"
    assert hub.run("iot", "hub", "update", "--set", "tags.site=north").stderr == ""


def test_closing_is_refused_where_the_only_private_path_is_broken(
    running_hub: RunningHub, loopback_address: str
) -> None:
    """Clients of the network come from elsewhere than the network is declared to be."""
    hub = running_hub
    prefix = "10.77.0.0/24"
    hub.isthmus(
        *("network", "vnet", "create", "-n", "plant", "--presence", "connector:plant", "--address-prefixes", prefix),
        *("--subnet-name", "line", "--subnet-prefixes", prefix),
    )
    endpoint(hub, "plant", "10.77.0.4", "--vnet-name", "plant", "--subnet", "line")
    said = hub.isthmus(*CLOSE, code=1)
    assert "no private path works" in said
    assert "the connector plant is not connected" in said.lower()
    assert hub.json("iot", "hub", "show")["properties"]["publicNetworkAccess"] == "Enabled"
    hub.isthmus(*CLOSE, "--force")


def test_a_connector_walks_in_its_own_network(running_hub: RunningHub, loopback_address: str, tmp_path: Path) -> None:
    connector = RunningConnector(tmp_path / "connector")
    try:
        connector.start(plant(running_hub, loopback_address))
        for path in walked(running_hub, "--vnet-name", "plant"):
            assert (path["from"], path["works"]) == ("connector:plant", True)
        assert "by plant/mqtt, plant/amqp, plant/https, plant/events." in running_hub.run(*CLOSE).stderr
        connector.stop()
    finally:
        connector.kill()
    for path in walked(running_hub, code=1):
        assert [hop["hop"] for hop in path["hops"]] == ["vantage"]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if not may_make_namespaces():
        pytest.skip("needs root, to make network namespaces")
    with namespaces(2) as (made, client):
        join(made, "10.1.0.1/24", client, "10.1.0.2/24")
        yield made


def test_a_namespace_is_walked_from_inside(running_hub: RunningHub, namespace: Namespace) -> None:
    hub, name = running_hub, namespace.name
    hub.isthmus(
        *("network", "vnet", "create", "-n", "plant", "--presence", f"netns:{name}"),
        *("--address-prefixes", "10.1.0.0/24", "--subnet-name", "line", "--subnet-prefixes", "10.1.0.0/24"),
    )
    endpoint(hub, "plant", "10.1.0.4", "--vnet-name", "plant", "--subnet", "line")
    for path in walked(hub):
        assert (path["from"], path["works"]) == (f"netns:{name}", True)
        assert path["hops"][0]["verdict"] == "ok", path["hops"][0]
        assert path["hops"][0]["detail"].endswith("is 10.1.0.4, says 10.1.0.4")


def test_walks_by_the_clock_are_metrics(make_hub: Callable[..., RunningHub], loopback_address: str) -> None:
    hub = make_hub(settings="[check]\ninterval_seconds = 0.2\n")
    endpoint(hub, "plant", loopback_address)
    until(hub, lambda text: text.count('isthmus_path_ok{endpoint="plant"') == len(PLANES))
    text = hub.isthmus("metrics")
    for plane in PLANES:
        assert f'isthmus_path_ok{{endpoint="plant",plane="{plane}"}} 1.0' in text
    assert 'isthmus_path_seconds{endpoint="plant",hop="tls",plane="mqtt"}' in text
    hub.isthmus("network", "private-endpoint", "delete", "--name", "plant")
    until(hub, lambda text: "isthmus_path_ok" not in text)


def until(hub: RunningHub, holds: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not holds(hub.isthmus("metrics")):
        assert time.monotonic() < deadline, hub.words()


def test_the_page_shows_what_is_printed(make_hub: Callable[..., RunningHub], loopback_address: str) -> None:
    hub = make_hub(hostname="hub.plant.example")
    endpoint(hub, "plant", loopback_address, "--manual-request", "true")
    pending = hub.run("check", "path", "--private-endpoint", "plant", "--plane", "mqtt")
    connection(hub, "approve")
    approved = hub.run("check", "path", "--private-endpoint", "plant", "--plane", "mqtt")
    closing = hub.run(*CLOSE, "--query", "properties.publicNetworkAccess")
    assert (pending.returncode, approved.returncode, closing.returncode) == (1, 0, 0)
    page = same(PAGE.read_text())
    for printed in (pending.stdout, approved.stdout, closing.stderr + closing.stdout):
        assert same(printed) in page, printed


def same(text: str) -> str:
    """What does not depend on the moment, the machine, and the width of columns."""
    text = re.sub(r"\d+(?:\.\d+){3}", "ADDRESS", text)
    text = re.sub(r"until \w{3} +\d+ [\d:]+ \d{4} GMT", "until THEN", text)
    text = re.sub(r"\.[0-9a-f-]{36}", ".GUID", text)
    text = re.sub(r"\b\d+\.\d\b", "TIME", text)
    return re.sub(r" +|-{2,}", " ", text)
