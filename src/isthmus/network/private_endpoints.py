"""The hub's side of a private endpoint: the connection, its states and who may move it.

Theory of operation. A connection is made with a private endpoint: Approved when who makes the endpoint may approve,
Pending when the owner of the resource is to decide. Only an Approved connection carries traffic. The owner approves or
rejects it; whoever deletes it disconnects it, and the endpoint is then only a record. Writing the state a connection
already has is no move: it only changes the description, as an idempotent PUT must. A rejected connection does not come
back: its endpoint is to be made anew. Every other move is refused with the names of both states.

Disconnected is never stored at the resource: it is what an endpoint sees whose connection is not there any more
("What is a private endpoint?", connection states).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from isthmus.base.errors import Code, HubError

GROUP_ID = "iotHub"
"""The only thing of a hub that a private endpoint can lead to, and its only member's name."""


class ConnectionStatus(Enum):
    """States of a private endpoint connection."""

    PENDING = "Pending"
    APPROVED = "Approved"
    REJECTED = "Rejected"
    DISCONNECTED = "Disconnected"


TRANSITIONS: frozenset[tuple[ConnectionStatus, ConnectionStatus]] = frozenset(
    {
        (ConnectionStatus.PENDING, ConnectionStatus.APPROVED),
        (ConnectionStatus.PENDING, ConnectionStatus.REJECTED),
        (ConnectionStatus.APPROVED, ConnectionStatus.REJECTED),
        (ConnectionStatus.PENDING, ConnectionStatus.DISCONNECTED),
        (ConnectionStatus.APPROVED, ConnectionStatus.DISCONNECTED),
        (ConnectionStatus.REJECTED, ConnectionStatus.DISCONNECTED),
    }
)
"""All moves there are; everything else is refused."""


@dataclass(frozen=True, slots=True)
class PrivateEndpointConnection:
    """One private endpoint as the resource sees it; `endpoint_id` is the endpoint's resource id."""

    name: str
    status: ConnectionStatus
    description: str
    endpoint_id: str
    address: str
    group_id: str = GROUP_ID


def move(connection: PrivateEndpointConnection, to: ConnectionStatus, description: str) -> PrivateEndpointConnection:
    """The connection in its new state; raises HubError OperationNotAllowedInCurrentState, naming both states."""
    if connection.status is not to and (connection.status, to) not in TRANSITIONS:
        message = f"Connection {connection.name} is {connection.status.value} and cannot become {to.value}"
        raise HubError(Code.INVALID_TRANSITION, message)
    return replace(connection, status=to, description=description)


def status_of(name: str, connections: Iterable[PrivateEndpointConnection]) -> ConnectionStatus:
    """The state of the connection of that name; Disconnected when the resource has none."""
    return next((each.status for each in connections if each.name == name), ConnectionStatus.DISCONNECTED)
