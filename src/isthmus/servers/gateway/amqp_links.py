"""What a link of the hub's AMQP side is to its pump, and how refusals read there."""

from collections.abc import Coroutine
from types import MappingProxyType
from typing import Any, Final, Protocol

from isthmus.base.errors import Code, HubError
from isthmus.base.ids import HubId
from isthmus.servers.gateway.amqp_replies import Replies
from isthmus.servers.gateway.gate import Admitted
from isthmus.wire.amqp.errors import Condition
from isthmus.wire.amqp.events import CreditGranted, Disposition, Transfer
from isthmus.wire.amqp.states import Error

ARGUMENT_ERROR: Final = "com.microsoft:argument-error"

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
        Code.LINK_CREATION_CONFLICT: Condition.STOLEN,
        Code.MESSAGE_LOCK_LOST: "com.microsoft:message-lock-lost",
        Code.PRECONDITION_FAILED: "com.microsoft:precondition-failed",
        Code.ENTITY_TOO_LARGE: Condition.MESSAGE_SIZE_EXCEEDED,
        Code.MESSAGE_TOO_LARGE: Condition.MESSAGE_SIZE_EXCEEDED,
        Code.THROTTLED: "com.microsoft:server-busy",
        Code.SERVER_BUSY: "com.microsoft:server-busy",
        Code.NOT_IMPLEMENTED: Condition.NOT_IMPLEMENTED,
        Code.GATEWAY_TIMEOUT: "com.microsoft:timeout",
    }
)
"""The conditions the SDKs branch on; what is not listed is an internal error."""


def error_of(refused: HubError, tracking_id: str = "") -> Error:
    """A refusal in AMQP's words, with the tracking id the owner can explain."""
    condition = _CONDITIONS.get(refused.code, Condition.INTERNAL_ERROR)
    more = f" TrackingId:{tracking_id}" if tracking_id else ""
    return Error(str(condition), f"{refused.message}{more}")


class LinkHandler(Protocol):
    """One attached link; called on the event loop, in the order in which things happened."""

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
    """What a link's handler needs of its connection."""

    @property
    def replies(self) -> Replies:
        """The links that answers leave on."""

    @property
    def congested(self) -> bool:
        """True while the handler should not write; `writable` follows."""

    def flush(self) -> None:
        """Sends what the engine has to say; to be called after anything done outside of an event."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs work of this connection; it is cancelled when the connection ends."""

    def refused(self, error: HubError, device: str = "") -> Error:
        """Journals a refusal and gives what the peer may hear of it."""

    async def put_token(self, token: str, audience: str) -> None:
        """Judges a put-token and keeps the proof; raises HubError."""

    def proof_for(self, hub: HubId, path: str) -> Admitted | None:
        """A proof given on this connection whose credential covers a path of the hub."""
