"""How a command reaches a hub: a server's Unix socket, a stopped server's folder, or HTTPS with a key or a token."""

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigurationError
from isthmus.base.places import MANAGEMENT_SOCKET
from isthmus.base.sas_token import sign
from isthmus.cli.errors import CommandError, NoServer
from isthmus.cli.login import HTTPS_PORT, Login, ManagementLogin

ANSWER_SECONDS_MAX = 60.0
"""A request that waits for nothing but the server; those that wait for a device give their own."""
TOKEN_SECONDS = 300
"""Life of a token made for one request; clocks may differ by as much."""
SOCKET_PATH_BYTES_MAX = 107
"""What fits into `sockaddr_un` on Linux."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a management or service path; `path` is encoded and carries its query."""

    method: str
    path: str
    body: object | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = ANSWER_SECONDS_MAX

    @property
    def encoded(self) -> bytes:
        """The body as JSON, empty when there is none."""
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers in lower case, and bytes."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """The body parsed; None for an empty one. Raises CommandError with the server's words for a refusal."""
        if self.status >= 400:
            raise CommandError(refusal_of(self))
        return json.loads(self.body) if self.body else None


class Transport(Protocol):
    """Carries requests to one hub or server."""

    def send(self, request: Request) -> Answer:
        """Raises CommandError when nobody answers."""

    def lines(self, request: Request) -> Iterator[bytes]:
        """The lines of an answer that goes on; raises TimeoutError when none came in the request's time."""


class LocalServer:
    """The server of a data folder; what a stopped one can be asked is read from the folder itself."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def send(self, request: Request) -> Answer:
        try:
            connection = self._connection(request.timeout)
        except NoServer:
            answer = self._offline(request)
            if answer is None:
                raise
            return answer
        return _exchange(connection, request)

    def lines(self, request: Request) -> Iterator[bytes]:
        return _lines(self._connection(request.timeout), request)

    def _offline(self, request: Request) -> Answer | None:
        if not self._data.is_dir():
            return None
        from isthmus.app import offline

        try:
            answer = offline(self._data, request.method, request.path, request.encoded)
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        return None if answer is None else Answer(*answer)

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._data / MANAGEMENT_SOCKET, timeout)
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NoServer(
                f"No server runs on {self._data}; start it with `isthmus up --data {self._data}`, or name another "
                "folder with --data."
            ) from error
        except PermissionError as error:
            raise CommandError(f"The server on {self._data} belongs to another user; run this as its owner.") from error
        return connection


class RemoteHub:
    """A hub over HTTPS, with a policy's key."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def send(self, request: Request) -> Answer:
        host, _, port = self._login.host.partition(":")
        connection = _secured(host, int(port or HTTPS_PORT), request.timeout)
        return _exchange(connection, request, {"Authorization": self._token()})

    def lines(self, request: Request) -> Iterator[bytes]:
        raise CommandError("This reads from the local server; leave --login out, or read with an Event Hubs SDK.")

    def _token(self) -> str:
        expires = SystemClock().utc_ms() // 1000 + TOKEN_SECONDS
        try:
            return sign(self._login.host_name, self._login.key, expires, self._login.policy)
        except ValueError as error:
            raise CommandError("The SharedAccessKey given to --login is not base64.") from error


class RemoteServer:
    """A server's management over TLS, with a token."""

    def __init__(self, login: ManagementLogin) -> None:
        self._login = login

    def send(self, request: Request) -> Answer:
        connection = _secured(self._login.host, self._login.port, request.timeout)
        return _exchange(connection, request, {"Authorization": f"Bearer {self._login.token}"})

    def lines(self, request: Request) -> Iterator[bytes]:
        raise CommandError("This reads from the local server; leave --login out, or read with an Event Hubs SDK.")


def _secured(host: str, port: int, timeout: float | None) -> http.client.HTTPSConnection:
    """A connection that is up; raises CommandError in a sentence with the remedy."""
    connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=_trust())
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        raise CommandError(
            f"The certificate of {host} is not trusted here: name the hub's CA certificate in SSL_CERT_FILE."
        ) from error
    except OSError as error:
        raise CommandError(f"{host} cannot be reached: {error.strerror or error}.") from error
    return connection


def refusal_of(answer: Answer) -> str:
    """The peer's reason in one line, with the command that tells the owner more where there is a tracking id."""
    document = _object(answer.body)
    inner = document.get("error")
    inner = inner if isinstance(inner, dict) else {}
    text = str(inner.get("message") or document.get("Message") or document.get("message") or "")
    if text.startswith("{"):
        # A direct method's refusal has its words one level deeper.
        return refusal_of(Answer(answer.status, text.encode()))
    tracking = str(document.get("ExceptionMessage") or document.get("trackingId") or "")
    more = f" ({tracking})" if tracking and tracking not in text else ""
    return (text or f"The server answered {answer.status}") + more


def _object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket; a path too long for the kernel is reached through its folder's descriptor."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self._reach(self.sock)
        except OSError:
            self.close()
            raise

    def _reach(self, sock: socket.socket) -> None:
        if len(os.fsencode(self._path)) <= SOCKET_PATH_BYTES_MAX:
            sock.connect(str(self._path))
            return
        folder = os.open(self._path.parent, os.O_PATH)
        try:
            sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def _exchange(
    connection: http.client.HTTPConnection, request: Request, more: Mapping[str, str] | None = None
) -> Answer:
    try:
        _write(connection, request, more or {})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response.read(), headers)
    except TimeoutError as error:
        raise CommandError(f"No answer within {request.timeout:.0f} s.") from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise CommandError("The connection ended before the answer was whole.") from error
    finally:
        connection.close()


def _lines(connection: http.client.HTTPConnection, request: Request) -> Iterator[bytes]:
    try:
        _write(connection, request, {})
        response = connection.getresponse()
        if response.status >= 400:
            raise CommandError(refusal_of(Answer(response.status, response.read())))
        while line := response.readline():
            yield line
    except (http.client.HTTPException, ConnectionError) as error:
        raise CommandError("The server ended the connection.") from error
    finally:
        connection.close()


def _write(connection: http.client.HTTPConnection, request: Request, more: Mapping[str, str]) -> None:
    headers = {"Accept": "application/json", **request.headers, **more}
    if request.body is not None:
        headers["Content-Type"] = "application/json; charset=utf-8"
    connection.request(request.method, request.path, request.encoded, headers)


def _trust() -> ssl.SSLContext:
    """What the machine trusts, with the file that Python's HTTP clients are usually told."""
    context = ssl.create_default_context()
    bundle = os.environ.get("REQUESTS_CA_BUNDLE", "")
    if bundle and Path(bundle).is_file():
        context.load_verify_locations(bundle)
    return context
