"""`digital-twin`: a device that follows a model, its properties and its commands."""

from typing import Any
from urllib.parse import quote, urlencode

import click

from isthmus.cli.command import Group, device_option, etag_option
from isthmus.cli.edits import read_json
from isthmus.cli.methods import MARGIN_SECONDS, TIMEOUT_DEFAULT, TIMEOUT_MAX, TIMEOUT_MIN
from isthmus.cli.target import Target

digital_twin = Group("digital-twin", help="Devices that follow a model.")


@digital_twin.command("show")
@device_option
def show_digital_twin(target: Target, device_id: str) -> Any:
    """Shows the digital twin of a device."""
    return target.service("GET", _path(device_id)).json()


@digital_twin.command("update")
@device_option
@click.option("--json-patch", "--patch", required=True, metavar="JSON|FILE", help="Operations of a JSON Patch.")
@etag_option
def update_digital_twin(target: Target, device_id: str, json_patch: str, etag: str) -> Any:
    """Changes what is desired of the properties of a device, and shows its digital twin."""
    operations = read_json(json_patch, "--json-patch")
    given = operations if isinstance(operations, list) else [operations]
    target.service("PATCH", _path(device_id), given, etag=etag)
    return target.service("GET", _path(device_id)).json()


@digital_twin.command("invoke-command")
@device_option
@click.option("--command-name", "--cn", required=True, help="The command.")
@click.option("--payload", default="{}", metavar="JSON|FILE", help="What the command is given.")
@click.option("--component-path", help="The component that it is a command of.")
@click.option(
    "--connect-timeout", "--cto", type=click.IntRange(0, TIMEOUT_MAX), default=TIMEOUT_DEFAULT, help="Seconds to wait."
)
@click.option(
    "--response-timeout",
    "--rto",
    type=click.IntRange(TIMEOUT_MIN, TIMEOUT_MAX),
    default=TIMEOUT_DEFAULT,
    help="Seconds to wait for the answer.",
)
def invoke_command(
    target: Target,
    device_id: str,
    command_name: str,
    payload: str,
    component_path: str | None,
    connect_timeout: int,
    response_timeout: int,
) -> Any:
    """Calls a command of a connected device and prints its answer."""
    waits = urlencode({"connectTimeoutInSeconds": connect_timeout, "responseTimeoutInSeconds": response_timeout})
    component = f"/components/{quote(component_path, safe='')}" if component_path else ""
    answer = target.service(
        "POST",
        f"{_path(device_id)}{component}/commands/{quote(command_name, safe='')}?{waits}",
        read_json(payload, "--payload"),
        timeout=connect_timeout + response_timeout + MARGIN_SECONDS,
    )
    return {"payload": answer.json(), "status": answer.headers.get("x-ms-command-statuscode")}


def _path(device_id: str) -> str:
    return f"/digitaltwins/{quote(device_id, safe='')}"
