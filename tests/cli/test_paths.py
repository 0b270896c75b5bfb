"""`check path` on the command line, and the proof before the public side is closed."""

from typing import Any

import pytest

from cli.conftest import Run
from cli.management import HUB_ID, FakeManagement

PATHS = "/check/path/hub"
HUB = {"name": "hub", "etag": "AAAA", "tags": {}, "properties": {"publicNetworkAccess": "Enabled"}}
CLOSE = ("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")


def path(plane: str, *, works: bool, rule: str = "") -> dict[str, Any]:
    """A path as the server tells it."""
    hop = {"hop": "message", "verdict": "ok" if works else "failed", "milliseconds": 1.5, "detail": "met"}
    where = {"endpoint": "plant", "network": "ot", "from": "netns:ot", "address": "10.20.0.4", "port": 8883}
    told = {"rule": rule, "value": "", "remedy": "approve it" if rule else ""}
    return {"hub": "hub", **where, "plane": plane, "works": works, "hops": [hop], **told}


@pytest.fixture
def hub(management: FakeManagement) -> FakeManagement:
    management.on("GET", HUB_ID, HUB)
    management.on("PUT", HUB_ID, HUB)
    return management


def changed(hub: FakeManagement) -> bool:
    return hub.last.method == "PUT"


def test_closing_says_what_was_proved_and_what_was_not(hub: FakeManagement, run: Run) -> None:
    hub.on("POST", PATHS, [path("mqtt", works=True), path("amqp", works=False)])
    done = run(*CLOSE)
    assert done.code == 0
    assert done.err == "Proved: messages go there and back by plant/mqtt; not by plant/amqp.\n"
    assert changed(hub)


def test_closing_without_a_path_changes_nothing(hub: FakeManagement, run: Run) -> None:
    hub.on("POST", PATHS, [path("mqtt", works=False, rule="network.not-in-network")])
    done = run(*CLOSE)
    assert done.code == 1
    assert "no private path works" in done.err
    assert "plant/mqtt at 10.20.0.4:8883, from netns:ot: message failed, met (network.not-in-network)" in done.err
    assert not changed(hub)
    assert hub.last.body == {"approvedOnly": True}


@pytest.mark.parametrize(
    "words",
    [
        (*CLOSE, "--force"),
        ("iot", "hub", "update", "--set", "tags.site=north"),
        ("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Enabled"),
    ],
)
def test_nothing_is_proved_that_nobody_needs(hub: FakeManagement, run: Run, words: tuple[str, ...]) -> None:
    assert run(*words).code == 0
    assert changed(hub)


def test_a_public_side_that_is_closed_needs_no_proof(hub: FakeManagement, run: Run) -> None:
    hub.set("GET", HUB_ID, HUB | {"properties": {"publicNetworkAccess": "Disabled"}})
    assert run(*CLOSE).code == 0
    assert changed(hub)


def test_a_path_that_does_not_work_is_told_with_its_remedy(hub: FakeManagement, run: Run) -> None:
    hub.on("POST", PATHS, [path("mqtt", works=False, rule="network.private-endpoint-pending")])
    done = run("check", "path", "--private-endpoint", "plant", "--plane", "mqtt", "amqp")
    assert done.code == 1
    assert "  remedy  approve it\n" in done.out
    assert done.out.endswith("0 of 1 paths work.\n")
    assert hub.last.body == {"privateEndpoint": "plant", "vnetName": "", "public": False, "planes": ["mqtt", "amqp"]}


@pytest.mark.parametrize("words", [("--public", "--vnet-name", "ot"), ("--plane", "gopher")])
def test_words_that_do_not_fit_are_refused(hub: FakeManagement, run: Run, words: tuple[str, ...]) -> None:
    assert run("check", "path", *words).code == 1
