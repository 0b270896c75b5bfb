"""What the link door of a running hub meets: what is forged, used twice, half open; HAProxy in a connector's place."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.devices import connected, make_device, until
from clients.names import resolved
from clients.reading import WAIT_SECONDS, EventCollector
from isthmus.wire.proxy_protocol import ProxyHeader, encode_header, link_tlv
from support.connector import STOP_SECONDS_MAX, RunningConnector, plant
from support.server import RunningHub

HALF_OPEN = 10_000
"""Sockets of a flood; the hub may hold as many as its limit of open files lets it."""
PORT = 9443
CONNECTOR = "plant-a"


@pytest.fixture
def connector(tmp_path: Path) -> Iterator[RunningConnector]:
    """A connector that was not started yet."""
    found = RunningConnector(tmp_path / "connector")
    yield found
    found.kill()


@pytest.fixture
def hub(make_hub: Callable[..., RunningHub]) -> Iterator[RunningHub]:
    """A hub of the test's own."""
    running = make_hub()
    yield running
    if running.running:
        running.stop()


@pytest.fixture
def token(hub: RunningHub, loopback_address: str) -> str:
    """For the connector of a network with a private endpoint at the test's address."""
    return plant(hub, loopback_address, name=CONNECTOR)


def test_rejecting_cuts_what_is_carried_and_revoking_ends_the_connector(
    hub: RunningHub, token: str, loopback_address: str, connector: RunningConnector
) -> None:
    connector.start(token)
    with resolved(hub.host_name, loopback_address), connected(hub, "carried", connection_retry=False) as device:
        cut = threading.Event()
        device.on_connection_state_change = lambda: cut.set() if not device.connected else None
        began = time.monotonic()
        decide(hub, "reject")
        assert cut.wait(WAIT_SECONDS)
        assert time.monotonic() - began < 5.0, "the command included"
    hub.isthmus("connector", "revoke", "-n", CONNECTOR)
    assert connector.wait(STOP_SECONDS_MAX) == 1
    assert "revoked" in connector.words()
    with pytest.raises(AssertionError, match="ended with code 1"):
        connector.start()
    assert hub.json("explain", "--top", "1")[0]["rule"] == "link.revoked"


def test_a_token_is_used_once_whatever_is_killed(
    hub: RunningHub, token: str, loopback_address: str, connector: RunningConnector, tmp_path: Path
) -> None:
    hub.restart()
    connector.start(token)
    hub.restart()
    thief = RunningConnector(tmp_path / "thief")
    thief.launch(token)

    assert thief.wait(STOP_SECONDS_MAX) == 1
    assert "refuses the enrolment" in thief.words()
    assert token not in thief.words()
    explained = hub.json("explain", "--top", "5")
    assert [entry["rule"] for entry in explained if entry["rule"].startswith("link.token")] == ["link.token-used"]
    assert "isthmus connector enrol" in explained[0]["remedy"]


def test_what_is_forged_is_refused_and_explained(
    hub: RunningHub, token: str, loopback_address: str, connector: RunningConnector
) -> None:
    connector.start(token)
    device = ("127.1.2.3", 50_000)
    good = ProxyHeader(*device, loopback_address, 8_883)
    forged: list[tuple[str, bytes]] = [
        ("link.id", encode_header(ProxyHeader(*device, loopback_address, 8_883, (link_tlv(1),)))),
        ("link.destination", encode_header(ProxyHeader(*device, hub.address, 8_883))),
        ("link.header", b"PROXY TCP4 127.1.2.3 127.0.0.1 1 2\r\n"),
    ]
    for rule, sent in forged:
        say(hub, sent, certificate=identity(connector))
        assert newest(hub) == (rule, f"link:{CONNECTOR}", "link")
    say(hub, encode_header(good))
    assert newest(hub) == ("link.certificate", "link", "link")
    with socket.create_connection((hub.address, PORT)) as plain:
        plain.sendall(encode_header(good))
        drain(plain)
    assert newest(hub) == ("link.handshake", "link", "link")
    with pytest.raises(ssl.SSLError):
        say(hub, b"", certificate=identity(connector), version=ssl.TLSVersion.TLSv1_2)
    for entry in hub.json("explain", "--top", "10"):
        if entry["rule"].startswith("link."):
            assert entry["remedy"]


def test_half_open_sockets_do_not_hurt_who_is_carried(
    hub: RunningHub,
    token: str,
    loopback_address: str,
    connector: RunningConnector,
    collect: Callable[..., EventCollector],
) -> None:
    connector.start(token)
    reader = collect()
    with resolved(hub.host_name, loopback_address), connected(hub, "steady") as device:
        opened = asyncio.run(flood(hub.address))
        try:
            device.send_message("during the flood")
            assert reader.of_device("steady")[0].body_as_str() == "during the flood"
            with connected(hub, "newcomer") as newcomer:
                newcomer.send_message("too")
                assert reader.of_device("newcomer")[0].body_as_str() == "too"
        finally:
            for half_open in opened:
                half_open.close()
    entries = hub.json("explain", "--top", "1000")
    assert len(entries) < 1_000, "a flood is counted, not stored one by one"


def test_haproxy_carries_with_a_connectors_certificate(
    hub: RunningHub,
    token: str,
    loopback_address: str,
    connector: RunningConnector,
    tmp_path: Path,
    collect: Callable[..., EventCollector],
) -> None:
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        pytest.skip("haproxy is not installed")
    connector.start(token)
    connector.stop()
    socket_name = f"isthmus-{uuid.uuid4().hex[:8]}"
    (tmp_path / "haproxy.cfg").write_text(
        f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen devices
  bind {loopback_address}:8883
  server inside abns@{socket_name} send-proxy-v2
listen link
  bind abns@{socket_name}
  server hub {hub.address}:9443 ssl crt {identity(connector)} ca-file {hub.ca} verify required \
sni str(localhost) verifyhost localhost ssl-min-ver TLSv1.3
"""
    )
    process = subprocess.Popen([haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")], stdin=subprocess.DEVNULL)
    try:
        until(lambda: answers(loopback_address))
        make_device(hub, "behind")
        with resolved(hub.host_name, loopback_address), connected(hub, "behind", create=False) as device:
            device.send_message("through HAProxy")
        assert collect().of_device("behind")[0].body_as_str() == "through HAProxy"
        entries = [entry for entry in hub.json("explain", "--all", "-d", "behind") if entry["plane"] == "mqtt"]
        assert entries[0]["door"].startswith(f"private:{CONNECTOR}.")
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def identity(connector: RunningConnector) -> Path:
    """The PEM file of its key and certificate."""
    return connector.data / "identity.pem"


async def flood(address: str) -> list[socket.socket]:
    """Connections on which nothing is said; those that the hub gave up are among them."""
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(HALF_OPEN):
        half_open = socket.socket()
        half_open.setblocking(False)
        opened.append(half_open)
        await loop.sock_connect(half_open, (address, PORT))
    return opened


def say(
    hub: RunningHub, data: bytes, *, certificate: Path | None = None, version: ssl.TLSVersion | None = None
) -> None:
    """Dials the link door, sends, and waits for the end."""
    context = ssl.create_default_context(cafile=str(hub.ca))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(certificate)
    with (
        socket.create_connection((hub.address, PORT), WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=hub.host_name) as secure,
    ):
        secure.sendall(data)
        drain(secure)


def drain(connection: socket.socket) -> None:
    """Reads up to the end, however it comes."""
    try:
        while connection.recv(4_096):
            pass
    except OSError:
        return


def answers(address: str) -> bool:
    """True when something listens there."""
    try:
        socket.create_connection((address, 8_883), 1).close()
    except OSError:
        return False
    return True


def newest(hub: RunningHub) -> tuple[str, str, str]:
    """Rule, door and plane of the last refusal."""
    entry: dict[str, Any] = hub.json("explain", "--top", "1")[0]
    return entry["rule"], entry["door"], entry["plane"]


def decide(hub: RunningHub, verb: str) -> None:
    name = str(hub.json("iot", "hub", "show")["name"])
    hub.isthmus("network", "private-endpoint-connection", verb, "--name", CONNECTOR, "--resource-name", name)
