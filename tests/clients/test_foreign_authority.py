"""A second authority of our own, configured as foreign: found by its OpenID document, followed when it changes keys."""

from collections.abc import Iterator
from typing import Any

import certifi
import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.iot.hub import IoTHubRegistryManager
from azure.storage.blob import BlobServiceClient
from joserfc import jwt
from joserfc.jwk import RSAKey
from msrest.exceptions import HttpOperationError

from clients.names import resolved
from clients.test_token_authority import SCOPE, TENANT, Shown, assign, explained, header_of, refused, said_by
from support.loopback import Loopback
from support.server import RunningHub


@pytest.fixture(scope="module")
def abroad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """An installation that is nothing to the hub but an issuer it trusts."""
    with Loopback() as loopback:
        running = RunningHub(
            tmp_path_factory.mktemp("abroad"), loopback.take(), settings="[authority]\nenabled = true\n"
        )
        try:
            running.start()
            yield running
        finally:
            running.kill()


@pytest.fixture(scope="module")
def hub(abroad: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub that trusts the authority abroad, whose certificates it does not know otherwise."""
    trusted = f'[[authority.trusted]]\nissuer = "{issuer_of(abroad)}"\nca = "{abroad.ca}"\n'
    with Loopback() as loopback:
        running = RunningHub(tmp_path_factory.mktemp("home"), loopback.take(), settings=trusted)
        try:
            running.start()
            yield running
            running.stop()
        finally:
            running.kill()


@pytest.fixture
def worker(abroad: RunningHub) -> Iterator[dict[str, Any]]:
    """An identity of the authority abroad, gone afterwards."""
    made = abroad.json("identity", "create", "-n", "worker")
    yield {**made, **abroad.json("identity", "secret", "create", "-n", "worker")}
    abroad.isthmus("identity", "delete", "-n", "worker")


def test_tokens_of_the_foreign_authority_are_taken_and_a_role_here_is_needed(
    hub: RunningHub, abroad: RunningHub, worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = token_of(abroad, worker)
    manager = registry(hub, token, monkeypatch)
    refused(manager.get_service_statistics)
    assert explained(hub)["rule"] == "auth.role-missing"
    role = assign(hub, worker["principalId"], "IoT Hub Data Reader")
    assert manager.get_service_statistics() is not None

    abroad.isthmus("authority", "rotate")
    renewed = token_of(abroad, worker)
    assert header_of(renewed)["kid"] != header_of(token)["kid"]
    assert registry(hub, renewed, monkeypatch).get_service_statistics() is not None
    assert manager.get_service_statistics() is not None, "the former key still counts"
    hub.isthmus("role", "assignment", "delete", "--ids", role)


def test_it_is_taken_at_a_hosted_account_as_well(
    hub: RunningHub, abroad: RunningHub, worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = hub.json("storage", "account", "create", "-n", "plantstore")
    hub.isthmus("storage", "container", "create", "-n", "telemetry", "--account-name", "plantstore")
    assign(hub, worker["principalId"], "Storage Blob Data Reader", account["id"])
    abroad.isthmus("authority", "rotate")
    token = token_of(abroad, worker, "https://storage.azure.com/.default")
    uri = account["primaryEndpoints"]["blob"]
    options = {"credential": Shown(token), "connection_verify": str(hub.ca), "retry_total": 0}
    with resolved(uri.split("/")[2].partition(":")[0], hub.address), BlobServiceClient(uri, **options) as service:
        assert list(service.get_container_client("telemetry").list_blobs()) == []
        with pytest.raises(HttpResponseError) as refused_write:
            service.get_blob_client("telemetry", "x").upload_blob(b"x")
    assert refused_write.value.error_code == "AuthorizationPermissionMismatch"


def test_an_issuer_that_is_away_is_named_and_taken_again_when_he_is_back(
    hub: RunningHub, abroad: RunningHub, worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    role = assign(hub, worker["principalId"], "IoT Hub Data Reader")
    token = token_of(abroad, worker)
    hub.restart()
    abroad.kill()
    manager = registry(hub, token, monkeypatch)
    refused(manager.get_service_statistics)
    told = explained(hub)
    assert (told["rule"], issuer_of(abroad) in told["value"]) == ("auth.issuer-unreachable", True)
    abroad.start()
    assert manager.get_service_statistics() is not None
    abroad.kill()
    assert manager.get_service_statistics() is not None, "an outage does not end what is known"
    abroad.start()
    hub.isthmus("role", "assignment", "delete", "--ids", role)


def test_a_foreign_authority_speaks_for_no_identity_of_this_installation_and_nobody_for_it(
    hub: RunningHub, abroad: RunningHub, worker: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = token_of(abroad, worker)
    key = RSAKey.generate_key(2048)
    forged = jwt.encode({"alg": "RS256", "kid": header_of(good)["kid"]}, said_by(good), key)
    refused(registry(hub, forged, monkeypatch).get_service_statistics)
    assert explained(hub)["rule"] == "auth.bearer-signature"
    unknown = jwt.encode({"alg": "RS256", "kid": "guess"}, said_by(good), key)
    refused(registry(hub, unknown, monkeypatch).get_service_statistics)
    assert explained(hub)["rule"] == "auth.bearer-key"
    with pytest.raises(HttpOperationError):
        registry(hub, token_of(abroad, worker, "https://storage.azure.com/.default"), monkeypatch).get_device("d")
    assert explained(hub)["rule"] == "auth.bearer-audience"


def issuer_of(abroad: RunningHub) -> str:
    return f"https://{abroad.address}/{TENANT}/v2.0"


def token_of(abroad: RunningHub, worker: dict[str, Any], scope: str = SCOPE) -> str:
    """A token as the stock credential gets it."""
    credential = ClientSecretCredential(
        TENANT,
        worker["clientId"],
        worker["secretText"],
        authority=f"https://{abroad.address}",
        disable_instance_discovery=True,
        connection_verify=str(abroad.ca),
    )
    return str(credential.get_token(scope).token)


def registry(hub: RunningHub, token: str, monkeypatch: pytest.MonkeyPatch) -> IoTHubRegistryManager:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hub.ca))
    monkeypatch.setattr(certifi, "where", lambda: str(hub.ca))
    return IoTHubRegistryManager.from_token_credential(hub.address, Shown(token))
