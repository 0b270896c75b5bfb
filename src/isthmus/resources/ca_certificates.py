"""CA certificates of a hub: pure changes of the hub record, and their ARM form.

Shapes and rules: Microsoft.Devices/IotHubs/certificates 2023-06-30. Whoever registers a certificate proves that its key
is his by a certificate of his CA for a code that nobody knew before; or the owner says at once that it is verified.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.access.ca_certificate import (
    CERTIFICATE_BYTES_MAX,
    CaCertificate,
    ReadCertificate,
    UnreadableCertificateError,
    is_signed_by,
    key_trouble,
    read_certificate,
)
from isthmus.base.clock import iso_utc
from isthmus.base.errors import Code, HubError
from isthmus.base.etags import parse_if_match, twin_etag
from isthmus.resources.hub import Hub
from isthmus.resources.members import bad, boolean, known_members, mapping, text

CERTIFICATES_MAX = 25
"""CA certificates of a hub ("IoT Hub quotas and throttling")."""

CERTIFICATE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Microsoft.Devices/IotHubs/certificates, parameter `certificateName`."""

CERTIFICATE_TEXT_MAX = 4 * CERTIFICATE_BYTES_MAX
"""Characters of a certificate as it is sent: PEM, once more in base64."""

MEMBERS = ("certificate", "isVerified")
READ_ONLY = ("subject", "expiry", "thumbprint", "created", "updated", "verificationCode")


def find_certificate(hub: Hub, name: str) -> CaCertificate | None:
    """The certificate of that name; names are compared without case."""
    return next((each for each in hub.certificates if each.name.lower() == name.lower()), None)


def require_certificate(hub: Hub, name: str) -> CaCertificate:
    """As `find_certificate`; raises HubError CertificateNotFound."""
    found = find_certificate(hub, name)
    if found is None:
        known = ", ".join(each.name for each in hub.certificates) or "none"
        raise HubError(
            Code.CERTIFICATE_NOT_FOUND, f"There is no certificate {name}; certificates of {hub.name}: {known}"
        )
    return found


def put_certificate(hub: Hub, name: str, body: Mapping[str, object], if_match: str | None, now_ms: int) -> Hub:
    """The hub with the certificate of an ARM body, new or in place of the one of that name.

    What is put again without a word of `isVerified` stays as verified as it was. Raises HubError ArgumentInvalid for a
    certificate that cannot vouch for devices, QuotaExceeded, PreconditionFailed.
    """
    present = find_certificate(hub, name)
    _check_etag(name, present, if_match, required=False)
    if present is None and not CERTIFICATE_NAME.fullmatch(name):
        raise HubError(
            Code.ARGUMENT_INVALID, f"A certificate's name has 1 to 64 letters, digits, '.', '-', '_': {name!r}"
        )
    if present is None and len(hub.certificates) >= CERTIFICATES_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"A hub has at most {CERTIFICATES_MAX} certificates")
    properties = mapping(body.get("properties"), "properties")
    known_members(properties, "properties", (*MEMBERS, *READ_ONLY))
    der = certificate_of(properties.get("certificate"), "properties.certificate")
    read = _signing(der, now_ms)
    same = present is not None and present.der == der
    said = properties.get("isVerified")
    kept = present is not None and same and present.is_verified
    is_verified = kept if said is None else boolean(said, "properties.isVerified")
    if present is not None and same and is_verified == present.is_verified:
        return hub
    made = CaCertificate(
        name=present.name if present is not None else name,
        der=der,
        subject=read.subject,
        is_verified=is_verified,
        created_ms=present.created_ms if present is not None else now_ms,
        updated_ms=now_ms,
        revision=0,
    )
    return _with(hub, made)


def remove_certificate(hub: Hub, name: str, if_match: str | None) -> Hub:
    """The hub without the certificate; raises HubError CertificateNotFound or PreconditionFailed."""
    found = require_certificate(hub, name)
    _check_etag(name, found, if_match, required=True)
    return replace(hub, certificates=tuple(each for each in hub.certificates if each is not found))


def with_code(hub: Hub, name: str, if_match: str | None, code: str, now_ms: int) -> Hub:
    """The hub with a new code for the proof of possession; an earlier one proves nothing any more. Raises as above."""
    found = require_certificate(hub, name)
    _check_etag(name, found, if_match, required=True)
    return _with(hub, replace(found, code=code, updated_ms=now_ms))


def verified(hub: Hub, name: str, if_match: str | None, proof: object, now_ms: int) -> Hub:
    """The hub with the certificate verified by a proof of possession, whose code is used up.

    Raises HubError CertificateNotFound, PreconditionFailed; InvalidOperation while no code was asked for, and
    ArgumentInvalid for a proof that is not for the code or not signed by the certificate's key.
    """
    found = require_certificate(hub, name)
    _check_etag(name, found, if_match, required=True)
    if not found.code:
        raise HubError(Code.INVALID_OPERATION, f"No verification code of {name} is open; generate one first")
    shown = _read(certificate_of(proof, "certificate"), "certificate")
    if shown.common_name != found.code:
        message = f"The common name of the proof is not the verification code, but {shown.common_name[:64]!r}"
        raise HubError(Code.ARGUMENT_INVALID, message)
    if shown.trouble or not is_signed_by(shown, read_certificate(found.der)):
        message = f"The proof is not signed by the key of {found.name}, with SHA-256 or better"
        raise HubError(Code.ARGUMENT_INVALID, message)
    return _with(hub, replace(found, code="", is_verified=True, updated_ms=now_ms))


def certificate_of(value: object, path: str) -> bytes:
    """The DER of a certificate as clients send it: PEM, its base64, or base64 of the DER; the first of several in PEM.

    Raises HubError ArgumentInvalid.
    """
    sent = text(value, path).strip()
    if len(sent) > CERTIFICATE_TEXT_MAX:
        raise bad(path, f"at most {CERTIFICATE_TEXT_MAX} characters")
    try:
        raw = sent.encode("ascii")
        decoded = raw if raw.startswith(_PEM) else base64.b64decode(b"".join(raw.split()), validate=True)
        if _PEM not in decoded:
            return decoded
        return x509.load_pem_x509_certificate(decoded).public_bytes(Encoding.DER)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise bad(path, "a certificate in PEM or base64") from error


def certificate_to_arm(hub: Hub, certificate: CaCertificate) -> dict[str, object]:
    """A certificate as `az iot hub certificate show` prints it."""
    read = read_certificate(certificate.der)
    pem = read.certificate.public_bytes(Encoding.PEM).decode()
    return {
        "id": f"{hub.resource_id}/certificates/{certificate.name}",
        "name": certificate.name,
        "type": "Microsoft.Devices/IotHubs/Certificates",
        "etag": etag_of(certificate),
        "properties": {
            "subject": read.name,
            "expiry": http_date(read.not_after_ms),
            "thumbprint": certificate.thumbprint,
            "isVerified": certificate.is_verified,
            "created": http_date(certificate.created_ms),
            "updated": http_date(certificate.updated_ms),
            "certificate": pem,
        },
    }


def code_to_arm(hub: Hub, certificate: CaCertificate) -> dict[str, object]:
    """As `certificate_to_arm`, with the code for the proof of possession."""
    shown = certificate_to_arm(hub, certificate)
    return {**shown, "properties": {**mapping(shown["properties"], "properties"), "verificationCode": certificate.code}}


def etag_of(certificate: CaCertificate) -> str:
    """Another one after each change."""
    return twin_etag(certificate.revision)


def new_code(uuid: Callable[[], str]) -> str:
    """48 hex digits of random bits, which fit into a common name (X.520: 64 characters)."""
    return (uuid() + uuid()).replace("-", "").upper()[:48]


def http_date(utc_ms: int) -> str:
    """RFC 1123, as ARM writes the times of certificates."""
    return format_datetime(datetime.fromtimestamp(utc_ms // 1000, UTC), usegmt=True)


_PEM = b"-----BEGIN "


def _with(hub: Hub, made: CaCertificate) -> Hub:
    """The hub with a certificate in the place of the one of its name, or at the end, under an etag of its own."""
    revision = hub.last_certificate + 1
    made = replace(made, revision=revision)
    names = [each.name for each in hub.certificates]
    kept = tuple(made if each.name == made.name else each for each in hub.certificates)
    return replace(hub, certificates=kept if made.name in names else (*kept, made), last_certificate=revision)


def _check_etag(name: str, found: CaCertificate | None, if_match: str | None, *, required: bool) -> None:
    wanted = parse_if_match(if_match)
    if wanted is None and required:
        raise HubError(Code.PRECONDITION_FAILED, f"Name the etag of {name} in the header If-Match, or * for any")
    if wanted is None or (found is not None and wanted in ("*", etag_of(found))):
        return
    told = "it was changed" if found is not None else "there is no such certificate"
    raise HubError(Code.PRECONDITION_FAILED, f"The certificate {name} does not have the etag {wanted}: {told}")


def _signing(der: bytes, now_ms: int) -> ReadCertificate:
    """The certificate of an authority that can vouch for devices now; raises HubError ArgumentInvalid."""
    path = "properties.certificate"
    read = _read(der, path)
    trouble = read.trouble or key_trouble(read)
    if not trouble and not read.is_authority:
        trouble = "it is no CA's: basicConstraints does not say so"
    if not trouble and not read.signs:
        trouble = "its key usage does not let it sign certificates"
    if not trouble and read.not_after_ms < now_ms:
        trouble = f"it was valid until {iso_utc(read.not_after_ms)}"
    if trouble:
        raise HubError(Code.ARGUMENT_INVALID, f"{path} cannot vouch for devices: {trouble}")
    return read


def _read(der: bytes, path: str) -> ReadCertificate:
    try:
        return read_certificate(der)
    except UnreadableCertificateError as error:
        raise HubError(Code.ARGUMENT_INVALID, f"{path}: {error}") from error
