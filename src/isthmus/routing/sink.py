"""The port of sinks: what delivers the records of one routing endpoint, and what it is given to do so.

A sink knows one kind of target and its client. It retries nothing by itself beyond what its client does within one
call, keeps no queue, and never decides what becomes of a record: it says yes when a batch is durable at the target, or
why not, and its caller goes on from there (`delivery`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from isthmus.base.ids import HubId
from isthmus.resources.routing_endpoint import RoutingEndpoint
from isthmus.telemetry.message import Envelope
from isthmus.telemetry.ports import Record


class HubName(NamedTuple):
    """The hub that delivers: its number for tokens, its name for file names and properties."""

    number: HubId
    name: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record on its way to a target; the endpoint's enrichments already stand among `envelope.properties`."""

    record: Record
    envelope: Envelope


class FailureKind(StrEnum):
    """Which of the things that must be right for a delivery was not; health and checks name it."""

    TRANSIENT = "transient"
    """The target is slow, busy, or not there now."""

    IDENTITY = "identity"
    """There is no identity to ask a token for."""

    ROLE = "role"
    """The target knows who asks, and he lacks the role."""

    NETWORK = "network"
    """The target's network rules refuse the hub."""

    NAME = "name"
    """The target's name does not resolve, or to what the hub's outbound rules refuse."""

    NOT_FOUND = "not-found"
    """The account or namespace answers, and has no such container, event hub, queue or topic."""

    AUTHENTICATION = "authentication"
    """The key or the token is not accepted."""

    OUTBOUND = "outbound"
    """The hub's own outbound rules do not list the target."""


class SinkFailure(Exception):  # noqa: N818 - the word of the port
    """A batch was not taken, or only its beginning.

    `reason` is the target's answer in its own words, without secrets; `code` the error code or AMQP condition it came
    with. The first `delivered` records of the batch are durable at the target all the same.
    """

    def __init__(self, kind: FailureKind, reason: str, code: str, delivered: int = 0) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.code = code
        self.delivered = delivered


class Unacceptable(Exception):  # noqa: N818 - the word of the port
    """The target will never take the record at `index` of the batch (too large, say); those before it are durable.

    Those behind it have not been tried.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.reason = reason


class Sink(Protocol):
    """Delivers to one endpoint. Calls for one partition never overlap; those for different ones may."""

    async def deliver(self, partition: int, batch: Sequence[Delivery]) -> None:
        """Returns when all of the batch, which is not empty and in order, is durable at the target.

        Raises `SinkFailure` and `Unacceptable`; anything else counts as transient. The caller sends again what was not
        delivered, so that the target may see a record twice (at least once). Cancelling leaves what has arrived.
        """

    async def probe(self) -> None:
        """Proves that the target lets the hub write, without a message that readers of the target would meet.

        An event hub, queue or topic is proved by a sender's link, a container by a blob that is deleted again. Raises
        `SinkFailure`.
        """

    async def close(self) -> None:
        """Gives connections back; never raises."""


class Destination(NamedTuple):
    """A socket address of a target; `port` is where it listens, which may differ from the one that was asked for."""

    address: str
    port: int


class Egress(Protocol):
    """What a sink may use of the hub on its way out."""

    @property
    def ca_file(self) -> Path:
        """Certificates in PEM that targets may have beside those that the system trusts."""

    async def token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        """An access token and its last moment, in seconds since the epoch.

        `identity` is the ARM id of an attached identity, empty for the hub's own. `scope` is what SDKs send
        (`https://storage.azure.com/.default`). Raises `SinkFailure` IDENTITY when the hub has no such identity.
        """

    async def resolve(self, hub: HubId, host: str, port: int) -> Sequence[Destination]:
        """Where a target's name leads from here: hosted neighbours to this server, others as the system says.

        Judged by the hub's outbound rules (`egress_policy`), bare addresses too. Raises `SinkFailure` NAME or OUTBOUND.
        """


SinkFactory = Callable[[HubName, RoutingEndpoint, Egress], Sink]
"""Makes the sink of an endpoint without connecting; a changed endpoint gets a new one."""
