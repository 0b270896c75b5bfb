"""A link of the hub's AMQP side: what happens on it, what it needs of its connection, and how refusals read there."""

import asyncio
from collections.abc import Callable, Coroutine
from types import MappingProxyType
from typing import Any, Final, Protocol

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.servers.gateway.amqp_tokens import Need
from isthmus.servers.gateway.gate import Peer
from isthmus.wire.amqp.errors import Condition, DecodeError
from isthmus.wire.amqp.events import CreditGranted, Disposition, Transfer
from isthmus.wire.amqp.limits import LINK_CREDIT
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.states import Error

ARGUMENT_ERROR: Final = "com.microsoft:argument-error"
ARGUMENT_OUT_OF_RANGE: Final = "com.microsoft:argument-out-of-range"
SERVER_BUSY: Final = "com.microsoft:server-busy"

_CONDITIONS: Final = MappingProxyType(
    {
        Code.ARGUMENT_INVALID: ARGUMENT_ERROR,
        Code.ARGUMENT_NULL: ARGUMENT_ERROR,
        Code.FORMAT_ERROR: ARGUMENT_ERROR,
        Code.INVALID_EXPIRY: ARGUMENT_ERROR,
        Code.HUB_NOT_FOUND: Condition.UNAUTHORIZED_ACCESS,
        Code.UNAUTHORIZED_ACCESS: Condition.UNAUTHORIZED_ACCESS,
        Code.UNAUTHORIZED: Condition.UNAUTHORIZED_ACCESS,
        Code.QUEUE_DEPTH_EXCEEDED: Condition.RESOURCE_LIMIT_EXCEEDED,
        Code.QUOTA_EXCEEDED: Condition.RESOURCE_LIMIT_EXCEEDED,
        Code.NOT_FOUND: Condition.NOT_FOUND,
        Code.DEVICE_NOT_FOUND: Condition.NOT_FOUND,
        Code.AMQP_ADDRESS_NOT_FOUND: Condition.NOT_FOUND,
        Code.MODULE_NOT_FOUND: Condition.NOT_FOUND,
        Code.INVALID_OPERATION: Condition.NOT_ALLOWED,
        Code.GENERIC_BAD_REQUEST: Condition.NOT_ALLOWED,
        Code.LINK_CREATION_CONFLICT: Condition.STOLEN,
        Code.MESSAGE_LOCK_LOST: "com.microsoft:message-lock-lost",
        Code.PRECONDITION_FAILED: "com.microsoft:precondition-failed",
        Code.ENTITY_TOO_LARGE: Condition.MESSAGE_SIZE_EXCEEDED,
        Code.MESSAGE_TOO_LARGE: Condition.MESSAGE_SIZE_EXCEEDED,
        Code.THROTTLED: SERVER_BUSY,
        Code.SERVER_BUSY: SERVER_BUSY,
        Code.NOT_IMPLEMENTED: Condition.NOT_IMPLEMENTED,
        Code.GATEWAY_TIMEOUT: "com.microsoft:timeout",
    }
)
"""The conditions the SDKs branch on; what is not listed is an internal error."""

_CONDITIONS_OF_RULES: Final = MappingProxyType(
    {
        "limit.hub-rate": "com.microsoft:device-container-throttled",
        "contract.partition": ARGUMENT_OUT_OF_RANGE,
        "contract.entity-disabled": "com.microsoft:entity-disabled",
        "contract.entity-exists": "com.microsoft:entity-already-exists",
        "contract.sequence-number": "com.microsoft:message-not-found",
    }
)
"""Rules that AMQP tells apart where the catalogue of codes does not."""


class LinkHandler:
    """One attached link; called on the event loop, in the order in which things happened.

    Every kind of link says what it does about what concerns it; the rest passes without effect. `need` is what its peer
    had to prove, None for a link that is open to everybody.
    """

    need: Need | None = None

    def transfer(self, transfer: Transfer) -> None:
        """A whole message came."""

    def disposition(self, disposition: Disposition) -> None:
        """The peer told what became of a message we sent."""

    def credit(self, granted: CreditGranted) -> None:
        """Messages may be sent."""

    def writable(self) -> None:
        """The connection takes bytes again after it was congested."""

    def detached(self) -> None:
        """The link is over; called exactly once."""


class Pump(Protocol):
    """What a link needs of its connection."""

    @property
    def connection(self) -> Peer:
        """The connection itself: its door and its peer's address."""

    @property
    def principal(self) -> str:
        """The label of who proved himself last."""

    @property
    def congested(self) -> bool:
        """True while nothing should be written; `LinkHandler.writable` follows."""

    def flush(self) -> None:
        """Takes the engine's events and sends its bytes; to be called at the end of work and of calls from outside."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work to its end, also beyond the connection's; a failure of it closes the connection."""

    def soon(self, action: Callable[[], None]) -> asyncio.Handle:
        """Calls back in the loop's next turn and flushes; a failure of it closes the connection."""

    def refused(self, error: HubError, device: str = "") -> Error:
        """Journals a refusal and gives what the peer may hear of it."""

    async def put_token(self, token: str, audience: str) -> None:
        """Judges a put-token and keeps the proof; raises HubError."""

    def require(self, need: Need) -> None:
        """Raises HubError unless this connection has proved what is needed."""

    def reading(self, group: str) -> None:
        """A reader of a consumer group was attached: the first one of a connection is journaled."""


def error_of(refused: HubError, tracking_id: str) -> Error:
    """A refusal in AMQP's words, with the tracking id the owner can explain."""
    rule = refused.refusal.rule if refused.refusal is not None else ""
    condition = _CONDITIONS_OF_RULES.get(rule) or _CONDITIONS.get(refused.code, Condition.INTERNAL_ERROR)
    return Error(str(condition), f"{refused.message} TrackingId:{tracking_id}")


def top_up(link: Link) -> None:
    """Gives the peer new credit once half of the former is used."""
    if link.credit <= LINK_CREDIT // 2:
        link.grant(LINK_CREDIT)


def undecodable(error: DecodeError) -> HubError:
    """The refusal of a message that is none."""
    return HubError(
        Code.ARGUMENT_INVALID,
        "The message cannot be decoded.",
        Refusal(Hop.CONTRACT, "contract.message", error.description[:200], "Send an AMQP 1.0 message."),
    )
