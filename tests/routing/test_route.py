"""Which endpoints a hub's records name."""

from dataclasses import replace

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.resources.hub import Route, RouteSource
from isthmus.routing.route import compile_routes, partition_number
from isthmus.telemetry.message import MessageSource
from isthmus.telemetry.ports import EVENTS, Partition
from routing.fakes import HUB, NO_FALLBACK, TWIN_ROUTE, hub_with

TELEMETRY_ROUTE = Route("all", RouteSource.DEVICE_MESSAGES)


def test_without_routes_telemetry_falls_back_to_the_built_in_endpoint_and_events_go_nowhere() -> None:
    table = compile_routes(HUB)
    assert table.telemetry == (EVENTS,)
    assert {source for source, endpoints in table.endpoints.items() if endpoints} == {MessageSource.TELEMETRY}


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
    assert {each for each, endpoints in table.endpoints.items() if endpoints} == {source}
    assert table.endpoints[source] == (EVENTS,)


def test_several_routes_to_one_endpoint_deliver_once() -> None:
    table = compile_routes(hub_with(TELEMETRY_ROUTE, replace(TELEMETRY_ROUTE, name="again")))
    assert table.telemetry == (EVENTS,)


def test_a_disabled_route_takes_nothing() -> None:
    table = compile_routes(hub_with(replace(TELEMETRY_ROUTE, enabled=False), fallback=NO_FALLBACK))
    assert table.telemetry == ()


@pytest.mark.parametrize(
    "route", [replace(TELEMETRY_ROUTE, condition="level > 2"), replace(TELEMETRY_ROUTE, endpoint_names=("storage",))]
)
def test_what_is_not_offered_yet_is_refused(route: Route) -> None:
    with pytest.raises(HubError) as refused:
        compile_routes(hub_with(route))
    assert refused.value.code is Code.NOT_IMPLEMENTED
    assert refused.value.message


def test_the_partition_of_a_device_never_changes() -> None:
    """Golden numbers: another hash would break the order of each device's messages across releases."""
    assert [partition_number(name, 4) for name in ("pump", "dev1", "Ventil-7", "ä")] == [1, 1, 2, 3]
    assert partition_number("pump", 1) == 0


def test_partitions_belong_to_the_hubs_stream() -> None:
    assert compile_routes(HUB).partitions == tuple(Partition(1, number) for number in range(4))
