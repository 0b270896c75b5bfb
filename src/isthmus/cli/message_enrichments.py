"""`iot hub message-enrichment`: properties that messages get for some endpoints."""

from collections.abc import Callable
from typing import Any

import click

from isthmus.cli.command import Group, Words
from isthmus.cli.errors import CommandError
from isthmus.cli.hubs import API, read_hub
from isthmus.cli.target import Target

HUB_FLAGS = ("--name", "--hub-name", "-n")

Json = dict[str, Any]

message_enrichment = Group("message-enrichment", help="Enrichments: properties that messages get for endpoints.")

_key = click.option("--key", "-k", required=True, help="The property.")
_VALUE = "A text, $iothubname, or a place in the sender's twin such as $twin.tags.site."


@message_enrichment.command("create", hub_flags=HUB_FLAGS, remote=False)
@_key
@click.option("--value", "-v", required=True, help=_VALUE)
@click.option("--endpoints", "-e", cls=Words, metavar="NAME...", required=True, help="For these; events is one.")
def create_enrichment(target: Target, key: str, value: str, endpoints: Any) -> Any:
    """Adds an enrichment; messages have it from the next one on."""

    def added(routing: Json) -> None:
        if _find(routing, key) is not None:
            raise CommandError(f"There is an enrichment {key} already; change it with message-enrichment update.")
        routing["enrichments"].append({"key": key, "value": value, "endpointNames": _words(endpoints)})

    return _changed(target, added)


@message_enrichment.command("update", hub_flags=HUB_FLAGS, remote=False)
@_key
@click.option("--value", "-v", help=_VALUE)
@click.option("--endpoints", "-e", cls=Words, metavar="NAME...", help="For these instead.")
def update_enrichment(target: Target, key: str, value: str | None, endpoints: Any) -> Any:
    """Changes what is given of an enrichment."""

    def updated(routing: Json) -> None:
        enrichment = _require(routing, key)
        if value is not None:
            enrichment["value"] = value
        if endpoints:
            enrichment["endpointNames"] = _words(endpoints)

    return _changed(target, updated)


@message_enrichment.command("list", hub_flags=HUB_FLAGS, remote=False)
def list_enrichments(target: Target) -> Any:
    """Lists the enrichments."""
    return read_hub(target)["properties"]["routing"]["enrichments"]


@message_enrichment.command("show", hub_flags=HUB_FLAGS, remote=False)
@_key
def show_enrichment(target: Target, key: str) -> Any:
    """Shows an enrichment."""
    return _require(read_hub(target)["properties"]["routing"], key)


@message_enrichment.command("delete", hub_flags=HUB_FLAGS, remote=False)
@_key
def delete_enrichment(target: Target, key: str) -> Any:
    """Deletes an enrichment."""

    def without(routing: Json) -> None:
        routing["enrichments"].remove(_require(routing, key))

    return _changed(target, without)


def _words(groups: Any) -> list[str]:
    return [word for group in groups for word in group]


def _find(routing: Json, key: str) -> Json | None:
    return next((each for each in routing["enrichments"] if each["key"].lower() == key.lower()), None)


def _require(routing: Json, key: str) -> Json:
    found = _find(routing, key)
    if found is None:
        known = ", ".join(each["key"] for each in routing["enrichments"]) or "none"
        raise CommandError(f"There is no enrichment {key}; this hub has: {known}.")
    return found


def _changed(target: Target, change: Callable[[Json], None]) -> Any:
    """Changes the hub's routing under its etag, and answers with the hub as it is then."""
    hub = read_hub(target)
    change(hub["properties"]["routing"])
    return target.manage("PUT", target.hub_id(), hub, etag=hub.get("etag", ""), query=API)
