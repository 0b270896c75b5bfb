"""`$management` of event hubs, the built-in endpoint first: what clients ask about one and its partitions.

Requests and answers are those of the Event Hubs AMQP protocol guide, "Runtime information".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_contract import not_found, partition_number
from isthmus.servers.gateway.amqp_replies import Answer, Request
from isthmus.telemetry.ports import Log, Partition, PartitionInfo
from isthmus.wire.amqp.values import AmqpValue, Array, Int, Long, Timestamp

EVENT_HUB: Final = "com.microsoft:eventhub"
PARTITION: Final = "com.microsoft:partition"


@dataclass(frozen=True, slots=True)
class Management:
    """Answers READ requests about one hub; the log knows everything that is asked."""

    hub: Hub
    log: Log
    clock: Clock

    async def answer(self, request: Request) -> Answer:
        """The answer to a request; raises HubError AMQP_ADDRESS_NOT_FOUND or ARGUMENT_INVALID."""
        hub, name = self.hub, str(request.properties.get("name"))
        if name.lower() != hub.name.lower():
            raise not_found(name, "Use the EntityPath of the connection string.")
        facts = Facts(hub.name, hub.created_ms, hub.partitions)
        return answered(
            request, facts, lambda number: self.log.info(Partition(hub.number, number)), self.clock.utc_ms()
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to tell of an event hub itself; `created_ms` is since the epoch."""

    name: str
    created_ms: int
    partitions: int


def answered(request: Request, facts: Facts, info: Callable[[int], PartitionInfo], now_ms: int) -> Answer:
    """The answer to a READ of an event hub or of one of its partitions; raises HubError ARGUMENT_INVALID."""
    asked = request.properties
    match asked.get("operation"), asked.get("type"):
        case "READ", "com.microsoft:eventhub":
            return Answer(200, "OK", body=_event_hub(facts))
        case "READ", "com.microsoft:partition":
            number = partition_number(str(asked.get("partition")), facts.partitions)
            return Answer(200, "OK", body=_partition(facts.name, number, info(number), now_ms))
        case operation, kind:
            raise _bad_request(f"{operation!r} {kind!r}")


def _event_hub(facts: Facts) -> AmqpValue:
    return {
        "name": facts.name,
        "type": EVENT_HUB,
        "created_at": Timestamp(facts.created_ms),
        "partition_count": Int(facts.partitions),
        "partition_ids": Array(str, tuple(str(number) for number in range(facts.partitions))),
        "georeplication_factor": Int(1),
    }


def _partition(name: str, number: int, info: PartitionInfo, now_ms: int) -> AmqpValue:
    return {
        "name": name,
        "partition": str(number),
        "type": PARTITION,
        "begin_sequence_number": Long(info.begin_sequence),
        "last_enqueued_sequence_number": Long(info.last_sequence),
        "last_enqueued_offset": str(info.last_offset),
        "last_enqueued_time_utc": Timestamp(max(info.last_enqueued_ms, 0)),
        "is_partition_empty": info.is_empty,
        "runtime_info_retrieval_time_utc": Timestamp(now_ms),
    }


def _bad_request(what: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        "The request is not supported.",
        Refusal(Hop.CONTRACT, "contract.management", what[:200], "READ an eventhub or a partition."),
    )
