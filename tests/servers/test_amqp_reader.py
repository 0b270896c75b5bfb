"""Readers of the built-in endpoint: where they start, how they are fed, what holds them back, and who owns what."""

from collections.abc import Callable

import pytest

from devices.fakes import HUB, NOW_MS
from isthmus.network.door_policies import DoorPolicy
from isthmus.resources.consumer_groups import add_group, remove_group
from isthmus.servers.gateway import amqp_reader
from isthmus.servers.gateway.amqp_reader import RUNTIME_METRIC
from isthmus.telemetry.ports import Partition
from isthmus.wire.amqp.events import Transfer
from isthmus.wire.amqp.values import Long, Symbol, Timestamp
from servers.amqp_world import AmqpClient, AmqpWorld, conditions
from servers.mqtt_world import settled


@pytest.fixture
async def told(amqp: AmqpWorld) -> AmqpWorld:
    """Three events in partition 0, a second apart."""
    for payload in (b"0", b"1", b"2"):
        await amqp.tell(payload)
        amqp.timers.move(1)
    return amqp


@pytest.mark.parametrize(
    ("selector", "first"),
    [
        ("", 0),
        ("amqp.annotation.x-opt-offset > '-1'", 0),
        ("amqp.annotation.x-opt-offset > '@latest'", 3),
        ("amqp.annotation.x-opt-sequence-number > '-1'", 0),
        ("amqp.annotation.x-opt-sequence-number > '1'", 2),
        ("amqp.annotation.x-opt-sequence-number >= '1'", 1),
        ("amqp.annotation.x-opt-sequence-number > '2'", 3),
        ("amqp.annotation.x-opt-sequence-number >= '3'", 3),
        (f"amqp.annotation.x-opt-enqueued-time > '{NOW_MS}'", 1),
        (f"amqp.annotation.x-opt-enqueued-time >= '{NOW_MS}'", 0),
        (f"amqp.annotation.x-opt-enqueuedtimeutc > {NOW_MS + 1000}", 2),
    ],
)
async def test_a_reader_starts_where_it_says(told: AmqpWorld, selector: str, first: int) -> None:
    client = await told.consumer()
    link = await client.reader(selector=selector)
    assert client.bodies(link) == [b"0", b"1", b"2"][first:]
    await told.tell(b"3")
    await client.run()
    assert client.bodies(link) == [b"0", b"1", b"2", b"3"][first:]


@pytest.mark.parametrize(
    ("selector", "word"),
    [
        ("x-opt-sequence-number > '3'", "sequence number '3'"),
        ("x-opt-sequence-number >= '4'", "sequence number '4'"),
        ("x-opt-offset > '123456789'", "offset '123456789'"),
    ],
)
async def test_a_position_that_was_never_reached_is_refused(told: AmqpWorld, selector: str, word: str) -> None:
    client = await told.consumer()
    link = await client.reader(selector=f"amqp.annotation.{selector}")
    assert client.condition(link) == "com.microsoft:argument-error"
    assert f"The supplied {word} is invalid. The last" in str(client.refusal(link).description)
    assert await told.rules() == ["contract.position"]


async def test_in_an_empty_partition_every_position_waits(told: AmqpWorld) -> None:
    client = await told.consumer()
    link = await client.reader("1", selector="amqp.annotation.x-opt-offset > '5'")
    assert link.attached


@pytest.mark.parametrize(("operator", "rest"), [(">", [b"2"]), (">=", [b"1", b"2"])])
async def test_a_reader_resumes_from_an_offset_it_was_given(told: AmqpWorld, operator: str, rest: list[bytes]) -> None:
    client = await told.consumer()
    link = await client.reader()
    offset = client.messages(link)[1].annotations[Symbol("x-opt-offset")]
    assert isinstance(offset, str)
    again = await client.reader(selector=f"amqp.annotation.x-opt-offset {operator} '{offset}'")
    assert client.bodies(again) == rest


@pytest.mark.rule("AMQP-2.6.7")
async def test_credit_is_all_that_is_sent(told: AmqpWorld) -> None:
    client = await told.consumer()
    link = await client.reader(credit=2)
    assert client.bodies(link) == [b"0", b"1"]
    link.grant(1)
    await client.run()
    assert client.bodies(link) == [b"0", b"1", b"2"]


@pytest.mark.rule("AMQP-2.6.9")
async def test_growth_wakes_a_reader_of_that_partition_only(told: AmqpWorld) -> None:
    client = await told.consumer()
    links = [await client.reader(str(number)) for number in range(2)]
    await told.tell(b"here", partition=1)
    await settled()
    assert client.receive()
    assert [client.bodies(link) for link in links] == [[b"0", b"1", b"2"], [b"here"]]


@pytest.mark.rule("AMQP-2.6.8")
async def test_a_drain_gets_what_there_is_and_the_rest_of_its_credit_back(told: AmqpWorld) -> None:
    client = await told.consumer()
    link = await client.reader(credit=0)
    link.grant(10, drain=True)
    await client.run()
    assert client.bodies(link) == [b"0", b"1", b"2"]
    assert link.credit == 0
    await told.tell(b"3")
    await client.run()
    assert client.bodies(link) == [b"0", b"1", b"2"]
    link.grant(1)
    await client.run()
    assert client.bodies(link)[3:] == [b"3"]


async def test_a_drain_that_the_events_use_up_is_answered_too(told: AmqpWorld) -> None:
    client = await told.consumer()
    link = await client.reader(credit=0)
    link.grant(3, drain=True)
    client.send()
    await settled()
    assert b"".join(client.connection.writes).count(b"\x00\x53\x13") == 1
    client.receive()
    assert client.bodies(link) == [b"0", b"1", b"2"]


async def test_turns_are_bounded_and_give_the_loop_back(told: AmqpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqp_reader, "BATCH_EVENTS_MAX", 2)
    client = await told.consumer()
    await told.tell(b"a", b"b", b"c", b"d", partition=1)
    links = [await client.reader(str(number), credit=0) for number in range(2)]
    client.connection.writes.clear()
    for link in links:
        link.grant(10)
    client.send()
    await settled()
    turns = [b"0" in write and b"1" in write for write in client.connection.writes]
    assert len(turns) == 4, "two readers of three and four events, two at a time"
    client.receive()
    assert [client.bodies(link) for link in links] == [[b"0", b"1", b"2"], [b"a", b"b", b"c", b"d"]]


async def test_a_congested_connection_is_sent_nothing_until_it_takes_bytes(told: AmqpWorld) -> None:
    client = await told.consumer()
    link = await client.reader(credit=0)
    client.connection.congested = True
    link.grant(10, drain=True)
    client.send()
    await settled()
    client.receive()
    assert client.bodies(link) == []
    assert link.credit == 10, "a drain is not answered while there may be more to send"
    client.connection.congested = False
    client.pump.writable()
    await client.run()
    assert client.bodies(link) == [b"0", b"1", b"2"]


async def test_events_carry_their_annotations_with_their_types(told: AmqpWorld) -> None:
    client = await told.consumer()
    link = await client.reader(credit=1)
    (event,) = client.messages(link)
    annotations = event.annotations
    assert annotations[Symbol("x-opt-sequence-number")] == 0
    assert isinstance(annotations[Symbol("x-opt-sequence-number")], Long)
    assert type(annotations[Symbol("x-opt-offset")]) is str
    assert annotations[Symbol("x-opt-enqueued-time")] == NOW_MS
    assert isinstance(annotations[Symbol("x-opt-enqueued-time")], Timestamp)
    assert annotations[Symbol("iothub-enqueuedtime")] == NOW_MS - 5
    assert annotations[Symbol("iothub-connection-device-id")] == "dev1"
    assert annotations[Symbol("iothub-message-source")] == "Telemetry"
    assert event.delivery_annotations == {}


async def test_the_runtime_metric_comes_with_each_event_when_asked_for(told: AmqpWorld) -> None:
    client = await told.consumer()
    link = await client.reader(credit=1, capabilities=(RUNTIME_METRIC,))
    (event,) = client.messages(link)
    metric = {str(key): value for key, value in event.delivery_annotations.items()}
    last = told.log.info(Partition(HUB, 0))
    assert link.offered_capabilities == (RUNTIME_METRIC,)
    assert metric == {
        "last_enqueued_sequence_number": 2,
        "last_enqueued_offset": str(last.last_offset),
        "last_enqueued_time_utc": NOW_MS + 2000,
        "runtime_info_retrieval_time_utc": NOW_MS + 3000,
    }
    assert {key: type(value) for key, value in metric.items()} == {
        "last_enqueued_sequence_number": Long,
        "last_enqueued_offset": str,
        "last_enqueued_time_utc": Timestamp,
        "runtime_info_retrieval_time_utc": Timestamp,
    }


async def test_events_come_settled(told: AmqpWorld) -> None:
    client = await told.consumer()
    link = await client.reader()
    assert [event.settled for event in client.of(Transfer) if event.link is link] == [True] * 3


@pytest.mark.rule("AMQP-2.8.18")
@pytest.mark.parametrize("epoch", [1, 2])
async def test_an_equal_or_higher_epoch_steals(told: AmqpWorld, epoch: int) -> None:
    former, newer = await told.consumer(), await told.consumer()
    lost = await former.reader(epoch=1)
    link = await newer.reader(epoch=epoch)
    assert former.receive(), "the pump of the stolen link has spoken by itself"
    assert former.condition(lost) == "amqp:link:stolen"
    assert f"epoch of '{epoch}'" in (former.refusal(lost).description or "")
    assert newer.bodies(link) == [b"0", b"1", b"2"]


async def test_a_lower_epoch_and_none_are_refused_while_a_higher_one_reads(told: AmqpWorld) -> None:
    owner, other = await told.consumer(), await told.consumer()
    link = await owner.reader(epoch=5)
    refused = [await other.reader(epoch=4), await other.reader()]
    assert conditions(other, refused) == ["amqp:link:stolen"] * 2
    assert "epoch '5'" in (other.refusal(refused[0]).description or "")
    assert await told.rules() == ["contract.epoch"] * 2
    await told.tell(b"3")
    await owner.run()
    assert owner.bodies(link)[-1:] == [b"3"]


async def test_an_epoch_steals_from_all_who_read_without(told: AmqpWorld) -> None:
    client, owner = await told.consumer(), await told.consumer()
    links = [await client.reader() for _ in range(3)]
    await owner.reader(epoch=0)
    client.receive()
    assert conditions(client, links) == ["amqp:link:stolen"] * 3


async def test_readers_of_one_connection_steal_from_each_other(told: AmqpWorld) -> None:
    client = await told.consumer()
    lost = await client.reader(epoch=1)
    link = await client.reader(epoch=2)
    assert client.condition(lost) == "amqp:link:stolen"
    assert client.bodies(link) == [b"0", b"1", b"2"]


async def test_credit_that_comes_along_with_an_attach_that_steals_is_heeded(told: AmqpWorld) -> None:
    client = await told.consumer()
    lost = await client.reader(epoch=1)
    link = await client.reader(epoch=2, early_credit=2)
    assert client.condition(lost) == "amqp:link:stolen"
    assert client.bodies(link) == [b"0", b"1"]


async def test_when_the_owner_has_gone_everybody_may_read(told: AmqpWorld) -> None:
    stolen, owner, other = await told.consumer(), await told.consumer(), await told.consumer()
    await stolen.reader(epoch=1)
    link = await owner.reader(epoch=2)
    link.detach()
    await owner.run()
    assert other.bodies(await other.reader()) == [b"0", b"1", b"2"]


async def test_five_read_without_an_epoch_and_the_sixth_is_refused(told: AmqpWorld) -> None:
    client = await told.consumer()
    links = [await client.reader() for _ in range(6)]
    assert [link.attached for link in links] == [True] * 5 + [False]
    assert client.condition(links[5]) == "amqp:resource-limit-exceeded"
    assert await told.rules() == ["limit.readers"]
    assert (await client.reader("1")).attached, "another partition is free"
    links[0].detach()
    await client.run()
    assert (await client.reader()).attached


async def test_groups_do_not_know_each_other_and_have_no_case(told: AmqpWorld) -> None:
    client = await told.consumer()
    await client.reader(epoch=1, group="$Default")
    same = await client.reader(group="$DEFAULT")
    assert client.condition(same) == "amqp:link:stolen"


BILLING = DoorPolicy("bound", ("private",), consumer_group="billing")


async def test_a_consumer_group_is_read_by_its_doors_only(told: AmqpWorld) -> None:
    await told.doors.hubs.change("hub", lambda hub: add_group(hub, "billing"))
    door = await told.doors.private_door()
    await told.doors.bind(BILLING)
    outside, inside = await told.consumer(), await told.consumer(door=door)
    refused = await outside.reader(group="Billing")
    assert outside.condition(refused) == "amqp:unauthorized-access"
    assert await told.rules() == ["policy.wrong-door"]
    assert outside.bodies(await outside.reader()) == [b"0", b"1", b"2"]
    assert inside.bodies(await inside.reader(group="billing")) == [b"0", b"1", b"2"]


async def test_a_policy_ends_the_readers_it_binds_to_other_doors(told: AmqpWorld) -> None:
    await told.doors.hubs.change("hub", lambda hub: add_group(hub, "billing"))
    client = await told.consumer()
    bound, free = await client.reader(group="billing"), await client.reader()
    await told.doors.bind(BILLING)
    await client.run()
    assert client.condition(bound) == "amqp:unauthorized-access"
    assert await told.rules() == ["policy.wrong-door"]
    assert free.attached


async def test_a_group_that_is_deleted_ends_its_readers_and_no_others(told: AmqpWorld) -> None:
    await told.doors.hubs.change("hub", lambda hub: add_group(hub, "Billing"))
    client = await told.consumer()
    gone, others = await client.reader(group="billing"), await client.reader()
    await told.doors.hubs.change("hub", lambda hub: remove_group(hub, "billing"))
    await client.run()
    assert client.condition(gone) == "amqp:not-found"
    assert await told.rules() == ["contract.address"]
    assert others.attached


async def test_the_first_reader_of_a_group_on_a_connection_is_journaled(told: AmqpWorld) -> None:
    client = await told.consumer()
    for partition in ("0", "1", "0"):
        await client.reader(partition, group="$DEFAULT")
    asked = [(entry.principal, entry.asked) for entry in await told.doors.decisions() if entry.asked]
    assert asked == [
        ("policy:service", "messages/events/ConsumerGroups/$Default"),
        ("policy:service", "messages/events"),
    ]


@pytest.mark.parametrize(
    ("address", "condition", "rule"),
    [
        ("hub/ConsumerGroups/nobody/Partitions/0", "amqp:not-found", "contract.address"),
        ("other/ConsumerGroups/$Default/Partitions/0", "amqp:not-found", "contract.address"),
        ("hub/ConsumerGroups/$Default/Partitions/4", "com.microsoft:argument-out-of-range", "contract.partition"),
        ("hub/ConsumerGroups/$Default/Partitions/x", "com.microsoft:argument-out-of-range", "contract.partition"),
    ],
)
async def test_what_is_not_there_is_refused(told: AmqpWorld, address: str, condition: str, rule: str) -> None:
    client = await told.service()
    link = await client.receiver(address, credit=1)
    assert client.condition(link) == condition
    assert link.source is None
    assert link.target is None
    assert await told.rules() == [rule]


@pytest.mark.rule("AMQP-3.5.1")
@pytest.mark.parametrize(
    "selector", ["amqp.annotation.x-opt-offset < '1'", "x > 1", "amqp.annotation.x-opt-offset > 'x'"]
)
async def test_a_filter_that_means_nothing_is_refused(told: AmqpWorld, selector: str) -> None:
    client = await told.consumer()
    assert client.condition(await client.reader(selector=selector)) == "com.microsoft:argument-error"
    assert await told.rules() == ["contract.selector"]


async def test_a_reader_that_goes_leaves_nothing_behind(told: AmqpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    on_growth = told.log.on_growth
    listening: list[Partition] = []

    def noted(partition: Partition, wake: Callable[[], None]) -> Callable[[], None]:
        undo = on_growth(partition, wake)
        listening.append(partition)

        def noted_undo() -> None:
            undo()
            listening.remove(partition)

        return noted_undo

    monkeypatch.setattr(told.log, "on_growth", noted)
    client = await told.consumer()
    await client.reader()
    await client.reader(epoch=3)
    assert len(listening) == 1, "the one that was stolen has gone"
    await client.drop()
    assert listening == []
    await told.tell(b"3")
    await settled()
    again: AmqpClient = await told.consumer()
    assert again.bodies(await again.reader()) == [b"0", b"1", b"2", b"3"]
