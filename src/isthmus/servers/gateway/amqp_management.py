"""`$management` of the built-in endpoint: what a reader asks about the event hub and its partitions.

Requests and answers are those of the Event Hubs AMQP protocol guide, "Runtime information".
"""

from dataclasses import dataclass
from typing import Final

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_contract import not_found, partition_number
from isthmus.servers.gateway.amqp_replies import Answer, Request
from isthmus.telemetry.ports import Log, Partition
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
        asked = request.properties
        name = str(asked.get("name"))
        if name.lower() != self.hub.name.lower():
            raise not_found(name, "Use the EntityPath of the connection string.")
        match asked.get("operation"), asked.get("type"):
            case "READ", "com.microsoft:eventhub":
                return Answer(200, "OK", body=self._event_hub())
            case "READ", "com.microsoft:partition":
                return Answer(200, "OK", body=self._partition(str(asked.get("partition"))))
            case operation, kind:
                raise _bad_request(f"{operation!r} {kind!r}")

    def _event_hub(self) -> AmqpValue:
        hub = self.hub
        return {
            "name": hub.name,
            "type": EVENT_HUB,
            "created_at": Timestamp(hub.created_ms),
            "partition_count": Int(hub.partitions),
            "partition_ids": Array(str, tuple(str(number) for number in range(hub.partitions))),
            "georeplication_factor": Int(1),
        }

    def _partition(self, named: str) -> AmqpValue:
        number = partition_number(named, self.hub.partitions)
        info = self.log.info(Partition(self.hub.number, number))
        return {
            "name": self.hub.name,
            "partition": str(number),
            "type": PARTITION,
            "begin_sequence_number": Long(info.begin_sequence),
            "last_enqueued_sequence_number": Long(info.last_sequence),
            "last_enqueued_offset": str(info.last_offset),
            "last_enqueued_time_utc": Timestamp(max(info.last_enqueued_ms, 0)),
            "is_partition_empty": info.is_empty,
            "runtime_info_retrieval_time_utc": Timestamp(self.clock.utc_ms()),
        }


def _bad_request(what: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        "The request is not supported.",
        Refusal(Hop.CONTRACT, "contract.management", what[:200], "READ an eventhub or a partition."),
    )
