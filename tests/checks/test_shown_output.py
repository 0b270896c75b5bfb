"""What the how-to pages show is what the commands print, but for addresses, times and other names of the place."""

import json
import os
import re
import shlex
import sqlite3
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from checks.test_exposure import endpoint
from house.source import ROOT
from isthmus.access.findings import Fault
from support.server import RunningHub

HOW_TO = ROOT / "docs" / "how-to"
CONNECTION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
PLACE = re.compile(r"[0-9-]{10}T[0-9:.]{12}Z|partition [0-9]+, offset [0-9]+")
SHOWN_CONNECTION = "d94e640f-116f-4e39-8bce-3556e41f74d3"


def test_the_exposure_matrix_is_as_shown(make_hub: Callable[..., RunningHub], loopback_address: str) -> None:
    hub = make_hub(hostname="hub.plant.example")
    hub.isthmus(*endpoint(hub, "plant", loopback_address))
    hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")
    printed = hub.run("check", "exposure").stdout
    for actual, name in (
        (hub.address, "10.10.0.1"),
        (loopback_address, "10.20.0.9"),
        (str(hub.data), "/var/lib/isthmus"),
        (f"user {os.getuid()}", "user 990"),
    ):
        printed = printed.replace(actual, name)
    printed = CONNECTION.sub(SHOWN_CONNECTION, printed)
    assert cells(printed) == cells(shown(HOW_TO / "prove-what-is-open.md", "isthmus check exposure"))


def test_a_verification_is_as_shown(make_hub: Callable[..., RunningHub], tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    hub = make_hub(settings=f'[audit]\nheads_file = "{heads}"\n')
    hub.isthmus("device-identity", "create", "-d", "press-1")
    hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled", "--force")
    hub.isthmus("connection-string")
    hub.stop()
    whole, broken = shown_blocks(HOW_TO / "audit.md", "isthmus audit verify --head /mnt")
    assert standing(hub.run("audit", "verify", "--head", str(heads)).stdout) == standing(whole)
    with sqlite3.connect(hub.data / "state.db") as state:
        state.execute("DELETE FROM journal WHERE entry_id = 3")
        state.execute("UPDATE journal SET hub = 'other' WHERE entry_id = 2")
    state.close()
    assert standing(hub.run("audit", "verify", "--head", str(heads)).stdout) == standing(broken)


def test_an_endpoint_is_proved_as_shown(make_hub: Callable[..., RunningHub]) -> None:
    hub = make_hub(hostname="hub.plant.example")
    hub.isthmus("iot", "hub", "identity", "assign", "--system-assigned")
    account = hub.json("storage", "account", "create", "-n", "plantstore", "--default-action", "Deny")
    hub.isthmus("storage", "container", "create", "-n", "telemetry", "--account-name", "plantstore")
    uri = account["primaryEndpoints"]["blob"]
    target = {"name": "store", "containerName": "telemetry", "authenticationType": "identityBased", "endpointUri": uri}
    place = "properties.routing.endpoints.storageContainers"
    hub.isthmus("iot", "hub", "update", "--set", f"{place}=[{json.dumps(target)}]")
    hub.isthmus("storage", "account", "update", "-n", "plantstore", "--bypass", "None")
    broken, whole = shown_blocks(HOW_TO / "prove-an-endpoint.md", "isthmus check endpoint store")
    assert proof(hub) == cells(TIME.sub("TIME", broken))
    told = json.loads(hub.run("check", "endpoint", "store", "--output", "json").stdout)
    for remedy in [each["remedy"] for each in told["switches"] if each["state"] == "off"]:
        hub.isthmus(*shlex.split(remedy)[1:])
    assert proof(hub) == cells(TIME.sub("TIME", whole))


def test_a_message_is_traced_as_shown(make_hub: Callable[..., RunningHub]) -> None:
    hub = make_hub(hostname="hub.plant.example")
    hub.isthmus("iot", "hub", "identity", "assign", "--system-assigned")
    account = hub.json("storage", "account", "create", "-n", "plantstore")
    hub.isthmus("storage", "container", "create", "-n", "telemetry", "--account-name", "plantstore")
    hub.isthmus(
        *("iot", "hub", "message-endpoint", "create", "storage-container", "--en", "store", "--container", "telemetry"),
        *("--identity", "[system]", "--endpoint-uri", account["primaryEndpoints"]["blob"]),
    )
    for name, to in (("all", "store"), ("events", "events")):
        hub.isthmus("iot", "hub", "message-route", "create", "--rn", name, "-t", "DeviceMessages", "--en", to)
    send_as_press(hub)
    waiting, delivered = shown_blocks(HOW_TO / "trace-a-message.md", "isthmus trace order-4711")
    assert path_of(hub, "(AuthorizationPermissionMismatch)") == cells(PLACE.sub("PLACE", waiting))
    told = json.loads(hub.run("check", "endpoint", "store", "--output", "json").stdout)
    for remedy in [each["remedy"] for each in told["switches"] if each["state"] == "off"]:
        hub.isthmus(*shlex.split(remedy)[1:])
    assert path_of(hub, "delivered") == cells(PLACE.sub("PLACE", delivered))


def send_as_press(hub: RunningHub) -> None:
    """A message of the device press, with an id, over HTTPS."""
    hub.isthmus("device-identity", "create", "-d", "press")
    token = hub.json("generate-sas-token", "-d", "press")["sas"]
    request = urllib.request.Request(
        f"https://{hub.address}/devices/press/messages/events?api-version=2020-03-13",
        data=b'{"pressure":1.5}',
        headers={"Authorization": token, "iothub-messageid": "order-4711", "Host": "hub.plant.example"},
        method="POST",
    )
    context = ssl.create_default_context(cafile=hub.ca)
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        assert answer.status == 204


def path_of(hub: RunningHub, word: str) -> list[list[str]]:
    """What `trace` prints once a word is in it, with the places and times of the page."""
    deadline = time.monotonic() + 30
    while word not in (printed := hub.isthmus("trace", "order-4711")):
        assert time.monotonic() < deadline, printed
    return cells(PLACE.sub("PLACE", printed))


def proof(hub: RunningHub) -> list[list[str]]:
    """What `check endpoint` prints, with the names of the page."""
    principal = hub.json("iot", "hub", "identity", "show")["principalId"]
    printed = hub.run("check", "endpoint", "store").stdout.replace(hub.address, "10.10.0.1")
    return cells(TIME.sub("TIME", printed.replace(principal, SHOWN_CONNECTION)))


def test_every_fault_is_explained() -> None:
    page = (HOW_TO / "audit.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)) == {fault.value for fault in Fault}


@pytest.mark.parametrize("text", ["$ isthmus a\nb\n", "nothing"])
def test_a_page_without_the_command_is_noticed(tmp_path: Path, text: str) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(AssertionError):
        shown(tmp_path / "page.md", "isthmus check exposure")


def shown(page: Path, command: str) -> str:
    """What a page shows below a command, up to the end of the block or the next command."""
    found = shown_blocks(page, command)
    assert len(found) == 1, f"{page.name} shows {command!r} {len(found)} times"
    return found[0]


def shown_blocks(page: Path, command: str) -> list[str]:
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    commands = [each for block in blocks for each in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [output for line, _, output in (each.partition("\n") for each in commands) if line.startswith(command)]


def cells(table: str) -> list[list[str]]:
    """The words of each line, whatever the width of its columns."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if line.strip() and "----" not in line]


def standing(text: str) -> str:
    """The text without its times and without how many heads went out, which depends on how long it ran."""
    return re.sub(r"^heads: [0-9]+ match", "heads: some match", TIME.sub("TIME", text), flags=re.MULTILINE)
