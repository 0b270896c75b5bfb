"""Closed means closed: what a server listens at, as the kernel tells it, is what the configuration says and no more."""

import socket
from collections.abc import Callable

from app.starting import wait_for
from isthmus.base.places import MANAGEMENT_SOCKET
from support.listening import Place, listening
from support.server import RunningHub

METRICS_PORT = 9464


def doors(address: str) -> set[Place]:
    """The three planes at an address."""
    return {("tcp", address, port) for port in (443, 8883, 5671)}


def private_doors(address: str) -> set[Place]:
    """The same at a private endpoint's address, and its names."""
    return doors(address) | names(address)


def names(address: str) -> set[Place]:
    return {("tcp", address, 53), ("udp", address, 53)}


def local(hub: RunningHub) -> set[Place]:
    return {("unix", str(hub.data / MANAGEMENT_SOCKET), 0)}


def test_nothing_listens_that_is_not_documented(running_hub: RunningHub, loopback_addresses: Callable[[], str]) -> None:
    hub, address = running_hub, loopback_addresses()
    public = doors(hub.address) | local(hub)
    assert listening(hub.pid) == public

    make_endpoint(hub, "plant", address)
    assert listening(hub.pid) == public | private_doors(address)

    # The public door keeps its sockets, which then speak only the documented refusal (tests of the private door).
    hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")
    assert listening(hub.pid) == public | private_doors(address)

    hub.isthmus("network", "private-endpoint", "delete", "--name", "plant")
    assert listening(hub.pid) == public

    hub.isthmus("iot", "hub", "create", "--name", "second")
    assert listening(hub.pid) == public


def test_metrics_listen_where_the_configuration_says(
    make_hub: Callable[..., RunningHub], loopback_addresses: Callable[[], str]
) -> None:
    address = loopback_addresses()
    hub = make_hub(settings=f'[metrics]\naddress = "{address}"\nport = {METRICS_PORT}\n')

    assert listening(hub.pid) == doors(hub.address) | local(hub) | {("tcp", address, METRICS_PORT)}


def test_a_restart_listens_at_the_same_places(running_hub: RunningHub, loopback_addresses: Callable[[], str]) -> None:
    make_endpoint(running_hub, "plant", loopback_addresses())
    before = listening(running_hub.pid)

    running_hub.restart()

    assert listening(running_hub.pid) == before


def test_an_endpoint_whose_address_is_taken_keeps_nobody_out(
    running_hub: RunningHub, loopback_addresses: Callable[[], str]
) -> None:
    """Another process sits at the endpoint's address at start: the hub comes up, says so, and takes it when it can."""
    hub, address = running_hub, loopback_addresses()
    make_endpoint(hub, "plant", address)
    hub.stop()
    with socket.create_server((address, 8883)):
        hub.start()
        assert listening(hub.pid) == doors(hub.address) | local(hub) | names(address)
        assert f"private-endpoints (plant: Port 8883 at {address} is in use" in hub.isthmus("health", code=1)

    wait_for(lambda: private_doors(address) <= listening(hub.pid))
    assert hub.json("health")["ok"] is True


def make_endpoint(hub: RunningHub, name: str, address: str) -> None:
    hub.isthmus(
        *("network", "private-endpoint", "create", "--name", name, "--connection-name", name),
        *("--private-connection-resource-id", hub.json("iot", "hub", "show")["id"], "--group-id", "iotHub"),
        *("--ip-config", f"name={name}", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={address}"),
    )
