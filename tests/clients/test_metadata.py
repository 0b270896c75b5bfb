"""The stock ManagedIdentityCredential inside a network namespace that is bound to one identity, without a secret."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.devices import until
from support.loopback import Loopback
from support.netns import NEEDS_ROOT, Namespace, add_namespace, may_make_namespaces, namespaces
from support.server import RunningHub

pytestmark = pytest.mark.skipif(not may_make_namespaces(), reason=NEEDS_ROOT)

METADATA = "169.254.169.254"
URL = f"http://{METADATA}/metadata/identity/oauth2/token?api-version=2018-02-01"
RESOURCE = "&resource=https://storage.azure.com"
ASKING = """
import json, sys
from azure.identity import ManagedIdentityCredential
token = ManagedIdentityCredential(**json.loads(sys.argv[1])).get_token("https://storage.azure.com/.default").token
print(token)
"""


@pytest.fixture(scope="module")
def inside() -> Iterator[tuple[Namespace, Namespace]]:
    """A namespace that is bound to an identity, and one that is not."""
    with namespaces(2) as (bound, other):
        yield bound, other


@pytest.fixture(scope="module")
def hub(inside: tuple[Namespace, Namespace], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    settings = f'[[authority.metadata]]\nnamespace = "{inside[0].name}"\nidentity = "worker"\n'
    with Loopback() as loopback:
        running = RunningHub(tmp_path_factory.mktemp("hub"), loopback.take(), settings=settings)
        try:
            running.start()
            yield running
            running.stop()
            assert METADATA not in inside[0].ip("-o", "addr", "show"), "the address goes with the hub"
        finally:
            running.kill()


@pytest.fixture
def worker(hub: RunningHub) -> Iterator[dict[str, Any]]:
    yield hub.json("identity", "create", "-n", "worker")
    hub.isthmus("identity", "delete", "-n", "worker")


def test_the_stock_credential_gets_tokens_of_the_bound_identity_and_of_no_other(
    hub: RunningHub, inside: tuple[Namespace, Namespace], worker: dict[str, Any]
) -> None:
    other = hub.json("identity", "create", "-n", "other")
    chosen: tuple[dict[str, Any], ...] = (
        {},
        {"client_id": worker["clientId"]},
        {"identity_config": {"msi_res_id": worker["id"]}},
    )
    for options in chosen:
        done = ask(inside[0], options)
        assert done.returncode == 0, done.stderr
        claims = said_by(done.stdout.strip())
        assert (claims["oid"], claims["aud"]) == (worker["principalId"], "https://storage.azure.com")
    noted = hub.json("explain", "--all", "--top", "1")[0]
    assert (noted["principal"], noted["door"], noted["plane"]) == (
        *(f"identity:{worker['principalId']}", f"metadata:{inside[0].name}", "metadata"),
    )
    done = ask(inside[0], {"client_id": other["clientId"]})
    assert done.returncode != 0
    assert "Identity not found" in done.stderr
    refused = hub.json("explain", "--top", "1")[0]
    assert (refused["rule"], "worker" in refused["value"]) == ("auth.metadata", True)
    hub.isthmus("identity", "delete", "-n", "other")


def test_nobody_outside_the_namespace_gets_anything(
    hub: RunningHub, inside: tuple[Namespace, Namespace], worker: dict[str, Any]
) -> None:
    assert fetch(inside[0], "Metadata: true")[0] == 200
    assert fetch(inside[1], "Metadata: true")[0] == 0
    assert METADATA not in inside[1].ip("-o", "addr", "show")


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ((), ""),
        (("Metadata: true", "X-Forwarded-For: 10.0.0.1"), ""),
        (("Metadata: true",), "&object_id=00000000-0000-0000-0000-000000000009"),
        (("Metadata: true",), "&resource=nothing%20at%20all"),
        (("Metadata: true",), "&resource="),
    ],
)
def test_what_a_program_inside_would_not_ask_is_refused(
    hub: RunningHub, inside: tuple[Namespace, Namespace], worker: dict[str, Any], headers: tuple[str, ...], path: str
) -> None:
    status, told = fetch(inside[0], *headers, path=path)
    assert (status, "access_token" in told, "Trace ID" in told["error_description"]) == (400, False, True)


def test_an_identity_that_is_not_there_gives_nothing_and_is_explained(
    hub: RunningHub, inside: tuple[Namespace, Namespace]
) -> None:
    assert fetch(inside[0], "Metadata: true")[0] == 400
    refused = hub.json("explain", "--top", "1")[0]
    assert (refused["rule"], refused["remedy"]) == ("auth.metadata", "isthmus identity create -n worker")


def test_a_namespace_that_is_made_anew_is_served_again(
    hub: RunningHub, inside: tuple[Namespace, Namespace], worker: dict[str, Any]
) -> None:
    inside[0].remove()
    add_namespace(inside[0].name)
    until(lambda: fetch(inside[0], "Metadata: true")[0] == 200)


def ask(namespace: Namespace, options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Has the stock credential, with nothing in its environment, ask for a token inside."""
    command = namespace.inside([sys.executable, "-c", ASKING, json.dumps(options)])
    environment = {"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(Path.home())}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def fetch(namespace: Namespace, *headers: str, path: str = "") -> tuple[int, dict[str, Any]]:
    """Status and JSON of a request from inside; status 0 when nobody is there."""
    said = [part for header in headers for part in ("-H", header)]
    command = [
        "curl",
        "-s",
        "-m",
        "5",
        "--noproxy",
        "*",
        "-w",
        "\n%{http_code}",
        *said,
        URL + (path if "&resource=" in path else RESOURCE + path),
    ]
    done = subprocess.run(namespace.inside(command), capture_output=True, text=True, timeout=30, check=False)
    body, _, status = done.stdout.rpartition("\n")
    return int(status or 0), json.loads(body) if body else {}


def said_by(token: str) -> dict[str, Any]:
    """The claims of a token, unverified."""
    text = token.split(".")[1]
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return value
