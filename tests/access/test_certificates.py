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
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from isthmus.access.certificates import (
    AUTHORITY_DAYS,
    RENEWAL_DAYS,
    SERVER_DAYS_MAX,
    Authority,
    self_signed,
)
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

    assert root.not_valid_after_utc - root.not_valid_before_utc == datetime.timedelta(days=AUTHORITY_DAYS)
    assert server.not_valid_after_utc - server.not_valid_before_utc == datetime.timedelta(days=SERVER_DAYS_MAX)
    assert server.not_valid_before_utc < datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    authority = load(tmp_path)
    server = authority.server_certificate(HUB)

    assert stat.S_IMODE((tmp_path / "authority.pem").stat().st_mode) == 0o600
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


def test_authority_is_replaced_before_it_expires(tmp_path: Path) -> None:
    old = load(tmp_path).ca_path.read_bytes()

    assert load(tmp_path, clock=Later(AUTHORITY_DAYS - 10)).ca_path.read_bytes() != old


def test_offline_root_serves_what_it_issued(tmp_path: Path) -> None:
    issued = load(tmp_path).server_certificate(HUB)
    (tmp_path / "authority.pem").unlink()

    authority = load(tmp_path)

    assert authority.server_certificate(HUB) == issued
    with pytest.raises(ConfigurationError, match="key is offline"):
        authority.server_certificate("other.isthmus.test")
    with pytest.raises(ConfigurationError, match="key is offline"):
        load(tmp_path, host_names=["hub.example.org"])


def test_missing_public_file_is_made_again(tmp_path: Path) -> None:
    before = load(tmp_path).ca_path.read_bytes()
    (tmp_path / "ca.pem").unlink()

    assert load(tmp_path).ca_path.read_bytes() == before


def test_damaged_server_certificate_is_issued_again(tmp_path: Path) -> None:
    path = load(tmp_path).server_certificate(HUB).path
    path.write_bytes(path.read_bytes()[:100])

    assert HUB in subject_names(load(tmp_path).server_certificate(HUB).path)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_damaged_authority_is_never_replaced_silently(tmp_path: Path, content: bytes) -> None:
    load(tmp_path)
    (tmp_path / "authority.pem").write_bytes(content)

    with pytest.raises(ConfigurationError, match="is damaged"):
        load(tmp_path)


def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="file"):
        load(tmp_path / "file")


def test_trial_certificate_is_gone_afterwards(tmp_path: Path) -> None:
    with self_signed(tmp_path, SystemClock()) as path:
        assert certificate(path).subject == certificate(path).issuer
        load_pem_private_key(path.read_bytes(), None)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [HUB, "any.isthmus.test", "localhost", "127.0.0.1", "::1", "box"])
def test_python_verifies_every_name(tmp_path: Path, name: str) -> None:
    authority = load(tmp_path, machine_name="box")
    context = ssl.create_default_context(cafile=authority.ca_path)
    # The default from Python 3.13 on.
    context.verify_flags |= ssl.VERIFY_X509_STRICT

    with serving(authority) as port, socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as plain:
        context.wrap_socket(plain, server_hostname=name).close()


def test_openssl_enforces_the_constraints(tmp_path: Path) -> None:
    """A certificate for a foreign name, signed by our CA's key, is worth nothing."""
    authority = load(tmp_path)
    forged = forge(tmp_path, "www.example.org")

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


def forge(folder: Path, name: str) -> Path:
    """Signs a certificate for `name` with the authority's key by OpenSSL's own tool."""
    (folder / "names").write_text(f"subjectAltName=DNS:{name}\nbasicConstraints=critical,CA:FALSE\n")
    key, request, forged = folder / "forged.key", folder / "forged.csr", folder / "forged.pem"
    made = run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
               "/CN=forged", "-keyout", str(key), "-out", str(request))  # fmt: skip
    assert made.returncode == 0, made.stderr
    signed = run("openssl", "x509", "-req", "-in", str(request), "-CA", str(folder / "ca.pem"), "-CAkey",
                 str(folder / "authority.pem"), "-extfile", str(folder / "names"), "-out", str(forged))  # fmt: skip
    assert signed.returncode == 0, signed.stderr
    return forged


def openssl_verify(ca: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return run("openssl", "verify", "-x509_strict", "-CAfile", str(ca), "-purpose", "sslserver", str(path))


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
