"""Canaries: secrets that go through every plane, right and wrong, and are then looked for wherever they must not be."""

import base64
import hashlib
import http.client
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from azure.eventhub import EventHubSharedKeyCredential

from clients.managing import MANAGEMENT_OPTIONS, PORT, make_token
from clients.raw import ACCEPTED, NOT_AUTHORIZED, TIMEOUT_SECONDS, RawMqtt, tls_context
from clients.sas import sas_token
from clients.test_refusals import refused_by_amqp
from isthmus.backends.sqlite.documents import checksum
from isthmus.base.ids import HubId
from isthmus.base.state import Key
from support.server import RunningHub

HUB_OPTIONS = MANAGEMENT_OPTIONS
HUB_HOST = "hub.isthmus.test"
API = "?api-version=2021-04-12"


def canary(name: str) -> str:
    """A key in base64 that is in nobody's data by accident."""
    return base64.b64encode(hashlib.sha256(f"canary {name}".encode()).digest()).decode()


DEVICE, SECOND, WRONG, ENDPOINT, SIGNATURE = map(canary, ("device", "second", "wrong", "endpoint", "signature"))
CONNECTION = f"Endpoint=sb://bus.example.com/;SharedAccessKeyName=send;SharedAccessKey={ENDPOINT};EntityPath=orders"
CONTAINER = f"https://store.example.com/box?sp=rwdl&sig={quote(SIGNATURE, safe='')}"


@pytest.fixture(scope="module")
def secrets(hub: RunningHub) -> dict[str, str]:
    """Everything secret by a name of its own, after it has gone through every plane."""
    hub.isthmus("device-identity", "create", "-d", "press", "--pk", DEVICE, "--sk", SECOND)
    create = ("message-endpoint", "create", "servicebus-queue")
    hub.isthmus(*create, "--endpoint-name", "orders", "--connection-string", CONNECTION)
    hub.run("device-identity", "import", "--ibcu", CONTAINER, "--obcu", CONTAINER)
    hub.isthmus("storage", "account", "create", "-n", "plantstore")
    hub.isthmus("eventhubs", "namespace", "create", "-n", "plant-events")
    found = {"device": DEVICE, "second": SECOND, "wrong": WRONG, "endpoint": ENDPOINT, "signature": SIGNATURE}
    found["policy"] = key_in(hub.connection_string())
    found["account"] = hub.json("storage", "account", "keys", "list", "-n", "plantstore")[0]["value"]
    found["namespace"] = key_in(hub.isthmus("connection-string", "--namespace", "plant-events"))
    found["token"] = make_token(hub, "operator")
    hub.isthmus("network", "vnet", "create", "--name", "plant", "--presence", "connector:gate")
    found["enrolment"] = str(hub.json("connector", "enrol", "--name", "gate", "--vnet-name", "plant")["token"])
    for name, token in uses(hub, found).items():
        found[name] = re.split("sig=", token)[-1].partition("&")[0]
    return found


def uses(hub: RunningHub, keys: dict[str, str]) -> dict[str, str]:
    """Shows the secrets at every plane, as its owner does and as somebody does who has the wrong one."""
    shown: dict[str, str] = {}
    resource, user = f"{hub.host_name}/devices/press", f"{hub.host_name}/press/{API}"
    for name, key in (("device", DEVICE), ("second", SECOND), ("wrong", WRONG)):
        token = shown[f"token of {name}"] = sas_token(resource, key)
        with RawMqtt(hub) as connection:
            answer = connection.connect("press", user, token)
            assert answer == (NOT_AUTHORIZED if name == "wrong" else ACCEPTED)
        status, _ = https(hub, "POST", f"/devices/press/messages/events{API}", token, body="7 bar")
        assert status == (401 if name == "wrong" else 204)
    with RawMqtt(hub) as connection:
        connection.connect("press", user, WRONG)
    for policy, key in (("iothubowner", keys["policy"]), ("iothubowner", WRONG), ("nobody", WRONG)):
        token = sas_token(hub.host_name, key, policy)
        https(hub, "GET", f"/devices/press{API}", token)
        https(hub, "GET", f"/devices/press{API}&sig={quote(WRONG, safe='')}", f"Bearer {WRONG}")
    refused_by_amqp(hub, EventHubSharedKeyCredential("iothubowner", WRONG))
    for host in ("plantstore.blob.isthmus.test", "plant-events.servicebus.isthmus.test"):
        https(
            hub,
            "GET",
            f"/box/blob?sv=2020-10-02&sig={quote(WRONG, safe='')}",
            f"SharedKey plantstore:{WRONG}",
            host=host,
        )
    for token in (keys["token"], WRONG):
        login = f"Management=https://{hub.address}:{PORT};Token={token}"
        file = hub.data.parent / "login"
        file.write_text(login)
        hub.run("iot", "hub", "show", "--login", f"@{file}")
        file.unlink()
    return shown


def test_no_secret_is_told_or_logged(hub: RunningHub, secrets: dict[str, str]) -> None:
    told = {
        "log": hub.log.read_text(),
        "explain": hub.isthmus("explain", "--all", "--top", "500", "--output", "json"),
        "audit": hub.isthmus("audit", "list", "--top", "500", "--output", "json"),
        "metrics": hub.isthmus("metrics"),
        "health": hub.isthmus("health"),
        "sealing key": hub.isthmus("sealing-key", "show"),
        "tokens": hub.isthmus("token", "list"),
    }

    assert [(place, name) for place, text in told.items() for name in found_in(text.encode(), secrets)] == []


def test_no_secret_stands_in_a_command_line(hub: RunningHub, secrets: dict[str, str]) -> None:
    for pid in (str(hub.pid), *children(hub.pid)):
        assert found_in(Path(f"/proc/{pid}/cmdline").read_bytes(), secrets) == []


def test_no_secret_lies_in_the_data_folder_in_plain(hub: RunningHub, secrets: dict[str, str]) -> None:
    """The state with its write-ahead log, the logs, the blobs, the certificates: every byte of every file."""
    sealing_key = (hub.data / "sealing.key").read_bytes().strip()
    kinds = {**secrets, "sealing key": sealing_key.decode(), "private key": "PRIVATE KEY"}
    places = [path for path in hub.data.rglob("*") if path.is_file() and path.name != "sealing.key"]

    assert any(path.name.startswith("state.db") for path in places)
    assert any(path.suffix == ".pem" for path in places)
    assert [(path.name, name) for path in places for name in found_in(path.read_bytes(), kinds)] == []


def test_key_reads_are_audited_by_who_read_them(hub: RunningHub, secrets: dict[str, str]) -> None:
    read = hub.json("audit", "list", "--kind", "read", "--top", "500")

    details = {entry["detail"] for entry in read}
    assert {entry["principal"].partition(":")[0] for entry in read} <= {"owner", "policy", "token"}
    assert {"keys of an identity read", "keys of all policies read"} <= details


def test_an_internal_error_tells_no_secret(hub: RunningHub, secrets: dict[str, str]) -> None:
    """A twin that is intact and no JSON: whoever asks for it runs into an error that nobody foresaw."""
    hub.kill()
    key, body = Key("twin", HubId(1), "press"), b"{no twin"
    with sqlite3.connect(hub.data / "state.db") as rows:
        [(revision,)] = rows.execute("SELECT revision FROM documents WHERE kind = 'twin' AND name = 'press'").fetchall()
        rows.execute(
            "UPDATE documents SET body = ?, checksum = ? WHERE kind = 'twin' AND name = 'press'",
            (body, checksum(key, revision, body)),
        )
    rows.close()
    hub.start()
    before = len(hub.log.read_text())

    authorization = sas_token(hub.host_name, secrets["policy"], "iothubowner")
    status, words = https(hub, "GET", f"/twins/press{API}", authorization)

    assert status == 500
    said = hub.log.read_text()[before:]
    assert "Traceback" in said
    shown = {**secrets, "authorization": authorization.partition("sig=")[2].partition("&")[0]}
    assert found_in(said.encode() + words, shown) == []


def found_in(content: bytes, secrets: dict[str, str]) -> list[str]:
    """Names of the secrets that stand in there, in any form that one might be written in."""
    return sorted(name for name, secret in secrets.items() if any(form in content for form in forms(secret)))


def forms(secret: str) -> Iterator[bytes]:
    text = secret.encode()
    yield text
    yield quote(secret, safe="").encode()
    yield quote(secret, safe="").lower().encode()
    yield base64.b64encode(text).rstrip(b"=")[:-1]
    yield text.hex().encode()
    if re.fullmatch(r"[A-Za-z0-9+/]{43}=", secret):
        yield base64.b64decode(secret)
        yield base64.b64decode(secret).hex().encode()


def https(hub: RunningHub, verb: str, path: str, token: str, *, body: str = "", host: str = "") -> tuple[int, bytes]:
    """Status and words of a raw answer, of a resource whose answers need not be JSON."""
    connection = http.client.HTTPSConnection(hub.address, 443, timeout=TIMEOUT_SECONDS, context=tls_context(hub))
    try:
        connection.request(verb, path, body, {"Host": host or hub.host_name, "Authorization": token})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def key_in(connection_string: str) -> str:
    return re.split("SharedAccessKey=", connection_string.strip())[1].partition(";")[0]


def children(pid: int) -> list[str]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [child for thread in threads for child in (thread / "children").read_text().split()]
