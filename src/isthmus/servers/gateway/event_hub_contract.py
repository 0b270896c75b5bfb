"""What AMQP addresses of an Event Hubs namespace mean: text in, intents out; pure (Event Hubs AMQP protocol guide)."""

from dataclasses import dataclass
from enum import Enum

from isthmus.servers.gateway.amqp_contract import path_segments


class EventHubNode(Enum):
    """Kinds of AMQP node that an Event Hubs namespace has."""

    CBS = "$cbs"
    MANAGEMENT = "$management"
    READ = "partition of a consumer group"
    SEND = "event hub"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EventHubAddress:
    """A parsed address; fields that its node has not are empty."""

    node: EventHubNode
    text: str
    entity: str = ""
    consumer_group: str = ""
    partition: str = ""
    publisher: str = ""


def parse_event_hub_address(text: str) -> EventHubAddress:
    """The node that an address names; an address of no known form gives `EventHubNode.UNKNOWN`."""
    segments = path_segments(text)
    entity = segments[0]
    match [segment.lower() for segment in segments]:
        case ["$cbs"]:
            return EventHubAddress(EventHubNode.CBS, text)
        case ["$management"]:
            return EventHubAddress(EventHubNode.MANAGEMENT, text)
        case [_, "$management"]:
            return EventHubAddress(EventHubNode.MANAGEMENT, text, entity)
        case [_, "consumergroups", _, "partitions", _]:
            return EventHubAddress(EventHubNode.READ, text, entity, segments[2], segments[4])
        case [name] if name:
            return EventHubAddress(EventHubNode.SEND, text, entity)
        case [_, "partitions", _]:
            return EventHubAddress(EventHubNode.SEND, text, entity, partition=segments[2])
        case [_, "publishers", _]:
            return EventHubAddress(EventHubNode.SEND, text, entity, publisher=segments[2])
        case _:
            return EventHubAddress(EventHubNode.UNKNOWN, text)
