"""Proves who asks: devices, modules and policies by SAS token, devices and modules by certificate.

Strangers learn nothing: an unknown device, a wrong key, a missing right and a disabled device cost the same work. Every
token is verified with one HMAC per key of a pair, with dummy keys where there is no pair, and every certificate is
hashed, compared with two thumbprints, dummies where there are none, and followed up to the CA certificates of the hub;
only then is the first rule that failed named.
All refusals carry one code and one message; the reason is for the journal.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from shlex import quote

from isthmus.access import sas
from isthmus.access.ca_certificate import CaCertificate
from isthmus.access.certificate_chain import Vouched, judge_chain
from isthmus.access.local_auth import ALL_KEYS, HUB_GROUP, SAS, LocalAuth, switched_off
from isthmus.access.principal import Principal, PrincipalKind, Right, SharedAccessPolicy
from isthmus.access.refusals import denied, unauthorized
from isthmus.access.role_assignments import judge, refusal_of
from isthmus.access.x509 import fingerprint, matching_thumbprint, normal_thumbprint
from isthmus.base import sas_token
from isthmus.base.errors import Hop, HubError, Refusal

NO_KEYS = ("", "")
"""The pair of what is not there: two dummy keys are tried."""

NAME_MAX = 257
"""Characters of a common name that are told: two ids and a slash."""


class Method(Enum):
    """How an identity proves itself, in the registry's words (`authentication.type`)."""

    SAS = "sas"
    SELF_SIGNED = "selfSigned"
    CERTIFICATE_AUTHORITY = "certificateAuthority"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class DeviceSecrets:
    """What the registry knows of an identity, as far as authentication asks; a module is enabled as its device is."""

    enabled: bool
    method: Method
    primary_key: str = field(default="", repr=False)
    secondary_key: str = field(default="", repr=False)
    primary_thumbprint: str = ""
    secondary_thumbprint: str = ""

    @property
    def keys(self) -> tuple[str, str]:
        """The pair to try: empty unless the method is SAS."""
        return (self.primary_key, self.secondary_key) if self.method is Method.SAS else NO_KEYS

    @property
    def thumbprints(self) -> tuple[str, str]:
        """The pair to try: empty unless the method is a self-signed certificate."""
        return (self.primary_thumbprint, self.secondary_thumbprint) if self.method is Method.SELF_SIGNED else NO_KEYS

    def fingerprints(self) -> frozenset[str]:
        """Fingerprints of all credentials that are good now; a session with another one is to be cut."""
        return frozenset(
            [fingerprint(key) for key in self.keys if key]
            + [fingerprint(normal_thumbprint(thumbprint)) for thumbprint in self.thumbprints if thumbprint]
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a peer showed: a password (the token; None when there was none) and its certificates (DER), leaf first."""

    password: str | None = field(repr=False)
    chain: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom the peer claims to be; `module_id` is empty for a device."""

    device_id: str
    module_id: str = ""

    @property
    def name(self) -> str:
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id

    @property
    def path(self) -> tuple[str, ...]:
        """Path of its resource: `devices/{device}` or `devices/{device}/modules/{module}`."""
        module = ("modules", self.module_id) if self.module_id else ()
        return ("devices", self.device_id, *module)

    @property
    def kind(self) -> PrincipalKind:
        return PrincipalKind.MODULE if self.module_id else PrincipalKind.DEVICE

    @property
    def flags(self) -> str:
        """The identity as the command line names it; quoted, as a stranger chose it and the owner may paste it."""
        module = f" -m {quote(self.module_id)}" if self.module_id else ""
        return f"-d {quote(self.device_id)}{module}"

    @property
    def command(self) -> str:
        """The command line's group of commands for such an identity."""
        return "isthmus module-identity" if self.module_id else "isthmus device-identity"


@dataclass(frozen=True, slots=True)
class Guard:
    """What a hub checks credentials against: its names in normal form and its policies by name; and the HMAC to use.

    `local_auth` says whose keys are taken at all, and `group` is the resource's group of commands. `certificates` are
    those that a device's may lead up to, verified or not.
    """

    hosts: Collection[str]
    policies: Mapping[str, SharedAccessPolicy]
    digest: sas.Hmac = sas_token.hmac_sha256
    local_auth: LocalAuth = ALL_KEYS
    group: str = HUB_GROUP
    certificates: Sequence[CaCertificate] = ()


def authenticate_device(
    guard: Guard, subject: Subject, secrets: DeviceSecrets | None, evidence: Evidence, *, now_ms: int
) -> Principal:
    """Proves a device or module by its key, a policy with DeviceConnect, its certificate's thumbprint, or a CA's.

    `secrets` is None when the registry has no such identity. Raises HubError `IotHubUnauthorizedAccess` with a rule
    `auth.*`. Rules: IoT Hub developer guide, "Control access to IoT Hub" and "Authenticate with X.509 certificates".
    """
    if evidence.password:
        return _by_token(guard, subject, secrets, evidence, now_ms)
    if evidence.chain:
        return _by_certificate(guard, subject, secrets, evidence.chain, now_ms)
    raise unauthorized("auth.missing", "neither token nor certificate", "send a SAS token or a client certificate")


def authenticate_policy(
    guard: Guard,
    token: sas.SasToken,
    resources: Sequence[sas.Resource],
    *,
    now_ms: int,
    forms: Sequence[sas.KeyForm] | None = None,
) -> Principal:
    """Proves a shared access policy for a resource; several are other names of the same, one must be covered.

    Without a resource the hub itself is meant; `forms` are as in `sas.matching_key`. Raises HubError as
    `authenticate_device`; it does not ask for rights.
    """
    policy = guard.policies.get(token.policy)
    key = sas.matching_key(token, policy.keys if policy else NO_KEYS, guard.digest, forms=forms)
    if policy is None:
        raise _unknown_policy(token.policy, guard)
    _require_host(token.resource, guard)
    for resource in resources:
        _require_host(resource, guard)
    paths = [resource.path for resource in resources] or [()]
    if not any(sas.covers(token.resource.path, path) for path in paths):
        raise _scope(token.resource, "/".join(paths[0]) or "the hub")
    if key is None:
        raise _wrong_policy_key(policy.name)
    _require_time(token, now_ms, sas.SERVICE_SKEW_SECONDS)
    _require_taken(guard, PrincipalKind.POLICY, policy.name)
    return _policy_principal(policy, key, token, policy.rights)


def require_right(principal: Principal, right: Right) -> None:
    """Raises HubError with rule `auth.right` when the principal lacks the right."""
    if right not in principal.rights:
        raise _lacks_right(principal.label, right)


def require_permission(principal: Principal, right: Right, data_action: str) -> None:
    """As `require_right`; of an identity, its roles must allow the data action, and nothing is allowed without one.

    Raises HubError with rule `auth.right`, `auth.role-missing`, `auth.role-scope` or `auth.keys-only`.
    """
    if principal.kind is not PrincipalKind.IDENTITY:
        require_right(principal, right)
        return
    if not data_action:
        remedy = "use the connection string of a shared access policy"
        raise unauthorized("auth.keys-only", f"{principal.label} came with a bearer token", remedy, Hop.AUTHORIZATION)
    verdict = judge(principal.assignments, principal.name, data_action, principal.resource_id)
    if not verdict.allowed:
        raise denied(refusal_of(verdict, principal.label, data_action, principal.resource_id))


def _by_token(
    guard: Guard, subject: Subject, secrets: DeviceSecrets | None, evidence: Evidence, now_ms: int
) -> Principal:
    token = sas.parse(evidence.password or "")
    policy = guard.policies.get(token.policy) if token.policy else None
    keys = secrets.keys if secrets else NO_KEYS
    if token.policy:
        keys = policy.keys if policy else NO_KEYS
    key = sas.matching_key(token, keys, guard.digest)
    known = _require_known(subject, secrets)
    if token.policy:
        _require_policy_scope(guard, subject, policy, token)
    else:
        _require_own_scope(guard, subject, known, token, has_certificate=bool(evidence.chain))
    if key is None:
        raise _wrong_policy_key(token.policy) if token.policy else _wrong_key(subject)
    _require_time(token, now_ms, sas.DEVICE_SKEW_SECONDS)
    if policy is not None:
        _require_taken(guard, PrincipalKind.POLICY, policy.name)
    else:
        _require_taken(guard, subject.kind, subject.name)
    if policy is not None and Right.DEVICE_CONNECT not in policy.rights:
        raise _lacks_right(f"policy:{policy.name}", Right.DEVICE_CONNECT)
    _require_enabled(subject, known)
    if policy is not None:
        return _policy_principal(policy, key, token, frozenset({Right.DEVICE_CONNECT}))
    return Principal(
        kind=subject.kind,
        name=subject.name,
        rights=frozenset({Right.DEVICE_CONNECT}),
        scope=subject.kind.value,
        type=SAS,
        key_fingerprint=fingerprint(key),
        expires_s=token.expires_s,
    )


def _by_certificate(
    guard: Guard, subject: Subject, secrets: DeviceSecrets | None, chain: Sequence[bytes], now_ms: int
) -> Principal:
    thumbprint = matching_thumbprint(chain[0], secrets.thumbprints if secrets else NO_KEYS)
    judged = judge_chain(chain, guard.certificates, now_ms)
    known = _require_known(subject, secrets)
    if known.method is Method.CERTIFICATE_AUTHORITY:
        vouched = _require_vouched(subject, judged)
        _require_enabled(subject, known)
        used = vouched.authority.fingerprint
        return _certified(subject, used, by_authority=True, expires_s=vouched.not_after_ms // 1000)
    if known.method is not Method.SELF_SIGNED:
        raise _wrong_method(subject, known.method, "a certificate and no token")
    if thumbprint is None:
        raise unauthorized(
            "auth.thumbprint",
            f"the certificate of {subject.name}",
            f"{subject.command} update {subject.flags} with the thumbprint of the certificate in use",
        )
    _require_enabled(subject, known)
    return _certified(subject, fingerprint(thumbprint))


def _require_vouched(subject: Subject, judged: Vouched | Refusal) -> Vouched:
    if isinstance(judged, Refusal):
        raise denied(judged)
    if judged.common_name != subject.name:
        named = f"is for {judged.common_name[:NAME_MAX]!r}" if judged.common_name else "has not one common name"
        remedy = f"issue a certificate with the common name {subject.name}; case counts"
        raise unauthorized("auth.certificate-name", f"the certificate {named}, {subject.name} came", remedy)
    return judged


def _certified(subject: Subject, used: str, *, by_authority: bool = False, expires_s: int = 0) -> Principal:
    return Principal(
        kind=subject.kind,
        name=subject.name,
        rights=frozenset({Right.DEVICE_CONNECT}),
        scope=subject.kind.value,
        type="x509",
        key_fingerprint=used,
        expires_s=expires_s,
        by_authority=by_authority,
    )


def _policy_principal(policy: SharedAccessPolicy, key: str, token: sas.SasToken, rights: frozenset[Right]) -> Principal:
    return Principal(
        kind=PrincipalKind.POLICY,
        name=policy.name,
        rights=rights,
        scope="hub",
        type=SAS,
        key_fingerprint=fingerprint(key),
        expires_s=token.expires_s,
    )


def _require_known(subject: Subject, secrets: DeviceSecrets | None) -> DeviceSecrets:
    if secrets is None:
        raise unauthorized("auth.unknown-device", subject.name, f"{subject.command} create {subject.flags}")
    return secrets


def _require_enabled(subject: Subject, known: DeviceSecrets) -> None:
    if not known.enabled:
        remedy = f"isthmus device-identity update -d {quote(subject.device_id)} --status enabled"
        raise unauthorized("auth.disabled", subject.device_id, remedy)


def _require_policy_scope(
    guard: Guard, subject: Subject, policy: SharedAccessPolicy | None, token: sas.SasToken
) -> None:
    if policy is None:
        raise _unknown_policy(token.policy, guard)
    _require_host(token.resource, guard)
    if not sas.covers(token.resource.path, subject.path):
        raise _scope(token.resource, "/".join(subject.path))


def _require_own_scope(
    guard: Guard, subject: Subject, known: DeviceSecrets, token: sas.SasToken, *, has_certificate: bool
) -> None:
    if known.method is not Method.SAS:
        raise _wrong_method(subject, known.method, "a token and a certificate" if has_certificate else "a token")
    _require_host(token.resource, guard)
    if not sas.names_exactly(token.resource.path, subject.path):
        raise _scope(token.resource, "/".join(subject.path))


def _require_host(resource: sas.Resource, guard: Guard) -> None:
    if not sas.names_host(resource, guard.hosts):
        known = ", ".join(sorted(guard.hosts))
        raise unauthorized("auth.scope", f"host {resource.host}", f"name this hub in sr: {known}")


def _require_taken(guard: Guard, kind: PrincipalKind, name: str) -> None:
    refusal = switched_off(guard.local_auth, kind, name, guard.group)
    if refusal is not None:
        raise denied(refusal)


def _require_time(token: sas.SasToken, now_ms: int, skew_seconds: int) -> None:
    late = now_ms // 1000 - token.expires_s
    if late > skew_seconds:
        remedy = "make a new token with a later se, or set the clock of the machine that makes it"
        raise unauthorized("auth.expired", f"se={token.expires_s}, {late} s ago", remedy)


def _scope(resource: sas.Resource, wanted: str) -> HubError:
    named = "/".join(resource.path) or "the hub"
    return unauthorized("auth.scope", f"sr names {named}", f"make a token whose sr names {wanted}")


def _wrong_key(subject: Subject) -> HubError:
    module = f" --module-id {quote(subject.module_id)}" if subject.module_id else ""
    remedy = f"use the key in: isthmus connection-string --device-id {quote(subject.device_id)}{module}"
    return unauthorized("auth.signature", f"the key of {subject.name}", remedy)


def _wrong_policy_key(policy: str) -> HubError:
    remedy = f"use the key in: isthmus connection-string --policy {quote(policy)}"
    return unauthorized("auth.signature", f"the key of policy {policy}", remedy)


def _unknown_policy(name: str, guard: Guard) -> HubError:
    if not name:
        return unauthorized("auth.unknown-policy", "no skn in the token", "make the token with a policy's name and key")
    return unauthorized("auth.unknown-policy", name, f"use one of the policies {', '.join(sorted(guard.policies))}")


def _wrong_method(subject: Subject, method: Method, shown: str) -> HubError:
    remedies = {
        Method.SAS: "send a SAS token signed with the identity's key",
        Method.SELF_SIGNED: "send the client certificate and no token",
        Method.CERTIFICATE_AUTHORITY: "send the client certificate with its intermediates, and no token",
        Method.NONE: f"{subject.command} update {subject.flags} with an authentication method",
    }
    return unauthorized("auth.method", f"{subject.name} is {method.value}, {shown} came", remedies[method])


def _lacks_right(label: str, right: Right) -> HubError:
    remedy = f"use a policy that has {right.value}"
    return unauthorized("auth.right", f"{label} lacks {right.value}", remedy, Hop.AUTHORIZATION)
