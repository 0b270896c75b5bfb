"""Knocks at a listening socket as a stranger, and as somebody with the owner's key, and says in words what answers.

Both are needed: a stranger hears the same at an open door and at a closed one, by design. The key tells them apart,
where using it changes nothing; MQTT has no such question, so there the stranger alone knocks.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.wire.amqp import events as amqp
from isthmus.wire.amqp.connection import Connection
from isthmus.wire.amqp.performatives import Open, SaslChoice, SaslCode
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.packets import ConnAck, Connect

KNOCK_SECONDS_MAX = 5.0
"""For a connection, a handshake and an answer, each; what takes longer counts as no answer."""

ANSWER_BYTES_MAX = 65_536
"""Of an answer; what matters stands at its beginning."""

API_VERSION = "2021-04-12"
NOBODY = "exposure-check"
"""The device nobody has; a number behind it tells knocks apart in the journal."""


@dataclass(frozen=True, slots=True)
class Key:
    """A shared access policy's name, and a token of it for a hub."""

    policy: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bell:
    """Where to knock: `source` is the address to come from, `host` the hub's name in TLS, `hub` its short one."""

    address: str
    port: int
    plane: str
    source: str
    host: str
    hub: str = ""
    device: str = NOBODY


@dataclass(frozen=True, slots=True)
class Met:
    """What answered: nobody (`reached` is false), or somebody, who let the key in (`served`) or not (None: no key)."""

    words: str
    reached: bool = True
    stranger_refused: bool = True
    served: bool | None = None


def knock(bell: Bell, trust: ssl.SSLContext, key: Key | None) -> Met:
    """Knocks by the protocol of the bell's plane; raises nothing, whatever happens."""
    asking = _ASKING.get(bell.plane)
    try:
        if asking is None:
            with _connected(bell):
                return Met("accepts connections", stranger_refused=False)
        return asking(bell, trust, key)
    except ssl.SSLError as error:
        return Met(f"TLS ends: {(error.reason or 'closed').lower().replace('_', ' ')}", served=False)
    except TimeoutError:
        return Met("no answer", reached=False)
    except (ConnectionResetError, BrokenPipeError):
        # Address rules of a door close a socket before anything is read of it.
        return Met("closed", served=False)
    except OSError as error:
        return Met(f"unreachable: {error.strerror or error}".lower(), reached=False)


def query_name(bell: Bell, *, datagrams: bool) -> Met:
    """Asks a name service for the hub's name; raises nothing."""
    question = _question(bell.host)
    try:
        if datagrams:
            with socket.socket(_family(bell.address), socket.SOCK_DGRAM) as asking:
                asking.settimeout(KNOCK_SECONDS_MAX)
                asking.connect((bell.address, bell.port))
                asking.send(question)
                answer = asking.recv(ANSWER_BYTES_MAX)
        else:
            with _connected(bell) as asking:
                asking.sendall(len(question).to_bytes(2, "big") + question)
                answer = asking.recv(ANSWER_BYTES_MAX)[2:]
    except TimeoutError:
        return Met("no answer", reached=False)
    except OSError as error:
        return Met(f"unreachable: {error.strerror or error}".lower(), reached=False)
    code = _RESPONSES.get(answer[3] & 15, f"code {answer[3] & 15}") if len(answer) > 3 else "nothing"
    return Met(f"answers {code}", stranger_refused=False)


def look_at_file(path: str) -> Met:
    """The rights of a Unix socket's file."""
    try:
        found = Path(path).stat()
    except OSError as error:
        return Met(f"no file: {error.strerror}".lower(), reached=False)
    mode = found.st_mode & 0o777
    return Met(f"mode {mode:04o}, user {found.st_uid}", stranger_refused=not mode & 0o007)


def _https(bell: Bell, trust: ssl.SSLContext, key: Key | None) -> Met:
    path = f"/statistics/devices?api-version={API_VERSION}"
    stranger = _get(bell, trust, path, "")
    if key is None:
        return Met(f"stranger {stranger}", stranger_refused=stranger == 401)
    owner = _get(bell, trust, path, key.token)
    return Met(f"stranger {stranger}, key {owner}", stranger_refused=stranger == 401, served=owner == 200)


def _amqp(bell: Bell, trust: ssl.SSLContext, key: Key | None) -> Met:
    stranger = _plain(bell, trust, f"{bell.device}@sas.{bell.hub}", "no token")
    refused = stranger is SaslCode.AUTH
    if key is None:
        return Met(f"stranger {_sasl(stranger)}", stranger_refused=refused)
    owner = _plain(bell, trust, f"{key.policy}@sas.root.{bell.hub}", key.token)
    words = f"stranger {_sasl(stranger)}, key {_sasl(owner)}"
    return Met(words, stranger_refused=refused, served=owner is SaslCode.OK)


def _mqtt(bell: Bell, trust: ssl.SSLContext, key: Key | None) -> Met:
    session = ClientSession()
    user = f"{bell.host}/{bell.device}/?api-version={API_VERSION}"
    with _secured(bell, trust) as talking:
        talking.sendall(session.connect(Connect(bell.device, user_name=user, password=b"no token")))
        said = session.receive(talking.recv(ANSWER_BYTES_MAX))
    answer = next((each for each in said if isinstance(each, ConnAck)), None)
    if answer is None:
        return Met("stranger: closed without CONNACK")
    return Met(f"stranger CONNACK {answer.code.value}", stranger_refused=answer.code.value == 5)


def _operators(path: str, *, refusing: bool) -> Callable[[Bell, ssl.SSLContext, Key | None], Met]:
    def ask(bell: Bell, trust: ssl.SSLContext, key: Key | None) -> Met:
        status = _get(bell, trust, path, "")
        refused = status in (401, 403) if refusing else status not in (200, 503)
        return Met(f"stranger {status}", stranger_refused=refused)

    return ask


def _link(bell: Bell, trust: ssl.SSLContext, key: Key | None) -> Met:
    """Without a connector's certificate the handshake ends; with TLS 1.3 the client hears of it at its first read."""
    with _secured(bell, trust) as talking:
        said = talking.recv(ANSWER_BYTES_MAX)
    return Met("TLS stays open without a certificate" if said else "closed", stranger_refused=not said, served=False)


_ASKING: Mapping[str, Callable[[Bell, ssl.SSLContext, Key | None], Met]] = {
    "https": _https,
    "amqp": _amqp,
    "mqtt": _mqtt,
    "link": _link,
    "metrics": _operators("/health", refusing=False),
    "management": _operators("/subscriptions", refusing=True),
}

_RESPONSES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
"""Response codes (RFC 1035 §4.1.1)."""


def _get(bell: Bell, trust: ssl.SSLContext, path: str, token: str) -> int:
    """The status of a request, 0 for none."""
    authorization = f"Authorization: {token}\r\n" if token else ""
    request = f"GET {path} HTTP/1.1\r\nHost: {bell.host}\r\n{authorization}Connection: close\r\n\r\n"
    with _secured(bell, trust) as talking:
        talking.sendall(request.encode())
        words = talking.recv(ANSWER_BYTES_MAX).split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _plain(bell: Bell, trust: ssl.SSLContext, user: str, password: str) -> SaslCode | None:
    """What becomes of a user and password; None when the peer closes without a word."""
    connection = Connection(NOBODY, 0.0)
    response = b"\0" + user.encode() + b"\0" + password.encode()
    connection.open(Open(NOBODY, bell.host), SaslChoice("PLAIN", response, bell.host))
    with _secured(bell, trust) as talking:
        while True:
            talking.sendall(connection.data_to_send())
            data = talking.recv(ANSWER_BYTES_MAX)
            connection.receive(data, 0.0)
            for event in connection.events():
                if isinstance(event, amqp.SaslDone):
                    return event.code
            if not data or connection.finished:
                return None


def _sasl(code: SaslCode | None) -> str:
    return "closed" if code is None else f"SASL {code.name.lower()}"


def _secured(bell: Bell, trust: ssl.SSLContext) -> ssl.SSLSocket:
    return trust.wrap_socket(_connected(bell), server_hostname=bell.host)


def _connected(bell: Bell) -> socket.socket:
    return socket.create_connection((bell.address, bell.port), KNOCK_SECONDS_MAX, (bell.source, 0))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _question(host: str) -> bytes:
    """A query for the address of a name (RFC 1035 §4.1)."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in host.split(".") if label)
    return bytes.fromhex("495301000001000000000000") + labels + b"\0" + bytes.fromhex("00010001")
