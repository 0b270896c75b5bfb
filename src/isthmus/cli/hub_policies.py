"""`iot hub policy`: shared access policies of a hub, and the renewal of their keys.

A roll with overlap: users of the primary key are given the secondary one, then the primary key is made anew. What ends
is who still uses the former key, when the command returns; `--dry-run` tells who that would be.
"""

from typing import Any

import click

from isthmus.base.ids import RandomIds
from isthmus.cli.command import Group, Words
from isthmus.cli.connection_strings import find_policy, policies
from isthmus.cli.errors import CommandError
from isthmus.cli.hubs import API, read_hub
from isthmus.cli.target import Target

HUB_FLAG = ("--hub-name",)
PERMISSIONS = ("RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect")
KEY_TYPES = ("primary", "secondary", "swap", "both")

policy = Group("policy", help="Shared access policies of a hub.")
name_option = click.option("--name", "--policy-name", "-n", "policy_name", required=True, help="The policy.")


@policy.command("list", hub_flags=HUB_FLAG, remote=False)
def list_policies(target: Target) -> Any:
    """Lists the policies of a hub with their keys."""
    return policies(target)


@policy.command("show", hub_flags=HUB_FLAG, remote=False)
@name_option
def show_policy(target: Target, policy_name: str) -> Any:
    """Shows a policy with its keys."""
    return find_policy(target, policy_name)


@policy.command("create", hub_flags=HUB_FLAG, remote=False)
@name_option
@click.option(
    "--permissions", cls=Words, required=True, metavar="RIGHT...", help=f"Its rights: {', '.join(PERMISSIONS)}."
)
def create_policy(target: Target, policy_name: str, permissions: Any) -> Any:
    """Makes a policy with random keys."""
    rights = ", ".join(_right(word) for group in permissions for word in group)
    etag, known = read_hub(target)["etag"], policies(target)
    if any(each["keyName"].lower() == policy_name.lower() for each in known):
        raise CommandError(f"There is a policy {policy_name} already.")
    _put(target, etag, [*known, {"keyName": policy_name, "rights": rights}])
    return find_policy(target, policy_name)


@policy.command("delete", hub_flags=HUB_FLAG, remote=False, dry_run=True)
@name_option
def delete_policy(target: Target, policy_name: str) -> None:
    """Deletes a policy; who is connected by it is cut off before the command returns."""
    etag, gone = read_hub(target)["etag"], find_policy(target, policy_name)
    _put(target, etag, [each for each in policies(target) if each["keyName"] != gone["keyName"]])


@policy.command("renew-key", hub_flags=HUB_FLAG, remote=False, dry_run=True)
@name_option
@click.option(
    "--renew-key",
    "--rk",
    "key_type",
    required=True,
    type=click.Choice(KEY_TYPES, case_sensitive=False),
    help="Which key to make anew; `swap` exchanges the two.",
)
def renew_policy_key(target: Target, policy_name: str, key_type: str) -> Any:
    """Makes a key of a policy anew; who is connected by the former one is cut off before the command returns."""
    etag, renewed = read_hub(target)["etag"], find_policy(target, policy_name)
    old = (renewed["primaryKey"], renewed["secondaryKey"])
    if key_type == "swap":
        renewed["primaryKey"], renewed["secondaryKey"] = old[1], old[0]
    if key_type in {"primary", "both"}:
        renewed["primaryKey"] = RandomIds().key()
    if key_type in {"secondary", "both"}:
        renewed["secondaryKey"] = RandomIds().key()
    _put(target, etag, [renewed if each["keyName"] == renewed["keyName"] else each for each in policies(target)])
    return renewed


def _put(target: Target, etag: str, wanted: list[dict[str, str]]) -> None:
    body = {"properties": {"authorizationPolicies": wanted}}
    target.manage("PATCH", target.hub_id(), body, etag=etag, query=API)


def _right(word: str) -> str:
    known = {right.lower(): right for right in PERMISSIONS}
    if word.lower() not in known:
        raise CommandError(f"--permissions takes some of {', '.join(PERMISSIONS)}, and {word!r} is none.")
    return known[word.lower()]
