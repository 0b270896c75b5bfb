"""`namespace-helper`: the one part that runs as root. It knows nothing of hubs and asks no server."""

from pathlib import Path
from typing import Any

import click

from isthmus.base.errors import ConfigurationError
from isthmus.cli.errors import CommandError


@click.command("namespace-helper")
@click.option("--socket", "path", metavar="PATH", help="The Unix socket to serve at, in a folder of root's own.")
@click.option(
    "--allow-user", "--user", "user", metavar="USER", help="The user who runs the hub; nobody else is served."
)
@click.option("--namespace", "namespaces", multiple=True, metavar="NAME", help="It may enter; repeatable. [all]")
@click.option("--address", "blocks", multiple=True, metavar="CIDR", help="It may have addresses of; repeatable. [all]")
@click.option(
    "--port", "ports", type=int, multiple=True, help="It may listen at; repeatable. [53, 443, 5671, 8443, 8883]"
)
@click.option("--this-machine", is_flag=True, help="It may add addresses to the machine itself as well.")
@click.option("--record", metavar="FILE", help="What it has added, for after a crash. [PATH.record]")
@click.option("--descriptor", type=int, hidden=True, help="Serve this open socket alone, and end with it.")
def namespace_helper(**given: Any) -> None:
    """Makes listening sockets inside network namespaces, and has addresses there, for a hub without rights."""
    from isthmus.namespaces.orders import permissions_of
    from isthmus.namespaces.serving import Settings, serve_descriptor, serve_path, user_of

    try:
        permissions = permissions_of(
            given["namespaces"], given["blocks"], given["ports"], this_machine=given["this_machine"]
        )
        if given["descriptor"] is not None and given["record"]:
            serve_descriptor(given["descriptor"], Path(given["record"]))
        elif not given["path"] or not given["user"]:
            raise click.UsageError("--socket and --allow-user are needed.")
        else:
            record = given["record"] or f"{given['path']}.record"
            serve_path(Path(given["path"]), user_of(given["user"]), Settings(permissions, Path(record)))
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
