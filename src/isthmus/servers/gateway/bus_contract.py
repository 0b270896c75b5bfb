"""What AMQP addresses of a Service Bus namespace mean: text in, intents out; pure (Service Bus AMQP protocol guide)."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.servers.gateway.amqp_contract import path_segments

DEAD_LETTERS: Final = "$deadletterqueue"
TRANSFERS: Final = "$transfer"
MANAGEMENT: Final = "$management"


class BusNode(Enum):
    """Kinds of AMQP node that a Service Bus namespace has."""

    CBS = "$cbs"
    ENTITY = "entity"
    MANAGEMENT = "management of an entity"
    TRANSFER = "transfer dead-letter queue"


@dataclass(frozen=True, slots=True)
class BusAddress:
    """A parsed address: the entity's path, and whether its dead-letter queue is meant."""

    node: BusNode
    text: str
    path: str = ""
    dead_letters: bool = False


def parse_bus_address(text: str) -> BusAddress:
    """The node that an address names; whether there is such an entity is not known here."""
    segments = path_segments(text)
    lowered = [segment.lower() for segment in segments]
    if lowered == ["$cbs"]:
        return BusAddress(BusNode.CBS, text)
    node = BusNode.ENTITY
    if lowered[-1] == MANAGEMENT:
        node = BusNode.MANAGEMENT
        segments, lowered = segments[:-1], lowered[:-1]
    if lowered[-1:] != [DEAD_LETTERS]:
        return BusAddress(node, text, "/".join(segments))
    if lowered[-2:-1] == [TRANSFERS]:
        return BusAddress(BusNode.TRANSFER, text, "/".join(segments[:-2]), dead_letters=True)
    return BusAddress(node, text, "/".join(segments[:-1]), dead_letters=True)


def no_such_entity(host: str, path: str) -> HubError:
    """The refusal of an entity that is not there, in the words of Service Bus."""
    return HubError(
        Code.AMQP_ADDRESS_NOT_FOUND,
        f"The messaging entity 'sb://{host}/{path[:256]}' could not be found.",
        Refusal(Hop.CONTRACT, "contract.address", path[:200], "Make the queue, topic or subscription, or use another."),
    )


def not_readable(path: str) -> HubError:
    """The refusal of a receiver at a topic."""
    return HubError(
        Code.INVALID_OPERATION,
        f"A topic has no messages to receive: '{path[:256]}'. Receive from one of its subscriptions.",
        Refusal(Hop.CONTRACT, "contract.address", path[:200], "Receive from {topic}/Subscriptions/{subscription}."),
    )


def not_sendable(path: str) -> HubError:
    """The refusal of a sender at a subscription or a dead-letter queue."""
    return HubError(
        Code.INVALID_OPERATION,
        f"Messages cannot be sent to '{path[:256]}'.",
        Refusal(Hop.CONTRACT, "contract.address", path[:200], "Send to a queue or a topic."),
    )


def disabled(path: str, status: str) -> HubError:
    """The refusal of an entity that is switched off for what the peer wants."""
    return HubError(
        Code.GENERIC_BAD_REQUEST,
        f"Messaging entity '{path[:256]}' is currently disabled.",
        Refusal(
            Hop.CONTRACT, "contract.entity-disabled", f"{path[:200]}: {status}", "Set the entity's status to Active."
        ),
    )


def no_sessions(path: str) -> HubError:
    """The refusal of a session: no entity here has any."""
    return HubError(
        Code.INVALID_OPERATION,
        f"It is not possible to create a session receiver: sessions are not offered here. Entity: '{path[:256]}'.",
        Refusal(Hop.CONTRACT, "contract.session", path[:200], "Receive without a session."),
    )


def no_transfers(text: str) -> HubError:
    """The refusal of what forwarding would need."""
    return HubError(
        Code.NOT_IMPLEMENTED,
        "Transfer dead-letter queues are not offered here: nothing is forwarded.",
        Refusal(Hop.CONTRACT, "contract.not-implemented", text[:200], "Use the entity's own dead-letter queue."),
    )
