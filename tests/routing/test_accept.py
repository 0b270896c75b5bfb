"""Messages and events on their way into the log."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from isthmus.base.ids import DeviceRef, HubId
from isthmus.resources.hub import Hub, Route, RouteSource
from isthmus.routing.accept import Accept, state_event_envelope
from isthmus.routing.route import partition_number
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.message import Envelope, MessageSource, PropertyValue, decode_envelope, encode_envelope
from isthmus.telemetry.ports import Partition
from routing.fakes import HUB, NO_FALLBACK, TWIN_ROUTE, FakeTwins, hub_with, twin_change
from telemetry.fakes import START_MS, SetClock, Waiter, read_whole


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SegmentLog]:
    log = SegmentLog.open(tmp_path, SetClock())
    yield log
    await log.close()


async def test_telemetry_lands_in_its_devices_partition_unchanged(log: SegmentLog) -> None:
    accept, waiter = Accept(log, FakeTwins()), Waiter()
    for number, device_id in enumerate(("pump", "valve", "pump", "fan")):
        _send(accept, HUB, device_id, b"%d" % number, waiter, number)
    await waiter.heard(4)
    assert waiter.acknowledged == [0, 1, 2, 3]
    records = read_whole(log, Partition(1, partition_number("pump", 4)))
    pumps = [record for record in records if decode_envelope(record.envelope).device_id == "pump"]
    assert [(record.payload, record.ingress_ms) for record in pumps] == [(b"0", START_MS), (b"2", START_MS)]


async def test_hubs_with_devices_of_one_name_do_not_meet(log: SegmentLog) -> None:
    accept, waiter = Accept(log, FakeTwins()), Waiter()
    _send(accept, HUB, "pump", b"one", waiter, 0)
    _send(accept, replace(HUB, number=HubId(2)), "pump", b"two", waiter, 1)
    await waiter.heard(2)
    number = partition_number("pump", 4)
    assert [record.payload for record in read_whole(log, Partition(1, number))] == [b"one"]
    assert [record.payload for record in read_whole(log, Partition(2, number))] == [b"two"]


async def test_a_message_no_route_takes_is_acknowledged_in_its_place_and_counted(log: SegmentLog) -> None:
    accept, waiter = Accept(log, FakeTwins()), Waiter()
    _send(accept, HUB, "pump", b"taken", waiter, 0)
    _send(accept, hub_with(fallback=NO_FALLBACK), "pump", b"orphan", waiter, 1)
    _send(accept, HUB, "pump", b"taken too", waiter, 2)
    await waiter.heard(3)
    assert waiter.acknowledged == [0, 1, 2]
    assert accept.orphaned == 1
    records = read_whole(log, Partition(1, partition_number("pump", 4)))
    assert [(record.sequence, record.payload) for record in records] == [(0, b"taken"), (1, b"taken too")]


async def test_routes_are_those_of_the_hub_snapshot_that_is_given(log: SegmentLog) -> None:
    accept, waiter = Accept(log, FakeTwins()), Waiter()
    assert not await accept.state_event(HUB, twin_change(1), 1, START_MS, waiter, 0)
    assert await accept.state_event(hub_with(TWIN_ROUTE), twin_change(2), 2, START_MS, waiter, 0)
    await waiter.heard(1)
    assert log.last_outbox_id(1) == 2


async def test_a_condition_is_judged_by_the_message_that_is_there(log: SegmentLog) -> None:
    accept, waiter = Accept(log, FakeTwins()), Waiter()
    hot = Route("hot", RouteSource.DEVICE_MESSAGES, condition="$body.level > 2 AND $connectionDeviceId = 'pump'")
    hub = hub_with(hot, fallback=NO_FALLBACK)
    system: dict[str, PropertyValue] = {"content-type": "application/json", "content-encoding": "utf-8"}
    envelope = Envelope("pump", system=system)
    for cookie, payload in enumerate((b'{"level":3}', b'{"level":2}', b"no JSON", b'{"level":"3"}')):
        accept.telemetry(hub, envelope, encode_envelope(envelope), payload, START_MS, waiter, cookie)
    await waiter.heard(4)
    records = read_whole(log, Partition(1, partition_number("pump", 4)))
    # A string is not converted; by its type it is more than any number.
    assert [record.payload for record in records] == [b'{"level":3}', b'{"level":"3"}']
    assert (accept.orphaned, accept.undefined) == (2, 1)


async def test_an_event_is_judged_as_well(log: SegmentLog) -> None:
    accept, waiter = Accept(log, FakeTwins()), Waiter()
    hub = hub_with(replace(TWIN_ROUTE, condition="twin_change_includes(version) AND opType = 'updateTwin'"))
    assert await accept.state_event(hub, twin_change(1), 1, START_MS, waiter, 0)
    other = hub_with(replace(TWIN_ROUTE, condition="twin_change_includes(tags.site)"))
    assert not await accept.state_event(other, twin_change(2), 2, START_MS, waiter, 0)
    await waiter.heard(1)


async def test_a_twin_is_at_hand_while_its_device_is_attended_and_a_condition_asks(log: SegmentLog) -> None:
    twins, waiter = FakeTwins(), Waiter()
    accept = Accept(log, twins)
    pump, valve = DeviceRef(HUB.number, "pump"), DeviceRef(HUB.number, "valve")
    twins.twins = {pump: {"tags": {"hall": 2}}, valve: {"tags": {"hall": 3}}}
    await accept.attend(HUB, pump)
    await accept.attend(HUB, valve)
    assert twins.held == set()
    asking = hub_with(Route("hall", RouteSource.DEVICE_MESSAGES, condition="$twin.tags.hall = 2"), fallback=NO_FALLBACK)
    await accept.hub_changed(HUB, asking)
    assert twins.held == {pump, valve}
    for cookie, device_id in enumerate(("pump", "valve", "stranger")):
        _send(accept, asking, device_id, b"", waiter, cookie)
    await waiter.heard(3)
    assert (accept.orphaned, accept.undefined) == (2, 1)
    accept.leave(valve)
    assert twins.held == {pump}
    await accept.hub_changed(asking, HUB)
    assert twins.held == set()


async def test_who_is_attended_twice_has_its_twin_at_hand_until_both_have_left(log: SegmentLog) -> None:
    twins, pump = FakeTwins(), DeviceRef(HUB.number, "pump")
    accept = Accept(log, twins)
    asking = hub_with(Route("hall", RouteSource.DEVICE_MESSAGES, condition="$twin.tags.hall = 2"))
    for _ in range(2):
        await accept.attend(asking, pump)
    accept.leave(pump)
    assert twins.held == {pump}
    accept.leave(pump)
    assert twins.held == set()


async def test_what_events_ask_for_holds_no_twin_of_who_sends(log: SegmentLog) -> None:
    twins = FakeTwins()
    accept = Accept(log, twins)
    hub = hub_with(replace(TWIN_ROUTE, condition="$twin.tags.hall = 2"))
    await accept.attend(hub, DeviceRef(HUB.number, "pump"))
    await accept.hub_changed(HUB, hub)
    assert twins.held == set()


async def test_an_event_is_judged_by_a_twin_that_nobody_holds(log: SegmentLog) -> None:
    twins, waiter = FakeTwins(), Waiter()
    twins.twins = {DeviceRef(HUB.number, "pump"): {"tags": {"hall": 2}}}
    hub = hub_with(replace(TWIN_ROUTE, condition="$twin.tags.hall = 2"))
    assert await Accept(log, twins).state_event(hub, twin_change(1), 1, START_MS, waiter, 0)
    await waiter.heard(1)


def test_an_event_looks_as_documented() -> None:
    event = msgspec.structs.replace(twin_change(7), module_id="camera")
    assert state_event_envelope(HUB, event, 255) == Envelope(
        device_id="pump",
        module_id="camera",
        source=MessageSource.TWIN_CHANGES,
        system={
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "correlation-id": "00000000000000ff",
            "user-id": "plant",
        },
        properties={
            "hubName": "plant",
            "deviceId": "pump",
            "moduleId": "camera",
            "operationTimestamp": "2025-06-15T15:06:40.0000000Z",
            "iothub-message-schema": "twinChangeNotification",
            "opType": "updateTwin",
        },
    )
    assert "moduleId" not in state_event_envelope(HUB, twin_change(7), 1).properties


def _send(accept: Accept, hub: Hub, device_id: str, payload: bytes, waiter: Waiter, cookie: int) -> None:
    envelope = Envelope(device_id)
    accept.telemetry(hub, envelope, encode_envelope(envelope), payload, START_MS, waiter, cookie)
