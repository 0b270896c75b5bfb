"""`storage account` and `storage container` at a running hub, private doors of an account, and its end."""

import http.client
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas

from clients.names import resolved
from clients.storage import Account, storage_account
from support.server import RunningHub

HUB_HOST = "hub.isthmus.test"
MIB = 1024 * 1024


@pytest.fixture
def account(hub: RunningHub) -> Iterator[Account]:
    with storage_account(hub) as made:
        yield made


def test_an_account_is_made_shown_changed_and_deleted(hub: RunningHub) -> None:
    words = ("storage", "account")
    made = hub.json(*words, "create", "-n", "plantblobs", "--sku", "Standard_LRS", "--tags", "site=north")
    assert (made["kind"], made["sku"]["name"], made["tags"]) == ("StorageV2", "Standard_LRS", {"site": "north"})
    assert made["primaryEndpoints"]["blob"] == "https://plantblobs.blob.isthmus.test/"
    assert made["networkRuleSet"]["bypass"] == "AzureServices"
    assert "plantblobs" in [each["name"] for each in hub.json(*words, "list")]
    taken = hub.json(*words, "check-name", "-n", "plantblobs")
    assert (taken["nameAvailable"], taken["reason"]) == (False, "AlreadyExists")
    assert hub.json(*words, "check-name", "-n", "Not-Good")["reason"] == "AccountNameInvalid"

    closed = ("--default-action", "Deny", "--bypass", "None", "--tags", "site=south")
    changed = hub.json(*words, "update", "-n", "plantblobs", *closed)
    assert (changed["networkRuleSet"]["defaultAction"], changed["networkRuleSet"]["bypass"]) == ("Deny", "None")
    assert changed["tags"] == {"site": "south"}
    off = hub.json(*words, "update", "-n", "plantblobs", "--set", "properties.publicNetworkAccess=Disabled")
    assert (off["publicNetworkAccess"], off["networkAcls"]["defaultAction"]) == ("Disabled", "Deny")
    assert hub.json(*words, "show", "-n", "plantblobs") == off

    hub.isthmus(*words, "delete", "-n", "plantblobs", "--yes")
    assert "There is no storage account plantblobs here" in hub.isthmus(*words, "show", "-n", "plantblobs", code=1)
    assert hub.json(*words, "check-name", "-n", "plantblobs")["nameAvailable"] is True


def test_what_cannot_be_is_refused(hub: RunningHub, account: Account) -> None:
    create = ("storage", "account", "create", "-n")
    assert "small letters and digits" in hub.isthmus(*create, "Plant-Blobs", code=1)
    assert "allowBlobPublicAccess" in hub.isthmus(*create, "plantblobs", "--allow-blob-public-access", "true", code=1)
    rule = ("storage", "account", "network-rule", "add", "-n", account.name)
    assert "CIDR" in hub.isthmus(*rule, "--ip-address", "nowhere", code=1)
    assert "ARM id" in hub.isthmus(*rule, "--resource-id", "hub", code=1)
    assert "Say whom" in hub.isthmus(*rule, code=1)


def test_keys_are_shown_and_renewed(hub: RunningHub, account: Account) -> None:
    keys = ("storage", "account", "keys")
    first, second = hub.json(*keys, "list", "-n", account.name)
    assert (first["keyName"], second["keyName"], first["permissions"]) == ("key1", "key2", "FULL")
    renewed, kept = hub.json(*keys, "renew", "-n", account.name, "--key", "primary")
    assert (renewed["value"] != first["value"], kept) == (True, second)
    string = hub.json("storage", "account", "show-connection-string", "-n", account.name)["connectionString"]
    with BlobServiceClient.from_connection_string(string, **account.options()) as client:
        assert not list(client.list_containers())
    assert first["value"] not in str(hub.json("audit", "list")), "the journal knows no keys"


def test_network_rules_are_added_listed_and_removed(hub: RunningHub, account: Account) -> None:
    words, hub_id = ("storage", "account", "network-rule"), hub.json("iot", "hub", "show")["id"]
    hub.json(*words, "add", "--account-name", account.name, "--ip-address", "198.51.100.0/24", "203.0.113.9")
    hub.json(*words, "add", "--account-name", account.name, "--resource-id", hub_id)
    listed = hub.json(*words, "list", "--account-name", account.name)
    assert [each["ipAddressOrRange"] for each in listed["ipRules"]] == ["198.51.100.0/24", "203.0.113.9"]
    assert [each["resourceId"] for each in listed["resourceAccessRules"]] == [hub_id]
    hub.json(*words, "remove", "--account-name", account.name, "--ip-address", "203.0.113.9", "--resource-id", hub_id)
    listed = hub.json(*words, "list", "--account-name", account.name)
    assert ([each["ipAddressOrRange"] for each in listed["ipRules"]], listed["resourceAccessRules"]) == (
        ["198.51.100.0/24"],
        [],
    )
    gone = (*words, "remove", "--account-name", account.name, "--ip-address", "203.0.113.9")
    assert "There is no rule for 203.0.113.9" in hub.isthmus(*gone, code=1)


def test_containers_are_made_listed_and_deleted(hub: RunningHub, account: Account) -> None:
    words, where = ("storage", "container"), ("--account-name", account.name, "--auth-mode", "login")
    assert hub.json(*words, "create", "-n", "box", *where, "--metadata", "site=north") == {"created": True}
    assert hub.json(*words, "create", "-n", "box", *where) == {"created": False}
    assert hub.json(*words, "exists", "-n", "box", *where) == {"exists": True}
    shown = hub.json(*words, "show", "-n", "box", *where)
    assert (shown["name"], shown["metadata"]) == ("box", {"site": "north"})
    assert [each["name"] for each in hub.json(*words, "list", *where)] == ["box"]
    with account.client() as client:
        assert client.get_container_client("box").get_container_properties().metadata == {"site": "north"}
    assert "invalid characters" in hub.isthmus(*words, "create", "-n", "Box", *where, code=1)
    assert hub.json(*words, "delete", "-n", "box", *where) == {"deleted": True}
    assert hub.json(*words, "delete", "-n", "box", *where) == {"deleted": False}
    assert hub.json(*words, "exists", "-n", "box", *where) == {"exists": False}


def test_a_private_door_leads_in_past_the_closed_public_one(
    hub: RunningHub, account: Account, loopback_address: str
) -> None:
    account.update("--public-network-access", "Disabled")
    host, name = account.url.split("/")[2], f"to-{account.name}"
    hub.json(
        *("network", "private-endpoint", "create", "-n", name, "--connection-name", name, "--group-id", "blob"),
        *("--private-connection-resource-id", account.resource_id, "--manual-request", "true"),
        *("--ip-config", f"private-ip-address={loopback_address}", "group-id=blob", "member-name=blob"),
    )

    def refused() -> str:
        with account.client() as client, pytest.raises(HttpResponseError) as caught:
            list(client.list_containers())
        assert caught.value.error_code == "AuthorizationFailure"
        return str(hub.json("explain", "--top", "1")[0]["rule"])

    assert refused() == "network.public-access"
    connections, where = ("storage", "account", "private-endpoint-connection"), ("--account-name", account.name)
    with resolved(host, loopback_address):
        assert refused() == "network.private-endpoint-pending"
        (made,) = hub.json(*connections, "list", *where)
        hub.json(*connections, "approve", "-n", made["name"], *where)
        with account.client() as client:
            client.create_container("box").upload_blob("x", b"inside")
        hub.json(*connections, "reject", "-n", made["name"], *where)
        assert refused() == "network.private-endpoint-rejected"
    (resource,) = hub.json("storage", "account", "private-link-resource", "list", *where)
    assert resource["properties"]["requiredZoneNames"] == ["privatelink.blob.isthmus.test"]
    hub.isthmus("network", "private-endpoint", "delete", "-n", name)


CHANGES = (
    ("keys", "renew", "--key", "key1"),
    ("update", "--default-action", "Deny"),
    ("update", "--allow-shared-key-access", "false"),
)


@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
def test_a_change_ends_what_it_concerns_and_is_under_way(
    hub: RunningHub, account: Account, change: tuple[str, ...]
) -> None:
    with account.client() as client:
        client.create_container("box").upload_blob("x", bytes(32 * MIB))
    every, may = ResourceTypes(True, True, True), AccountSasPermissions(read=True)
    sas = generate_account_sas(account.name, account.key(), every, may, datetime.now(UTC) + timedelta(hours=1))
    host = account.url.split("/")[2]
    reader = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=str(hub.ca)))
    reader.request("GET", f"/box/x?{sas}")
    answer = reader.getresponse()
    assert (answer.status, answer.read(1)) == (200, b"\0")
    hub.isthmus("storage", "account", *change, "-n", account.name)
    with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
        answer.read()
    reader.close()
