"""What a stopped server's folder answers: connection strings and reasons, and nothing that changes it."""

from collections.abc import Callable

import pytest

from clients.raw import RawMqtt
from support.server import RunningHub


@pytest.fixture
def stopped(make_hub: Callable[..., RunningHub]) -> RunningHub:
    hub = make_hub(hostname="hub.isthmus.test")
    hub.isthmus("device-identity", "create", "-d", "press")
    hub.isthmus("module-identity", "create", "-d", "press", "-m", "vision")
    hub.isthmus("eventhubs", "namespace", "create", "-n", "plant-events")
    hub.isthmus("eventhubs", "eventhub", "create", "-n", "telemetry", "--namespace-name", "plant-events")
    return hub


def test_connection_strings_are_the_same_without_a_server(stopped: RunningHub) -> None:
    def strings() -> list[str]:
        return [
            stopped.connection_string(),
            stopped.connection_string("service"),
            stopped.events_connection_string(),
            stopped.device_connection_string("press"),
            stopped.device_connection_string("press", "vision"),
            stopped.isthmus("connection-string", "show", "--all"),
            stopped.isthmus("connection-string", "--namespace", "plant-events", "--entity", "telemetry"),
            stopped.isthmus("env"),
        ]

    running = strings()
    stopped.stop()

    assert strings() == running


def test_reasons_are_told_without_a_server(stopped: RunningHub) -> None:
    with RawMqtt(stopped) as stranger:
        assert stranger.connect("nobody", "hub.isthmus.test/nobody/?api-version=2021-04-12", "no token")
    running = stopped.json("explain", "--device-id", "nobody")
    stopped.stop()

    assert [entry["device"] for entry in running] == ["nobody"]
    assert stopped.json("explain", "--device-id", "nobody") == running


@pytest.mark.parametrize(
    "words",
    [
        ("device-identity", "create", "-d", "late"),
        ("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled"),
        ("iot", "hub", "create", "--name", "late"),
        ("device-twin", "show", "-d", "press"),
        ("health",),
    ],
)
def test_what_needs_a_server_says_how_to_start_it(stopped: RunningHub, words: tuple[str, ...]) -> None:
    stopped.stop()

    said = stopped.isthmus(*words, code=1)

    assert said.count("\n") == 1
    assert "isthmus up" in said


def test_what_is_not_there_is_said_in_a_sentence(stopped: RunningHub) -> None:
    stopped.stop()

    assert "not registered" in stopped.isthmus("connection-string", "-d", "nobody", code=1)
    assert "There is no policy" in stopped.isthmus("connection-string", "--policy", "nobody", code=1)
