"""The installation's own certificate authority and the server certificates it issues, made at the first start.

The authority may vouch for nothing but the hub's own names and addresses (RFC 5280 §4.2.1.10), so trusting it on a
device or a desk opens nothing else. The extension is not marked critical, although RFC 5280 asks for it: TLS libraries
of small devices that do not know name constraints would refuse the authority as a whole, and those that know them
enforce them either way (the CA/Browser Forum's requirements allow the same).

There are two of them: the root, which clients trust (`ca.pem`), and the issuing authority below it, which signs the
servers' certificates and is sent along with them. The root's key is needed for a new issuing authority only, every
other year; `root.pem` may be taken away after the first start ("the root is offline") and comes back for that. Folders
of earlier releases have one authority for both, in `authority.pem`, and keep it; taken away, what it issued keeps
working, and a certificate that has to be issued names the remedy.

Key and certificate of one thing lie in one file (0600, sealed) that is replaced atomically, so a crash leaves either
the old pair or the new one. `ca.pem` is the root's public half, made from it again at each start.
"""

import datetime
import ipaddress
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from isthmus.access.authority_files import ISSUING_FILE, PUBLIC_FILE, ROOT_FILE, AuthorityFiles, is_issued_by
from isthmus.access.files import make_folder, write_sealed
from isthmus.access.issuing import (
    SERVER,
    days_left,
    issuer_key,
    key_usage,
    leaf,
    new_certificate,
    subject_of,
    validity,
)
from isthmus.access.key_pair import KeyPair, read_pair
from isthmus.base.clock import Clock
from isthmus.base.errors import ConfigurationError
from isthmus.base.sealing import UNSEALED, Sealer

AUTHORITY_DAYS = 3_650
"""Ten years: changing the authority means visiting every device."""

ISSUING_DAYS = 1_095
"""Three years, within which the root is needed once; so long a stolen key of the issuing authority would be good."""

SERVER_DAYS_MAX = 825
"""The longest validity that clients of Apple's platforms accept from a private authority."""

RENEWAL_DAYS = 180
"""A certificate with less left is issued anew at start: servers are restarted at least twice a year."""

ALWAYS = ("127.0.0.1", "::1")
"""Addresses every server certificate names."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Name = str | Address


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """Key and chain of one host name as PEM, for `ssl.SSLContext.load_cert_chain`; `path` is where they are kept."""

    host_name: str
    path: Path
    pem: bytes = field(repr=False)
    not_after: datetime.datetime


class Authority:
    """The certificate authority of a data folder. Its methods read and write files: call them off a busy loop."""

    def __init__(
        self,
        folder: Path,
        *,
        root: x509.Certificate,
        issuing: KeyPair,
        machine_name: str,
        addresses: Sequence[Address],
        clock: Clock,
        sealer: Sealer,
    ) -> None:
        self._folder = folder
        self._root = root
        self._pair = issuing
        self._machine_name = machine_name
        self._addresses = addresses
        self._clock = clock
        self._sealer = sealer

    @classmethod
    def load_or_create(
        cls,
        folder: Path,
        host_names: Sequence[str],
        addresses: Sequence[str],
        machine_name: str,
        clock: Clock,
        sealer: Sealer = UNSEALED,
    ) -> "Authority":
        """Loads the authority of `folder`, or makes one that may vouch for these names and addresses.

        `host_names` are the hubs' (an address is allowed), `addresses` those that are bound; wildcards are ignored. A
        new authority is made, and the old one kept beside it, when it expires within `RENEWAL_DAYS` or may not vouch
        for one of the host names. Raises `ConfigurationError` when the files cannot be read or written.
        """
        make_folder(folder)
        bound = [address for text in addresses if not (address := ipaddress.ip_address(text)).is_unspecified]
        required = [_name(host_name) for host_name in host_names]
        files = AuthorityFiles(folder, sealer)
        root, issuing = files.read()
        if root is None or not _still_good(root.certificate, required, clock):
            if root is not None:
                files.keep_old(root)
            root, issuing = _make_root(_permitted([*required, *bound, *_optional_name(machine_name)]), clock), None
            files.write_root(root)
        if issuing is None or (root.key is not None and days_left(issuing.certificate, clock) < RENEWAL_DAYS):
            issuing = _make_issuing(root, files, clock)
            files.write_issuing(issuing)
        files.write_public(root.certificate)
        return cls(
            folder,
            root=root.certificate,
            issuing=issuing,
            machine_name=machine_name,
            addresses=bound,
            clock=clock,
            sealer=sealer,
        )

    @property
    def ca_path(self) -> Path:
        """The root's certificate (PEM), for clients to trust."""
        return self._folder / PUBLIC_FILE

    @property
    def uncovered(self) -> tuple[str, ...]:
        """Bound addresses that the authority may not vouch for: clients reach them by host name only.

        Remove `root.pem`, `authority.pem` and `ca.pem` to have an authority made that covers them; clients must trust
        it anew.
        """
        return tuple(str(address) for address in self._addresses if not _permits(self._root, address))

    @property
    def root_needed_in_days(self) -> float:
        """Until the issuing authority expires, of which only the root can make a new one."""
        return days_left(self._pair.certificate, self._clock)

    def server_certificate(self, host_name: str) -> ServerCertificate:
        """The certificate of a host name, issued now where there is none, its names differ, or it expires soon.

        It names the host name, `*.` of its domain, `localhost`, the loopback addresses, the machine's name, and the
        bound addresses the authority may vouch for. Raises `ConfigurationError` when the authority may not vouch for
        the host name, or is offline and needed.
        """
        name = _name(host_name)
        if not _permits(self._root, name):
            raise ConfigurationError(
                f"The CA may not vouch for {host_name}: stop the server, remove {self._folder / ROOT_FILE},"
                f" {self._folder / ISSUING_FILE} and {self.ca_path}, and start it with this host name; clients must"
                " trust the new CA."
            )
        names = [each for each in self._names_of(name) if _permits(self._root, each)]
        path = self._folder / f"server-{_slug(host_name)}.pem"
        current = self._read(path)
        if current is None or not self._fits(current, names):
            current = self._issue(host_name, names)
            write_sealed(path, current.pem, self._sealer)
        return ServerCertificate(host_name, path, current.pem, current.certificate.not_valid_after_utc)

    def _read(self, path: Path) -> KeyPair | None:
        try:
            return read_pair(path, self._sealer)
        except ConfigurationError:
            # It is made anew as a damaged one is; whoever may not read it may not write it either, and hears of that.
            return None

    def _names_of(self, name: Name) -> list[Name]:
        names: list[Name] = [name]
        if isinstance(name, str) and "." in name:
            names.append(f"*.{name.partition('.')[2]}")
        names += [
            "localhost",
            *map(ipaddress.ip_address, ALWAYS),
            *_optional_name(self._machine_name),
            *self._addresses,
        ]
        return list(dict.fromkeys(names))

    def _fits(self, pair: KeyPair, names: list[Name]) -> bool:
        certificate = pair.certificate
        if not is_issued_by(certificate, self._pair.certificate) or tuple(pair.issuers) != self._sent_along:
            return False
        renewed_at = min(RENEWAL_DAYS, self.root_needed_in_days)
        return set(_subject_names(certificate)) == set(names) and days_left(certificate, self._clock) >= renewed_at

    @property
    def _sent_along(self) -> tuple[x509.Certificate, ...]:
        """What clients need beside the root: nothing where the root signs itself."""
        return () if self._pair.certificate == self._root else (self._pair.certificate,)

    def _issue(self, host_name: str, names: list[Name]) -> KeyPair:
        if self._pair.key is None:
            raise ConfigurationError(
                f"A certificate for {host_name} must be issued and the CA's key is offline: put"
                f" {self._folder / ISSUING_FILE} back and start again."
            )
        if self.root_needed_in_days <= 0:
            raise ConfigurationError(
                f"A certificate for {host_name} must be issued and what issues has expired: put"
                f" {self._folder / ROOT_FILE} back and start again."
            )
        key = ec.generate_private_key(ec.SECP256R1())
        start, end = validity(self._clock, SERVER_DAYS_MAX)
        certificate = leaf(
            self._pair,
            subject_of(host_name),
            [_general(name) for name in names],
            key.public_key(),
            purpose=SERVER,
            start=start,
            end=end,
        )
        return KeyPair(certificate, key, self._sent_along)


def self_signed(clock: Clock) -> bytes:
    """A throw-away self-signed certificate and its key as PEM, to try out client certificates with."""
    key = ec.generate_private_key(ec.SECP256R1())
    start, end = validity(clock, 1)
    builder = new_certificate(subject_of("trial"), subject_of("trial"), key.public_key(), start).not_valid_after(end)
    return KeyPair(builder.sign(key, hashes.SHA256()), key).pem


# ── the authority ────────────────────────────────────────────────────────────────────────────────────────────────────


def _make_root(permitted: Sequence[str | Network], clock: Clock) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    # The name is unique, so that clients that trust an older authority too do not try the wrong key first.
    subject = subject_of(f"Isthmus CA {secrets.token_hex(4)}")
    start, end = validity(clock, AUTHORITY_DAYS)
    builder = new_certificate(subject, subject, key.public_key(), start).not_valid_after(end)
    trees = [x509.DNSName(tree) if isinstance(tree, str) else x509.IPAddress(tree) for tree in permitted]
    constraints = x509.NameConstraints(trees, excluded_subtrees=None)
    return KeyPair(_as_authority(builder, constraints, path_length=1).sign(key, hashes.SHA256()), key)


def _make_issuing(root: KeyPair, files: AuthorityFiles, clock: Clock) -> KeyPair:
    """The authority that signs servers' certificates, with the root's constraints; raises `ConfigurationError`."""
    if root.key is None:
        raise ConfigurationError(
            f"An issuing authority must be made and the CA's root is offline: put {files.root} back and start again."
        )
    key, issuer = ec.generate_private_key(ec.SECP256R1()), root.certificate
    start, end = validity(clock, ISSUING_DAYS)
    subject = subject_of(f"Isthmus issuing CA {secrets.token_hex(4)}")
    builder = new_certificate(subject, issuer.subject, key.public_key(), start)
    builder = builder.not_valid_after(min(end, issuer.not_valid_after_utc))
    constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
    builder = _as_authority(builder, constraints, path_length=0)
    builder = builder.add_extension(issuer_key(issuer), critical=False)
    return KeyPair(builder.sign(root.key, hashes.SHA256()), key)


def _as_authority(
    builder: x509.CertificateBuilder, constraints: x509.NameConstraints, *, path_length: int
) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    builder = builder.add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    return builder.add_extension(constraints, critical=False)


def _permitted(names: Iterable[Name]) -> list[str | Network]:
    """Subtrees that cover the names: the domain of `hub.domain` (neighbours live there), else exactly the name."""
    trees: list[str | Network] = ["localhost", ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")]
    for name in names:
        if not isinstance(name, str):
            trees.append(ipaddress.ip_network(name))
            continue
        domain = name.partition(".")[2]
        # A top-level domain would be everybody's, except where it is one that nobody can own.
        trees.append(domain if "." in domain or domain in _LOCAL_DOMAINS else name)
    return list(dict.fromkeys(trees))


_LOCAL_DOMAINS = frozenset({"test", "internal", "local", "lan", "home", "localhost", "corp", "private", "intranet"})
"""Top-level domains reserved or never delegated (RFC 6761, RFC 6762, ICANN): `hub.lan` may have neighbours in `lan`."""


def _permits(authority: x509.Certificate, name: Name) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    return any(_covers(tree.value, name) for tree in constraints.permitted_subtrees or ())


def _covers(tree: object, name: Name) -> bool:
    if isinstance(tree, str):
        return isinstance(name, str) and (name == tree or name.endswith(f".{tree}"))
    if isinstance(tree, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return not isinstance(name, str) and name in tree
    return False


def _still_good(authority: x509.Certificate, required: Iterable[Name], clock: Clock) -> bool:
    return days_left(authority, clock) >= RENEWAL_DAYS and all(_permits(authority, name) for name in required)


# ── certificates ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _subject_names(certificate: x509.Certificate) -> list[Name]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [address for address in names.get_values_for_type(x509.IPAddress) if isinstance(address, Address)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _general(name: Name) -> x509.GeneralName:
    return x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name)


def _name(text: str) -> Name:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return text.lower().rstrip(".")


def _optional_name(machine_name: str) -> list[Name]:
    name = _name(machine_name)
    # A machine may be called anything; a certificate takes host names only (RFC 1123 §2.1).
    usable = not isinstance(name, str) or re.fullmatch(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", name)
    return [name] if usable else []


def _slug(host_name: str) -> str:
    return re.sub(r"[^a-z0-9.-]", "_", host_name.lower())
