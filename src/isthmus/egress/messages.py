"""What a hub and its worker process say to each other, and its form on their socket.

A frame is four bytes of length, little-endian, and one message in MessagePack. Both ends are one release: the hub
starts its workers from its own program.
"""

import struct

import msgspec

from isthmus.resources.routing_endpoint import RoutingEndpoint
from isthmus.routing.egress_policy import Hosted, Reachable
from isthmus.routing.health import DEAD_AFTER_MS, EndpointHealth

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""A frame: several times the largest burial, which a record of 16 MiB makes."""

LENGTH = struct.Struct("<I")


class Settings(msgspec.Struct, frozen=True, tag=True):
    """Hub to worker, first, and again when it changes: what holds for all endpoints.

    `hosted` are the neighbours that the hub's server hosts, by their names in normal form.
    """

    ca_file: str
    hosted: dict[str, Hosted]
    reachable: Reachable = Reachable.ANY
    dead_after_ms: int = DEAD_AFTER_MS
    bury_dead: bool = False
    credentials: str = "hub"


class Serve(msgspec.Struct, frozen=True, tag=True):
    """Hub to worker: an endpoint to deliver to, new or changed.

    `start`, `cursors` and `health` are what the ledger has; they count when the worker does not serve the endpoint yet.
    `principal` is who the hub is to the target, so that a change of it is one of the endpoint.
    """

    hub: int
    hub_name: str
    partitions: int
    endpoint: RoutingEndpoint
    start: int
    cursors: dict[int, int]
    health: EndpointHealth
    restricted: bool = False
    allowed: tuple[str, ...] = ()
    principal: str = ""

    @property
    def name(self) -> tuple[int, int]:
        """Numbers of hub and endpoint."""
        return self.hub, self.endpoint.number


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Hub to worker: an endpoint that is no more."""

    hub: int
    endpoint: int


class GiveUp(msgspec.Struct, frozen=True, tag=True):
    """Hub to worker: what lies before a place in the log is buried instead of delivered."""

    hub: int
    endpoint: int
    before: int
    reason: str


class Grown(msgspec.Struct, frozen=True, tag=True):
    """Hub to worker: the log has grown since `Asleep`."""


class TokenGiven(msgspec.Struct, frozen=True, tag=True):
    """Hub to worker: the answer to `TokenWanted`; with `error` there is none."""

    request: int
    token: str = ""
    expires_s: int = 0
    error: str = ""

    def __repr__(self) -> str:
        return f"TokenGiven(request={self.request!r}, expires_s={self.expires_s!r}, error={self.error!r})"


class Interred(msgspec.Struct, frozen=True, tag=True):
    """Hub to worker: the answer to `Bury`; with `error` it is not durable."""

    request: int
    error: str = ""


class Probe(msgspec.Struct, frozen=True, tag=True):
    """Hub to worker: prove that the endpoint's target lets the hub write."""

    request: int
    hub: int
    endpoint: int


class Asleep(msgspec.Struct, frozen=True, tag=True):
    """Worker to hub: it has read up to `position`, and wants to be told when there is more."""

    position: int


class TokenWanted(msgspec.Struct, frozen=True, tag=True):
    """Worker to hub: a token of a hub's identity for a scope."""

    request: int
    hub: int
    identity: str
    scope: str


class DeadRecord(msgspec.Struct, frozen=True, array_like=True):
    """A record on its way to the dead-letter log."""

    partition: int
    sequence: int
    offset: int
    enqueued_ms: int
    ingress_ms: int
    outbox_id: int
    envelope: bytes
    payload: bytes


class Bury(msgspec.Struct, frozen=True, tag=True):
    """Worker to hub: records for the dead-letter log."""

    request: int
    hub: int
    endpoint: int
    records: list[DeadRecord]
    reason: str
    code: str


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """What was done for an endpoint since the worker's last report; `latency_ms` is the sum over all messages."""

    delivered: int = 0
    bytes: int = 0
    latency_ms: int = 0
    failures: int = 0
    buried: int = 0


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Worker to hub: how far an endpoint is, and how it does."""

    hub: int
    endpoint: int
    cursors: dict[int, int]
    health: EndpointHealth
    counts: Counts
    waiting: int


class Probed(msgspec.Struct, frozen=True, tag=True):
    """Worker to hub: the answer to `Probe`; `kind` is empty when the target lets the hub write."""

    request: int
    kind: str = ""
    reason: str = ""
    code: str = ""


Order = Settings | Serve | Forget | GiveUp | Grown | TokenGiven | Interred | Probe
"""What a hub says."""

Report = Asleep | TokenWanted | Bury | Progress | Probed
"""What a worker says."""

_encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_report = msgspec.msgpack.Decoder(Report).decode


def frame(message: Order | Report) -> bytes:
    """A message as it travels."""
    body = _encode(message)
    return LENGTH.pack(len(body)) + body
