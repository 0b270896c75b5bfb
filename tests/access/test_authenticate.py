"""Authentication: who proves what by which means, why not, and that a stranger cannot tell the reasons apart."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import pytest

from access.chains import registered
from isthmus.access import sas
from isthmus.access.authenticate import (
    DeviceSecrets,
    Evidence,
    Guard,
    Method,
    Subject,
    authenticate_device,
    authenticate_policy,
    require_right,
)
from isthmus.access.principal import Principal, PrincipalKind, Right, SharedAccessPolicy
from isthmus.access.x509 import fingerprint
from isthmus.base import sas_token
from isthmus.base.clock import SystemClock as RealClock
from isthmus.base.errors import Code, HubError
from support.certificates import DAY, Issued, issue

NOW_MS = 1_767_225_600_000
NOW_S = NOW_MS // 1000
HOST = "hub.example.test"
PRIMARY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SECONDARY = "MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
WRONG = "MjEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
LEAF = b"the DER of a certificate"
DEVICE = Subject("dev1")
MODULE = Subject("dev1", "mod1")
KNOWN = DeviceSecrets(True, Method.SAS, PRIMARY, SECONDARY)
POLICIES = {
    "device": SharedAccessPolicy("device", frozenset({Right.DEVICE_CONNECT}), PRIMARY, SECONDARY),
    "service": SharedAccessPolicy("service", frozenset({Right.SERVICE_CONNECT}), PRIMARY, SECONDARY),
}


@dataclass
class Counter:
    """An HMAC that counts how often it is asked."""

    calls: int = 0

    def __call__(self, key: bytes, message: bytes) -> bytes:
        self.calls += 1
        return sas_token.hmac_sha256(key, message)


@dataclass(frozen=True)
class Try:
    """One attempt of a device; the defaults succeed."""

    rule: str = ""
    secrets: DeviceSecrets | None = KNOWN
    subject: Subject = DEVICE
    resource: str = f"{HOST}/devices/dev1"
    key: str = PRIMARY
    expires_s: int = NOW_S + 60
    policy: str = ""
    password: str | None = None
    leaf: bytes | None = field(default=None)

    def evidence(self) -> Evidence:
        token = sas_token.sign(self.resource, self.key, self.expires_s, self.policy)
        return Evidence(token if self.password is None else self.password, (self.leaf,) if self.leaf else ())


def run(attempt: Try, digest: sas.Hmac = sas_token.hmac_sha256) -> Principal:
    guard = Guard((HOST,), POLICIES, digest)
    return authenticate_device(guard, attempt.subject, attempt.secrets, attempt.evidence(), now_ms=NOW_MS)


ADMITTED = {
    "primary key": Try(),
    "secondary key": Try(key=SECONDARY),
    "late within the skew": Try(expires_s=NOW_S - sas.DEVICE_SKEW_SECONDS),
    "host in another case": Try(resource="HUB.Example.Test/devices/dev1"),
    "host with a port": Try(resource=f"{HOST}:8883/devices/dev1"),
    "unnamed host": Try(resource="127.0.0.1/devices/dev1"),
    "id encoded twice": Try(subject=Subject("a@b"), resource=f"{HOST}/devices/a%40b"),
    "sr in lower case": Try(subject=Subject("Dev1")),
    "module": Try(subject=MODULE, resource=f"{HOST}/devices/dev1/modules/mod1"),
    "policy for the hub": Try(policy="device", resource=HOST),
    "policy for all devices": Try(policy="device", resource=f"{HOST}/devices"),
    "policy for this device": Try(policy="device"),
    "policy for a device without key": Try(policy="device", secrets=DeviceSecrets(True, Method.NONE)),
}

REFUSED = {
    "unknown device": Try("auth.unknown-device", secrets=None),
    "wrong key": Try("auth.signature", key=WRONG),
    "expired": Try("auth.expired", expires_s=NOW_S - sas.DEVICE_SKEW_SECONDS - 1),
    "expired and wrong": Try("auth.signature", expires_s=NOW_S - 9_999, key=WRONG),
    "disabled": Try("auth.disabled", secrets=DeviceSecrets(False, Method.SAS, PRIMARY, SECONDARY)),
    "another hub": Try("auth.scope", resource="other.example.test/devices/dev1"),
    "another device": Try("auth.scope", resource=f"{HOST}/devices/dev2"),
    "device key for the hub": Try("auth.scope", resource=HOST),
    "longer than the device": Try("auth.scope", resource=f"{HOST}/devices/dev1/api-version=2016-11-14"),
    "device token for a module": Try("auth.scope", subject=MODULE),
    "unknown policy": Try("auth.unknown-policy", policy="nobody"),
    "policy with the wrong key": Try("auth.signature", policy="device", key=WRONG),
    "policy of another device": Try("auth.scope", policy="device", resource=f"{HOST}/devices/dev2"),
    "policy in lower case": Try("auth.scope", policy="device", subject=Subject("Dev1")),
    "policy without the right": Try("auth.right", policy="service"),
    "policy without the right or key": Try("auth.signature", policy="service", key=WRONG),
    "token for a certificate": Try("auth.method", secrets=DeviceSecrets(True, Method.SELF_SIGNED)),
    "token for a certificate authority": Try("auth.method", secrets=DeviceSecrets(True, Method.CERTIFICATE_AUTHORITY)),
    "token for nothing": Try("auth.method", secrets=DeviceSecrets(True, Method.NONE)),
    "keys that are none": Try("auth.signature", secrets=DeviceSecrets(True, Method.SAS, "no base64", "")),
}


@pytest.mark.parametrize("name", ADMITTED)
def test_lets_in(name: str) -> None:
    principal = run(ADMITTED[name])
    assert principal.rights == {Right.DEVICE_CONNECT}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_a_reason_and_a_remedy(name: str) -> None:
    with pytest.raises(HubError) as caught:
        run(REFUSED[name])
    refusal = caught.value.refusal
    assert refusal is not None
    assert refusal.rule == REFUSED[name].rule
    assert refusal.value
    assert refusal.remedy


@pytest.mark.parametrize("name", [*ADMITTED, *REFUSED])
def test_every_attempt_costs_the_same_digests(name: str) -> None:
    counter = Counter()
    with suppress(HubError):
        run((ADMITTED | REFUSED)[name], counter)
    assert counter.calls == 2


def test_all_refusals_read_alike_outside() -> None:
    answers = set()
    for attempt in REFUSED.values():
        with pytest.raises(HubError) as caught:
            run(attempt)
        answers.add((caught.value.code, caught.value.message))
    assert answers == {(Code.UNAUTHORIZED_ACCESS, "Unauthorized")}


def test_no_refusal_tells_a_key() -> None:
    for attempt in REFUSED.values():
        with pytest.raises(HubError) as caught:
            run(attempt)
        assert not any(key in repr(caught.value.refusal) for key in (PRIMARY, SECONDARY, WRONG))
    assert PRIMARY not in repr((KNOWN, POLICIES, REFUSED["wrong key"].evidence()))


@pytest.mark.parametrize("password", [None, ""])
def test_without_token_and_certificate_both_are_missing(password: str | None) -> None:
    with pytest.raises(HubError) as caught:
        authenticate_device(Guard((HOST,), POLICIES), DEVICE, KNOWN, Evidence(password), now_ms=NOW_MS)
    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == "auth.missing"


def test_principals_carry_what_sessions_and_records_need() -> None:
    expires_s = NOW_S + 60
    assert run(Try(key=SECONDARY)) == Principal(
        PrincipalKind.DEVICE,
        "dev1",
        frozenset({Right.DEVICE_CONNECT}),
        "device",
        "sas",
        fingerprint(SECONDARY),
        expires_s,
    )
    module = run(ADMITTED["module"])
    assert (module.label, module.scope) == ("module:dev1/mod1", "module")
    policy = run(ADMITTED["policy for the hub"])
    assert (policy.label, policy.scope) == ("policy:device", "hub")


def test_remedies_are_safe_to_paste() -> None:
    with pytest.raises(HubError) as caught:
        run(Try(subject=Subject("x; reboot"), secrets=None))
    assert caught.value.refusal is not None
    assert caught.value.refusal.remedy == "isthmus device-identity create -d 'x; reboot'"


def with_certificate(secrets: DeviceSecrets | None) -> Principal:
    return authenticate_device(Guard((HOST,), POLICIES), DEVICE, secrets, Evidence(None, (LEAF,)), now_ms=NOW_MS)


@pytest.mark.parametrize("thumbprint", [hashlib.sha1(LEAF).hexdigest(), hashlib.sha256(LEAF).hexdigest().upper()])
def test_a_self_signed_certificate_by_either_thumbprint(thumbprint: str) -> None:
    secrets = DeviceSecrets(True, Method.SELF_SIGNED, secondary_thumbprint=thumbprint)
    principal = with_certificate(secrets)
    assert principal.type == "x509"
    assert principal.expires_s == 0
    assert principal.key_fingerprint in secrets.fingerprints()


@pytest.mark.parametrize(
    ("secrets", "rule"),
    [
        (None, "auth.unknown-device"),
        (KNOWN, "auth.method"),
        (DeviceSecrets(True, Method.CERTIFICATE_AUTHORITY), "auth.ca-unknown"),
        (DeviceSecrets(True, Method.SELF_SIGNED, primary_thumbprint="0" * 64), "auth.thumbprint"),
        (DeviceSecrets(True, Method.SELF_SIGNED), "auth.thumbprint"),
        (
            DeviceSecrets(False, Method.SELF_SIGNED, primary_thumbprint=hashlib.sha1(LEAF).hexdigest()),
            "auth.disabled",
        ),
    ],
)
def test_a_certificate_is_refused(secrets: DeviceSecrets | None, rule: str) -> None:
    with pytest.raises(HubError) as caught:
        with_certificate(secrets)
    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == rule


ROOT = issue("Plant CA", authority=True)


def by_authority(
    subject: Subject, shown: Issued, *above: Issued, enabled: bool = True, is_verified: bool = True
) -> Principal:
    secrets = DeviceSecrets(enabled, Method.CERTIFICATE_AUTHORITY)
    guard = Guard((HOST,), POLICIES, certificates=(registered(ROOT, is_verified=is_verified),))
    chain = tuple(each.der for each in (shown, *above))
    return authenticate_device(guard, subject, secrets, Evidence(None, chain), now_ms=RealClock().utc_ms())


@pytest.mark.parametrize("subject", [DEVICE, MODULE])
def test_a_certificate_of_the_hubs_authority(subject: Subject) -> None:
    shown = issue(subject.name, ROOT, ends=DAY / 2)
    principal = by_authority(subject, shown)
    assert (principal.type, principal.scope, principal.name) == ("x509", subject.kind.value, subject.name)
    assert principal.by_authority
    assert principal.key_fingerprint == registered(ROOT).fingerprint
    assert principal.expires_s == int(shown.certificate.not_valid_after_utc.timestamp())


@pytest.mark.parametrize(
    ("subject", "name"),
    [(DEVICE, "dev2"), (DEVICE, "Dev1"), (DEVICE, "dev1/mod1"), (MODULE, "dev1"), (MODULE, "mod1"), (DEVICE, "dev1 ")],
)
def test_the_certificate_of_another_is_refused_and_case_counts(subject: Subject, name: str) -> None:
    assert refused_as(lambda: by_authority(subject, issue(name, ROOT))) == "auth.certificate-name"


def test_a_good_chain_of_a_disabled_device_is_refused_as_disabled() -> None:
    assert refused_as(lambda: by_authority(DEVICE, issue("dev1", ROOT), enabled=False)) == "auth.disabled"


def test_who_has_a_key_or_a_thumbprint_is_not_let_in_by_an_authority() -> None:
    guard = Guard((HOST,), POLICIES, certificates=(registered(ROOT),))
    evidence, now_ms = Evidence(None, (issue("dev1", ROOT).der,)), RealClock().utc_ms()
    for secrets, rule in (
        (KNOWN, "auth.method"),
        (DeviceSecrets(True, Method.NONE), "auth.method"),
        (DeviceSecrets(True, Method.SELF_SIGNED, primary_thumbprint="0" * 64), "auth.thumbprint"),
        (None, "auth.unknown-device"),
    ):
        attempt = partial(authenticate_device, guard, DEVICE, secrets, evidence, now_ms=now_ms)
        assert refused_as(attempt) == rule


def refused_as(attempt: Callable[[], Principal]) -> str:
    with pytest.raises(HubError) as caught:
        attempt()
    assert (caught.value.code, caught.value.message) == (Code.UNAUTHORIZED_ACCESS, "Unauthorized")
    assert caught.value.refusal is not None
    assert caught.value.refusal.remedy
    return caught.value.refusal.rule


def test_the_identitys_type_decides_between_token_and_certificate() -> None:
    assert run(Try(leaf=LEAF)).type == "sas"


def test_only_good_credentials_have_a_fingerprint() -> None:
    assert KNOWN.fingerprints() == {fingerprint(PRIMARY), fingerprint(SECONDARY)}
    assert DeviceSecrets(True, Method.NONE, PRIMARY, SECONDARY).fingerprints() == frozenset()


def by_policy(token: str, *resources: str, digest: sas.Hmac = sas_token.hmac_sha256) -> Principal:
    wanted = [sas.resource_of(resource) for resource in resources]
    return authenticate_policy(Guard((HOST,), POLICIES, digest), sas.parse(token), wanted, now_ms=NOW_MS)


@pytest.mark.parametrize(
    ("scope", "resources"),
    [
        (HOST, ()),
        (HOST, (f"https://{HOST}/twins/d",)),
        (f"{HOST}/devices", (f"{HOST}/devices/d",)),
        (f"sb://{HOST}/hub", (f"sb://{HOST}/hub/ConsumerGroups/$Default",)),
        (f"{HOST}/devices", (f"{HOST}/twins/d", f"{HOST}/devices/d")),
    ],
)
def test_a_policy_opens_what_its_token_covers(scope: str, resources: tuple[str, ...]) -> None:
    principal = by_policy(sas_token.sign(scope, PRIMARY, NOW_S + 60, "service"), *resources)
    assert principal.rights == {Right.SERVICE_CONNECT}


@pytest.mark.parametrize(
    ("token", "resources", "rule"),
    [
        (sas_token.sign(HOST, PRIMARY, NOW_S - 1, "service"), (), "auth.expired"),
        (sas_token.sign(HOST, WRONG, NOW_S + 1, "service"), (), "auth.signature"),
        (sas_token.sign(HOST, PRIMARY, NOW_S + 1, "nobody"), (), "auth.unknown-policy"),
        (sas_token.sign(HOST, PRIMARY, NOW_S + 1), (), "auth.unknown-policy"),
        (sas_token.sign("other.example.test", PRIMARY, NOW_S + 1, "service"), (), "auth.scope"),
        (sas_token.sign(f"{HOST}/devices", PRIMARY, NOW_S + 1, "service"), (), "auth.scope"),
        (sas_token.sign(f"{HOST}/devices", PRIMARY, NOW_S + 1, "service"), (f"{HOST}/twins/d",), "auth.scope"),
        (sas_token.sign(HOST, PRIMARY, NOW_S + 1, "service"), ("sb://other.example.test/hub",), "auth.scope"),
    ],
)
def test_a_policy_is_refused_at_the_same_cost(token: str, resources: tuple[str, ...], rule: str) -> None:
    counter = Counter()
    with pytest.raises(HubError) as caught:
        by_policy(token, *resources, digest=counter)
    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == rule
    assert counter.calls == 2


def test_a_service_has_no_skew() -> None:
    assert by_policy(sas_token.sign(HOST, PRIMARY, NOW_S, "service")).expires_s == NOW_S


def test_a_right_that_is_missing_is_named() -> None:
    principal = by_policy(sas_token.sign(HOST, PRIMARY, NOW_S, "service"))
    require_right(principal, Right.SERVICE_CONNECT)
    with pytest.raises(HubError) as caught:
        require_right(principal, Right.REGISTRY_WRITE)
    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == "auth.right"
    assert "RegistryWrite" in caught.value.refusal.value
