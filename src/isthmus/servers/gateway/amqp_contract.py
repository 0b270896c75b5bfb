"""What AMQP addresses and filters of a hub mean: text in, intents out; pure.

Addresses come as paths or as full URIs (`amqps://{host}/…`), with or without a leading slash, in any letter case
outside of names (Event Hubs and IoT Hub AMQP protocol guides).
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote

from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.base.numbers import whole_number

READERS_PER_PARTITION_MAX: Final = 5
"""Readers without an epoch of one partition and consumer group, as in Event Hubs; the next one is refused."""

_URI = re.compile(r"^(?:amqps?|sb|https)://[^/]*", re.IGNORECASE)
_SELECTOR = re.compile(r"\s*amqp\.annotation\.(?P<key>x-opt-[a-z-]+)\s*(?P<op>>=|>)", re.I)


class Node(Enum):
    """Kinds of AMQP node that a hub has."""

    CBS = "$cbs"
    MANAGEMENT = "$management"
    PARTITION = "partition"
    EVENT_HUB = "event hub"
    EVENTS_REDIRECT = "events redirect"
    DEVICEBOUND = "devicebound"
    FEEDBACK = "feedback"
    FILE_NOTIFICATIONS = "file notifications"
    DEVICE = "device side"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address; `entity` is the event hub's name, `suffix` what followed `/messages/events` in a redirect."""

    node: Node
    text: str
    entity: str = ""
    consumer_group: str = ""
    partition: str = ""
    suffix: str = ""


def parse_address(text: str) -> Address:
    """The node that an address names; an address of no known form gives `Node.UNKNOWN`."""
    segments = path_segments(text)
    lowered = [segment.lower() for segment in segments]
    match lowered:
        case ["$cbs"]:
            return Address(Node.CBS, text)
        case ["$management"] | [_, "$management"]:
            return Address(Node.MANAGEMENT, text, entity=segments[0] if len(segments) == 2 else "")
        case ["messages", "events", *rest]:
            return Address(Node.EVENTS_REDIRECT, text, suffix="/" + "/".join(segments[2:]) if rest else "")
        case ["messages", "devicebound"]:
            return Address(Node.DEVICEBOUND, text)
        case ["messages", "servicebound", "feedback"]:
            return Address(Node.FEEDBACK, text)
        case ["messages", "servicebound", "filenotifications" | "fileuploadnotifications"]:
            return Address(Node.FILE_NOTIFICATIONS, text)
        case ["devices", _, *_]:
            return Address(Node.DEVICE, text)
        case [_, "consumergroups", _, "partitions", _]:
            return Address(Node.PARTITION, text, entity=segments[0], consumer_group=segments[2], partition=segments[4])
        case [entity] | [entity, "partitions", _] | [entity, "publishers", _] if entity:
            return Address(Node.EVENT_HUB, text, entity=segments[0])
        case _:
            return Address(Node.UNKNOWN, text)


def path_segments(text: str) -> list[str]:
    """The segments of an address's path, percent-decoded; one empty segment when there is no path."""
    return [unquote(segment) for segment in _URI.sub("", text).strip("/").split("/")]


def partition_number(text: str, partitions: int) -> int:
    """The number of a partition by its id; raises HubError ARGUMENT_INVALID when the hub has none such."""
    number = whole_number(text)
    if number is not None and number < partitions:
        return number
    raise HubError(
        Code.ARGUMENT_INVALID,
        "The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and "
        f"{partitions - 1}.",
        Refusal(Hop.CONTRACT, "contract.partition", text[:64], f"Use 0 to {partitions - 1}."),
    )


def is_built_in(audience: str) -> bool:
    """True when a token's audience, percent-encoded or not, means the built-in endpoint and no node of the hub's own.

    Event Hubs SDKs write the scheme `sb`, IoT Hub SDKs another one or none.
    """
    return unquote(audience).lower().startswith("sb://")


class StartKind(Enum):
    """From where a reader begins."""

    OFFSET = "x-opt-offset"
    SEQUENCE_NUMBER = "x-opt-sequence-number"
    ENQUEUED_TIME = "x-opt-enqueued-time"
    LATEST = "@latest"


@dataclass(frozen=True, slots=True)
class StartPosition:
    """First position to read; `inclusive` says whether an event exactly there is wanted."""

    kind: StartKind
    value: int
    inclusive: bool


EARLIEST = StartPosition(StartKind.OFFSET, -1, inclusive=False)


def parse_selector(text: str) -> StartPosition:
    """The start position of a selector filter, `amqp.annotation.{key} {>|>=} '{value}'`.

    Raises `HubError` ARGUMENT_INVALID when it is of no known form (Event Hubs AMQP protocol guide, filters).
    """
    found = _SELECTOR.match(text)
    value = text[found.end() :].strip().removeprefix("'").removesuffix("'").strip() if found else ""
    if not found or "'" in value:
        raise _bad_selector(text)
    key = found["key"].lower().replace("x-opt-enqueuedtimeutc", StartKind.ENQUEUED_TIME.value)
    inclusive = found["op"] == ">="
    if key == StartKind.OFFSET.value and value.lower() == "@latest":
        return StartPosition(StartKind.LATEST, 0, inclusive=False)
    try:
        return StartPosition(StartKind(key), int(value), inclusive)
    except ValueError as error:
        raise _bad_selector(text) from error


def not_found(what: str, remedy: str) -> HubError:
    """No such node, entity or consumer group."""
    return HubError(
        Code.AMQP_ADDRESS_NOT_FOUND,
        f"The messaging entity '{what[:256]}' could not be found.",
        Refusal(Hop.CONTRACT, "contract.address", what[:200], remedy),
    )


class Claim(Enum):
    """What happens when a reader comes to a partition and consumer group."""

    ATTACH = "attach"
    STEAL = "attach and disconnect those that are there"
    STOLEN = "refuse: a higher epoch, or any epoch, owns the partition"
    FULL = "refuse: too many readers"


def judge_claim(existing: list[int | None], epoch: int | None) -> Claim:
    """Judges a new reader by the epochs of those that are there; None is a reader without one.

    The newest reader of an equal or higher epoch owns the partition (Event Hubs, epoch receivers).
    """
    owners = [owner for owner in existing if owner is not None]
    if epoch is None:
        if owners:
            return Claim.STOLEN
        return Claim.FULL if len(existing) >= READERS_PER_PARTITION_MAX else Claim.ATTACH
    if owners and max(owners) > epoch:
        return Claim.STOLEN
    return Claim.STEAL if existing else Claim.ATTACH


def _bad_selector(text: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        "The filter is not supported.",
        Refusal(
            Hop.CONTRACT,
            "contract.selector",
            text[:200],
            "Use one comparison of x-opt-offset, x-opt-sequence-number or x-opt-enqueued-time by > or >=.",
        ),
    )
