"""`iot hub show|list|create|update|delete` and `policy`: hubs as resources."""

from typing import Any

import click

from isthmus.cli.command import HUB_FLAGS, HubCommand, Words, three_state
from isthmus.cli.edits import Edits, read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.file_uploads import apply_file_upload, file_upload_options
from isthmus.cli.identities import edit_options
from isthmus.cli.paths import prove_private
from isthmus.cli.target import DEVICES_API, DEVICES_PROVIDER, Target

NAME_FLAGS = ("--name", *HUB_FLAGS)
API = {"api-version": DEVICES_API}

SWITCHES = {
    "disable_local_auth": "disableLocalAuth",
    "disable_device_sas": "disableDeviceSAS",
    "disable_module_sas": "disableModuleSAS",
}
"""Options that refuse keys, and the members they set."""


def _switch_options(function: Any) -> Any:
    """`--disable-local-auth`, `--disable-device-sas` and `--disable-module-sas`."""
    for flags, whose in (
        (("--disable-module-sas", "--dms"), "modules"),
        (("--disable-device-sas", "--dds"), "devices"),
        (("--disable-local-auth", "--dla"), "shared access policies"),
    ):
        function = three_state(*flags, help=f"Refuses keys of {whose}, even good ones.")(function)
    return function


@click.command("show", cls=HubCommand, hub_flags=NAME_FLAGS, remote=False)
def show_hub(target: Target) -> Any:
    """Shows a hub."""
    return read_hub(target)


@click.command("list", cls=HubCommand, hub_flags=NAME_FLAGS, remote=False)
def list_hubs(target: Target) -> Any:
    """Lists the hubs of this server."""
    return target.manage("GET", target.resource_id(DEVICES_PROVIDER, "IotHubs"), query=API)["value"]


@click.command("create", cls=HubCommand, hub_flags=NAME_FLAGS, remote=False)
@click.option("--location", "-l", default="", help="Where it is; any word.")
@click.option("--sku", default="S1", show_default=True, help="Size; its rates hold where throttles.profile is sku.")
@click.option("--unit", type=int, default=1, show_default=True, help="Units of that size.")
@click.option("--partition-count", type=click.IntRange(1, 32), help="Partitions of the built-in endpoint.")
@click.option("--retention-day", "--rd", type=click.IntRange(1, 7), help="Days messages are kept.")
@click.option("--tags", cls=Words, metavar="NAME=VALUE...", help="Tags.")
@_switch_options
@file_upload_options
def create_hub(target: Target, location: str, sku: str, unit: int, **given: Any) -> Any:
    """Creates a hub in this server."""
    if not target.hub:
        raise CommandError("A new hub needs a name: --name.")
    events = {"partitionCount": given["partition_count"], "retentionTimeInDays": given["retention_day"]}
    said = {name: value for name, value in events.items() if value is not None}
    properties = _switches(given) | ({"eventHubEndpoints": {"events": said}} if said else {})
    apply_file_upload(given, properties)
    body = {
        "location": location or "local",
        "sku": {"name": sku, "capacity": unit},
        "tags": read_pairs([word for group in given["tags"] for word in group], "--tags"),
        "properties": properties,
    }
    return target.manage("PUT", target.resource_id(DEVICES_PROVIDER, "IotHubs", target.hub), body, query=API)


@click.command("update", cls=HubCommand, hub_flags=NAME_FLAGS, remote=False, dry_run=True)
@edit_options
@click.option("--tags", cls=Words, metavar="NAME=VALUE...", help="Replaces the tags.")
@_switch_options
@file_upload_options
@click.option("--force", is_flag=True, help="Closes the public side without a proof that a private path works.")
def update_hub(target: Target, tags: Any, *, force: bool, **given: Any) -> Any:
    """Changes a hub, such as `--set properties.publicNetworkAccess=Disabled`; answers when every session obeys.

    Before it closes the public side it walks the paths to the approved private endpoints (`check path`), says in a line
    which work, and changes nothing when none does.
    """
    hub = read_hub(target)
    was_open = _is_open(hub)
    if tags:
        hub["tags"] = read_pairs([word for group in tags for word in group], "--tags")
    hub["properties"] |= _switches(given)
    apply_file_upload(given, hub["properties"])
    Edits(given["to_set"], given["to_add"], given["to_remove"]).apply(hub)
    if was_open and not _is_open(hub) and not force and target.dry_run is None:
        click.echo(prove_private(target), err=True)
    return target.manage("PUT", target.hub_id(), hub, etag=hub.get("etag", ""), query=API)


@click.command("delete", cls=HubCommand, hub_flags=NAME_FLAGS, remote=False, dry_run=True)
def delete_hub(target: Target) -> Any:
    """Deletes a hub with everything in it."""
    if not target.hub:
        raise CommandError("Say which hub to delete: --name.")
    return target.manage("DELETE", target.hub_id(), query=API)


@click.command("show-stats", cls=HubCommand, hub_flags=NAME_FLAGS, remote=False)
def show_stats(target: Target) -> Any:
    """Counts the devices of a hub by their status."""
    return target.manage("GET", f"{target.hub_id()}/IotHubStats", query=API)


@click.command("show-quota-metrics", cls=HubCommand, hub_flags=NAME_FLAGS, remote=False)
def show_quota_metrics(target: Target) -> Any:
    """Lists what of a hub's quotas is used."""
    return target.manage("GET", f"{target.hub_id()}/quotaMetrics", query=API)["value"]


@click.command("list-skus", cls=HubCommand, hub_flags=NAME_FLAGS, remote=False)
def list_skus(target: Target) -> Any:
    """Lists the sizes that a hub may be given; rates depend on them where throttles.profile is sku."""
    return target.manage("GET", f"{target.hub_id()}/skus", query=API)["value"]


def _switches(given: dict[str, Any]) -> dict[str, bool]:
    """The members that switch keys off or on, as far as they were said."""
    return {member: given[option] for option, member in SWITCHES.items() if given[option] is not None}


def _is_open(hub: dict[str, Any]) -> bool:
    """True unless the public side is closed; what is no word for either is the server's to refuse."""
    return str(hub.get("properties", {}).get("publicNetworkAccess", "")).lower() != "disabled"


def read_hub(target: Target) -> dict[str, Any]:
    """The hub's resource as the management API tells it."""
    hub: dict[str, Any] = target.manage("GET", target.hub_id(), query=API)
    return hub
