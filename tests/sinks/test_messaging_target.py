"""Where namespaces are, as endpoints and connection strings say it."""

from pathlib import Path

import pytest

from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.sink import Destination, FailureKind, SinkFailure
from isthmus.sinks.messaging_target import MessagingTarget
from sinks.egress import LaidEgress
from support.certificates import issue_server, write_pem

KEY = "Endpoint=sb://ns.servicebus.plant.test{port}/;SharedAccessKeyName=send;SharedAccessKey=a2V5;EntityPath=telemetry"


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        (KEY.format(port=""), 5671),
        (KEY.format(port=":15671"), 15671),
        (KEY.format(port="") + ";UseDevelopmentEmulator=true", 5672),
        (KEY.format(port=":7000") + ";UseDevelopmentEmulator=true", 7000),
        ("sb://ns.servicebus.plant.test", 5671),
        ("sb://ns.servicebus.plant.test:15671/", 15671),
        ("sb://ns.servicebus.plant.test:port", 5671),
    ],
)
def test_ports(endpoint: str, port: int) -> None:
    assert target(endpoint).port == port


def test_the_entity_is_told_to_clients_apart() -> None:
    there = target(KEY.format(port=""))
    assert there.endpoint.entity == "telemetry"
    assert there.connection_string.endswith("SharedAccessKey=a2V5")


@pytest.mark.parametrize(
    ("address", "dialled"), [("10.1.2.3", "sb://10.1.2.3:5671"), ("fd00::7", "sb://[fd00::7]:5671")]
)
def test_clients_dial_the_address_that_was_resolved(tmp_path: Path, address: str, dialled: str) -> None:
    egress = LaidEgress(write_pem(tmp_path / "ca.pem", issue_server("ns.servicebus.plant.test")))
    options = target("sb://ns.servicebus.plant.test").options(egress.way, Destination(address, 5671))
    assert options["custom_endpoint_address"] == dialled
    assert "ssl_context" in options


def test_an_emulator_has_no_tls(tmp_path: Path) -> None:
    there = target(KEY.format(port=":7000") + ";UseDevelopmentEmulator=true")
    assert "ssl_context" not in there.options(LaidEgress(tmp_path).way, Destination("127.0.0.1", 7000))


def test_an_identity_never_goes_without_tls() -> None:
    assert not target("sb://ns.servicebus.plant.test/;UseDevelopmentEmulator=true").is_emulator


async def test_a_name_without_an_address_is_told(tmp_path: Path) -> None:
    egress = LaidEgress(tmp_path, {"ns.servicebus.plant.test": []})
    with pytest.raises(SinkFailure) as caught:
        await target("sb://ns.servicebus.plant.test").destinations(egress.way)
    assert caught.value.kind is FailureKind.NAME


def target(text: str) -> MessagingTarget:
    """By key for a connection string, by identity for an address."""
    if text.startswith("Endpoint="):
        by_key = EndpointAuthentication.KEY
        return MessagingTarget(RoutingEndpoint(2, "0", "n", EndpointKind.EVENT_HUB, by_key, connection_string=text))
    identity = EndpointAuthentication.IDENTITY
    return MessagingTarget(RoutingEndpoint(2, "0", "n", EndpointKind.EVENT_HUB, identity, endpoint_uri=text))
