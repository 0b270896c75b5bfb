"""Private DNS zones: records, links, zone groups that follow their endpoints, and a restart that finds all of it."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.base.errors import Code, HubError
from isthmus.base.etags import Condition
from isthmus.names.zone import RecordType
from isthmus.resources.hub import hub_resource_id
from isthmus.resources.private_zone import PRIVATE_ZONES_MAX, RECORDS_MAX, ZoneRecords
from isthmus.resources.private_zone_arm import parse_group, parse_link, parse_records, parse_zone
from resources.world import World, endpoint_body, group_body, json_values, link_body, network_body

HUB_ID = hub_resource_id("hub")

ZONE = "privatelink.example.test"
A = RecordType.A


def records_body(*addresses: str, ttl: int = 60) -> dict[str, Any]:
    return {"properties": {"ttl": ttl, "aRecords": [{"ipv4Address": each} for each in addresses]}}


async def started(*zones: str) -> World:
    world = await World().with_hub()
    await world.networks.put_network("plant", network_body("10.1.0.0/16", line="10.1.0.0/24"))
    for zone in zones:
        await world.zones.put_zone(zone, {})
    return world


async def with_endpoint(world: World, name: str = "pe", address: str = "10.1.0.5") -> None:
    await world.endpoints.create(name, endpoint_body(world.hubs.require("hub").resource_id, address))


def shown(world: World, zone: str = ZONE) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(each.name, each.type.value, each.values) for each in world.zones.records(world.zones.require(zone))]


async def test_a_zone_keeps_its_records_over_a_restart() -> None:
    world = await started(ZONE)
    await world.zones.put_records(ZONE, A, "Press", records_body("10.1.0.9", "10.1.0.8"))
    await world.zones.put_link(ZONE, "here", link_body("Plant", resolutionPolicy="NxDomainRedirect"))
    await with_endpoint(world)
    await world.zones.put_group("pe", "default", group_body(one=ZONE))

    again = await World(world.state).loaded()

    assert again.zones.all() == world.zones.all()
    assert shown(again) == [("hub", "A", ("10.1.0.5",)), ("press", "A", ("10.1.0.9", "10.1.0.8"))]
    link = again.zones.require(ZONE).require_link("HERE")
    assert (link.network, link.redirect) == ("plant", True)


async def test_a_groups_records_follow_the_endpoint() -> None:
    world = await started(ZONE, "other.test")
    await with_endpoint(world)
    group = await world.zones.put_group("pe", "default", group_body(one=ZONE, two="other.test"))

    assert shown(world) == [("hub", "A", ("10.1.0.5",))]
    assert shown(world, "other.test") == []
    assert [each.values for each in world.zones.records_of_group(group)[ZONE]] == [("10.1.0.5",)]

    await world.endpoints.delete("pe")

    assert shown(world) == []
    assert world.zones.groups() == ()
    await with_endpoint(world, address="10.1.0.6")
    assert shown(world) == []


async def test_two_endpoints_of_a_hub_are_two_records_of_one_name() -> None:
    world = await started(ZONE)
    for name, address in (("one", "10.1.0.5"), ("two", "10.1.0.6")):
        await with_endpoint(world, name, address)
        await world.zones.put_group(name, "default", group_body(zone=ZONE))

    assert shown(world) == [("hub", "A", ("10.1.0.5", "10.1.0.6"))]


async def test_a_group_whose_connection_is_gone_has_no_records() -> None:
    world = await started(ZONE)
    await with_endpoint(world)
    await world.zones.put_group("pe", "default", group_body(zone=ZONE))

    await world.endpoints.delete_connection(HUB_ID, "pe")

    assert shown(world) == []


async def test_what_a_group_makes_is_not_changed_by_hand() -> None:
    world = await started(ZONE)
    await with_endpoint(world)
    await world.zones.put_group("pe", "default", group_body(zone=ZONE))

    for change in (
        world.zones.put_records(ZONE, A, "hub", records_body("10.9.9.9")),
        world.zones.delete_records(ZONE, A, "hub"),
    ):
        await refused(change, Code.INVALID_OPERATION)


async def test_an_endpoint_has_one_group() -> None:
    world = await started(ZONE, "example.test")
    await with_endpoint(world)
    await world.zones.put_group("pe", "default", group_body(zone=ZONE))

    await refused(world.zones.put_group("pe", "second", group_body(zone=ZONE)), Code.CONFLICT)
    changed = await world.zones.put_group("pe", "DEFAULT", group_body(zone="example.test"))

    assert (changed.name, changed.version) == ("default", 2)
    assert (shown(world), shown(world, "example.test")) == ([], [("hub", "A", ("10.1.0.5",))])


async def test_a_zone_in_use_stays() -> None:
    world = await started(ZONE)
    await with_endpoint(world)
    await world.zones.put_link(ZONE, "here", link_body("plant"))
    await world.zones.put_group("pe", "default", group_body(zone=ZONE))

    for free in (world.zones.delete_link(ZONE, "here"), world.zones.delete_group("pe", "default")):
        await refused(world.zones.delete_zone(ZONE), Code.CONFLICT)
        await free
    await world.zones.delete_zone(ZONE)

    assert world.zones.all() == ()
    await refused(world.zones.delete_zone(ZONE), Code.NOT_FOUND)


async def test_a_network_has_one_link_to_a_zone() -> None:
    world = await started(ZONE)
    await world.zones.put_link(ZONE, "here", link_body("plant"))

    await refused(world.zones.put_link(ZONE, "again", link_body("plant")), Code.CONFLICT)
    await refused(world.zones.put_link(ZONE, "away", link_body("nowhere")), Code.NOT_FOUND)
    await world.zones.put_link(ZONE, "HERE", link_body("plant", resolutionPolicy="nxdomainredirect"))

    assert [(each.name, each.redirect, each.version) for each in world.zones.require(ZONE).links] == [("here", True, 2)]


async def test_an_alias_is_alone_with_its_name() -> None:
    world = await started(ZONE)
    await world.zones.put_records(ZONE, A, "press", records_body("10.1.0.9"))
    alias: dict[str, Any] = {"properties": {"cnameRecord": {"cname": "press.example.test."}}}

    await refused(world.zones.put_records(ZONE, RecordType.CNAME, "press", alias), Code.CONFLICT)
    await world.zones.put_records(ZONE, RecordType.CNAME, "alias", alias)
    await refused(world.zones.put_records(ZONE, A, "alias", records_body("10.1.0.9")), Code.CONFLICT)


async def test_what_was_changed_meanwhile_is_not_overwritten() -> None:
    world = await started(ZONE)
    first = await world.zones.put_records(ZONE, A, "press", records_body("10.1.0.9"))
    await world.zones.put_records(ZONE, A, "press", records_body("10.1.0.8"), Condition(first.etag))

    await refused(
        world.zones.put_records(ZONE, A, "press", records_body("1.1.1.1"), Condition(first.etag)),
        Code.PRECONDITION_FAILED,
    )
    await refused(world.zones.delete_records(ZONE, A, "press", Condition(first.etag)), Code.PRECONDITION_FAILED)
    await refused(world.zones.delete_zone(ZONE, Condition("x")), Code.PRECONDITION_FAILED)
    await refused(world.zones.put_zone("new.test", {}, Condition("*")), Code.PRECONDITION_FAILED)
    new = Condition(if_none_match="*")
    await refused(world.zones.put_zone(ZONE, {}, new), Code.PRECONDITION_FAILED)
    await refused(world.zones.put_records(ZONE, A, "press", records_body(), new), Code.PRECONDITION_FAILED)
    await world.zones.put_zone("new.test", {}, new)


async def test_changes_at_once_all_count() -> None:
    world = await started(ZONE)

    await asyncio.gather(
        *(world.zones.put_records(ZONE, A, f"press{n}", records_body(f"10.1.0.{n}")) for n in range(1, 9)),
        world.zones.put_link(ZONE, "here", link_body("plant")),
    )

    zone = world.zones.require(ZONE)
    assert (len(zone.records), len(zone.links), zone.version) == (8, 1, 10)


async def test_listeners_are_told_before_the_answer() -> None:
    world = await started(ZONE)
    told: list[int] = []

    async def listener() -> None:
        told.append(len(world.zones.all()))

    world.zones.on_change(listener)
    await world.zones.put_zone("new.test", {})
    await world.zones.delete_zone("new.test")

    assert told == [2, 1]


async def test_there_are_so_many_zones_and_no_more() -> None:
    world = await started(*(f"zone{n}.test" for n in range(PRIVATE_ZONES_MAX)))

    await refused(world.zones.put_zone("more.test", {}), Code.QUOTA_EXCEEDED)


@pytest.mark.parametrize(
    "parse",
    [
        lambda: parse_zone("single", {}, None),
        lambda: parse_zone("bad name.test", {}, None),
        lambda: parse_zone("a.test", {"location": "westeurope"}, None),
        lambda: parse_link("x", {"properties": {"virtualNetwork": {"id": "plant"}}}),
        lambda: parse_records(A, "x", records_body("fd00::1")),
        lambda: parse_records(A, "x", records_body(*(f"10.0.0.{n}" for n in range(RECORDS_MAX + 1)))),
        lambda: parse_records(A, "x..y", records_body("10.0.0.1")),
        lambda: parse_records(A, "x", {"properties": {"ttl": -1, "aRecords": []}}),
        lambda: parse_records(RecordType.AAAA, "x", {"properties": {"aaaaRecords": [{"ipv6Address": "10.0.0.1"}]}}),
        lambda: parse_records(RecordType.CNAME, "@", {"properties": {"cnameRecord": {"cname": "x.test"}}}),
        lambda: parse_records(RecordType.CNAME, "x", {"properties": {"cnameRecord": {"cname": "not a name"}}}),
        lambda: parse_records(RecordType.TXT, "x", {"properties": {"txtRecords": [{"value": ["x" * 1025]}]}}),
        lambda: parse_group("g", {"properties": {"privateDnsZoneConfigs": []}}),
        lambda: parse_group("g", group_body(a=ZONE, b=ZONE)),
    ],
)
def test_what_cannot_be_is_refused(parse: Any) -> None:
    with pytest.raises(HubError) as caught:
        parse()
    assert caught.value.code is Code.ARGUMENT_INVALID


def test_nobody_registers_machines() -> None:
    with pytest.raises(HubError) as caught:
        parse_link("x", link_body("plant", registrationEnabled=True))
    assert caught.value.code is Code.NOT_IMPLEMENTED


@given(st.sampled_from(list(RecordType)), json_values())
def test_a_body_is_read_or_refused(kind: RecordType, body: object) -> None:
    whole: dict[str, Any] = {"properties": body}
    for parse in (
        lambda: parse_records(kind, "x", whole),
        lambda: parse_link("x", whole),
        lambda: parse_group("x", whole),
        lambda: parse_zone("x.test", whole, None),
    ):
        with suppress(HubError):
            parse()


def test_a_records_etag_tells_its_versions_apart() -> None:
    assert ZoneRecords("x", A, ()).etag != ZoneRecords("x", A, (), version=2).etag


async def refused(change: Any, code: Code) -> None:
    with pytest.raises(HubError) as caught:
        await change
    assert caught.value.code is code
