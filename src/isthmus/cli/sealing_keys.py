"""`sealing-key`: a key for secrets at rest, and which one a data folder is sealed by."""

from pathlib import Path
from typing import Any

import click

from isthmus.base.errors import ConfigurationError
from isthmus.cli.command import Group, HubCommand
from isthmus.cli.errors import CommandError
from isthmus.cli.target import Target

sealing_key = Group("sealing-key", help="The key that seals secrets at rest.")


@sealing_key.command("create", cls=HubCommand, local=True)
@click.option("--file", "-f", "path", required=True, metavar="FILE", help="Where to; never over a file.")
def create(target: Target, path: str) -> Any:
    """Makes a key file, for its owner alone. The key itself is not printed. Works without a running server."""
    from isthmus.app import create_sealing_key

    try:
        return create_sealing_key(Path(path))
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


@sealing_key.command("show", cls=HubCommand, local=True)
def show(target: Target) -> Any:
    """Tells the id of the key that seals the data folder and where it was found. Works without a running server."""
    from isthmus.app import shown_sealing

    if not target.data.is_dir():
        raise CommandError(f"There is no data folder {target.data} yet: the first `isthmus up` makes it.")
    try:
        return shown_sealing(target.data)
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
