"""`token create|list|show|delete`: who may manage this server from elsewhere."""

from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group
from isthmus.cli.durations import read_duration
from isthmus.cli.target import Target

ROLES = ("Owner", "Contributor", "Reader", "Network approver")

token = Group("token", help="Tokens to manage this server from elsewhere, over TLS (`isthmus up --management-port`).")
_name = click.option("--name", "-n", "name", required=True, help="The token.")
NO_HUB = ("--hub-name",)


@token.command("create", hub_flags=NO_HUB, remote=False)
@_name
@click.option("--role", type=click.Choice(ROLES, case_sensitive=False), default="Reader", show_default=True)
@click.option("--scope", default="/", show_default=True, help="Id of a resource or group; all below it is meant.")
@click.option("--expires-in", default="30d", show_default=True, metavar="TIME", help="12h, 90d, …; 366d at most.")
def create_token(target: Target, name: str, role: str, scope: str, expires_in: str) -> Any:
    """Makes a token and prints it, once: only its hash is kept."""
    body = {"role": role, "scope": scope, "expiresIn": read_duration(expires_in, "--expires-in")}
    return target.manage("PUT", _path(name), body)


@token.command("list", hub_flags=NO_HUB, remote=False)
def list_tokens(target: Target) -> Any:
    """Lists the tokens, expired ones too, without what they are proved by."""
    return target.manage("GET", "/tokens")["value"]


@token.command("show", hub_flags=NO_HUB, remote=False)
@_name
def show_token(target: Target, name: str) -> Any:
    """Shows a token's role, scope and times."""
    return target.manage("GET", _path(name))


@token.command("delete", hub_flags=NO_HUB, remote=False)
@_name
@click.option("--yes", "-y", is_flag=True, help="For scripts of az; nothing is asked here.")
def delete_token(target: Target, name: str, yes: bool) -> Any:
    """Takes a token back; its connections end at once."""
    return target.manage("DELETE", _path(name))


def _path(name: str) -> str:
    return f"/tokens/{quote(name, safe='')}"
