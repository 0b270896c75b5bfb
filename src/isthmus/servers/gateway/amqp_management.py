"""`$management` of the built-in endpoint: what a reader asks about the event hub and its partitions.

Requests and answers are those of the Event Hubs AMQP protocol guide, "Runtime information".
"""

from isthmus.base.clock import Clock
from isthmus.base.errors import Code, Hop, HubError, Refusal
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_contract import Node
from isthmus.servers.gateway.amqp_links import Pump
from isthmus.servers.gateway.amqp_replies import Answer
from isthmus.telemetry.ports import Log, Partition
from isthmus.wire.amqp.errors import DecodeError
from isthmus.wire.amqp.events import CreditGranted, Disposition, Transfer
from isthmus.wire.amqp.limits import LINK_CREDIT
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.message import Message
from isthmus.wire.amqp.states import ACCEPTED_STATE
from isthmus.wire.amqp.values import AmqpValue, Array, Int, Long, Symbol, Timestamp

EVENT_HUB = "com.microsoft:eventhub"
PARTITION = "com.microsoft:partition"


class ManagementReceiver:
    """Takes READ requests and answers them at once: the log knows everything that is asked."""

    def __init__(self, link: Link, pump: Pump, log: Log, hub: Hub, clock: Clock) -> None:
        self._link = link
        self._pump = pump
        self._log = log
        self._hub = hub
        self._clock = clock
        link.accept()

    def transfer(self, transfer: Transfer) -> None:
        self._link.settle(transfer.delivery_id, ACCEPTED_STATE)
        self._link.grant(LINK_CREDIT)
        try:
            asked = Message(transfer.payload)
            answer = self._answer(asked.application_properties)
        except DecodeError as error:
            self._pump.refused(_bad_request(error.description))
            return
        self._pump.replies.answer(self._link, Node.MANAGEMENT, asked, answer)

    def disposition(self, disposition: Disposition) -> None:
        """A sender of requests settles nothing here."""

    def credit(self, granted: CreditGranted) -> None:
        """Credit is ours to give on this link."""

    def writable(self) -> None:
        """Nothing is sent on this link."""

    def detached(self) -> None:
        """There is nothing to forget."""

    def _answer(self, asked: dict[str, AmqpValue]) -> Answer:
        try:
            return Answer(200, "OK", body=self._read(asked))
        except HubError as error:
            told = self._pump.refused(error)
            condition = {"error-condition": Symbol(told.condition)}
            return Answer(error.code.http_status, told.description or "", condition)

    def _read(self, asked: dict[str, AmqpValue]) -> AmqpValue:
        name = str(asked.get("name"))
        if name.lower() != self._hub.name.lower():
            raise _not_found(name)
        match asked.get("operation"), asked.get("type"):
            case "READ", "com.microsoft:eventhub":
                return self._event_hub()
            case "READ", "com.microsoft:partition":
                return self._partition(str(asked.get("partition")))
            case operation, kind:
                raise _bad_request(f"{operation!r} {kind!r}")

    def _event_hub(self) -> AmqpValue:
        hub = self._hub
        return {
            "name": hub.name,
            "type": EVENT_HUB,
            "created_at": Timestamp(hub.created_ms),
            "partition_count": Int(hub.partitions),
            "partition_ids": Array(str, tuple(str(number) for number in range(hub.partitions))),
            "georeplication_factor": Int(1),
        }

    def _partition(self, number: str) -> AmqpValue:
        if not number.isdecimal() or int(number) >= self._hub.partitions:
            raise _not_found(f"{self._hub.name}/Partitions/{number}")
        info = self._log.info(Partition(self._hub.number, int(number)))
        return {
            "name": self._hub.name,
            "partition": number,
            "type": PARTITION,
            "begin_sequence_number": Long(info.begin_sequence),
            "last_enqueued_sequence_number": Long(info.last_sequence),
            "last_enqueued_offset": str(info.last_offset),
            "last_enqueued_time_utc": Timestamp(max(info.last_enqueued_ms, 0)),
            "is_partition_empty": info.is_empty,
            "runtime_info_retrieval_time_utc": Timestamp(self._clock.utc_ms()),
        }


def _not_found(what: str) -> HubError:
    return HubError(
        Code.AMQP_ADDRESS_NOT_FOUND,
        f"The messaging entity '{what}' could not be found.",
        Refusal(Hop.CONTRACT, "contract.address", what[:200], "Use the EntityPath of the connection string."),
    )


def _bad_request(what: str) -> HubError:
    return HubError(
        Code.ARGUMENT_INVALID,
        "The request is not supported.",
        Refusal(Hop.CONTRACT, "contract.management", what[:200], "READ an eventhub or a partition."),
    )
