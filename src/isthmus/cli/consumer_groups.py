"""`iot hub consumer-group`: who reads the built-in endpoint independently."""

from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group
from isthmus.cli.target import DEVICES_API, Target

API = {"api-version": DEVICES_API}
HUB_ONLY = ("--hub-name",)

consumer_group = Group("consumer-group", help="Consumer groups of a hub's built-in endpoint.")


def _name_option(function: Any) -> Any:
    function = click.option("--event-hub-name", default="events", hidden=True)(function)
    return click.option("--name", "-n", "group", required=True, help="The consumer group.")(function)


@consumer_group.command("create", hub_flags=HUB_ONLY, remote=False)
@_name_option
def create_group(target: Target, group: str, event_hub_name: str) -> Any:
    """Makes a consumer group."""
    return target.manage("PUT", _path(target, group), {}, query=API)


@consumer_group.command("list", hub_flags=HUB_ONLY, remote=False)
@click.option("--event-hub-name", default="events", hidden=True)
def list_groups(target: Target, event_hub_name: str) -> Any:
    """Lists the consumer groups."""
    return target.manage("GET", _path(target), query=API)["value"]


@consumer_group.command("show", hub_flags=HUB_ONLY, remote=False)
@_name_option
def show_group(target: Target, group: str, event_hub_name: str) -> Any:
    """Shows a consumer group."""
    return target.manage("GET", _path(target, group), query=API)


@consumer_group.command("delete", hub_flags=HUB_ONLY, remote=False)
@_name_option
def delete_group(target: Target, group: str, event_hub_name: str) -> Any:
    """Deletes a consumer group."""
    return target.manage("DELETE", _path(target, group), query=API)


def _path(target: Target, group: str = "") -> str:
    base = f"{target.hub_id()}/eventHubEndpoints/events/ConsumerGroups"
    return f"{base}/{quote(group, safe='')}" if group else base
