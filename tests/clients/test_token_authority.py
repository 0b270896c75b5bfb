"""Stock azure-identity and azure-iot-hub with bearer tokens: who is let in, by which role, and what is refused."""

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import certifi
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential
from azure.iot.hub import IoTHubRegistryManager
from joserfc import jwt
from joserfc.jwk import RSAKey
from msrest.exceptions import HttpOperationError

from support.loopback import Loopback
from support.server import RunningHub

HOST = "hub.isthmus.test"
TENANT = "00000000-0000-0000-0000-000000000000"
SCOPE = "https://iothubs.azure.net/.default"
FOREIGN = "https://login.plant.example/realms/plant"
STRANGER = "3f0d4f4e-8d9a-4a5e-9a53-0d1b3e0d6a11"


class Credential(Protocol):
    """What azure-iot-hub asks for."""

    def get_token(self, *scopes: str) -> AccessToken: ...


class Shown:
    """A credential that shows one text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        return AccessToken(self._text, int(time.time()) + 600)


@pytest.fixture(scope="module")
def foreign_key() -> RSAKey:
    return RSAKey.generate_key(2048)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, foreign_key: RSAKey) -> Iterator[RunningHub]:
    """A hub whose authority is served, and that trusts another issuer."""
    folder = tmp_path_factory.mktemp("hub")
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"keys": [{**foreign_key.as_dict(private=False), "kid": "f", "use": "sig"}]}))
    trusted = f'trusted = [{{issuer = "{FOREIGN}", keys = "{keys}", audiences = ["plant-api"]}}]'
    settings = f"[authority]\nenabled = true\napp_service = true\n{trusted}\n"
    with Loopback() as loopback:
        running = RunningHub(folder, loopback.take(), settings=settings)
        try:
            running.start()
            yield running
            running.stop()
        finally:
            running.kill()


@pytest.fixture
def plant(hub: RunningHub) -> Iterator[dict[str, Any]]:
    """An identity with a secret, gone afterwards."""
    made = hub.json("identity", "create", "-n", "plant")
    yield {**made, **hub.json("identity", "secret", "create", "-n", "plant")}
    hub.isthmus("identity", "delete", "-n", "plant")


@pytest.fixture(autouse=True)
def trust(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hub.ca))
    monkeypatch.setattr(certifi, "where", lambda: str(hub.ca))


def secret_credential(hub: RunningHub, plant: dict[str, Any], secret: str = "") -> ClientSecretCredential:
    return ClientSecretCredential(
        TENANT,
        plant["clientId"],
        secret or plant["secretText"],
        authority=f"https://{hub.address}",
        disable_instance_discovery=True,
        connection_verify=str(hub.ca),
        retry_total=0,
    )


def registry(hub: RunningHub, credential: Credential) -> IoTHubRegistryManager:
    return IoTHubRegistryManager.from_token_credential(hub.address, credential)


def assign(hub: RunningHub, principal: str, role: str, scope: str = "") -> str:
    where = scope or hub.json("iot", "hub", "show")["id"]
    who = ("--assignee-object-id", principal, "--assignee-principal-type", "ServicePrincipal")
    return str(hub.json("role", "assignment", "create", *who, "--role", role, "--scope", where)["id"])


def refused(ask: Callable[[], object]) -> str:
    """The answer's body of a call that is refused as a wrong key is."""
    with pytest.raises(HttpOperationError) as caught:
        ask()
    assert caught.value.response.status_code == 401
    return str(caught.value.response.text)


def explained(hub: RunningHub) -> dict[str, Any]:
    """The newest refusal."""
    found: dict[str, Any] = hub.json("explain", "--top", "1")[0]
    return found


def test_a_role_lets_the_stock_client_in_and_its_end_out_again(hub: RunningHub, plant: dict[str, Any]) -> None:
    manager = registry(hub, secret_credential(hub, plant))
    assert "IotHubUnauthorizedAccess" in refused(lambda: manager.get_device("nobody"))
    told = explained(hub)
    assert (told["rule"], plant["principalId"] in told["remedy"]) == ("auth.role-missing", True)

    role = assign(hub, plant["principalId"], "IoT Hub Registry Contributor")
    assert manager.create_device_with_sas("press", "", "", "enabled").device_id == "press"
    refused(lambda: manager.get_twin("press"))
    assert "twins/read" in explained(hub)["value"]
    twins = assign(hub, plant["principalId"], "IoT Hub Twin Contributor", "/subscriptions/" + TENANT)
    assert manager.get_twin("press").device_id == "press"

    hub.isthmus("role", "assignment", "delete", "--ids", role, twins)
    refused(lambda: manager.get_device("press"))


def test_the_reader_reads_and_writes_nothing_and_a_scope_too_low_is_named(
    hub: RunningHub, plant: dict[str, Any]
) -> None:
    manager = registry(hub, secret_credential(hub, plant))
    hub_id = hub.json("iot", "hub", "show")["id"]
    low = assign(hub, plant["principalId"], "IoT Hub Data Contributor", f"{hub_id}/devices/press")
    refused(lambda: manager.get_service_statistics())
    assert explained(hub)["rule"] == "auth.role-scope"
    reader = assign(hub, plant["principalId"], "IoT Hub Data Reader")
    assert manager.get_service_statistics().connected_device_count == 0
    refused(lambda: manager.create_device_with_sas("oven", "", "", "enabled"))
    hub.isthmus("role", "assignment", "delete", "--ids", low, reader)


def test_commands_are_sent_by_amqp_with_a_role_and_not_without(hub: RunningHub, plant: dict[str, Any]) -> None:
    hub.isthmus("device-identity", "create", "-d", "lamp")
    role = assign(hub, plant["principalId"], "IoT Hub Data Contributor")
    manager = registry(hub, secret_credential(hub, plant))
    manager.send_c2d_message("lamp", "on")
    assert hub.json("device-identity", "show", "-d", "lamp")["cloudToDeviceMessageCount"] == 1
    hub.isthmus("role", "assignment", "delete", "--ids", role)
    manager.amqp_svc_client.disconnect_sync()


def test_the_managed_identity_endpoint_serves_the_stock_credential(
    hub: RunningHub, plant: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"https://{hub.address}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", plant["secretText"])
    options: dict[str, Any] = {"connection_verify": str(hub.ca), "retry_total": 0}
    role = assign(hub, plant["principalId"], "IoT Hub Data Reader")
    for chosen in ({}, {"client_id": plant["clientId"]}, {"identity_config": {"mi_res_id": plant["id"]}}):
        credential = ManagedIdentityCredential(**chosen, **options)
        claims = said_by(credential.get_token("https://storage.azure.com/.default").token)
        assert claims["aud"] == "https://storage.azure.com"
        assert (claims["oid"], claims["xms_mirid"]) == (plant["principalId"], plant["id"])
        assert registry(hub, credential).get_service_statistics() is not None
    with pytest.raises(ClientAuthenticationError):
        ManagedIdentityCredential(client_id=STRANGER, **options).get_token(SCOPE)
    assert explained(hub)["rule"] == "auth.client-secret"
    hub.isthmus("role", "assignment", "delete", "--ids", role)


def test_a_wrong_and_a_deleted_secret_are_no_secret(hub: RunningHub, plant: dict[str, Any]) -> None:
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        secret_credential(hub, plant, "guess").get_token(SCOPE)
    hub.isthmus("identity", "secret", "delete", "-n", "plant", "--key-id", plant["keyId"])
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        secret_credential(hub, plant).get_token(SCOPE)


def test_a_rotation_refuses_no_token_not_even_after_a_power_cut(hub: RunningHub, plant: dict[str, Any]) -> None:
    role = assign(hub, plant["principalId"], "IoT Hub Data Reader")
    before = Shown(secret_credential(hub, plant).get_token(SCOPE).token)
    rotated = hub.json("authority", "rotate")
    assert [key["state"] for key in rotated["keys"]][-2:] == ["Verifying", "Signing"]
    hub.restart()
    assert hub.json("authority", "show") == rotated
    after = secret_credential(hub, plant).get_token(SCOPE).token
    assert header_of(after)["kid"] == rotated["keys"][-1]["keyId"]
    for credential in (before, Shown(after)):
        assert registry(hub, credential).get_service_statistics() is not None
    ahead = hub.json("authority", "rotate", "--lead", "1d")
    assert [key["state"] for key in ahead["keys"]][-2:] == ["Signing", "Next"]
    published = [key["kid"] for key in get(hub, f"/{TENANT}/discovery/v2.0/keys")["keys"]]
    assert published == [key["keyId"] for key in ahead["keys"]]
    hub.isthmus("role", "assignment", "delete", "--ids", role)


def test_forged_borrowed_and_expired_tokens_are_refused_alike_and_explained(
    hub: RunningHub, plant: dict[str, Any], foreign_key: RSAKey
) -> None:
    role = assign(hub, plant["principalId"], "IoT Hub Data Contributor")
    good = secret_credential(hub, plant).get_token(SCOPE).token
    claims, kid = said_by(good), header_of(good)["kid"]
    elsewhere = secret_credential(hub, plant).get_token("https://storage.azure.com/.default").token
    head, body, signature = good.split(".")
    none = part({"alg": "none", "kid": kid})
    symmetric = part({"alg": "HS256", "kid": kid})
    cases = {
        "auth.bearer-signature": jwt.encode({"alg": "RS256", "kid": kid}, claims, foreign_key),
        "auth.bearer-algorithm": f"{none}.{body}.",
        "auth.bearer-audience": elsewhere,
        "auth.bearer-issuer": jwt.encode({"alg": "RS256", "kid": "f"}, {**claims, "iss": "https://a.b"}, foreign_key),
        "auth.bearer-key": jwt.encode({"alg": "RS256", "kid": "x"}, claims, foreign_key),
        "auth.bearer-expired": jwt.encode(
            {"alg": "RS256", "kid": "f"}, {**claims, "iss": FOREIGN, "exp": int(time.time()) - 900}, foreign_key
        ),
        "auth.bearer-early": jwt.encode(
            {"alg": "RS256", "kid": "f"}, {**claims, "iss": FOREIGN, "nbf": int(time.time()) + 900}, foreign_key
        ),
        "auth.bearer-malformed": f"{head}.{body}",
    }
    answers = set()
    for rule, token in cases.items():
        manager = registry(hub, Shown(token))
        answers.add(refused(manager.get_service_statistics).partition("Tracking ID")[0])
        assert explained(hub)["rule"] == rule
    refused(registry(hub, Shown(f"{symmetric}.{body}.{signature}")).get_service_statistics)
    assert explained(hub)["rule"] == "auth.bearer-algorithm"
    assert len(answers) == 1
    hub.isthmus("role", "assignment", "delete", "--ids", role)


def test_a_trusted_issuers_principal_needs_a_role_here(hub: RunningHub, foreign_key: RSAKey) -> None:
    claims = {"iss": FOREIGN, "aud": ["plant-api"], "oid": STRANGER, "exp": int(time.time()) + 600}
    manager = registry(hub, Shown(jwt.encode({"alg": "RS256", "kid": "f"}, claims, foreign_key)))
    refused(manager.get_service_statistics)
    assert explained(hub)["rule"] == "auth.role-missing"
    role = assign(hub, STRANGER, "IoT Hub Data Reader")
    assert manager.get_service_statistics() is not None
    hub.isthmus("role", "assignment", "delete", "--ids", role)


def test_a_trusted_issuer_does_not_speak_for_identities_of_here(
    hub: RunningHub, plant: dict[str, Any], foreign_key: RSAKey
) -> None:
    role = assign(hub, plant["principalId"], "IoT Hub Data Reader")
    claims = {"iss": FOREIGN, "aud": "plant-api", "oid": plant["principalId"], "exp": int(time.time()) + 600}
    refused(registry(hub, Shown(jwt.encode({"alg": "RS256", "kid": "f"}, claims, foreign_key))).get_service_statistics)
    told = explained(hub)
    assert (told["rule"], FOREIGN in told["value"]) == ("auth.bearer-subject", True)
    hub.isthmus("role", "assignment", "delete", "--ids", role)


def test_a_token_of_an_identity_that_has_ended_is_refused(hub: RunningHub) -> None:
    gone = hub.json("identity", "create", "-n", "gone") | hub.json("identity", "secret", "create", "-n", "gone")
    role = assign(hub, gone["principalId"], "IoT Hub Data Reader")
    manager = registry(hub, Shown(secret_credential(hub, gone).get_token(SCOPE).token))
    assert manager.get_service_statistics() is not None
    hub.isthmus("identity", "delete", "-n", "gone")
    refused(manager.get_service_statistics)
    assert explained(hub)["rule"] == "auth.bearer-subject"
    hub.isthmus("role", "assignment", "delete", "--ids", role)


def test_the_authority_obeys_the_hubs_network_rules_and_is_off_by_default(hub: RunningHub, tmp_path: Path) -> None:
    document = get(hub, f"/{TENANT}/v2.0/.well-known/openid-configuration")
    assert document["issuer"] == f"https://{hub.address}/{TENANT}/v2.0"
    assert get(hub, "/adfs/.well-known/openid-configuration")["token_endpoint"].endswith("/adfs/oauth2/v2.0/token")
    hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled", "--force")
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(hub, f"/{TENANT}/v2.0/.well-known/openid-configuration")
        assert caught.value.code == 401
    finally:
        hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Enabled")
    with Loopback() as loopback:
        closed = RunningHub(tmp_path / "closed", loopback.take())
        try:
            closed.start()
            for path in (f"/{TENANT}/v2.0/.well-known/openid-configuration", "/msi/token?api-version=2019-08-01"):
                with pytest.raises(urllib.error.HTTPError) as caught:
                    get(closed, path)
                assert caught.value.code == 401
            closed.stop()
        finally:
            closed.kill()


def get(hub: RunningHub, path: str) -> Any:
    context = ssl.create_default_context(cafile=hub.ca)
    with urllib.request.urlopen(f"https://{hub.address}{path}", context=context) as answer:
        return json.loads(answer.read())


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def said_by(token: str) -> dict[str, Any]:
    """The claims of a token, unverified."""
    return _part_of(token, 1)


def header_of(token: str) -> dict[str, Any]:
    return _part_of(token, 0)


def _part_of(token: str, number: int) -> dict[str, Any]:
    text = token.split(".")[number]
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return value
