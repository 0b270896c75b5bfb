"""`--login`: a hub over HTTPS, with the key of a policy."""

import base64
import hmac
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.conftest import Run
from cli.management import KEY
from isthmus.cli.errors import CommandError
from isthmus.cli.login import ManagementLogin, read_login, read_management_login

LOGIN = f"HostName=127.0.0.1;SharedAccessKeyName=service;SharedAccessKey={KEY}"


class Hub(ThreadingHTTPServer):
    """Remembers the last request's path and authorization."""

    path = ""
    authorization = ""

    def handle_error(self, request: object, client_address: object) -> None:
        """A handshake that fails is what a test here is about."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path / "cert.pem"))
    server = Hub(("127.0.0.1", 0), _Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_command_signs_in(hub: Hub, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    host = f"127.0.0.1:{hub.server_port}"
    done = run("device-twin", "show", "-d", "a b", "--login", LOGIN.replace("127.0.0.1", host))
    assert (done.code, done.out) == (0, "{}\n")
    assert hub.path == "/twins/a%20b?api-version=2021-04-12"
    scheme, _, fields = hub.authorization.partition(" ")
    token = {name: values[0] for name, values in parse_qs(fields).items()}
    signature = hmac.digest(base64.b64decode(KEY), f"127.0.0.1\n{token['se']}".encode(), "sha256")
    assert (scheme, token["sr"], token["skn"]) == ("SharedAccessSignature", "127.0.0.1", "service")
    assert base64.b64decode(token["sig"]) == signature


def test_a_stranger_to_the_certificate_is_told_how_to_trust(
    hub: Hub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    login = LOGIN.replace("127.0.0.1", f"127.0.0.1:{hub.server_port}")
    done = run("device-twin", "show", "-d", "a", "--login", login)
    assert done.code == 1
    assert "SSL_CERT_FILE" in done.err


def test_a_host_that_is_not_there_is_told(run: Run, loopback_address: str) -> None:
    done = run("device-twin", "show", "-d", "a", "--login", LOGIN.replace("127.0.0.1", f"{loopback_address}:9"))
    assert done.code == 1
    assert "cannot be reached" in done.err


def test_a_login_comes_from_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "login").write_text(LOGIN + "\n")
    monkeypatch.setenv("HUB_LOGIN", LOGIN)
    assert read_login(LOGIN) == read_login(f"@{tmp_path}/login") == read_login("HUB_LOGIN")
    assert KEY not in repr(read_login(LOGIN))


@pytest.mark.parametrize("given", ["@/nowhere/login", "NOT_SET_ANYWHERE", "HostName=h;SharedAccessKey=x", "HostName=;"])
def test_a_login_that_is_none_is_told(given: str) -> None:
    with pytest.raises(CommandError, match="--login"):
        read_login(given)


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.path = self.path
        self.server.authorization = self.headers["Authorization"]
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
        pass


def _certificate(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("Management=https://hub.test:8444;Token=t-1.a_b", ManagementLogin("hub.test", 8444, "t-1.a_b")),
        ("management=https://hub.test/;token=t", ManagementLogin("hub.test", 443, "t")),
        ("Token=t;Management=https://[::1]:9", ManagementLogin("::1", 9, "t")),
    ],
)
def test_a_management_login_is_read(given: str, read: ManagementLogin) -> None:
    assert read_management_login(given) == read
    assert "t-1" not in repr(read_management_login(given))


def test_a_management_login_comes_from_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Management=https://hub.test:8444;Token=t"
    (tmp_path / "login").write_text(f"{text}\n")
    monkeypatch.setenv("OPS", text)

    assert (
        read_management_login(f"@{tmp_path / 'login'}") == read_management_login("OPS") == read_management_login(text)
    )


@pytest.mark.parametrize(
    "given",
    [
        "Management=http://hub.test:1;Token=t",
        "Management=https://hub.test:1",
        "Management=https://hub.test:x;Token=t",
        "Management=https://hub.test:1/path;Token=t",
        "Management=https://:1;Token=t",
        "Token=t",
        LOGIN,
    ],
)
def test_what_is_no_management_login_is_told_the_form(given: str) -> None:
    with pytest.raises(CommandError, match="Management=https://HOST:PORT;Token=TOKEN"):
        read_management_login(given)
