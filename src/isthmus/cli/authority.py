"""`authority show|rotate`: the issuer of access tokens and the keys that sign them."""

from typing import Any

import click

from isthmus.cli.command import Group
from isthmus.cli.durations import read_duration
from isthmus.cli.target import Target

authority = Group("authority", help="The issuer of identities' access tokens, and its signing keys.")
NO_HUB = ("--hub-name",)


@authority.command("show", hub_flags=NO_HUB, remote=False)
def show_authority(target: Target) -> Any:
    """Shows the issuer, and which key signs, which comes next, which is only published."""
    return target.manage("GET", "/authority")


@authority.command("rotate", hub_flags=NO_HUB, remote=False)
@click.option(
    "--lead", default="0s", show_default=True, metavar="TIME", help="How long it is published before; 30d at most."
)
def rotate_key(target: Target, lead: str) -> Any:
    """Makes another signing key; what the former one signed stays good until it expires."""
    seconds = 0 if lead.strip() in ("0", "0s") else read_duration(lead, "--lead")
    return target.manage("POST", "/authority/rotate", {"lead": seconds})
