"""One table of wire cases of the link protocol for all tests: frames, and the message they are or why they are none."""

from dataclasses import dataclass

from isthmus.wire.link.framing import FRAME_BYTES_MAX
from isthmus.wire.link.messages import (
    Certificate,
    Check,
    ConnectorMessage,
    Drain,
    EndpointSetup,
    EndpointStatus,
    Enrol,
    Hello,
    HubMessage,
    Ping,
    Pong,
    Refused,
    Renew,
    Result,
    Setup,
    Status,
)


def frame(body: bytes) -> bytes:
    """A frame around any bytes."""
    return len(body).to_bytes(4, "big") + body


@dataclass(frozen=True, slots=True)
class Said:
    """A message and its JSON."""

    body: bytes
    message: ConnectorMessage | HubMessage


@dataclass(frozen=True, slots=True)
class Bad:
    """Bytes that are no frame with a message, and a word of the reason."""

    name: str
    sent: bytes
    reason: str


CONNECTOR = (
    Said(
        b'{"type":"hello","version":1,"name":"plant-a","instance":"i","hostname":"gw"}',
        Hello(version=1, name="plant-a", instance="i", hostname="gw"),
    ),
    Said(b'{"type":"ping","n":7}', Ping(n=7)),
    Said(b'{"type":"renew","csr":"PEM"}', Renew(csr="PEM")),
    Said(
        b'{"type":"status","generation":2,"endpoints":[{"address":"10.1.0.4","listening":false,"ports":[8883],'
        b'"reason":"in use"}],"names":[]}',
        Status(
            generation=2,
            endpoints=(EndpointStatus(address="10.1.0.4", listening=False, ports=(8883,), reason="in use"),),
        ),
    ),
    Said(b'{"type":"result","id":3,"ok":true,"body":{"hops":[]}}', Result(id=3, ok=True, body={"hops": []})),
    Said(b'{"type":"enrol","token_secret":"s","csr":"PEM"}', Enrol(token_secret="s", csr="PEM")),
)

HUB = (
    Said(
        b'{"type":"setup","generation":1,"endpoints":[{"address":"10.1.0.4","ports":[8883,443],"name":"pe"}],'
        b'"names":{"listeners":["10.1.0.4"]},"spares":8}',
        Setup(
            generation=1,
            endpoints=(EndpointSetup(address="10.1.0.4", ports=(8883, 443), name="pe"),),
            names={"listeners": ["10.1.0.4"]},
            spares=8,
        ),
    ),
    Said(b'{"type":"pong","n":7}', Pong(n=7)),
    Said(b'{"type":"certificate","pem":"P","ca_pem":"C"}', Certificate(pem="P", ca_pem="C")),
    Said(b'{"type":"drain"}', Drain()),
    Said(b'{"type":"refused","code":"token","message":"no"}', Refused(code="token", message="no")),
    Said(b'{"type":"check","id":3,"request":{"planes":["mqtt"]}}', Check(id=3, request={"planes": ["mqtt"]})),
)

BAD = (
    Bad("an empty frame", frame(b""), "0 bytes"),
    Bad("announced too large", (FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "bytes"),
    Bad("TLS instead", bytes.fromhex("16030102000100"), "bytes"),
    Bad("no JSON", frame(b"hello"), "malformed"),
    Bad("no object", frame(b"[1]"), "object"),
    Bad("no type", frame(b"{}"), "type"),
    Bad("an unknown type", frame(b'{"type":"reboot"}'), "reboot"),
    Bad("a member of another type", frame(b'{"type":"ping","n":"7"}'), "int"),
    Bad("a number too low", frame(b'{"type":"ping","n":-1}'), ">= 0"),
    Bad("a number beyond what JSON's readers agree on", frame(b'{"type":"ping","n":9007199254740993}'), "<="),
    Bad("two things in a frame", frame(b'{"type":"ping","n":1}{}'), "trailing"),
    Bad("bad UTF-8", frame(b'{"type":"renew","csr":"\xff"}'), "no message"),
    Bad(
        "deeper than anybody reads",
        frame(b'{"type":"result","id":1,"ok":true,"body":' + b'{"a":' * 20_000),
        "no message",
    ),
)
