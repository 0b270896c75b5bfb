"""Judges the certificates that a device shows, up to one that the hub's owner registered and proved to be his.

A small pure function of the certificates, the hub's list and the time (RFC 5280 §6.1, as far as it concerns devices):
every signature, every validity, who may sign and how far down, and the registered certificate at the end, a root or an
intermediate. The device sends what lies between, leaf first. Nothing is fetched and nothing is remembered: a
certificate that was deleted or replaced vouches for nobody at the next connection.

Several certificates may have one name, as when an authority is renewed, so all paths are tried; how many signatures are
verified for one connection is bounded. Names are compared by their bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from isthmus.access.ca_certificate import (
    CaCertificate,
    ReadCertificate,
    UnreadableCertificateError,
    is_signed_by,
    key_trouble,
    read_certificate,
)
from isthmus.base.clock import iso_utc
from isthmus.base.errors import Hop, Refusal

PRESENTED_MAX = 8
"""Certificates that one device may show; a plant has a leaf and one to three above it."""

SIGNATURES_MAX = 32
"""Signatures verified for one connection, at 0.1 to 1 ms each: enough for 25 registered certificates of one name."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """A chain that holds: whom the leaf is for, which registered certificate vouches for it, and until when.

    `common_name` is empty when the leaf does not have exactly one.
    """

    common_name: str
    authority: CaCertificate
    not_after_ms: int


def judge_chain(presented: Sequence[bytes], registered: Sequence[CaCertificate], now_ms: int) -> Vouched | Refusal:
    """Judges certificates (DER, leaf first); the work does not depend on whom they are shown for.

    Refusals have the rule `auth.ca-unknown`, `auth.ca-unverified`, `auth.certificate-expired` or
    `auth.certificate-chain`. The first path that holds counts; else the first refusal of the path that came farthest.
    """
    if not registered:
        return _refused("auth.ca-unknown", "the hub has no CA certificate", _REGISTER)
    if len(presented) > PRESENTED_MAX:
        return _broken(f"{len(presented)} certificates came, more than {PRESENTED_MAX}")
    try:
        chain = [read_certificate(der) for der in presented]
    except UnreadableCertificateError as error:
        return _broken(f"one of the certificates that came: {error}")
    return _Search(chain, registered, now_ms).result()


def authority_lost(used: str, name: str, registered: Iterable[CaCertificate]) -> Refusal | None:
    """Why the device called `name` may not go on, `used` being `CaCertificate.fingerprint`; None when it may."""
    if used in {each.fingerprint for each in registered if each.is_verified}:
        return None
    value = f"the CA certificate that vouched for {name} was deleted, replaced or is not verified any more"
    return _refused("auth.ca-unknown", value, f"connect by a certificate of another CA; or {_REGISTER}")


_REGISTER = "register the certificate of its CA: isthmus iot hub certificate create -n NAME --path FILE"
_ISSUE_ANEW = "issue the certificate anew, and those above it as far as they are concerned"
_WHOLE_CHAIN = "let the device send its certificate with all intermediates in order; or "


class _TooMuchError(Exception):
    """No more signatures are verified for this connection."""


class _Search:
    """One judgement: the paths through what came, and what spoke against each."""

    def __init__(self, chain: Sequence[ReadCertificate], registered: Sequence[CaCertificate], now_ms: int) -> None:
        self._chain = chain
        self._registered = sorted(registered, key=lambda each: not each.is_verified)
        self._now_ms = now_ms
        self._signatures_left = SIGNATURES_MAX
        self._whole: list[Refusal] = []
        self._partly: list[Refusal] = []

    def result(self) -> Vouched | Refusal:
        leaf = self._chain[0]
        try:
            for path, authority in self._paths((leaf,)):
                refusal = _path_refusal(path, self._now_ms)
                if refusal is None and authority.is_verified:
                    ends = min(each.not_after_ms for each in path)
                    return Vouched(leaf.common_name, authority, ends)
                self._whole.append(refusal or _unverified(authority))
        except _TooMuchError:
            self._whole.append(_broken(f"more than {SIGNATURES_MAX} signatures would have to be verified"))
        return next(iter((*self._whole, *self._partly)), None) or self._unknown()

    def _paths(self, path: tuple[ReadCertificate, ...]) -> Iterator[tuple[tuple[ReadCertificate, ...], CaCertificate]]:
        """Paths whose signatures are all good, with the registered certificate at their ends; verified ones first."""
        last = path[-1]
        for authority in self._registered:
            if authority.subject == last.issuer:
                anchor = read_certificate(authority.der)
                if self._is_signed(last, anchor, f"the hub's certificate {authority.name}"):
                    yield (*path, anchor), authority
        for above in self._chain[1:]:
            if above.subject == last.issuer and above not in path and self._is_signed(last, above, above.name):
                yield from self._paths((*path, above))

    def _is_signed(self, child: ReadCertificate, issuer: ReadCertificate, shown: str) -> bool:
        trouble = key_trouble(issuer)
        if not trouble:
            if self._signatures_left == 0:
                raise _TooMuchError
            self._signatures_left -= 1
            trouble = "" if is_signed_by(child, issuer) else f"its key did not sign {child.name}"
        if trouble:
            self._partly.append(_broken(f"{shown}: {trouble}"))
        return not trouble

    def _unknown(self) -> Refusal:
        last, seen = self._chain[0], 1
        while seen < len(self._chain):
            above = next((each for each in self._chain if each.subject == last.issuer and each is not last), None)
            if above is None:
                break
            last, seen = above, seen + 1
        count = len(self._chain)
        came = "only the device's own certificate came" if count == 1 else f"{count} certificates came"
        value = f"{came}; {last.name} is issued by {last.issuer_name}, and no CA certificate of the hub has that name"
        return _refused("auth.ca-unknown", value, f"{_WHOLE_CHAIN}{_REGISTER}")


def _path_refusal(path: Sequence[ReadCertificate], now_ms: int) -> Refusal | None:
    """What keeps a path from holding whose signatures are good: leaf first, a registered certificate last."""
    for certificate in path:
        refusal = _time_refusal(certificate, now_ms)
        if refusal is not None:
            return refusal
        if certificate.trouble:
            return _broken(f"{certificate.name}: {certificate.trouble}")
    if not path[0].authenticates:
        return _broken(f"{path[0].name}: its key usage does not let it prove a client")
    below = 0
    for certificate in path[1:]:
        if not certificate.signs:
            return _broken(f"{certificate.name}: it is no CA's, or its key usage does not let it sign certificates")
        if certificate.path_length is not None and below > certificate.path_length:
            allowed = certificate.path_length
            return _broken(f"{certificate.name}: {below} authorities stand below it, and its path length is {allowed}")
        below += not certificate.is_self_issued
    return None


def _time_refusal(certificate: ReadCertificate, now_ms: int) -> Refusal | None:
    remedy = "give the device a new certificate, or renew that of its CA; and look at the clocks"
    if now_ms < certificate.not_before_ms:
        begins = iso_utc(certificate.not_before_ms)
        return _refused("auth.certificate-expired", f"{certificate.name} is valid from {begins} on", remedy)
    if now_ms > certificate.not_after_ms:
        ended = iso_utc(certificate.not_after_ms)
        return _refused("auth.certificate-expired", f"{certificate.name} was valid until {ended}", remedy)
    return None


def _unverified(authority: CaCertificate) -> Refusal:
    remedy = (
        f"prove that its key is yours: isthmus iot hub certificate generate-verification-code -n {authority.name} "
        f"--etag ETAG, then verify; or isthmus iot hub certificate update -n {authority.name} --verified true --etag "
        "ETAG"
    )
    return _refused("auth.ca-unverified", f"the hub's certificate {authority.name} is not verified", remedy)


def _broken(value: str) -> Refusal:
    return _refused("auth.certificate-chain", value, _ISSUE_ANEW)


def _refused(rule: str, value: str, remedy: str) -> Refusal:
    return Refusal(Hop.AUTHENTICATION, rule, value, remedy)
