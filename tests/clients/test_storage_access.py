"""Who is let in to a hosted storage account by the stock client, what each is refused, and what explain says."""

import http.client
import ssl
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import (
    AccessPolicy,
    AccountSasPermissions,
    BlobClient,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)

from clients.hosted import identity_with
from clients.storage import Account, storage_account
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
HUB_SETTINGS = "[authority]\nenabled = true\napp_service = true\n"
CONTRIBUTOR = "Storage Blob Data Contributor"
READER = "Storage Blob Data Reader"
SOON = timedelta(hours=1)


@pytest.fixture(scope="module")
def account(hub: RunningHub) -> Iterator[Account]:
    with storage_account(hub) as made:
        yield made


@pytest.fixture(scope="module")
def client(account: Account) -> Iterator[BlobServiceClient]:
    with account.client() as made:
        yield made


@pytest.fixture
def container(client: BlobServiceClient) -> ContainerClient:
    made = client.create_container(f"box-{uuid.uuid4().hex[:8]}")
    made.upload_blob("there", b"there")
    return made


@pytest.fixture
def credential_of(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ManagedIdentityCredential]:
    """The stock credential of an identity, by name."""

    def make(name: str) -> ManagedIdentityCredential:
        secret = hub.json("identity", "secret", "create", "-n", name)["secretText"]
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"https://{hub.address}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", secret)
        return ManagedIdentityCredential(connection_verify=str(hub.ca), retry_total=0)

    return make


def refused(ask: Callable[[], object], code: str, status: int = 403) -> HttpResponseError:
    """The error of a call that is refused with this code."""
    with pytest.raises(HttpResponseError) as caught:
        ask()
    assert (caught.value.error_code, caught.value.status_code) == (code, status)
    return caught.value


def rule(hub: RunningHub) -> str:
    """The rule of the newest refusal."""
    return str(hub.json("explain", "--top", "1")[0]["rule"])


def test_a_wrong_key_is_refused_and_explained_by_the_answers_own_id(hub: RunningHub, account: Account) -> None:
    wrong = account.client({"account_name": account.name, "account_key": "d3Jvbmc="})
    error = refused(lambda: list(wrong.list_containers()), "AuthenticationFailed")
    assert error.response is not None
    told = hub.json("explain", error.response.headers["x-ms-request-id"])
    assert (told[0]["rule"], told[0]["hub"]) == ("auth.signature", account.name)


def test_nobody_comes_without_anything(hub: RunningHub, account: Account, container: ContainerClient) -> None:
    stranger = BlobClient.from_blob_url(f"{container.url}/there", **account.options())
    error = refused(lambda: stranger.download_blob(), "NoAuthenticationInformation", 401)
    assert error.response is not None
    assert "resource_id=https://storage.azure.com" in error.response.headers["WWW-Authenticate"]
    assert rule(hub) == "auth.missing"


def test_an_account_sas_gives_what_its_letters_say(
    hub: RunningHub, account: Account, container: ContainerClient
) -> None:
    def by(types: ResourceTypes, may: AccountSasPermissions, **more: Any) -> BlobServiceClient:
        expiry = more.pop("expiry", datetime.now(UTC) + SOON)
        return account.client(generate_account_sas(account.name, account.key(), types, may, expiry, **more))

    name, every = container.container_name, ResourceTypes(True, True, True)
    reading = by(every, AccountSasPermissions(read=True, list=True))
    assert name in [each.name for each in reading.list_containers()]
    assert reading.get_blob_client(name, "there").download_blob().readall() == b"there"
    refused(lambda: reading.get_blob_client(name, "new").upload_blob(b"x"), "AuthorizationPermissionMismatch")
    assert rule(hub) == "storage.sas-permission"
    objects = by(ResourceTypes(object=True), AccountSasPermissions(read=True, list=True))
    refused(lambda: list(objects.list_containers()), "AuthorizationResourceTypeMismatch")
    over = by(every, AccountSasPermissions(read=True), expiry=datetime.now(UTC) - SOON)
    refused(lambda: over.get_blob_client(name, "there").download_blob(), "AuthenticationFailed")
    assert rule(hub) == "auth.expired"
    early = by(
        every, AccountSasPermissions(read=True), start=datetime.now(UTC) + SOON, expiry=datetime.now(UTC) + 2 * SOON
    )
    refused(lambda: early.get_blob_client(name, "there").download_blob(), "AuthenticationFailed")
    elsewhere = by(every, AccountSasPermissions(read=True), ip="10.9.9.9")
    refused(lambda: elsewhere.get_blob_client(name, "there").download_blob(), "AuthorizationSourceIPMismatch")
    assert rule(hub) == "storage.sas-address"
    here = by(every, AccountSasPermissions(read=True), ip="127.0.0.0-127.255.255.255", protocol="https")
    assert here.get_blob_client(name, "there").download_blob().readall() == b"there"


def test_a_blobs_sas_is_for_that_blob_only(hub: RunningHub, account: Account, container: ContainerClient) -> None:
    may = BlobSasPermissions(read=True, write=True)
    name, expiry = container.container_name, datetime.now(UTC) + SOON
    sas = generate_blob_sas(account.name, name, "dir/new", account_key=account.key(), permission=may, expiry=expiry)
    blob = BlobClient.from_blob_url(f"{account.url}{name}/dir/new?{sas}", **account.options())
    blob.upload_blob(b"1")
    assert blob.download_blob().readall() == b"1"
    refused(blob.delete_blob, "AuthorizationPermissionMismatch")
    other = BlobClient.from_blob_url(f"{account.url}{name}/there?{sas}", **account.options())
    refused(lambda: other.download_blob(), "AuthenticationFailed")
    assert rule(hub) == "auth.signature"
    listing = ContainerClient.from_container_url(f"{account.url}{name}?{sas}", **account.options())
    refused(lambda: list(listing.list_blobs()), "AuthenticationFailed")


def test_who_may_only_create_overwrites_nothing(account: Account, container: ContainerClient) -> None:
    def blob(name: str) -> BlobClient:
        may, expiry = BlobSasPermissions(create=True), datetime.now(UTC) + SOON
        sas = generate_blob_sas(
            account.name, container.container_name, name, account_key=account.key(), permission=may, expiry=expiry
        )
        return BlobClient.from_blob_url(f"{container.url}/{name}?{sas}", **account.options())

    blob("new").upload_blob(b"1", overwrite=True)
    refused(lambda: blob("there").upload_blob(b"2", overwrite=True), "UnauthorizedBlobOverwrite")
    assert container.download_blob("there").readall() == b"there"


def test_a_containers_sas_reaches_its_blobs_and_no_other_container(
    hub: RunningHub, account: Account, client: BlobServiceClient, container: ContainerClient
) -> None:
    may = ContainerSasPermissions(read=True, write=True, delete=True, list=True)
    name, key = container.container_name, account.key("key2")
    sas = generate_container_sas(account.name, name, account_key=key, permission=may, expiry=datetime.now(UTC) + SOON)
    own = ContainerClient.from_container_url(f"{container.url}?{sas}", **account.options())
    own.upload_blob("x", b"1")
    assert [each.name for each in own.list_blobs()] == ["there", "x"]
    own.delete_blob("x")
    refused(own.delete_container, "AuthorizationFailure")
    assert rule(hub) == "storage.sas-scope"
    foreign = client.create_container(f"box-{uuid.uuid4().hex[:8]}")
    theirs = ContainerClient.from_container_url(f"{foreign.url}?{sas}", **account.options())
    refused(lambda: theirs.upload_blob("x", b"1"), "AuthenticationFailed")


def test_a_copy_needs_a_right_to_read_its_source(
    account: Account, client: BlobServiceClient, container: ContainerClient
) -> None:
    expiry, foreign = datetime.now(UTC) + SOON, client.create_container(f"box-{uuid.uuid4().hex[:8]}")
    foreign.upload_blob("secret", b"secret")

    def by(box: ContainerClient, **given: Any) -> str:
        key = account.key()
        return str(generate_container_sas(account.name, box.container_name, account_key=key, expiry=expiry, **given))

    writing = by(container, permission=ContainerSasPermissions(read=True, write=True))
    own = ContainerClient.from_container_url(f"{container.url}?{writing}", **account.options())
    source = foreign.get_blob_client("secret").url
    target = own.get_blob_client("copy")
    refused(lambda: target.start_copy_from_url(source), "AuthorizationFailure")
    listing = by(foreign, permission=ContainerSasPermissions(list=True))
    refused(lambda: target.start_copy_from_url(f"{source}?{listing}"), "AuthorizationPermissionMismatch")
    refused(lambda: target.start_copy_from_url(f"{source}?{writing}"), "AuthenticationFailed")
    reading = by(foreign, permission=ContainerSasPermissions(read=True))
    target.start_copy_from_url(f"{source}?{reading}")
    assert own.download_blob("copy").readall() == b"secret"
    own.get_blob_client("again").start_copy_from_url(own.get_blob_client("copy").url.partition("?")[0])


def test_a_stored_access_policy_can_be_taken_back(account: Account, container: ContainerClient) -> None:
    expiry, name = datetime.now(UTC) + SOON, container.container_name
    container.set_container_access_policy({"readers": AccessPolicy("r", expiry)})
    sas = generate_container_sas(account.name, name, account_key=account.key(), policy_id="readers")
    reader = ContainerClient.from_container_url(f"{container.url}?{sas}", **account.options())
    assert reader.download_blob("there").readall() == b"there"
    refused(lambda: reader.upload_blob("x", b"1"), "AuthorizationPermissionMismatch")
    [found] = container.get_container_access_policy()["signed_identifiers"]
    assert (found.id, found.access_policy.permission) == ("readers", "r")
    container.set_container_access_policy({})
    refused(lambda: reader.download_blob("there"), "AuthenticationFailed")


def test_a_role_lets_an_identity_in_at_its_scope_and_below(
    hub: RunningHub,
    account: Account,
    client: BlobServiceClient,
    container: ContainerClient,
    credential_of: Callable[[str], ManagedIdentityCredential],
) -> None:
    name, principal = identity_with(hub)
    plant = account.client(credential_of(name))
    own, foreign = (plant.get_container_client(container.container_name), plant.get_container_client("elsewhere"))
    refused(lambda: own.download_blob("there"), "AuthorizationPermissionMismatch")
    assert rule(hub) == "auth.role-missing"

    def give(role: str, scope: str) -> str:
        who = ("--assignee-object-id", principal)
        return str(hub.json("role", "assignment", "create", *who, "--role", role, "--scope", scope)["id"])

    reading = give(READER, account.container_id(container.container_name))
    assert own.download_blob("there").readall() == b"there"
    assert [each.name for each in own.list_blobs()] == ["there"]
    refused(lambda: own.upload_blob("x", b"1"), "AuthorizationPermissionMismatch")
    refused(lambda: list(foreign.list_blobs()), "AuthorizationPermissionMismatch")
    assert rule(hub) == "auth.role-scope"
    refused(lambda: list(plant.list_containers()), "AuthorizationPermissionMismatch")

    writing = give(CONTRIBUTOR, account.resource_id)
    plant.create_container("elsewhere")
    foreign.upload_blob("x", b"1")
    foreign.get_blob_client("log").create_append_blob()
    foreign.get_blob_client("log").append_block(b"1")
    refused(foreign.get_container_access_policy, "AuthorizationPermissionMismatch")
    foreign.delete_blob("x")
    foreign.delete_container()
    hub.isthmus("role", "assignment", "delete", "--ids", reading, writing)
    refused(lambda: own.download_blob("there"), "AuthorizationPermissionMismatch")


def test_a_user_delegation_sas_gives_what_both_it_and_the_roles_allow(
    hub: RunningHub, credential_of: Callable[[str], ManagedIdentityCredential]
) -> None:
    with storage_account(hub) as account:
        container = account.client().create_container("box")
        container.upload_blob("there", b"there")
        name, principal = identity_with(hub, CONTRIBUTOR, account.resource_id)
        plant, now = account.client(credential_of(name)), datetime.now(UTC)
        key = plant.get_user_delegation_key(now - timedelta(minutes=5), now + SOON)
        assert key.signed_oid == principal

        def blob(blob_name: str, may: BlobSasPermissions) -> BlobClient:
            given: dict[str, Any] = {"user_delegation_key": key, "permission": may, "expiry": now + SOON}
            sas = generate_blob_sas(account.name, "box", blob_name, **given)
            return BlobClient.from_blob_url(f"{container.url}/{blob_name}?{sas}", **account.options())

        both = BlobSasPermissions(read=True, write=True)
        blob("device/file.txt", both).upload_blob(b"1")
        assert blob("device/file.txt", both).download_blob().readall() == b"1"
        refused(lambda: blob("there", BlobSasPermissions(read=True)).delete_blob(), "AuthorizationPermissionMismatch")
        hub.isthmus("storage", "account", "keys", "renew", "-n", account.name, "--key", "primary")
        assert blob("there", both).download_blob().readall() == b"there"

        listed = hub.json("role", "assignment", "list", "--assignee-object-id", principal)
        hub.isthmus("role", "assignment", "delete", "--ids", *(each["id"] for each in listed))
        refused(lambda: blob("there", both).download_blob(), "AuthorizationPermissionMismatch")
        refused(lambda: plant.get_user_delegation_key(now, now + SOON), "AuthorizationPermissionMismatch")
        hub.isthmus("identity", "delete", "-n", name)
        refused(lambda: blob("there", both).download_blob(), "InvalidAuthenticationInfo", 401)
        assert rule(hub) == "auth.bearer-subject"


def test_a_new_key_ends_the_old_one(hub: RunningHub) -> None:
    with storage_account(hub) as account:
        old, other = (
            account.client(),
            account.client({"account_name": account.name, "account_key": account.key("key2")}),
        )
        old.create_container("box")
        hub.isthmus("storage", "account", "keys", "renew", "-n", account.name, "--key", "key1")
        refused(lambda: list(old.list_containers()), "AuthenticationFailed")
        assert [each.name for each in other.list_containers()] == ["box"]
        assert [each.name for each in account.client().list_containers()] == ["box"]


def test_keys_can_be_switched_off(hub: RunningHub) -> None:
    with storage_account(hub) as account:
        client = account.client()
        account.update("--allow-shared-key-access", "false")
        refused(lambda: list(client.list_containers()), "KeyBasedAuthenticationNotPermitted")
        assert rule(hub) == "auth.local-auth"
        account.update("--allow-shared-key-access", "true")
        assert not list(client.list_containers())


def test_the_firewall_is_told_from_the_role_whatever_one_proves(
    hub: RunningHub, credential_of: Callable[[str], ManagedIdentityCredential]
) -> None:
    with storage_account(hub, "--default-action", "Deny") as account:
        name, _ = identity_with(hub, CONTRIBUTOR, account.resource_id)
        wrong = {"account_name": account.name, "account_key": "d3Jvbmc="}
        for credential in (None, wrong, credential_of(name)):
            client = account.client(credential)
            error = refused(client.get_service_properties, "AuthorizationFailure")
            assert error.response is not None
            assert error.response.headers["Server"] == "Microsoft-HTTPAPI/2.0"
            assert "x-ms-version" not in error.response.headers
            assert rule(hub) == "network.ip-rule"
        network_rule = ("storage", "account", "network-rule")
        hub.isthmus(*network_rule, "add", "--account-name", account.name, "--ip-address", "127.0.0.0/8")
        assert not list(account.client().list_containers())
        refused(lambda: list(account.client(wrong).list_containers()), "AuthenticationFailed")
        hub.isthmus(*network_rule, "remove", "--account-name", account.name, "--ip-address", "127.0.0.0/8")
        refused(lambda: list(account.client().list_containers()), "AuthorizationFailure")
        account.update("--default-action", "Allow", "--public-network-access", "Disabled")
        refused(lambda: list(account.client().list_containers()), "AuthorizationFailure")
        assert rule(hub) == "network.public-access"


@pytest.mark.parametrize("path", ["..%2Fother%2Fx", "a/%2e%2e/x", "a%5C..%5Cx"])
def test_names_that_climb_are_refused(hub: RunningHub, account: Account, container: ContainerClient, path: str) -> None:
    may, every = AccountSasPermissions(read=True, write=True), ResourceTypes(True, True, True)
    sas = generate_account_sas(account.name, account.key(), every, may, datetime.now(UTC) + SOON)
    answer = _put(hub, account, f"/{container.container_name}/{path}?{sas}")
    assert (answer.status, answer.getheader("x-ms-error-code")) == (400, "InvalidResourceName")
    assert rule(hub) == "storage.name"


def _put(hub: RunningHub, account: Account, target: str) -> http.client.HTTPResponse:
    host = account.url.split("/")[2]
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=str(hub.ca)))
    connection.request("PUT", target, b"x", {"x-ms-blob-type": "BlockBlob"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer
