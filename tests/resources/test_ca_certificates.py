"""CA certificates of a hub: which are taken, how they are sent and shown, etags, and the proof of possession."""

import base64
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from devices.fakes import CountedIds
from isthmus.access.ca_certificate import CERTIFICATE_BYTES_MAX
from isthmus.access.issuing import key_usage
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId, RandomIds
from isthmus.resources.ca_certificates import (
    CERTIFICATES_MAX,
    certificate_of,
    certificate_to_arm,
    code_to_arm,
    etag_of,
    new_code,
    put_certificate,
    remove_certificate,
    require_certificate,
    verified,
    with_code,
)
from isthmus.resources.hub import Hub, decode_hub, encode_hub
from support.certificates import DAY, Issued, issue

NOW_MS = SystemClock().utc_ms()
EMPTY = Hub(HubId(1), "hub", "hub.example.test", 4, NOW_MS)
ROOT = issue("Plant CA", authority=True)
OTHER = issue("Other CA", authority=True)
CODE = new_code(RandomIds().uuid)


def put(hub: Hub, certificate: str = ROOT.pem, name: str = "plant", if_match: str | None = None, **more: object) -> Hub:
    body = {"properties": {"certificate": certificate, **more}}
    return put_certificate(hub, name, body, if_match, NOW_MS)


def refused(attempt: object) -> HubError:
    assert callable(attempt)
    with pytest.raises(HubError) as raised:
        attempt()
    return raised.value


def etag(hub: Hub, name: str = "plant") -> str:
    return etag_of(require_certificate(hub, name))


@pytest.mark.parametrize(
    "sent",
    [
        ROOT.pem,
        f"\n{ROOT.pem}\n\n",
        ROOT.pem + OTHER.pem,
        base64.b64encode(ROOT.pem.encode()).decode(),
        base64.b64encode(ROOT.der).decode(),
        base64.encodebytes(ROOT.der).decode(),
    ],
    ids=["PEM", "with blank lines", "several", "PEM in base64", "DER in base64", "in lines"],
)
def test_a_certificate_is_taken_as_clients_send_it(sent: str) -> None:
    assert require_certificate(put(EMPTY, sent), "PLANT").der == ROOT.der


def test_a_certificate_that_ends_like_a_blank_keeps_its_end() -> None:
    der = b"0\x03 signature\x20\n"
    assert certificate_of(base64.b64encode(der).decode(), "properties.certificate") == der


def test_a_certificate_as_az_shows_it() -> None:
    hub = put(EMPTY)
    shown = certificate_to_arm(hub, require_certificate(hub, "plant"))
    properties = shown.pop("properties")
    assert shown == {
        "id": f"{hub.resource_id}/certificates/plant",
        "name": "plant",
        "type": "Microsoft.Devices/IotHubs/Certificates",
        "etag": "AAAAAAAAAAE=",
    }
    assert isinstance(properties, dict)
    assert (properties["subject"], properties["isVerified"]) == ("CN=Plant CA", False)
    assert properties["thumbprint"] == ROOT.certificate.fingerprint(hashes.SHA1()).hex().upper()
    assert properties["certificate"] == ROOT.pem
    assert parsedate_to_datetime(properties["expiry"]) == ROOT.certificate.not_valid_after_utc
    assert parsedate_to_datetime(properties["created"]).tzinfo is UTC
    assert properties["expiry"].endswith(" GMT")


LEAF = issue("dev1", ROOT)
SMALL = issue("Small", authority=True, key=rsa.generate_private_key(65_537, 1_024))
ENDED = issue("Ended", authority=True, begins=-2 * DAY, ends=-DAY)
NO_SIGNING = issue("CA", authority=True, further=[(key_usage(digital_signature=True), True)])
CONSTRAINED = issue("CA", authority=True, further=[(x509.NameConstraints([x509.DNSName("a.test")], None), False)])


NO_AUTHORITIES = {
    "empty": "",
    "words": "no certificate",
    "no ASCII": "ä",
    "words in base64": base64.b64encode(b"no certificate").decode(),
    "half a PEM": "-----BEGIN CERTIFICATE-----\n",
    "a leaf": LEAF.pem,
    "a weak key": SMALL.pem,
    "ended": ENDED.pem,
    "may not sign": NO_SIGNING.pem,
    "constrained": CONSTRAINED.pem,
    "too large": base64.b64encode(b"\x30" * (CERTIFICATE_BYTES_MAX + 1)).decode(),
    "far too large": "A" * 100_000,
}


@pytest.mark.parametrize("name", NO_AUTHORITIES)
def test_what_cannot_vouch_for_devices_is_not_taken(name: str) -> None:
    assert refused(lambda: put(EMPTY, NO_AUTHORITIES[name])).code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize("body", [{}, {"properties": {}}, {"properties": {"certificate": None}}, {"properties": []}])
def test_a_body_needs_a_certificate(body: dict[str, object]) -> None:
    assert refused(lambda: put_certificate(EMPTY, "plant", body, None, NOW_MS)).code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a" * 65, "a\n"])
def test_names_that_may_not_be(name: str) -> None:
    assert refused(lambda: put(EMPTY, name=name)).code is Code.ARGUMENT_INVALID


def test_a_hub_has_a_limited_number_of_certificates_and_those_may_still_be_replaced() -> None:
    hub = EMPTY
    for number in range(CERTIFICATES_MAX):
        hub = put(hub, name=f"ca-{number}")
    assert refused(lambda: put(hub, name="one-more")).code is Code.QUOTA_EXCEEDED
    assert require_certificate(put(hub, OTHER.pem, "CA-0"), "ca-0").name == "ca-0"


def test_another_certificate_under_the_same_name_is_not_verified() -> None:
    hub = put(EMPTY, isVerified=True)
    assert require_certificate(hub, "plant").is_verified
    assert put(hub) is hub, "the same once more changes nothing"
    replaced = require_certificate(put(hub, OTHER.pem), "plant")
    assert (replaced.is_verified, replaced.der, replaced.created_ms) == (False, OTHER.der, NOW_MS)
    assert not require_certificate(put(hub, isVerified=False), "plant").is_verified


def test_each_change_has_an_etag_that_no_other_had() -> None:
    hub = put(EMPTY)
    seen = [etag(hub)]
    hub = put(hub, OTHER.pem)
    seen.append(etag(hub))
    hub = put(remove_certificate(hub, "plant", etag(hub)))
    seen.append(etag(hub))
    hub = with_code(hub, "plant", "*", CODE, NOW_MS)
    seen.append(etag(hub))
    assert len(set(seen)) == len(seen)


def test_a_stale_etag_changes_nothing_and_what_needs_one_needs_it() -> None:
    hub = put(put(EMPTY), OTHER.pem)
    stale, present = etag(put(EMPTY)), etag(hub)
    attempts = [
        lambda: put(hub, if_match=stale),
        lambda: put(EMPTY, if_match="*"),
        *(lambda each=each: remove_certificate(hub, "plant", each) for each in (stale, None)),
        *(lambda each=each: with_code(hub, "plant", each, CODE, NOW_MS) for each in (stale, None)),
        *(lambda each=each: verified(hub, "plant", each, proof(), NOW_MS) for each in (stale, None)),
    ]
    assert [refused(attempt).code for attempt in attempts] == [Code.PRECONDITION_FAILED] * len(attempts)
    for wanted in (present, f'"{present}"', f'W/"{present}"', "*"):
        assert remove_certificate(hub, "plant", wanted).certificates == ()


def test_what_is_not_there_is_not_found() -> None:
    for attempt in (
        lambda: require_certificate(EMPTY, "none"),
        lambda: remove_certificate(EMPTY, "none", "*"),
        lambda: with_code(EMPTY, "none", "*", CODE, NOW_MS),
        lambda: verified(EMPTY, "none", "*", proof(), NOW_MS),
    ):
        assert refused(attempt).code is Code.CERTIFICATE_NOT_FOUND


def proof(name: str = CODE, issuer: Issued = ROOT) -> str:
    return issue(name, issuer).pem


def test_possession_is_proved_by_a_certificate_for_the_code() -> None:
    asked = with_code(put(EMPTY), "plant", "*", CODE, NOW_MS)
    shown = code_to_arm(asked, require_certificate(asked, "plant"))["properties"]
    assert isinstance(shown, dict)
    assert (shown["verificationCode"], shown["isVerified"]) == (CODE, False)
    hub = verified(asked, "plant", etag(asked), proof(), NOW_MS)
    certificate = require_certificate(hub, "plant")
    assert (certificate.is_verified, certificate.code) == (True, "")
    assert refused(lambda: verified(hub, "plant", "*", proof(), NOW_MS)).code is Code.INVALID_OPERATION


@pytest.mark.parametrize(
    "shown",
    [
        proof(issuer=OTHER),
        proof(CODE.lower()),
        proof(new_code(RandomIds().uuid)),
        issue(CODE).pem,
        issue(CODE, issue("Plant CA", authority=True)).pem,
        "no certificate",
        None,
    ],
    ids=["another CA", "another case", "an earlier code", "self-signed", "a namesake", "none", "null"],
)
def test_what_proves_nothing_is_refused(shown: str | None) -> None:
    hub = with_code(put(EMPTY), "plant", "*", CODE, NOW_MS)
    assert refused(lambda: verified(hub, "plant", "*", shown, NOW_MS)).code is Code.ARGUMENT_INVALID
    assert not require_certificate(hub, "plant").is_verified


def test_a_certificate_that_is_replaced_needs_a_proof_of_its_own() -> None:
    hub = put(with_code(put(EMPTY), "plant", "*", CODE, NOW_MS), OTHER.pem)
    assert refused(lambda: verified(hub, "plant", "*", proof(), NOW_MS)).code is Code.INVALID_OPERATION


def test_codes_are_random_and_fit_into_a_common_name() -> None:
    codes = {new_code(RandomIds().uuid) for _ in range(10)}
    assert len(codes) == 10
    assert {len(code) for code in codes} == {48}
    assert new_code(CountedIds().uuid).isalnum()


def test_certificates_are_stored_with_the_hub() -> None:
    hub = with_code(put(EMPTY, isVerified=True), "plant", "*", CODE, NOW_MS)
    assert decode_hub(encode_hub(hub), 7) == replace(hub, revision=7)
    assert decode_hub(encode_hub(EMPTY).replace(b'"certificates":[],', b""), 7).certificates == ()
