"""`policy`: through which doors a device, a set of devices, a shared access policy or a consumer group may come."""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group, Words, three_state
from isthmus.cli.errors import CommandError
from isthmus.cli.target import DEVICES_API, Target
from isthmus.cli.virtual_networks import HUB_ONLY

API = {"api-version": DEVICES_API}

door_policy = Group("policy", help="Door policies: which identities may come through which doors.")

_name = click.option("--name", "-n", "name", required=True, help="The door policy.")


def _subject(function: Callable[..., Any]) -> Callable[..., Any]:
    """Whom a policy concerns: one of these; and the doors that are open for them."""
    for option in (
        three_state("--enabled", help="Whether it is in force; true when it is made."),
        click.option(
            "--doors",
            cls=Words,
            metavar="DOOR...",
            help="public, private, private:ENDPOINT or network:VNET: any of these is open for them, and no other.",
        ),
        click.option("--consumer-group", "-c", default="", help="The readers of this consumer group."),
        click.option("--policy-name", "--policy", "--pn", default="", help="Who signs with this shared access policy."),
        click.option(
            "--tag-query",
            "-q",
            default="",
            metavar="CONDITION",
            help="The devices whose tags fulfil this, such as \"tags.site = 'plant1'\", with their modules.",
        ),
        click.option("--device-id", "-d", "devices", cls=Words, metavar="ID...", help="Devices, with their modules."),
    ):
        function = option(function)
    return function


@door_policy.command("create", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_name
@_subject
def create_policy(target: Target, name: str, **given: Any) -> Any:
    """Binds identities to doors; answers when every session that came by another one is cut."""
    properties = _given(**given)
    if not any(subject in properties for subject in SUBJECTS):
        raise CommandError("Say whom it concerns: --device-id, --tag-query, --policy-name or --consumer-group.")
    if not properties.get("doors"):
        raise CommandError("Say which doors are open for them: --doors.")
    return target.manage("PUT", _path(target, name), {"properties": properties}, query=API)


@door_policy.command("update", hub_flags=HUB_ONLY, remote=False, dry_run=True)
@_name
@_subject
def update_policy(target: Target, name: str, **given: Any) -> Any:
    """Changes what is named; answers when every session that lost its right is cut."""
    policy = target.manage("GET", _path(target, name), query=API)
    changes = _given(**given)
    if any(subject in changes for subject in SUBJECTS):
        policy["properties"] |= dict.fromkeys(SUBJECTS)
    policy["properties"] |= changes
    return target.manage("PUT", _path(target, name), policy, etag=policy["etag"], query=API)


@door_policy.command("show", hub_flags=HUB_ONLY, remote=False)
@_name
def show_policy(target: Target, name: str) -> Any:
    """Shows a door policy."""
    return target.manage("GET", _path(target, name), query=API)


@door_policy.command("list", hub_flags=HUB_ONLY, remote=False)
def list_policies(target: Target) -> Any:
    """Lists the door policies of a hub."""
    return target.manage("GET", f"{target.hub_id()}/doorPolicies", query=API)["value"]


@door_policy.command("delete", hub_flags=HUB_ONLY, remote=False)
@_name
def delete_policy(target: Target, name: str) -> Any:
    """Deletes a door policy; whom it concerned may come by every door that is open for all."""
    return target.manage("DELETE", _path(target, name), query=API)


SUBJECTS = ("deviceIds", "query", "sharedAccessPolicy", "consumerGroup")


def _path(target: Target, name: str) -> str:
    return f"{target.hub_id()}/doorPolicies/{quote(name, safe='')}"


def _given(
    devices: Sequence[Sequence[str]],
    tag_query: str,
    policy_name: str,
    consumer_group: str,
    doors: Sequence[Sequence[str]],
    enabled: bool | None,
) -> dict[str, Any]:
    """The properties that the command line names."""
    said: dict[str, Any] = {
        "deviceIds": [word for group in devices for word in group],
        "query": tag_query,
        "sharedAccessPolicy": policy_name,
        "consumerGroup": consumer_group,
        "doors": [word for group in doors for word in group],
    }
    properties = {name: value for name, value in said.items() if value}
    if enabled is not None:
        properties["enabled"] = enabled
    return properties
