"""Rules for making and changing identities, without a store."""

import base64

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.fakes import HUB, KEY, NOW, NOW_MS, OTHER_KEY, CountedIds
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.devices.identity import (
    AuthenticationType,
    Identity,
    Status,
    changed_identity,
    decode_identity,
    encode_identity,
    new_identity,
    parse_identity,
)

DEVICE = DeviceRef(HUB, "dev1")
MODULE = DeviceRef(HUB, "dev1", "mod1")
SHA1 = "0123456789abcdef0123456789ABCDEF01234567"


def test_keys_are_made_when_none_or_empty_ones_are_given() -> None:
    for keys in (None, {}, {"primaryKey": "", "secondaryKey": ""}, {"primaryKey": None, "secondaryKey": None}):
        identity = make({"authentication": {"symmetricKey": keys, "type": "sas"}})
        assert len(decoded(identity.primary_key)) == len(decoded(identity.secondary_key)) == 32
        assert identity.primary_key != identity.secondary_key


def test_given_keys_are_kept() -> None:
    identity = make(sas(KEY, OTHER_KEY))
    assert (identity.primary_key, identity.secondary_key) == (KEY, OTHER_KEY)


@pytest.mark.parametrize(
    ("primary", "secondary"),
    [
        (KEY, ""),
        ("", KEY),
        (KEY, "not base64!"),
        (base64.b64encode(b"x" * 15).decode(), KEY),
        (base64.b64encode(b"x" * 65).decode(), KEY),
        ("ключ", KEY),
    ],
)
def test_bad_keys_are_refused(primary: str, secondary: str) -> None:
    refused(sas(primary, secondary))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(16, 64))
def test_keys_of_16_to_64_bytes_pass(length: int) -> None:
    key = base64.b64encode(bytes(length)).decode()
    assert make(sas(key, key)).primary_key == key


def test_a_self_signed_identity_needs_a_thumbprint() -> None:
    identity = make({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": SHA1}}})
    assert identity.authentication_type is AuthenticationType.SELF_SIGNED
    assert (identity.primary_thumbprint, identity.secondary_thumbprint) == (SHA1, None)
    assert identity.primary_key is None
    for thumbprints in ({}, {"primaryThumbprint": "ab"}, {"primaryThumbprint": SHA1, "secondaryThumbprint": "xyz"}):
        refused({"authentication": {"type": "selfSigned", "x509Thumbprint": thumbprints}})


def test_a_thumbprint_may_have_separators_and_no_type() -> None:
    spelled = ":".join(SHA1[at : at + 2] for at in range(0, 40, 2))
    identity = make({"authentication": {"x509Thumbprint": {"primaryThumbprint": spelled}}})
    assert identity.authentication_type is AuthenticationType.SELF_SIGNED


def test_certificate_authority_and_none_have_nothing_to_check_against() -> None:
    for kind in ("certificateAuthority", "none"):
        identity = make({"authentication": {"type": kind}})
        assert identity.authentication_type == kind
        assert identity.primary_key is identity.primary_thumbprint is None
    refused({"authentication": {"type": "password"}})


def test_status_may_be_spelled_in_any_case() -> None:
    assert make({"status": "Disabled"}).status is Status.DISABLED
    assert make({"status": "ENABLED"}).status is Status.ENABLED
    assert make({}).enabled
    refused({"status": "paused"})


def test_a_module_is_never_disabled_and_never_an_edge() -> None:
    module = new_identity(MODULE, parse_identity(MODULE, {"status": "disabled", **edge()}), CountedIds(), NOW_MS)
    assert module.enabled
    assert not module.iot_edge


def test_a_status_reason_has_at_most_128_characters() -> None:
    assert make({"statusReason": "r" * 128}).status_reason == "r" * 128
    refused({"statusReason": "r" * 129})


@pytest.mark.parametrize("device_id", ["", "x" * 129, "a b", "a/b", "a#b", "a+b", "ä", "a\n"])
def test_ids_with_other_characters_are_refused(device_id: str) -> None:
    with pytest.raises(HubError) as caught:
        parse_identity(DeviceRef(HUB, device_id), {})
    assert caught.value.code is Code.ARGUMENT_INVALID


def test_ids_may_have_all_the_documented_characters() -> None:
    parse_identity(DeviceRef(HUB, "Az09-.%_*?!(),:=@$'"), {})


@pytest.mark.parametrize(
    "body",
    [{"deviceId": "other"}, {"status": 1}, [], None, "x", {"authentication": "sas"}, {"parentScopes": ["a", "b"]}],
)
def test_bodies_of_another_shape_are_refused(body: object) -> None:
    refused(body)


def test_an_identity_survives_its_stored_form_and_hides_its_keys() -> None:
    identity = make({**sas(KEY, OTHER_KEY), "statusReason": "why", **edge()})
    assert decode_identity(encode_identity(identity)) == identity
    assert KEY not in repr(identity)


def test_etag_and_generation_have_the_shapes_clients_know() -> None:
    identity = make({})
    assert len(identity.generation_id) == 18
    assert identity.generation_id.isdigit()
    assert base64.b64decode(identity.etag).isdigit()


def test_two_creations_in_one_millisecond_differ() -> None:
    ids = CountedIds()
    first, second = (new_identity(DEVICE, parse_identity(DEVICE, {}), ids, NOW_MS) for _ in range(2))
    assert first.generation_id != second.generation_id
    assert first.etag != second.etag


def test_a_change_moves_the_etag_and_keeps_generation_and_keys() -> None:
    before = make(sas(KEY, OTHER_KEY))
    after = change(before, {"status": "disabled", "statusReason": "stolen"})
    assert after.generation_id == before.generation_id
    assert after.etag != before.etag
    assert after.authentication == before.authentication
    assert (after.status_reason, after.status_updated_time) == ("stolen", NOW)


def test_the_status_time_moves_with_the_status_only() -> None:
    before = make({})
    assert change(before, {"statusReason": "x"}).status_updated_time == "0001-01-01T00:00:00Z"


def test_a_change_to_sas_without_keys_makes_keys_where_there_are_none() -> None:
    before = make({"authentication": {"type": "certificateAuthority"}})
    after = change(before, {"authentication": {"type": "sas", "symmetricKey": {}}})
    assert decoded(after.primary_key)
    assert change(after, {"authentication": {"type": "sas", "symmetricKey": {}}}).primary_key == after.primary_key


def test_an_edge_device_gets_a_scope_that_stays() -> None:
    before = make(edge())
    made = f"ms-azure-iot-edge://dev1-{before.generation_id}"
    assert (before.device_scope, before.parent_scopes) == (made, ())
    after = change(before, {**edge(), "deviceScope": "mine", "parentScopes": ["above"]})
    assert (after.device_scope, after.parent_scopes) == (made, ("above",))


def test_scopes_of_a_leaf_are_copied_both_ways() -> None:
    assert make({"deviceScope": "s"}).parent_scopes == ("s",)
    assert make({"parentScopes": ["s"]}).device_scope == "s"
    assert make({}).parent_scopes == ()


def test_a_leaf_that_becomes_an_edge_gets_its_own_scope() -> None:
    after = change(make({"deviceScope": "s"}), edge())
    assert after.device_scope.startswith("ms-azure-iot-edge://dev1-")


def make(body: object) -> Identity:
    return new_identity(DEVICE, parse_identity(DEVICE, body), CountedIds(), NOW_MS)


def change(before: Identity, body: object) -> Identity:
    return changed_identity(before, parse_identity(DEVICE, body), CountedIds(), NOW_MS)


def refused(body: object) -> None:
    with pytest.raises(HubError) as caught:
        make(body)
    assert caught.value.code is Code.ARGUMENT_INVALID


def sas(primary: str, secondary: str) -> dict[str, object]:
    return {"authentication": {"type": "sas", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}}}


def edge() -> dict[str, object]:
    return {"capabilities": {"iotEdge": True}}


def decoded(key: str | None) -> bytes:
    assert key is not None
    return base64.b64decode(key)
