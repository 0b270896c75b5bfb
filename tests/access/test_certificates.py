"""The installation's CA: what it makes, what clients of several makes think of it, and when it makes it anew."""

import datetime
import ipaddress
import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from isthmus.access.certificates import (
    AUTHORITY_DAYS,
    ISSUING_DAYS,
    RENEWAL_DAYS,
    SERVER_DAYS_MAX,
    Authority,
    self_signed,
)
from isthmus.access.issuing import BACKDATED_DAYS, key_usage, new_certificate, subject_of, validity
from isthmus.access.key_pair import KeyPair
from isthmus.base.clock import Clock, SystemClock
from isthmus.base.errors import ConfigurationError

HUB = "hub.isthmus.test"
WAIT_SECONDS = 20


class Later:
    """The machine's clock, some days ahead."""

    def __init__(self, days: float) -> None:
        self._days = days

    def utc_ms(self) -> int:
        return SystemClock().utc_ms() + int(self._days * 86_400_000)

    def monotonic(self) -> float:
        return SystemClock().monotonic()


def test_server_certificate_names_everything_clients_connect_by(tmp_path: Path) -> None:
    authority = load(tmp_path, addresses=["127.0.0.1", "0.0.0.0", "::", "10.1.2.3"], machine_name="Box")

    names = subject_names(authority.server_certificate(HUB).path)

    assert names == {HUB, "*.isthmus.test", "localhost", "box", "127.0.0.1", "::1", "10.1.2.3"}


def test_address_as_host_name_is_named_as_an_address(tmp_path: Path) -> None:
    authority = load(tmp_path, host_names=["10.1.2.3"])

    assert subject_names(authority.server_certificate("10.1.2.3").path) == {"10.1.2.3", "localhost", "127.0.0.1", "::1"}


def test_odd_machine_name_is_left_out(tmp_path: Path) -> None:
    authority = load(tmp_path, machine_name="my_box!")

    assert "my_box!" not in subject_names(authority.server_certificate(HUB).path)


def test_authority_may_vouch_for_its_own_names_only(tmp_path: Path) -> None:
    load(
        tmp_path,
        host_names=[HUB, "hub.lan", "example.com"],
        addresses=["10.1.2.3"],
        machine_name="box.corp.example.com",
    )
    constraints = certificate(tmp_path / "ca.pem").extensions.get_extension_for_class(x509.NameConstraints).value

    permitted = {str(tree.value) for tree in constraints.permitted_subtrees or ()}

    assert permitted == {
        "localhost",
        "127.0.0.0/8",
        "::1/128",
        "isthmus.test",
        "lan",
        "example.com",
        "10.1.2.3/32",
        "corp.example.com",
    }


def test_validity_is_bounded_and_begins_in_the_past(tmp_path: Path) -> None:
    authority = load(tmp_path)
    root, server = certificate(authority.ca_path), certificate(authority.server_certificate(HUB).path)
    issuing = certificate(tmp_path / "authority.pem")

    assert root.not_valid_after_utc - root.not_valid_before_utc == datetime.timedelta(days=AUTHORITY_DAYS)
    assert issuing.not_valid_after_utc - issuing.not_valid_before_utc == datetime.timedelta(days=ISSUING_DAYS)
    assert server.not_valid_after_utc - server.not_valid_before_utc == datetime.timedelta(days=SERVER_DAYS_MAX)
    assert server.not_valid_before_utc < datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    authority = load(tmp_path)
    server = authority.server_certificate(HUB)

    for name in ("root.pem", "authority.pem"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    assert b"PRIVATE" not in authority.ca_path.read_bytes()
    assert stat.S_IMODE(tmp_path.stat().st_mode) & 0o077 == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_second_start_changes_nothing(tmp_path: Path) -> None:
    load(tmp_path).server_certificate(HUB)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    load(tmp_path).server_certificate(HUB)

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_new_name_issues_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    authority = load(tmp_path)
    old = authority.server_certificate(HUB).path.read_bytes()

    again = load(tmp_path, machine_name="isthmus.test")

    assert again.server_certificate(HUB).path.read_bytes() != old
    assert "isthmus.test" in subject_names(again.server_certificate(HUB).path)
    assert again.ca_path.read_bytes() == authority.ca_path.read_bytes()


def test_address_the_authority_does_not_cover_is_told_and_left_out(tmp_path: Path) -> None:
    load(tmp_path)
    before = (tmp_path / "ca.pem").read_bytes()

    authority = load(tmp_path, addresses=["127.0.0.1", "10.9.9.9"])

    assert authority.uncovered == ("10.9.9.9",)
    assert "10.9.9.9" not in subject_names(authority.server_certificate(HUB).path)
    assert authority.ca_path.read_bytes() == before


def test_host_name_outside_makes_a_new_authority_and_keeps_the_old_one(tmp_path: Path) -> None:
    old = load(tmp_path).ca_path.read_bytes()

    authority = load(tmp_path, host_names=["hub.example.org"])

    assert authority.ca_path.read_bytes() != old
    kept = list(tmp_path.glob("authority-until-*.pem"))
    assert [certificate(path) for path in kept] == [x509.load_pem_x509_certificate(old)]
    assert "hub.example.org" in subject_names(authority.server_certificate("hub.example.org").path)


def test_certificate_for_a_foreign_name_is_refused_with_the_remedy(tmp_path: Path) -> None:
    authority = load(tmp_path)

    with pytest.raises(ConfigurationError, match=r"may not vouch for www\.example\.org: .*ca\.pem"):
        authority.server_certificate("www.example.org")


def test_server_certificate_is_renewed_before_it_expires(tmp_path: Path) -> None:
    first = load(tmp_path).server_certificate(HUB)
    early, late = SERVER_DAYS_MAX - RENEWAL_DAYS - 10, SERVER_DAYS_MAX - RENEWAL_DAYS + 10

    assert load(tmp_path, clock=Later(early)).server_certificate(HUB).not_after == first.not_after
    assert load(tmp_path, clock=Later(late)).server_certificate(HUB).not_after > first.not_after


def test_certificate_does_not_outlive_its_authority(tmp_path: Path) -> None:
    load(tmp_path)

    authority = load(tmp_path, clock=Later(AUTHORITY_DAYS - RENEWAL_DAYS - 30))

    assert authority.server_certificate(HUB).not_after == certificate(authority.ca_path).not_valid_after_utc
    assert certificate(tmp_path / "authority.pem").not_valid_after_utc == authority.server_certificate(HUB).not_after


def test_what_issues_is_renewed_by_the_root_and_clients_trust_the_same(tmp_path: Path) -> None:
    first = load(tmp_path)
    old, before = first.server_certificate(HUB), first.ca_path.read_bytes()

    later = load(tmp_path, clock=Later(ISSUING_DAYS - RENEWAL_DAYS + 10))

    assert later.ca_path.read_bytes() == before
    assert later.server_certificate(HUB).pem != old.pem
    assert later.root_needed_in_days > RENEWAL_DAYS
    assert openssl_verify(later.ca_path, later.server_certificate(HUB).path).returncode == 0


def test_without_its_root_it_goes_on_and_says_for_how_long(tmp_path: Path) -> None:
    load(tmp_path).server_certificate(HUB)
    (tmp_path / "root.pem").unlink()

    authority = load(tmp_path, clock=Later(ISSUING_DAYS - 10))

    assert authority.root_needed_in_days == pytest.approx(10, abs=BACKDATED_DAYS + 0.1)
    last = authority.server_certificate(HUB)
    assert load(tmp_path, clock=Later(ISSUING_DAYS - 5)).server_certificate(HUB) == last


def test_what_issues_has_expired_and_the_root_is_away(tmp_path: Path) -> None:
    load(tmp_path).server_certificate(HUB)
    (tmp_path / "root.pem").unlink()

    authority = load(tmp_path, clock=Later(ISSUING_DAYS + 1))

    with pytest.raises(ConfigurationError, match=r"has expired: put .*root\.pem back"):
        authority.server_certificate(HUB)


def test_the_root_may_come_back_for_a_new_issuing_authority(tmp_path: Path) -> None:
    load(tmp_path)
    root = (tmp_path / "root.pem").read_bytes()
    (tmp_path / "root.pem").unlink()
    clock = Later(ISSUING_DAYS - 10)
    assert load(tmp_path, clock=clock).root_needed_in_days < RENEWAL_DAYS

    (tmp_path / "root.pem").write_bytes(root)

    assert load(tmp_path, clock=clock).root_needed_in_days > RENEWAL_DAYS


def test_killed_between_a_new_root_and_what_issues_by_it(tmp_path: Path) -> None:
    """As `kill -9` leaves the folder: a new root is written, and below it stands what the old one signed."""
    load(tmp_path)
    issuing = (tmp_path / "authority.pem").read_bytes()
    authority = load(tmp_path, host_names=["hub.example.org"])
    (tmp_path / "authority.pem").write_bytes(issuing)

    again = load(tmp_path, host_names=["hub.example.org"])

    assert again.ca_path.read_bytes() == authority.ca_path.read_bytes()
    assert openssl_verify(again.ca_path, again.server_certificate("hub.example.org").path).returncode == 0


def test_an_issuing_authority_of_another_root_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        load(tmp_path / name)
    (tmp_path / "one" / "root.pem").unlink()
    shutil.copy(tmp_path / "two" / "authority.pem", tmp_path / "one" / "authority.pem")

    with pytest.raises(ConfigurationError, match=r"not of the CA in ca\.pem"):
        load(tmp_path / "one")


def test_an_authority_of_an_earlier_release_is_kept(tmp_path: Path) -> None:
    earlier_authority(tmp_path)
    before = (tmp_path / "authority.pem").read_bytes()

    authority = load(tmp_path)

    assert authority.ca_path.read_bytes() in before
    assert (tmp_path / "authority.pem").read_bytes() == before
    assert not (tmp_path / "root.pem").exists()
    assert openssl_verify(authority.ca_path, authority.server_certificate(HUB).path).returncode == 0


def test_an_authority_of_an_earlier_release_may_be_offline(tmp_path: Path) -> None:
    earlier_authority(tmp_path)
    issued = load(tmp_path).server_certificate(HUB)
    (tmp_path / "authority.pem").unlink()

    authority = load(tmp_path)

    assert authority.server_certificate(HUB) == issued
    with pytest.raises(ConfigurationError, match="key is offline"):
        authority.server_certificate("other.isthmus.test")
    with pytest.raises(ConfigurationError, match="key is offline"):
        load(tmp_path, host_names=["hub.example.org"])


def test_authority_is_replaced_before_it_expires(tmp_path: Path) -> None:
    old = load(tmp_path).ca_path.read_bytes()

    assert load(tmp_path, clock=Later(AUTHORITY_DAYS - 10)).ca_path.read_bytes() != old


def test_an_offline_root_is_not_needed_to_issue(tmp_path: Path) -> None:
    issued = load(tmp_path).server_certificate(HUB)
    (tmp_path / "root.pem").unlink()

    authority = load(tmp_path)

    assert authority.server_certificate(HUB) == issued
    other = authority.server_certificate("other.isthmus.test")
    assert openssl_verify(authority.ca_path, other.path).returncode == 0
    with pytest.raises(ConfigurationError, match=r"key is offline: put .*root\.pem back"):
        load(tmp_path, host_names=["hub.example.org"])


def test_nothing_is_issued_without_either_key(tmp_path: Path) -> None:
    load(tmp_path)
    (tmp_path / "root.pem").unlink()
    (tmp_path / "authority.pem").unlink()

    with pytest.raises(ConfigurationError, match=r"root is offline: put .*root\.pem back"):
        load(tmp_path)


def test_missing_public_file_is_made_again(tmp_path: Path) -> None:
    before = load(tmp_path).ca_path.read_bytes()
    (tmp_path / "ca.pem").unlink()

    assert load(tmp_path).ca_path.read_bytes() == before


def test_damaged_server_certificate_is_issued_again(tmp_path: Path) -> None:
    path = load(tmp_path).server_certificate(HUB).path
    path.write_bytes(path.read_bytes()[:100])

    assert HUB in subject_names(load(tmp_path).server_certificate(HUB).path)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
@pytest.mark.parametrize("name", ["root.pem", "authority.pem"])
def test_damaged_authority_is_never_replaced_silently(tmp_path: Path, name: str, content: bytes) -> None:
    load(tmp_path)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigurationError, match="is damaged"):
        load(tmp_path)


def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="file"):
        load(tmp_path / "file")


def test_trial_certificate_is_its_own_issuer() -> None:
    pem = self_signed(SystemClock())

    trial = x509.load_pem_x509_certificate(pem)
    assert trial.subject == trial.issuer
    load_pem_private_key(pem, None)


@pytest.mark.parametrize("name", [HUB, "any.isthmus.test", "localhost", "127.0.0.1", "::1", "box"])
def test_python_verifies_every_name(tmp_path: Path, name: str) -> None:
    authority = load(tmp_path, machine_name="box")
    context = ssl.create_default_context(cafile=authority.ca_path)
    # The default from Python 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_STRICT

    with serving(authority) as port, socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as plain:
        context.wrap_socket(plain, server_hostname=name).close()


@pytest.mark.parametrize("by", ["root.pem", "authority.pem"])
def test_openssl_enforces_the_constraints(tmp_path: Path, by: str) -> None:
    """A certificate for a foreign name, signed by our CA's key, is worth nothing; so by the issuing authority's."""
    authority = load(tmp_path)
    forged = forge(tmp_path, "www.example.org", by=by)

    good = openssl_verify(authority.ca_path, authority.server_certificate(HUB).path)
    bad = openssl_verify(authority.ca_path, forged)

    assert good.returncode == 0, good.stderr
    assert "permitted subtree violation" in bad.stderr


def test_curl_verifies(tmp_path: Path) -> None:
    authority = load(tmp_path)
    with serving(authority) as port:
        resolve = f"{HUB}:{port}:127.0.0.1"
        command = ["curl", "-sS", "--noproxy", "*", "--cacert", str(authority.ca_path), "--resolve", resolve]

        answer = run(*command, f"https://{HUB}:{port}/", f"https://127.0.0.1:{port}/")

    assert answer.stdout == "hello" * 2, answer.stderr


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_verifies(tmp_path: Path) -> None:
    authority = load(tmp_path)
    with serving(authority) as port:
        script = (
            f"require('tls').connect({{port: {port}, host: '127.0.0.1', servername: '{HUB}',"
            f" ca: require('fs').readFileSync({str(authority.ca_path)!r})}},"
            " function () { console.log(this.authorized); this.destroy() })"
        )
        answer = run("node", "-e", script)

    assert answer.stdout.strip() == "true", answer.stderr


def load(
    folder: Path,
    *,
    host_names: list[str] | None = None,
    addresses: list[str] | None = None,
    machine_name: str = "",
    clock: Clock | None = None,
) -> Authority:
    folder.chmod(0o700)
    return Authority.load_or_create(
        folder, host_names or [HUB], addresses or ["127.0.0.1"], machine_name, clock or SystemClock()
    )


def certificate(path: Path) -> x509.Certificate:
    content = path.read_bytes()
    return x509.load_pem_x509_certificate(content[content.index(b"-----BEGIN CERTIFICATE") :])


def subject_names(path: Path) -> set[str]:
    names = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *(str(ipaddress.ip_address(str(each))) for each in addresses)}


def forge(folder: Path, name: str, *, by: str) -> Path:
    """Signs a certificate for `name` with an authority's key by OpenSSL's own tool."""
    (folder / "names").write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=critical,CA:FALSE\n")
    key, request, forged = folder / "forged.key", folder / "forged.csr", folder / "forged.pem"
    made = run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
               "/CN=forged", "-keyout", str(key), "-out", str(request))  # fmt: skip
    assert made.returncode == 0, made.stderr
    signed = run("openssl", "x509", "-req", "-in", str(request), "-CA", str(folder / by), "-CAkey",
                 str(folder / by), "-extfile", str(folder / "names"), "-out", str(forged))  # fmt: skip
    assert signed.returncode == 0, signed.stderr
    # As a server sends it: with what issued it behind.
    forged.write_bytes(forged.read_bytes() + (folder / by).read_bytes())
    return forged


def earlier_authority(folder: Path) -> None:
    """One authority that signs servers itself, as releases made it whose root could not be taken away alone."""
    key, name = ec.generate_private_key(ec.SECP256R1()), subject_of("Isthmus CA 12345678")
    start, end = validity(SystemClock(), AUTHORITY_DAYS)
    built = new_certificate(name, name, key.public_key(), start).not_valid_after(end)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    built = built.add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    names = x509.NameConstraints([x509.DNSName("isthmus.test")], excluded_subtrees=None)
    built = built.add_extension(names, critical=False)
    pair = KeyPair(built.sign(key, hashes.SHA256()), key)
    (folder / "authority.pem").write_bytes(pair.pem)
    (folder / "ca.pem").write_bytes(pair.certificate.public_bytes(Encoding.PEM))


def openssl_verify(ca: Path, path: Path) -> subprocess.CompletedProcess[str]:
    chain = ("-no_check_time", "-untrusted", str(path))
    return run("openssl", "verify", "-x509_strict", "-CAfile", str(ca), *chain, "-purpose", "sslserver", str(path))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)


@contextmanager
def serving(authority: Authority) -> Iterator[int]:
    """Answers every TLS connection with a greeting until the block ends; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_certificate(HUB).path)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = Thread(target=greet, args=(listening, context), daemon=True)
        serving.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        serving.join(WAIT_SECONDS)


def greet(listening: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            accepted, _ = listening.accept()
        except OSError:
            return
        accepted.settimeout(WAIT_SECONDS)
        try:
            with context.wrap_socket(accepted, server_side=True) as tls:
                if tls.recv(4096):
                    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        except OSError:
            accepted.close()
