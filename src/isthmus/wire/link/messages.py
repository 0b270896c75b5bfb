"""What a hub and a connector say to each other on a control connection, and how a connector presents itself to TLS.

A message is a JSON object whose `type` names it. Members that a reader does not know are skipped, so that a message may
grow; a type it does not know is an error. Limits on numbers of things keep one message within a frame (`framing.py`).
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

VERSION: Final = 1
"""Of the protocol; a hub refuses another one."""

CONTROL_PROTOCOL: Final = "isthmus-control/1"
"""The ALPN name (RFC 7301) of a control connection; every other connection of a connector carries a device's."""

ENROL_SERVER_NAME: Final = "enrol.isthmus.internal"
"""The TLS server name under which a connector without a certificate is let in, to enrol and for nothing else."""

HEARTBEAT_SECONDS: Final = 20.0
"""Between two pings of a connector: well below the 60 s after which the most impatient middle boxes forget."""

DEAD_SECONDS: Final = 60.0
"""Without a word for so long, the other side is gone: three heartbeats, so that two may be lost in a short outage."""

SPARE_SECONDS_MAX: Final = 120.0
"""How long a hub keeps a connection on which nothing has come; a connector replaces its spare ones earlier."""

ENDPOINTS_MAX: Final = 256
"""Private endpoints of one connector: a plant has a few; with all their ports and names they fit into one frame."""

PORTS_MAX: Final = 16
"""Of one endpoint: a port for each plane, and room for more planes."""

CSR_BYTES_MAX: Final = 16_384
"""Of a certificate request in PEM; one for an RSA key of 16,384 bits fits."""

Text = Annotated[str, Meta(max_length=1_024)]
Address = Annotated[str, Meta(max_length=64)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Number = Annotated[int, Meta(ge=0, le=2**53)]
Request = Annotated[str, Meta(max_length=CSR_BYTES_MAX)]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=str.lower):
    """Any message; its `type` is its class's name in lower case."""


class EndpointSetup(msgspec.Struct, frozen=True, kw_only=True):
    """A private endpoint that the connector listens for: at these ports of this address of its own network."""

    address: Address
    ports: Annotated[tuple[Port, ...], Meta(max_length=PORTS_MAX)]
    name: Text


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How listening at an address goes: at which ports, and where `listening` is false, why not at all of them."""

    address: Address
    listening: bool
    ports: Annotated[tuple[Port, ...], Meta(max_length=PORTS_MAX)] = ()
    reason: Text = ""


# ── what a connector says ────────────────────────────────────────────────────────────────────────────────────────────


class Hello(Message, frozen=True, kw_only=True):
    """First on a control connection; `name` is the certificate's, `instance` names the process among its like."""

    version: int
    name: Text
    instance: Text
    hostname: Text = ""


class Ping(Message, frozen=True, kw_only=True):
    """Asks for a pong."""

    n: Number


class Renew(Message, frozen=True, kw_only=True):
    """Asks for a new certificate for the same name; the key may be a new one."""

    csr: Request


class Status(Message, frozen=True, kw_only=True):
    """What became of the setup of that generation; `names` are the name service's addresses."""

    generation: Number
    endpoints: Annotated[tuple[EndpointStatus, ...], Meta(max_length=ENDPOINTS_MAX)] = ()
    names: Annotated[tuple[EndpointStatus, ...], Meta(max_length=ENDPOINTS_MAX)] = ()


class Result(Message, frozen=True, kw_only=True):
    """The answer to a check."""

    id: Number
    ok: bool
    body: dict[str, object]


class Enrol(Message, frozen=True, kw_only=True):
    """The only message of a connection without a certificate: asks for the first one."""

    token_secret: Annotated[str, Meta(max_length=256)]
    csr: Request

    def __repr__(self) -> str:
        return "Enrol(token_secret=…, csr=…)"


# ── what a hub says ──────────────────────────────────────────────────────────────────────────────────────────────────


class Setup(Message, frozen=True, kw_only=True):
    """All that a connector has to do, as a whole; a later one replaces it.

    `names` is what its name service answers, in the form of the name service; empty when it has none to run. `spares`
    is how many connections it should keep ready.
    """

    generation: Number
    endpoints: Annotated[tuple[EndpointSetup, ...], Meta(max_length=ENDPOINTS_MAX)] = ()
    names: dict[str, object] = {}
    spares: Annotated[int, Meta(ge=0, le=256)] = 4


class Pong(Message, frozen=True, kw_only=True):
    """The answer to a ping."""

    n: Number


class Certificate(Message, frozen=True, kw_only=True):
    """A certificate for the connector with its chain, and the authorities it trusts the hub by, both PEM."""

    pem: str
    ca_pem: str


class Drain(Message, frozen=True, kw_only=True):
    """The hub is about to stop: open nothing more to it, and come back by and by."""


class Refused(Message, frozen=True, kw_only=True):
    """No; the hub closes unless it was a renewal that was refused. `code` is one of `RefusalCode`."""

    code: Text
    message: Text


class Check(Message, frozen=True, kw_only=True):
    """Asks the connector to try something out in its network; one `Result` answers it."""

    id: Number
    request: dict[str, object]


ConnectorMessage = Hello | Ping | Renew | Status | Result | Enrol
HubMessage = Setup | Pong | Certificate | Drain | Refused | Check


class RefusalCode:
    """The codes of `Refused`: with the first four a connector cannot go on by itself."""

    TOKEN = "token"
    """The enrolment token is not known, was used, or has run out."""
    REVOKED = "revoked"
    """The connector was revoked."""
    NAME = "name"
    """It said another name than its certificate."""
    VERSION = "version"
    """It speaks another version of the protocol."""
    REQUEST = "request"
    """The certificate request cannot be granted."""
    BUSY = "busy"
    """Too many connections of this connector, a renewal too soon, or the hub is stopping: try again later."""
    PROTOCOL = "protocol"
    """It broke a rule of the protocol."""
