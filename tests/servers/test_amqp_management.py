"""`$management` of the built-in endpoint: what it tells, with which types, and what it refuses."""

import uuid

import pytest

from devices.fakes import NOW_MS
from isthmus.wire.amqp.values import AmqpValue, Array, Int, Long, Symbol, Timestamp, ULong
from servers.amqp_world import ENTITY, AmqpWorld

EVENT_HUB = "com.microsoft:eventhub"
PARTITION = "com.microsoft:partition"


async def test_the_event_hub_is_described(amqp: AmqpWorld) -> None:
    client = await amqp.consumer()
    answer = await client.manage(operation="READ", type=EVENT_HUB, name=ENTITY)
    assert answer.properties == {"status-code": 200, "status-description": "OK"}
    assert isinstance(answer.properties["status-code"], Int)
    assert answer.body == {
        "name": "hub",
        "type": EVENT_HUB,
        "created_at": NOW_MS,
        "partition_count": 4,
        "partition_ids": Array(str, ("0", "1", "2", "3")),
        "georeplication_factor": 1,
    }
    assert {name: type(value) for name, value in answer.body.items() if name in ("created_at", "partition_count")} == {
        "created_at": Timestamp,
        "partition_count": Int,
    }


async def test_a_partition_is_described(amqp: AmqpWorld) -> None:
    await amqp.tell(b"0", b"1", partition=2)
    amqp.timers.move(1)
    client = await amqp.consumer()
    answer = await client.manage(operation="READ", type=PARTITION, name="HUB", partition="2")
    body = answer.body
    offset = body.pop("last_enqueued_offset")
    assert type(offset) is str
    assert offset.isdecimal()
    assert body == {
        "name": "hub",
        "partition": "2",
        "type": PARTITION,
        "begin_sequence_number": 0,
        "last_enqueued_sequence_number": 1,
        "last_enqueued_time_utc": NOW_MS,
        "is_partition_empty": False,
        "runtime_info_retrieval_time_utc": NOW_MS + 1000,
    }
    assert [type(answer.body[f"{name}_sequence_number"]) for name in ("begin", "last_enqueued")] == [Long] * 2
    assert isinstance(answer.body["last_enqueued_time_utc"], Timestamp)
    assert isinstance(answer.body["runtime_info_retrieval_time_utc"], Timestamp)


async def test_an_empty_partition_says_so(amqp: AmqpWorld) -> None:
    client = await amqp.consumer()
    answer = await client.manage(operation="READ", type=PARTITION, name=ENTITY, partition="0")
    assert answer.body["is_partition_empty"] is True
    assert answer.body["last_enqueued_sequence_number"] == -1
    assert answer.body["last_enqueued_offset"] == "-1"
    assert answer.body["last_enqueued_time_utc"] == 0


@pytest.mark.parametrize("message_id", [uuid.UUID(int=5), ULong(0), "text"])
async def test_the_correlation_id_has_the_type_of_the_message_id(amqp: AmqpWorld, message_id: AmqpValue) -> None:
    client = await amqp.consumer()
    answer = await client.manage(operation="READ", type=EVENT_HUB, name=ENTITY, message_id=message_id)
    assert answer.received.properties.correlation_id == message_id
    assert type(answer.received.properties.correlation_id) is type(message_id)


@pytest.mark.parametrize(
    ("asked", "status", "condition", "rule"),
    [
        ({"name": "other"}, 404, "amqp:not-found", "contract.address"),
        ({"name": None}, 404, "amqp:not-found", "contract.address"),
        ({"operation": "DELETE"}, 400, "com.microsoft:argument-error", "contract.management"),
        ({"type": "com.microsoft:queue"}, 400, "com.microsoft:argument-error", "contract.management"),
        ({"partition": "4"}, 400, "com.microsoft:argument-out-of-range", "contract.partition"),
        ({"partition": "-1"}, 400, "com.microsoft:argument-out-of-range", "contract.partition"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    amqp: AmqpWorld, asked: dict[str, AmqpValue], status: int, condition: str, rule: str
) -> None:
    client = await amqp.consumer()
    answer = await client.manage(**{"operation": "READ", "type": PARTITION, "name": ENTITY, "partition": "0", **asked})
    assert answer.status == status
    assert answer.properties["error-condition"] == condition
    assert isinstance(answer.properties["error-condition"], Symbol)
    assert "TrackingId:" in str(answer.properties["status-description"])
    assert await amqp.rules() == [rule]
