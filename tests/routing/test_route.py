"""Which endpoints a hub's records name."""

from dataclasses import replace

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.resources.hub import Hub, Route, RouteSource
from isthmus.routing.route import SourceRoutes, compile_routes, judge, partition_number
from isthmus.routing.subject import RoutedMessage
from isthmus.telemetry.message import Envelope, MessageSource
from isthmus.telemetry.ports import EVENTS, Partition
from routing.fakes import HUB, NO_FALLBACK, TWIN_ROUTE, hub_with
from telemetry.fakes import START_MS

TELEMETRY_ROUTE = Route("all", RouteSource.DEVICE_MESSAGES)


def test_without_routes_telemetry_falls_back_to_the_built_in_endpoint_and_events_go_nowhere() -> None:
    table = compile_routes(HUB)
    assert table.telemetry == SourceRoutes((EVENTS,))
    assert {source for source, routes in table.sources.items() if routes.always} == {MessageSource.TELEMETRY}


@pytest.mark.parametrize(
    ("route", "source"),
    [
        (TWIN_ROUTE, MessageSource.TWIN_CHANGES),
        (Route("r", RouteSource.DEVICE_LIFECYCLE), MessageSource.DEVICE_LIFECYCLE),
        (Route("r", RouteSource.DEVICE_CONNECTION_STATE), MessageSource.DEVICE_CONNECTION_STATE),
    ],
)
def test_a_route_takes_its_source_only(route: Route, source: MessageSource) -> None:
    table = compile_routes(hub_with(route, fallback=NO_FALLBACK))
    assert {each for each, routes in table.sources.items() if routes.always} == {source}
    assert table.sources[source] == SourceRoutes((EVENTS,))


def test_several_routes_to_one_endpoint_deliver_once() -> None:
    table = compile_routes(hub_with(TELEMETRY_ROUTE, replace(TELEMETRY_ROUTE, name="again")))
    assert table.telemetry == SourceRoutes((EVENTS,))


def test_a_disabled_route_takes_nothing() -> None:
    table = compile_routes(hub_with(replace(TELEMETRY_ROUTE, enabled=False), fallback=NO_FALLBACK))
    assert table.telemetry == SourceRoutes(())


@pytest.mark.parametrize(
    ("route", "code"),
    [
        (replace(TELEMETRY_ROUTE, condition="level > 2"), Code.ARGUMENT_INVALID),
        (replace(TELEMETRY_ROUTE, endpoint_names=("storage",)), Code.ARGUMENT_INVALID),
    ],
)
def test_what_could_not_be_saved_is_refused(route: Route, code: Code) -> None:
    with pytest.raises(HubError) as refused:
        compile_routes(hub_with(route))
    assert refused.value.code is code
    assert refused.value.message


HOT = replace(TELEMETRY_ROUTE, name="hot", condition="level = 'hot'")


@pytest.mark.parametrize(
    ("hub", "level", "expected", "undefined"),
    [
        (hub_with(HOT, fallback=NO_FALLBACK), "hot", (EVENTS,), 0),
        (hub_with(HOT, fallback=NO_FALLBACK), "cold", (), 0),
        (hub_with(HOT, fallback=NO_FALLBACK), None, (), 1),
        (hub_with(HOT), "cold", (EVENTS,), 0),
        (hub_with(HOT, fallback=replace(HUB.fallback_route, condition="level = 'cold'")), "cold", (EVENTS,), 0),
        (hub_with(HOT, fallback=replace(HUB.fallback_route, condition="level = 'cold'")), "warm", (), 0),
        (hub_with(fallback=replace(HUB.fallback_route, condition="level = 'cold'")), "cold", (EVENTS,), 0),
    ],
)
def test_conditions_are_judged_and_the_fallback_takes_what_is_left(
    hub: Hub, level: str | None, expected: tuple[int, ...], undefined: int
) -> None:
    routes = compile_routes(hub).telemetry
    properties = {"Level": level} if level is not None else {}
    message = RoutedMessage(Envelope("pump", properties={**properties}), b"", START_MS)
    assert judge(routes, message) == (expected, undefined)
    assert not routes.settled


def test_conditions_are_not_asked_where_a_route_takes_everything() -> None:
    assert compile_routes(hub_with(TELEMETRY_ROUTE, HOT)).telemetry == SourceRoutes((EVENTS,))


def test_the_partition_of_a_device_never_changes() -> None:
    """Golden numbers: another hash would break the order of each device's messages across releases."""
    assert [partition_number(name, 4) for name in ("pump", "dev1", "Ventil-7", "ä")] == [1, 1, 2, 3]
    assert partition_number("pump", 1) == 0


def test_partitions_belong_to_the_hubs_stream() -> None:
    assert compile_routes(HUB).partitions == tuple(Partition(1, number) for number in range(4))
