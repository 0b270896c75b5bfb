"""`connector run`: the process in a customer's network."""

import os
import sys
from pathlib import Path

import click

from isthmus.base.errors import ConfigurationError
from isthmus.cli.errors import CommandError

TOKEN_VARIABLE = "ISTHMUS_ENROLMENT_TOKEN"
CONNECTOR_DATA_DEFAULT = "./isthmus-connector"


@click.command("run", cls=click.Command)
@click.option(
    "--token",
    envvar=TOKEN_VARIABLE,
    show_envvar=True,
    default="",
    metavar="TOKEN|@FILE",
    help="The enrolment token; needed at the first start only.",
)
@click.option(
    "--data",
    default=CONNECTOR_DATA_DEFAULT,
    show_default=True,
    metavar="DIR",
    help="Folder of the connector's key and certificate, made with mode 0700.",
)
@click.option(
    "--proxy",
    default="",
    metavar="URL",
    help="Forward proxy for every connection to the hub: http:// or https://. Default: $HTTPS_PROXY with $NO_PROXY.",
)
@click.option(
    "--listen",
    multiple=True,
    metavar="[ENDPOINT=]ADDRESS",
    help="Listen at this address of the machine instead of at the endpoint's own (a pod behind a service); repeatable.",
)
@click.option("--ready-file", default="", metavar="FILE", help="Written once the hub's setup is applied.")
def run_connector_command(token: str, data: str, proxy: str, listen: tuple[str, ...], ready_file: str) -> None:
    """Carries the connections of this network's private endpoints to the hub, dialling outwards only.

    Ends with 0 when it is told to, and with 1 and one sentence when it cannot go on by itself.
    """
    from isthmus.connector.run import Options, run_connector
    from isthmus.connector.stopping import CannotGoOn

    options = Options(Path(data), _token_of(token), proxy, listen, ready_file)
    try:
        code = run_connector(options, os.environ)
    except (ConfigurationError, CannotGoOn) as error:
        raise CommandError(str(error)) from error
    sys.exit(code)


def _token_of(text: str) -> str:
    """The token itself, or the content of `@FILE`."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandError(f"The token's file {text[1:]} cannot be read: {reason}.") from error
