"""`iot hub message-route`: where messages go, by which condition."""

import json
from collections.abc import Callable
from typing import Any

import click

from isthmus.cli.command import Group
from isthmus.cli.errors import CommandError
from isthmus.cli.hubs import API, read_hub
from isthmus.cli.target import Target

HUB_ONLY = ("--hub-name", "-n")

SOURCES = {
    "devicemessages": "DeviceMessages",
    "twinchangeevents": "TwinChangeEvents",
    "devicelifecycleevents": "DeviceLifecycleEvents",
    "deviceconnectionstateevents": "DeviceConnectionStateEvents",
    "devicejoblifecycleevents": "DeviceJobLifecycleEvents",
}
"""Message sources as they are written here, by small letters."""

message_route = Group("message-route", help="Routes: which messages go to which endpoint.")
fallback = Group("fallback", help="The route that takes device messages no other one took.")
message_route.add_command(fallback)

Json = dict[str, Any]


def _source(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    known = SOURCES.get(value.lower())
    if known is None:
        raise click.BadParameter(f"one of {', '.join(SOURCES.values())}, not {value!r}.")
    return known


_name = click.option("--route-name", "--rn", "-r", "route_name", required=True, help="The route.")
_condition = click.option("--condition", "-c", help="Which messages it takes; all by default.")
_enabled = click.option("--enabled", "-e", type=click.BOOL, help="Whether it counts.")
_endpoint = "--endpoint-name", "--en", "--endpoint"
_source_option = "--source-type", "--source", "--type", "-t"


@message_route.command("create", hub_flags=HUB_ONLY, remote=False)
@_name
@click.option(*_endpoint, "endpoint", required=True, help="Where its messages go: events, the built-in endpoint.")
@click.option(*_source_option, "source", callback=_source, required=True, help="Messages of which source.")
@_condition
@_enabled
def create_route(target: Target, route_name: str, endpoint: str, source: str, **given: Any) -> Any:
    """Adds a route; the hub refuses a condition that does not compile, and says where."""
    route = {
        "name": route_name,
        "source": source,
        "condition": given["condition"] or "true",
        "endpointNames": [endpoint],
        "isEnabled": given["enabled"] is not False,
    }

    def added(routing: Json) -> None:
        if _found(routing, route_name) is not None:
            raise CommandError(f"There is a route {route_name} already; change it with message-route update.")
        routing["routes"].append(route)

    return _changed(target, added)["routes"]


@message_route.command("update", hub_flags=HUB_ONLY, remote=False)
@_name
@click.option(*_endpoint, "endpoint", help="Where its messages go.")
@click.option(*_source_option, "source", callback=_source, help="Messages of which source.")
@_condition
@_enabled
def update_route(target: Target, route_name: str, endpoint: str | None, source: str | None, **given: Any) -> Any:
    """Changes what is given of a route."""

    def updated(routing: Json) -> None:
        route = _require(routing, route_name)
        values = {"source": source, "condition": given["condition"], "isEnabled": given["enabled"]}
        route |= {name: value for name, value in values.items() if value is not None}
        if endpoint is not None:
            route["endpointNames"] = [endpoint]

    return _require(_changed(target, updated), route_name)


@message_route.command("show", hub_flags=HUB_ONLY, remote=False)
@_name
def show_route(target: Target, route_name: str) -> Any:
    """Shows a route."""
    return _require(_routing(read_hub(target)), route_name)


@message_route.command("list", hub_flags=HUB_ONLY, remote=False)
@click.option(*_source_option, "source", callback=_source, help="Only those of a source.")
def list_routes(target: Target, source: str | None) -> Any:
    """Lists the routes."""
    routes = _routing(read_hub(target))["routes"]
    return [route for route in routes if source in (None, route["source"])]


@message_route.command("delete", hub_flags=HUB_ONLY, remote=False)
@click.option("--route-name", "--rn", "-r", "route_name", help="The route; without it, all of the source or all.")
@click.option(*_source_option, "source", callback=_source, help="Only those of a source.")
@click.option("--yes", "-y", is_flag=True, help="For scripts of az; nothing is asked here.")
def delete_route(target: Target, route_name: str | None, source: str | None, yes: bool) -> Any:
    """Deletes a route, or several."""

    def without(routing: Json) -> None:
        if route_name is not None:
            _require(routing, route_name)
        routing["routes"] = [each for each in routing["routes"] if not _is_meant(each, route_name, source)]

    return _changed(target, without)["routes"]


@message_route.command("test", hub_flags=HUB_ONLY, remote=False)
@click.option("--route-name", "--rn", "-r", "route_name", help="The route; without it, all of a source.")
@click.option(*_source_option, "source", callback=_source, help="Try the routes of this source; DeviceMessages.")
@click.option("--body", "-b", default="", help="The message's body.")
@click.option("--app-properties", "--ap", default="{}", help="Application properties, a JSON object.")
@click.option("--system-properties", "--sp", default="{}", help="System properties, a JSON object.")
def test_route(target: Target, route_name: str | None, source: str | None, body: str, **given: str) -> Any:
    """Says which routes a message would take; nothing is sent."""
    message = {
        "body": body,
        "appProperties": _object(given["app_properties"], "--app-properties"),
        "systemProperties": _object(given["system_properties"], "--system-properties"),
    }
    path = f"{target.hub_id()}/routing/routes"
    if route_name is None:
        asked = {"routingSource": source or "DeviceMessages", "message": message}
        return target.manage("POST", f"{path}/$testall", asked, query=API)
    route = _require(_routing(read_hub(target)), route_name)
    return target.manage("POST", f"{path}/$testnew", {"route": route, "message": message}, query=API)


@fallback.command("show", hub_flags=HUB_ONLY, remote=False)
def show_fallback(target: Target) -> Any:
    """Shows the fallback route."""
    return _routing(read_hub(target))["fallbackRoute"]


@fallback.command("set", hub_flags=HUB_ONLY, remote=False)
@click.option("--enabled", "-e", type=click.BOOL, required=True, help="Whether it counts.")
def set_fallback(target: Target, enabled: bool) -> Any:
    """Switches the fallback route on or off."""

    def switched(routing: Json) -> None:
        routing["fallbackRoute"]["isEnabled"] = enabled

    return _changed(target, switched)["fallbackRoute"]


def _changed(target: Target, change: Callable[[Json], None]) -> Json:
    """Changes the hub's routing under its etag, and answers with how it is then."""
    hub = read_hub(target)
    change(_routing(hub))
    return _routing(target.manage("PUT", target.hub_id(), hub, etag=hub.get("etag", ""), query=API))


def _routing(hub: Json) -> Json:
    routing: Json = hub["properties"]["routing"]
    return routing


def _found(routing: Json, name: str) -> Json | None:
    return next((each for each in routing["routes"] if each["name"].lower() == name.lower()), None)


def _require(routing: Json, name: str) -> Json:
    route = _found(routing, name)
    if route is None:
        known = ", ".join(each["name"] for each in routing["routes"]) or "none"
        raise CommandError(f"There is no route {name}; this hub has: {known}.")
    return route


def _is_meant(route: Json, name: str | None, source: str | None) -> bool:
    return (name is None or route["name"].lower() == name.lower()) and source in (None, route["source"])


def _object(given: str, flag: str) -> Json:
    try:
        value = json.loads(given)
    except ValueError as error:
        raise CommandError(f"{flag} takes a JSON object: {error}.") from error
    if not isinstance(value, dict):
        raise CommandError(f"{flag} takes a JSON object.")
    return value
