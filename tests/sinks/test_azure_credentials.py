"""Stock credentials of azure-identity in the place of the hub's own."""

import json
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

from isthmus.base.ids import HubId
from isthmus.routing.sink import FailureKind, SinkFailure
from isthmus.sinks.azure_credentials import azure_credentials
from isthmus.sinks.clients import WayOut
from sinks.egress import LaidEgress

SECRET = "a secret of the identity"
SCOPE = "https://storage.azure.com/.default"


class TokenEndpoint(BaseHTTPRequestHandler):
    """A token endpoint in App Service's style, as Azure's hosts have it."""

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)["resource"][0]
        granted = self.headers["X-IDENTITY-HEADER"] == SECRET
        answer = {"access_token": f"token for {asked}", "expires_on": "4000000000", "resource": asked}
        self.send_response(200 if granted else 401)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer if granted else {}).encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def identity_endpoint(loopback_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = HTTPServer((loopback_address, 0), TokenEndpoint)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://{loopback_address}:{server.server_port}/token")
    monkeypatch.setenv("IDENTITY_HEADER", SECRET)
    yield loopback_address
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("make", [ManagedIdentityCredential, DefaultAzureCredential])
async def test_the_process_s_own_identity_is_shown(
    identity_endpoint: str, make: type[DefaultAzureCredential], tmp_path: Path
) -> None:
    egress = LaidEgress(tmp_path / "ca.pem", has_identity=False)
    credential = WayOut(HubId(1), egress, azure_credentials(make)).credential("")
    token = await credential.get_token(SCOPE)
    assert token.token == "token for https://storage.azure.com"
    assert not egress.scopes, "the hub's own identity is not asked"


async def test_without_any_identity_the_failure_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/token")
    monkeypatch.setenv("IDENTITY_HEADER", SECRET)
    once = partial(ManagedIdentityCredential, retry_total=0)
    credential = WayOut(HubId(1), LaidEgress(tmp_path), azure_credentials(once)).credential("")
    with pytest.raises(SinkFailure) as caught:
        await credential.get_token(SCOPE)
    assert caught.value.kind is FailureKind.IDENTITY
