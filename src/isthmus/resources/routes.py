"""Routes in ARM's form, checked when they are saved: names, sources, endpoints, and conditions, which must compile."""

import re

from isthmus.base.errors import Code, HubError
from isthmus.query.conditions.compiler import Condition, compile_condition
from isthmus.query.conditions.lexer import ConditionError
from isthmus.resources.endpoint_arm import check_endpoints
from isthmus.resources.hub import EVENTS_ENDPOINT, FALLBACK_ROUTE, ROUTES_MAX, Hub, Route, RouteSource
from isthmus.resources.members import bad, boolean, items, known_members, mapping, text

ROUTE_NAME = re.compile(r"[A-Za-z0-9\-._]{1,64}")
"""Microsoft.Devices/IotHubs, `RouteProperties.name`."""

AZURE_SOURCES = ("DigitalTwinChangeEvents", "MqttBrokerMessages")
"""Sources of Azure's that no feature here gives messages to."""

_MEMBERS = ("name", "source", "condition", "endpointNames", "isEnabled")


def route_to_arm(route: Route) -> dict[str, object]:
    """A route as a client reads it."""
    return {
        "name": route.name,
        "source": route.source.value,
        "condition": route.condition,
        "endpointNames": list(route.endpoint_names),
        "isEnabled": route.enabled,
    }


def checked_routes(value: object, path: str) -> tuple[Route, ...]:
    """The routes of an ARM array; raises HubError ArgumentInvalid or NotImplemented."""
    routes = tuple(checked_route(each, f"{path}[{place}]") for place, each in enumerate(items(value, path)))
    if len(routes) > ROUTES_MAX:
        raise bad(path, f"at most {ROUTES_MAX} routes")
    names = [route.name.lower() for route in routes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise HubError(Code.ARGUMENT_INVALID, f"the route {twice} stands twice in {path}")
    return routes


def checked_fallback(value: object, path: str) -> Route:
    """The fallback route; null switches it off, as its absence does in a whole ARM body."""
    if value is None:
        return Route(FALLBACK_ROUTE.name, FALLBACK_ROUTE.source, enabled=False)
    members = mapping(value, path)
    known_members(members, path, _MEMBERS)
    if members.get("source") != FALLBACK_ROUTE.source.value:
        raise bad(f"{path}.source", FALLBACK_ROUTE.source.value)
    route = Route(
        name=FALLBACK_ROUTE.name,
        source=FALLBACK_ROUTE.source,
        endpoint_names=_endpoints(members.get("endpointNames"), f"{path}.endpointNames"),
        enabled=boolean(members.get("isEnabled"), f"{path}.isEnabled"),
        condition=_condition(members.get("condition"), f"{path}.condition"),
    )
    compiled_condition(route)
    return route


def check_routing(hub: Hub) -> None:
    """Raises HubError ArgumentInvalid where a route or an enrichment names an endpoint that is not there.

    What two members of a body must agree on can only be judged when both are read.
    """
    check_endpoints(hub)
    known = {EVENTS_ENDPOINT, *(endpoint.name.lower() for endpoint in hub.endpoints)}
    named = [(f"the route {route.name}", route.endpoint_names) for route in (*hub.routes, hub.fallback_route)]
    named += [(f"the enrichment {each.key}", each.endpoint_names) for each in hub.enrichments]
    for what, names in named:
        for name in names:
            if name.lower() not in known:
                there = ", ".join((EVENTS_ENDPOINT, *(endpoint.name for endpoint in hub.endpoints)))
                message = f"{what} names the endpoint {name}, which is not there; this hub has: {there}"
                raise HubError(Code.ARGUMENT_INVALID, message)


def compiled_condition(route: Route) -> Condition:
    """The compiled condition of a route; raises `HubError` ArgumentInvalid with the place."""
    try:
        return compile_condition(route.condition, twin_changes=route.source is RouteSource.TWIN_CHANGES)
    except ConditionError as error:
        message = f"the condition of {route.name} does not compile at character {error.start + 1}: {error.message}"
        raise HubError(Code.ARGUMENT_INVALID, message) from error


def checked_route(value: object, path: str) -> Route:
    """A route of an ARM body; raises HubError ArgumentInvalid or NotImplemented."""
    members = mapping(value, path)
    known_members(members, path, _MEMBERS)
    name = text(members.get("name"), f"{path}.name")
    if not ROUTE_NAME.fullmatch(name):
        raise bad(f"{path}.name", "1 to 64 letters, digits, dashes, dots and underscores")
    route = Route(
        name=name,
        source=_source(members.get("source"), f"{path}.source"),
        endpoint_names=_endpoints(members.get("endpointNames"), f"{path}.endpointNames"),
        enabled=boolean(members.get("isEnabled", True), f"{path}.isEnabled"),
        condition=_condition(members.get("condition"), f"{path}.condition"),
    )
    compiled_condition(route)
    return route


def _source(value: object, path: str) -> RouteSource:
    if value in AZURE_SOURCES:
        raise HubError(Code.NOT_IMPLEMENTED, f"{path}: this hub has no messages of the source {value}")
    try:
        return RouteSource(text(value, path))
    except ValueError as error:
        raise bad(path, f"one of {', '.join(RouteSource)}") from error


def _endpoints(value: object, path: str) -> tuple[str, ...]:
    names = tuple(text(each, path) for each in items(value, path))
    if len(names) != 1:
        raise bad(path, "an array of one endpoint's name")
    return names


def _condition(value: object, path: str) -> str:
    return "true" if value in (None, "") else text(value, path)
