"""Shared access signatures of storage: account, service and user delegation ones ("Grant limited access with SAS").

A signature is over the fields in an order that depends on the version in `sv`. The version itself is among the signed
fields, so which order holds is never a guess: with the wrong one, fields could change places.

A user delegation key is not stored anywhere: it is an HMAC, under a secret of the account's, of what the key itself
says, and so can be made again from the fields of a signature.
"""

import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from isthmus.access.refusals import unauthorized
from isthmus.base.clock import parse_iso_ms
from isthmus.base.errors import Hop, HubError, Refusal
from isthmus.base.sas_token import decode_key, hmac_sha256
from isthmus.neighbours.blob.blob import StoredPolicy, base64_text
from isthmus.neighbours.blob.errors import StorageCode, StorageError
from isthmus.neighbours.blob.names import Target
from isthmus.neighbours.blob.shared_key import decode_signature, signing_key

OLDEST_VERSION = "2015-04-05"
"""Signatures before it are refused."""

DELEGATION_SECONDS_MAX = 7 * 86_400
"""How long a user delegation key may hold ("Get User Delegation Key")."""

FIELD_CHARACTERS_MAX = 2_048
"""Of one field of a signature."""

_ACCOUNT_FIELDS = ("sp", "ss", "srt", "st", "se", "sip", "spr", "sv")
_RESPONSE_FIELDS = ("rscc", "rscd", "rsce", "rscl", "rsct")
_REFUSED_FIELDS = ("saoid", "suoid", "sduoid", "ses", "sdd", "srq")
"""Fields of what is not offered: hierarchical namespaces, encryption scopes, a second user, signed parameters."""


class SasKind(Enum):
    """Which key signs a signature, and over what it reaches."""

    ACCOUNT = "account"
    SERVICE = "service"
    DELEGATION = "user delegation"


@dataclass(frozen=True, slots=True)
class DelegationKey:
    """What a user delegation key says of itself; times as they were written."""

    object_id: str
    tenant_id: str
    start: str
    expiry: str
    service: str
    version: str
    delegated_tenant_id: str = ""

    def value(self, secret: bytes) -> str:
        """The key, in base64."""
        said = (self.object_id, self.tenant_id, self.start, self.expiry, self.service, self.version)
        return base64_text(hmac_sha256(secret, "\n".join((*said, self.delegated_tenant_id)).encode()))


@dataclass(frozen=True, slots=True)
class StorageSas:
    """A signature as received; `fields` has every one of them by its short name, decoded."""

    kind: SasKind
    fields: Mapping[str, str] = field(repr=False)
    signature: bytes = field(repr=False)
    policy: StoredPolicy | None = None

    def said(self, name: str) -> str:
        """A field, empty when it is not there."""
        return self.fields.get(name, "")

    @property
    def version(self) -> str:
        return self.said("sv")

    @property
    def permission(self) -> str:
        """The letters that it grants, those of its stored policy included."""
        return self.said("sp") + (self.policy.permission if self.policy else "")

    @property
    def delegation_key(self) -> DelegationKey:
        """The key that a user delegation SAS names."""
        names = ("skoid", "sktid", "skt", "ske", "sks", "skv", "skdutid")
        return DelegationKey(*(self.said(name) for name in names))

    def reaches(self, target: Target, signed: Target) -> bool:
        """True when a signature over `signed` is for the target, too; one of an account reaches everything."""
        if self.kind is SasKind.ACCOUNT:
            return True
        return target.container == signed.container and (self.said("sr") == "c" or target.blob == signed.blob)

    def overrides(self) -> dict[str, str]:
        """Headers that a reader gets instead of the blob's own; an account's signature is not over them."""
        if self.kind is SasKind.ACCOUNT:
            return {}
        return {header: self.said(name) for name, header in _OVERRIDES.items() if self.said(name)}


def parse_sas(query: Mapping[str, str]) -> StorageSas | None:
    """The signature in a query, whose names are in small letters; None when there is none.

    Raises StorageError AuthenticationFailed.
    """
    if "sig" not in query:
        return None
    fields = {name: query[name] for name in _ALL_FIELDS if name in query}
    if any(len(value) > FIELD_CHARACTERS_MAX or not value.isprintable() for value in fields.values()):
        raise failed("a field is too long, or has characters that no field has", "auth.malformed")
    version, signature = fields.get("sv", ""), decode_signature(query["sig"])
    if version < OLDEST_VERSION or parse_iso_ms(version) is None:
        raise failed(f"sv is mandatory and must be {OLDEST_VERSION} or later", "auth.malformed")
    if not signature:
        raise failed("Signature is not well formed", "auth.malformed")
    refused = next((name for name in _REFUSED_FIELDS if fields.get(name)), "")
    if refused:
        raise failed(f"{refused} is not supported", "auth.malformed")
    # Only a service SAS is signed with `si`: in another one anybody could have written it.
    unsigned = "ss" in fields or "srt" in fields or "skoid" in fields
    if unsigned and fields.get("si"):
        raise failed("si is for a service SAS only", "auth.malformed")
    if "ss" in fields or "srt" in fields:
        return StorageSas(SasKind.ACCOUNT, fields, signature)
    if fields.get("sr", "") not in ("b", "c"):
        raise failed("sr is mandatory and must be b or c", "auth.malformed")
    return StorageSas(SasKind.DELEGATION if "skoid" in fields else SasKind.SERVICE, fields, signature)


def text_to_sign(sas: StorageSas, account: str, target: Target, headers: Mapping[str, str]) -> str:
    """What the signature must be over when the request is of `target`; names of `headers` are in small letters."""
    said = sas.said
    if sas.kind is SasKind.ACCOUNT:
        scope = (said("ses"),) if sas.version >= "2020-12-06" else ()
        return "\n".join((account, *map(said, _ACCOUNT_FIELDS), *scope, ""))
    path = target.container if said("sr") == "c" else f"{target.container}/{target.blob}"
    above = [said("sp"), said("st"), said("se"), f"/blob/{account}/{path}"]
    above += _signer_fields(sas)
    above += [said("sip"), said("spr"), said("sv")]
    if sas.version >= "2018-11-09":
        above += [said("sr"), ""]
    if sas.version >= "2020-12-06":
        above.append(said("ses"))
    if sas.kind is SasKind.DELEGATION and sas.version >= "2026-04-06":
        above += [_signed_headers(sas, headers), ""]
    return "\n".join((*above, *map(said, _RESPONSE_FIELDS)))


def with_policy(sas: StorageSas, policies: Mapping[str, StoredPolicy]) -> StorageSas:
    """The signature with what the stored access policy that it names adds; raises StorageError AuthenticationFailed."""
    name = sas.said("si")
    if not name:
        return sas
    policy = policies.get(name)
    if policy is None:
        raise failed(f"The stored access policy {name[:64]} is not there.", "auth.unknown-policy")
    twice = (("st", policy.start), ("se", policy.expiry), ("sp", policy.permission))
    if any(sas.said(field) and said for field, said in twice):
        raise failed("What the stored access policy says may not be said again.", "auth.malformed")
    return replace(sas, policy=policy)


def verify_sas(sas: StorageSas, text: str, keys: Sequence[str]) -> int:
    """The place of the key that signed `text`; raises StorageError AuthenticationFailed."""
    place = signing_key((text,), sas.signature, keys)
    if place is None:
        detail = f"Signature did not match. String to sign used was {text}"
        raise failed(detail, "auth.signature", value=f"{sas.kind.value} SAS, signature does not match")
    return place


def check_time(sas: StorageSas, now_ms: int) -> None:
    """Raises StorageError AuthenticationFailed when it is not time, or time is over."""
    policy = sas.policy or StoredPolicy("")
    start, expiry = sas.said("st") or policy.start, sas.said("se") or policy.expiry
    _check_span(start, expiry, now_ms, needs_expiry=True)
    if sas.kind is SasKind.DELEGATION:
        _check_span(sas.said("skt"), sas.said("ske"), now_ms, needs_expiry=True)


def check_peer(sas: StorageSas, address: str) -> None:
    """Raises StorageError when the signature is for other addresses; every connection here is HTTPS."""
    wanted = sas.said("sip")
    if wanted and not _in_range(address, wanted):
        value, remedy = f"{address} is not in sip={wanted}", "ask for a SAS for this address"
        refusal = Refusal(Hop.AUTHENTICATION, "storage.sas-address", value, remedy)
        details = {"SourceAddress": address}
        raise StorageError(StorageCode.SOURCE_IP_MISMATCH, details=details, refusal=refusal)
    if sas.said("spr") not in ("", "https", "https,http", "http,https"):
        raise StorageError(StorageCode.PROTOCOL_MISMATCH)


def failed(detail: str, rule: str, *, value: str = "") -> StorageError:
    """AuthenticationFailed with its detail, which the service tells whoever asks."""
    refusal = unauthorized(rule, value or detail, "ask for a SAS or a key that holds for this request").refusal
    return StorageError(
        StorageCode.AUTHENTICATION_FAILED, details={"AuthenticationErrorDetail": detail}, refusal=refusal
    )


def as_storage(error: HubError) -> StorageError:
    """Whatever the front door said, in the service's words: rules of the network, of roles, and all others."""
    if isinstance(error, StorageError):
        return error
    rule = error.refusal.rule if error.refusal is not None else ""
    if rule.startswith("network.") or (error.refusal is not None and error.refusal.hop is Hop.NETWORK):
        return StorageError(StorageCode.AUTHORIZATION_FAILURE, refusal=error.refusal)
    if rule.startswith("auth.role-"):
        return StorageError(StorageCode.PERMISSION_MISMATCH, refusal=error.refusal)
    if rule.startswith("auth.bearer-"):
        return StorageError(StorageCode.INVALID_AUTHENTICATION_INFO, refusal=error.refusal)
    return StorageError(StorageCode.AUTHENTICATION_FAILED, refusal=error.refusal)


def _signer_fields(sas: StorageSas) -> list[str]:
    said = sas.said
    if sas.kind is SasKind.SERVICE:
        return [said("si")]
    fields = [said(name) for name in ("skoid", "sktid", "skt", "ske", "sks", "skv")]
    if sas.version >= "2020-02-10":
        fields += [said("saoid"), said("suoid"), said("scid")]
    if sas.version >= "2025-07-05":
        fields += [said("skdutid"), said("sduoid")]
    return fields


def _signed_headers(sas: StorageSas, headers: Mapping[str, str]) -> str:
    names = [name for name in sas.said("srh").split(",") if name]
    return "".join(f"{name}:{headers.get(name.lower(), '')}\n" for name in names)


def _check_span(start: str, expiry: str, now_ms: int, *, needs_expiry: bool) -> None:
    start_ms, expiry_ms = parse_iso_ms(start) if start else 0, parse_iso_ms(expiry)
    if start_ms is None or (expiry_ms is None and (expiry or needs_expiry)):
        raise failed("Signature fields not well formed.", "auth.malformed")
    if now_ms < start_ms or (expiry_ms is not None and now_ms >= expiry_ms):
        detail = f"Signature not valid in the specified time frame: Start [{start}] - Expiry [{expiry}]"
        raise failed(detail, "auth.expired")


def _in_range(address: str, wanted: str) -> bool:
    first, dash, last = wanted.partition("-")
    try:
        low, asked = ipaddress.ip_address(first.strip()), ipaddress.ip_address(address)
        high = ipaddress.ip_address(last.strip()) if dash else low
    except ValueError:
        return False
    return low.version == high.version == asked.version and int(low) <= int(asked) <= int(high)


def delegation_matches(sas: StorageSas, text: str, secret: bytes) -> None:
    """Raises StorageError AuthenticationFailed unless the delegation key that the SAS names has signed `text`."""
    key = decode_key(sas.delegation_key.value(secret))
    assert key is not None
    if not hmac.compare_digest(hmac_sha256(key, text.encode("utf-8", "surrogateescape")), sas.signature):
        detail = f"Signature did not match. String to sign used was {text}"
        raise failed(detail, "auth.signature", value="user delegation SAS, signature does not match")


_OVERRIDES = {
    "rscc": "Cache-Control",
    "rscd": "Content-Disposition",
    "rsce": "Content-Encoding",
    "rscl": "Content-Language",
    "rsct": "Content-Type",
}
_ALL_FIELDS = frozenset(
    {*_ACCOUNT_FIELDS, *_RESPONSE_FIELDS, *_REFUSED_FIELDS, "sr", "si", "skoid", "sktid", "skt", "ske", "sks", "skv",
     "skdutid", "scid", "srh"}
)  # fmt: skip
