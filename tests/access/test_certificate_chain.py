"""Chains of devices' certificates: what holds, what does not and why, and that no input does more."""

import datetime
from collections.abc import Callable, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from access.chains import registered
from isthmus.access.ca_certificate import CERTIFICATE_BYTES_MAX, CaCertificate
from isthmus.access.certificate_chain import PRESENTED_MAX, Vouched, authority_lost, judge_chain
from isthmus.access.issuing import key_usage
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Hop, Refusal
from support.certificates import DAY, Issued, issue

NOW_MS = SystemClock().utc_ms()
ROOT = issue("Root", authority=True)
PLANT = issue("Plant", ROOT, authority=True)
LINE = issue("Line", PLANT, authority=True)
STRANGER = issue("Root", authority=True)


def judge(
    chain: Sequence[Issued], *known: CaCertificate, now_ms: int = NOW_MS, more: Sequence[bytes] = ()
) -> Vouched | Refusal:
    return judge_chain([*(each.der for each in chain), *more], known, now_ms)


def rule_of(judged: Vouched | Refusal) -> str:
    assert isinstance(judged, Refusal), "it was let in"
    assert judged.hop is Hop.AUTHENTICATION
    assert judged.remedy
    return judged.rule


def holds(judged: Vouched | Refusal) -> Vouched:
    assert isinstance(judged, Vouched), judged
    return judged


@pytest.mark.parametrize(
    ("above", "anchor"),
    [
        ([LINE, PLANT], ROOT),
        ([LINE, PLANT, ROOT], ROOT),
        ([PLANT, LINE], ROOT),
        ([LINE], PLANT),
        ([], LINE),
        ([LINE, PLANT], LINE),
        ([STRANGER, LINE, STRANGER, PLANT], ROOT),
    ],
    ids=["whole", "with the root", "in any order", "short", "shortest", "longer than needed", "with others"],
)
def test_a_chain_holds_that_leads_up_to_a_registered_certificate(above: list[Issued], anchor: Issued) -> None:
    vouched = holds(judge([issue("dev1", LINE), *above], registered(anchor)))
    assert vouched.common_name == "dev1"
    assert vouched.authority == registered(anchor)


def test_it_ends_when_the_first_of_its_certificates_ends() -> None:
    short = issue("Short", ROOT, authority=True, ends=DAY / 2)
    vouched = holds(judge([issue("dev1", short), short], registered(ROOT)))
    assert vouched.not_after_ms == int(short.certificate.not_valid_after_utc.timestamp()) * 1000


def test_of_two_certificates_of_one_name_the_right_one_vouches() -> None:
    old, new = registered(STRANGER, "old"), registered(ROOT, "new")
    assert holds(judge([issue("dev1", ROOT)], old, new)).authority == new
    assert holds(judge([issue("dev1", STRANGER)], old, new)).authority == old


def test_a_renewed_authority_with_the_same_key_vouches_for_what_it_issued_before() -> None:
    renewed = issue("Root", authority=True, key=ROOT.key, ends=10 * DAY)
    ended = issue("Root", authority=True, key=ROOT.key, begins=-2 * DAY, ends=-DAY)
    vouched = holds(judge([issue("dev1", ROOT)], registered(ended, "old"), registered(renewed, "new")))
    assert vouched.authority.name == "new"


def test_rsa_and_ecdsa_may_stand_in_one_chain() -> None:
    big = issue("Big", authority=True, key=rsa.generate_private_key(65_537, 2_048))
    above = issue("Above", big, authority=True, digest=hashes.SHA512())
    assert holds(judge([issue("dev1", above), above], registered(big))).common_name == "dev1"


USES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
SMALL = issue("Small", ROOT, authority=True, key=rsa.generate_private_key(65_537, 1_024))
LEAF_ONLY = issue("Leaf", ROOT)
NARROW = issue("Narrow", ROOT, authority=True, path_length=0)
BELOW_NARROW = issue("Below", NARROW, authority=True)
NO_SIGNING = issue("NoSigning", ROOT, authority=True, further=[(key_usage(digital_signature=True), True)])
CONSTRAINED = issue(
    *("Constrained", ROOT), authority=True, further=[(x509.NameConstraints([x509.DNSName("a.test")], None), True)]
)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
ENDED = issue("Ended", ROOT, authority=True, begins=-2 * DAY, ends=-DAY)

REFUSED: dict[str, tuple[str, Callable[[], Vouched | Refusal]]] = {
    "no registered certificate": ("auth.ca-unknown", lambda: judge([issue("dev1", ROOT)])),
    "another authority": ("auth.ca-unknown", lambda: judge([issue("dev1", PLANT), PLANT], registered(LINE))),
    "self-signed": ("auth.ca-unknown", lambda: judge([issue("dev1")], registered(ROOT))),
    "without intermediates": ("auth.ca-unknown", lambda: judge([issue("dev1", LINE)], registered(ROOT))),
    "a gap": ("auth.ca-unknown", lambda: judge([issue("dev1", LINE), LINE], registered(ROOT))),
    "not verified": (
        "auth.ca-unverified",
        lambda: judge([issue("dev1", ROOT)], registered(ROOT, is_verified=False)),
    ),
    "verified above, not verified where it leads": (
        "auth.ca-unverified",
        lambda: judge([issue("dev1", PLANT)], registered(PLANT, is_verified=False), registered(ROOT, "root")),
    ),
    "an impostor of the same name": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", STRANGER)], registered(ROOT)),
    ),
    "an impostor with his own root beside": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", STRANGER), STRANGER], registered(ROOT)),
    ),
    "leaf not yet valid": (
        "auth.certificate-expired",
        lambda: judge([issue("dev1", ROOT, begins=DAY / 2)], registered(ROOT)),
    ),
    "leaf ended": (
        "auth.certificate-expired",
        lambda: judge([issue("dev1", ROOT, begins=-2 * DAY, ends=-DAY)], registered(ROOT)),
    ),
    "intermediate ended": (
        "auth.certificate-expired",
        lambda: judge([issue("dev1", ENDED), ENDED], registered(ROOT)),
    ),
    "registered one ended": (
        "auth.certificate-expired",
        lambda: judge([issue("dev1", ROOT)], registered(ROOT), now_ms=NOW_MS + 3 * 86_400_000),
    ),
    "intermediate is no CA": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", LEAF_ONLY), LEAF_ONLY], registered(ROOT)),
    ),
    "registered one is no CA": (
        "auth.certificate-chain",
        lambda: judge([issue("d", LEAF_ONLY)], registered(LEAF_ONLY)),
    ),
    "intermediate may not sign": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", NO_SIGNING), NO_SIGNING], registered(ROOT)),
    ),
    "path too long": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", BELOW_NARROW), BELOW_NARROW, NARROW], registered(ROOT)),
    ),
    "name constraints": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", CONSTRAINED), CONSTRAINED], registered(ROOT)),
    ),
    "critical extension that is not understood": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", ROOT, further=[(UNKNOWN, True)])], registered(ROOT)),
    ),
    "for servers only": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", ROOT, further=[(USES, False)])], registered(ROOT)),
    ),
    "key may not prove": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", ROOT, further=[(key_usage(crl_sign=True), True)])], registered(ROOT)),
    ),
    "weak key": ("auth.certificate-chain", lambda: judge([issue("dev1", SMALL), SMALL], registered(ROOT))),
    "too many": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", ROOT), *[PLANT] * PRESENTED_MAX], registered(ROOT)),
    ),
    "no certificate": ("auth.certificate-chain", lambda: judge([], registered(ROOT), more=[b"DER"])),
    "no certificate behind a good one": (
        "auth.certificate-chain",
        lambda: judge([issue("dev1", ROOT)], registered(ROOT), more=[b"\x30\x03\x02\x01\x00"]),
    ),
    "too large": (
        "auth.certificate-chain",
        lambda: judge([], registered(ROOT), more=[b"\x30" * (CERTIFICATE_BYTES_MAX + 1)]),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_hold_is_refused_for_its_reason(name: str) -> None:
    rule, attempt = REFUSED[name]
    assert rule_of(attempt()) == rule


def test_a_path_length_of_zero_lets_leaves_be_signed() -> None:
    assert holds(judge([issue("dev1", NARROW), NARROW], registered(ROOT))).common_name == "dev1"


def test_what_is_missing_is_told_with_its_name() -> None:
    judged = judge([issue("dev1", LINE)], registered(ROOT))
    assert isinstance(judged, Refusal)
    assert "only the device's own certificate came" in judged.value
    assert "CN=Line" in judged.value
    assert "intermediates" in judged.remedy


def test_a_name_that_a_stranger_chose_is_told_without_control_characters() -> None:
    evil = issue("\x1b[2J\n", issue("a" * 60 + "\r", authority=True))
    judged = judge([evil], registered(ROOT))
    assert isinstance(judged, Refusal)
    assert judged.value.isprintable()


def test_many_certificates_of_one_name_cost_a_bounded_number_of_signatures() -> None:
    crowd = [issue("Root", authority=True) for _ in range(PRESENTED_MAX - 1)]
    known = [registered(issue("Root", authority=True), f"ca-{number}") for number in range(25)]
    judged = judge([issue("dev1", ROOT), *crowd], *known)
    assert rule_of(judged) == "auth.certificate-chain"


def test_twenty_five_renewals_of_one_name_still_find_the_one_that_signed() -> None:
    known = [registered(issue("Root", authority=True), f"ca-{number}") for number in range(24)]
    assert holds(judge([issue("dev1", LINE), LINE, PLANT], *known, registered(ROOT, "last"))).authority.name == "last"


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 2_000), value=st.integers(0, 255), length=st.integers(0, 40))
def test_a_damaged_certificate_is_refused_and_never_more(place: int, value: int, length: int) -> None:
    der = bytearray(GOOD.der)
    place %= len(der)
    der[place] = value
    del der[len(der) - length % len(der) :]
    judged = judge([], registered(PLANT), more=[bytes(der), PLANT.der])
    assert isinstance(judged, Refusal) or bytes(der) == GOOD.der


def test_a_session_is_lost_with_the_certificate_that_vouched() -> None:
    used = registered(ROOT).fingerprint
    assert authority_lost(used, "dev1", [registered(PLANT), registered(ROOT)]) is None
    for known in ([], [registered(PLANT)], [registered(ROOT, is_verified=False)]):
        refusal = authority_lost(used, "dev1", known)
        assert refusal is not None
        assert refusal.rule == "auth.ca-unknown"


GOOD = issue("dev1", PLANT, ends=datetime.timedelta(hours=20))
