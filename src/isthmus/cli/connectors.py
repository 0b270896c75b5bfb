"""`connector`: processes in other networks that carry connections to the hub; `connector run` is one of them."""

from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group
from isthmus.cli.connector_run import run_connector_command
from isthmus.cli.durations import read_duration
from isthmus.cli.target import Target

HUB_ONLY = ("--hub-name",)

connector = Group("connector", help="Connectors: processes in other networks that carry connections to the hub.")
connector.add_command(run_connector_command)

_name = click.option("--name", "-n", "name", required=True, help="The connector.")


@connector.command("enrol", hub_flags=HUB_ONLY, remote=False)
@click.option("--name", "-n", "name", default="", help="The connector. Default: the one of the network's presence.")
@click.option("--vnet-name", "network", default="", help="Its network. Default: the one whose presence it is.")
@click.option("--expires-in", default="15m", show_default=True, metavar="15m|900s|1h", help="How long the token lasts.")
def enrol(target: Target, name: str, network: str, expires_in: str) -> Any:
    """Makes an enrolment token, which lets one `connector run` in, once; opens the link door with the first one."""
    body = {"name": name, "network": network, "expiresInSeconds": read_duration(expires_in, "--expires-in")}
    return target.manage("POST", "/connectors/enrol", body)


@connector.command("list", hub_flags=HUB_ONLY, remote=False)
def list_connectors(target: Target) -> Any:
    """Lists the connectors."""
    return target.manage("GET", "/connectors")


@connector.command("show", hub_flags=HUB_ONLY, remote=False)
@_name
def show_connector(target: Target, name: str) -> Any:
    """Shows a connector: its state, its certificate, its processes, and what they listen at."""
    return target.manage("GET", f"/connectors/{quote(name, safe='')}")


@connector.command("revoke", hub_flags=HUB_ONLY, remote=False)
@_name
def revoke(target: Target, name: str) -> Any:
    """Takes a connector's right away; answers when its links are cut."""
    return target.manage("POST", f"/connectors/{quote(name, safe='')}/revoke")
