"""Certificates as a hub has them registered."""

from isthmus.access.ca_certificate import CaCertificate, read_certificate
from support.certificates import Issued


def registered(issued: Issued, name: str = "plant", *, is_verified: bool = True) -> CaCertificate:
    """The certificate as the hub's owner registered it."""
    subject = read_certificate(issued.der).subject
    return CaCertificate(name, issued.der, subject, is_verified, created_ms=0, updated_ms=0, revision=1)
