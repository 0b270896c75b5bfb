"""Signatures: ours are the SDK's, in every version; nothing that is changed afterwards is taken."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from azure.storage.blob import UserDelegationKey, generate_account_sas, generate_blob_sas, generate_container_sas
from hypothesis import given
from hypothesis import strategies as st

from isthmus.neighbours.blob import sas
from isthmus.neighbours.blob.blob import StoredPolicy
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.names import Target
from isthmus.neighbours.blob.query import parse_query
from isthmus.neighbours.blob.sas import DelegationKey, SasKind, StorageSas, parse_sas, text_to_sign, verify_sas
from neighbours.blob.blobs import refused_as

KEYS = (base64.b64encode(b"first" * 12).decode(), base64.b64encode(b"second" * 10).decode())
EXPIRY = datetime(2040, 1, 1, tzinfo=UTC)
BEFORE_MS = int((EXPIRY - timedelta(hours=1)).timestamp() * 1000)
TARGET = Target("box", "dir/räte x")
VERSIONS = (
    "2015-04-05",
    "2018-03-28",
    "2018-11-09",
    "2020-02-10",
    "2020-12-06",
    "2025-07-05",
    "2026-04-06",
    "2030-01-01",
)


def parsed(text: str) -> StorageSas:
    found = parse_sas(parse_query(text))
    assert found is not None
    return found


def test_what_the_sdk_signs_is_taken() -> None:
    blob = generate_blob_sas("acct", TARGET.container, TARGET.blob, account_key=KEYS[0], permission="rw", expiry=EXPIRY,
                             ip="10.0.0.1-10.0.0.9", protocol="https", content_type="text/plain")  # fmt: skip
    box = generate_container_sas("acct", "box", account_key=KEYS[1], permission="rl", expiry=EXPIRY, start=EXPIRY)
    account = generate_account_sas("acct", KEYS[0], "sco", "rwl", EXPIRY, ip="10.0.0.1")
    for text, kind, place in ((blob, SasKind.SERVICE, 0), (box, SasKind.SERVICE, 1), (account, SasKind.ACCOUNT, 0)):
        found = parsed(text)
        assert found.kind is kind
        assert verify_sas(found, text_to_sign(found, "acct", TARGET, {}), KEYS) == place


def test_what_the_sdk_signs_by_a_delegation_key_is_taken() -> None:
    key = DelegationKey("oid", "tid", "2039-12-31T00:00:00Z", "2040-01-02T00:00:00Z", "b", "2026-10-06")
    shown = UserDelegationKey()
    shown.signed_oid, shown.signed_tid, shown.signed_start = key.object_id, key.tenant_id, key.start
    shown.signed_expiry, shown.signed_service, shown.signed_version = key.expiry, key.service, key.version
    shown.signed_delegated_user_tid, shown.value = None, key.value(b"secret")
    text = generate_blob_sas("acct", "box", TARGET.blob, user_delegation_key=shown, permission="r", expiry=EXPIRY,
                             correlation_id="c", request_headers={"x-ms-a": "1", "X-Ms-B": "2"})  # fmt: skip
    found = parsed(text)
    assert (found.kind, found.delegation_key) == (SasKind.DELEGATION, key)
    headers = {"x-ms-a": "1", "x-ms-b": "2"}
    sas.delegation_matches(found, text_to_sign(found, "acct", TARGET, headers), b"secret")
    for secret, shown_headers, target in (
        (b"other", headers, TARGET),
        (b"secret", {**headers, "x-ms-a": "3"}, TARGET),
        (b"secret", headers, Target("box", "other")),
    ):
        with pytest.raises(StorageError):
            sas.delegation_matches(found, text_to_sign(found, "acct", target, shown_headers), secret)


def test_nobody_adds_a_stored_access_policy_to_what_was_signed_without() -> None:
    """Only a service SAS is signed with the policy's name: in the others anybody could write it, for its letters."""
    account = generate_account_sas("acct", KEYS[0], "sco", "r", EXPIRY)
    assert refused_as(lambda: parsed(f"{account}&si=writers")) is StorageCode.AUTHENTICATION_FAILED
    assert refused_as(lambda: parsed("sv=2026-04-06&sr=b&sig=YQ%3D%3D&skoid=o&si=writers")) is not None
    service = generate_container_sas("acct", "box", account_key=KEYS[0], policy_id="readers")
    found = sas.with_policy(parsed(service), {"readers": StoredPolicy("readers", "", "2040-01-01", "r")})
    assert found.permission == "r"
    assert verify_sas(found, text_to_sign(found, "acct", TARGET, {}), KEYS) == 0
    other = sas.with_policy(parsed(service.replace("readers", "writers")), {"writers": StoredPolicy("writers")})
    assert refused_as(lambda: verify_sas(other, text_to_sign(other, "acct", TARGET, {}), KEYS)) is not None
    twice = generate_container_sas("acct", "box", account_key=KEYS[0], policy_id="readers", permission="rw")
    policies = {"readers": StoredPolicy("readers", "", "2040-01-01", "r")}
    assert refused_as(lambda: sas.with_policy(parsed(twice), policies)) is StorageCode.AUTHENTICATION_FAILED


def test_an_accounts_signature_is_not_over_headers_of_the_answer() -> None:
    account = generate_account_sas("acct", KEYS[0], "sco", "r", EXPIRY)
    assert parsed(f"{account}&rsct=text%2Fhtml").overrides() == {}
    assert refused_as(lambda: parsed(f"{account}&rsct=a%0d%0ab")) is StorageCode.AUTHENTICATION_FAILED


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", list(SasKind))
def test_no_two_requests_have_the_same_text(version: str, kind: SasKind) -> None:
    """With fields in another one's place the text is another: what one grants, no other can be read as."""
    names = [*_FIELDS[kind], *(_RESPONSE if kind is not SasKind.ACCOUNT else ())]
    texts = {_text(version, kind, {name: "v"}) for name in names}
    unsigned = [name for name in names if _text(version, kind, {name: "v"}) == _text(version, kind, {})]
    assert len(texts) == len(names) - len(unsigned) + bool(unsigned)
    assert set(unsigned) <= _UNSIGNED_BEFORE[version][kind]


def _text(version: str, kind: SasKind, fields: dict[str, str]) -> str:
    base = {"sv": version, "sr": "b", **({"skoid": "o"} if kind is SasKind.DELEGATION else {})}
    return text_to_sign(StorageSas(kind, {**base, **fields}, b""), "acct", TARGET, {"v": "1"})


_RESPONSE = ("rscc", "rscd", "rsce", "rscl", "rsct")
_FIELDS = {
    SasKind.ACCOUNT: ("sp", "ss", "srt", "st", "se", "sip", "spr"),
    SasKind.SERVICE: ("sp", "st", "se", "si", "sip", "spr"),
    SasKind.DELEGATION: ("sp", "st", "se", "sktid", "skt", "ske", "sks", "skv", "scid", "skdutid", "sip", "spr", "srh"),
}


class _Unsigned(dict[str, dict[SasKind, set[str]]]):
    """Fields that are newer than a version, and mean nothing in it."""

    def __missing__(self, version: str) -> dict[SasKind, set[str]]:
        newer = {"scid": "2020-02-10", "skdutid": "2025-07-05", "srh": "2026-04-06"}
        unknown = {name for name, since in newer.items() if version < since}
        return {kind: unknown if kind is SasKind.DELEGATION else set() for kind in SasKind}


_UNSIGNED_BEFORE = _Unsigned()


@given(st.sampled_from(["sp", "se", "sr", "sv", "sip", "spr", "rsct", "si"]), st.text("abrw0129-:TZ", min_size=1))
def test_a_changed_field_is_refused(name: str, value: str) -> None:
    text = generate_blob_sas("acct", "box", "x", account_key=KEYS[0], permission="r", expiry=EXPIRY)
    fields = dict(parse_qsl(text))

    def take() -> None:
        found = parsed(urlencode({**fields, name: value}))
        verify_sas(found, text_to_sign(found, "acct", Target("box", "x"), {}), KEYS)

    expected = None if fields.get(name) == value else StorageCode.AUTHENTICATION_FAILED
    assert refused_as(take) is expected


NAMES = st.sampled_from(["sig", "sv", "sr", "sp", "se", "ss", "srt", "skoid", "saoid", "sip"])


@given(st.dictionaries(NAMES, st.text(max_size=20)))
def test_any_query_is_read_or_refused(query: dict[str, str]) -> None:
    def read() -> None:
        found = parse_sas(query)
        if found is not None:
            text_to_sign(found, "acct", TARGET, {})
            sas.check_time(found, BEFORE_MS)
            sas.check_peer(found, "10.0.0.1")

    code = refused_as(read)
    assert code is None or code.status == 403


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"se": "2040-01-01T00:00:00Z"}, True),
        ({"se": "2040-01-01"}, True),
        ({"se": "2039-12-31T22:59Z"}, False),
        ({"se": "2040-01-01", "st": "2039-12-31T23:30:00Z"}, False),
        ({"se": "2040-01-01", "st": "2039-12-31"}, True),
        ({"se": "soon"}, False),
        ({}, False),
    ],
)
def test_times_are_kept(fields: dict[str, str], allowed: bool) -> None:
    found = StorageSas(SasKind.SERVICE, {"sv": "2020-12-06", **fields}, b"")
    if allowed:
        sas.check_time(found, BEFORE_MS)
    else:
        with pytest.raises(StorageError):
            sas.check_time(found, BEFORE_MS)


@pytest.mark.parametrize(
    ("wanted", "address", "allowed"),
    [
        ("", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1-10.0.0.9", "10.0.0.9", True),
        ("10.0.0.1-10.0.0.9", "10.0.0.10", False),
        ("10.0.0.1", "::1", False),
        ("nonsense", "10.0.0.1", False),
    ],
)
def test_addresses_are_kept(wanted: str, address: str, allowed: bool) -> None:
    found: Any = StorageSas(SasKind.SERVICE, {"sip": wanted}, b"")
    if allowed:
        sas.check_peer(found, address)
    else:
        with pytest.raises(StorageError) as refused:
            sas.check_peer(found, address)
        assert refused.value.storage_code is StorageCode.SOURCE_IP_MISMATCH
