"""File upload in ARM's form: what a hub accepts as its storage, and that a key is never shown."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.resources.arm import hub_to_arm
from isthmus.resources.arm_patch import apply_body, apply_patch
from isthmus.resources.file_upload import FileUploadSettings, NotificationSettings, StorageEndpoint
from isthmus.resources.hub import Hub, decode_hub, encode_hub
from isthmus.resources.hub_identity import AttachedIdentity, HubIdentity
from isthmus.resources.routing_endpoint import EndpointAuthentication
from isthmus.resources.storage_account import masked, read_account
from resources.test_hub import HUB

KEY = "a2V5"
ACCOUNT = f"DefaultEndpointsProtocol=https;AccountName=plant;AccountKey={KEY};EndpointSuffix=example.test"
ATTACHED = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/writer"
WITH_IDENTITIES = replace(HUB, identity=HubIdentity(True, "p", (AttachedIdentity(ATTACHED, "q", "c"),)))


def storage(**members: object) -> dict[str, object]:
    usual: dict[str, object] = {"connectionString": ACCOUNT, "containerName": "uploads"}
    return {"properties": {"storageEndpoints": {"$default": usual | members}}}


def shown(hub: Hub) -> Mapping[str, object]:
    properties = hub_to_arm(hub)["properties"]
    assert isinstance(properties, dict)
    endpoint: Mapping[str, object] = properties["storageEndpoints"]["$default"]
    return endpoint


def test_a_container_by_key_is_kept_and_its_key_never_shown() -> None:
    hub = apply_patch(HUB, storage(sasTtlAsIso8601="PT2H", relay=True))
    assert hub.file_upload.storage == StorageEndpoint(ACCOUNT, "uploads", sas_ttl_ms=7_200_000, relay=True)
    assert shown(hub)["connectionString"] == ACCOUNT.replace(KEY, "****")
    assert KEY not in repr(hub_to_arm(hub)) + repr(hub)
    assert decode_hub(encode_hub(hub), hub.revision) == hub


def test_what_was_shown_can_be_sent_back_with_a_change() -> None:
    hub = apply_patch(HUB, storage())
    assert apply_patch(hub, hub_to_arm(hub)) == apply_body(hub, hub_to_arm(hub)) == hub
    body = storage(connectionString=masked(ACCOUNT), sasTtlAsIso8601="PT5M")
    assert apply_patch(hub, body).file_upload.storage == StorageEndpoint(ACCOUNT, "uploads", sas_ttl_ms=300_000)


def test_a_container_is_taken_away_with_all_that_was_said_of_it() -> None:
    hub = apply_patch(HUB, storage(relay=True, sasTtlAsIso8601="PT2H"))
    left = apply_patch(hub, storage(connectionString="", containerName=""))
    assert left.file_upload.storage == StorageEndpoint(sas_ttl_ms=7_200_000)
    assert left == apply_patch(hub, {"properties": {"storageEndpoints": {"$default": {"connectionString": None}}}})
    with pytest.raises(HubError, match="connectionString"):
        apply_patch(HUB, storage(connectionString=""))


def test_with_an_identity_no_key_is_kept() -> None:
    hub = apply_patch(WITH_IDENTITIES, storage(authenticationType="IdentityBased"))
    kept = hub.file_upload.storage
    assert KEY not in kept.connection_string
    assert kept.account.blob_url == "https://plant.blob.example.test"
    assert (kept.authentication, kept.identity) == (EndpointAuthentication.IDENTITY, "")
    chosen = storage(authenticationType="identityBased", identity={"userAssignedIdentity": ATTACHED})
    assert apply_patch(WITH_IDENTITIES, chosen).file_upload.storage.identity == ATTACHED


def test_a_body_may_give_the_identity_that_its_storage_uses() -> None:
    body = {"identity": {"type": "SystemAssigned"}, **storage(authenticationType="identityBased")}
    assert apply_body(HUB, body).file_upload.storage.configured


@pytest.mark.parametrize(
    ("hub", "members"),
    [
        (HUB, {"connectionString": "AccountName=plant"}),
        (HUB, {"connectionString": f"AccountName=plant;AccountKey={KEY[1:]}"}),
        (HUB, {"connectionString": masked(ACCOUNT)}),
        (HUB, {"connectionString": f"AccountKey={KEY}"}),
        (HUB, {"connectionString": f"AccountName=Not/One;AccountKey={KEY}"}),
        (HUB, {"connectionString": f"BlobEndpoint=ftp://plant.example.test;AccountKey={KEY}"}),
        (HUB, {"containerName": "Uploads"}),
        (HUB, {"containerName": ""}),
        (HUB, {"containerName": "a--b"}),
        (HUB, {"authenticationType": "identityBased"}),
        (HUB, {"authenticationType": "none"}),
        (HUB, {"sasTtlAsIso8601": "PT59S"}),
        (HUB, {"sasTtlAsIso8601": "P2D"}),
        (HUB, {"relay": "perhaps"}),
        (HUB, {"other": 1}),
        (WITH_IDENTITIES, {"identity": {"userAssignedIdentity": ATTACHED}}),
        (WITH_IDENTITIES, {"authenticationType": "identityBased", "identity": {"userAssignedIdentity": "/other"}}),
    ],
)
def test_what_is_no_container_is_refused(hub: Hub, members: Mapping[str, object]) -> None:
    with pytest.raises(HubError) as refused:
        apply_patch(hub, storage(**members))
    assert refused.value.code is Code.ARGUMENT_INVALID
    assert KEY not in refused.value.message


def test_notifications_have_their_settings_and_need_a_container() -> None:
    notify = {"enableFileUploadNotifications": True}
    with pytest.raises(HubError, match="storageEndpoints"):
        apply_patch(HUB, {"properties": notify})
    rules = {"lockDurationAsIso8601": "PT5S", "ttlAsIso8601": "P2D", "maxDeliveryCount": 7}
    body = {
        "properties": {**storage()["properties"], **notify, "messagingEndpoints": {"fileNotifications": rules}}  # type: ignore[dict-item]
    }
    hub = apply_body(HUB, body)
    assert hub.file_upload == FileUploadSettings(
        StorageEndpoint(ACCOUNT, "uploads"), True, NotificationSettings(172_800_000, 5_000, 7)
    )
    assert apply_body(hub, {"properties": {}}).file_upload == FileUploadSettings()


@pytest.mark.parametrize(
    "rules", [{"lockDurationAsIso8601": "PT301S"}, {"ttlAsIso8601": "P3D"}, {"maxDeliveryCount": 101}, {"a": 1}]
)
def test_settings_of_notifications_outside_their_ranges_are_refused(rules: Mapping[str, object]) -> None:
    with pytest.raises(HubError):
        apply_patch(HUB, {"properties": {"messagingEndpoints": {"fileNotifications": rules}}})


@pytest.mark.parametrize(
    ("text", "name", "url"),
    [
        (f"AccountName=acct;AccountKey={KEY}", "acct", "https://acct.blob.core.windows.net"),
        (
            f"BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1/;AccountKey={KEY}",
            "devstoreaccount1",
            "http://127.0.0.1:10000/devstoreaccount1",
        ),
        ("BlobEndpoint=https://plant.blob.example.test;", "plant", "https://plant.blob.example.test"),
    ],
)
def test_accounts_of_connection_strings(text: str, name: str, url: str) -> None:
    account = read_account(text, "connectionString")
    assert (account.name, account.blob_url) == (name, url)
    assert account.place == url.partition("://")[2]
