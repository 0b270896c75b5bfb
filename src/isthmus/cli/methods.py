"""`invoke-device-method` and `invoke-module-method`."""

from typing import Any

import click

from isthmus.cli.command import HubCommand, device_option, module_option
from isthmus.cli.edits import read_json
from isthmus.cli.target import Target, twin_path

TIMEOUT_DEFAULT = 30
TIMEOUT_MIN, TIMEOUT_MAX = 5, 300
"""Seconds a direct method may wait ("Understand and invoke direct methods from IoT Hub")."""
MARGIN_SECONDS = 10.0
"""What the way to the hub may take on top of both waits."""


def _method_options(function: Any) -> Any:
    for option in (
        click.option(
            "--timeout",
            "--to",
            type=click.IntRange(TIMEOUT_MIN, TIMEOUT_MAX),
            default=TIMEOUT_DEFAULT,
            show_default=True,
            help="Seconds to wait for the device to connect, and again for its answer.",
        ),
        click.option("--method-payload", "--mp", default="{}", metavar="JSON|FILE", help="What the method is given."),
        click.option("--method-name", "--mn", required=True, help="The method."),
    ):
        function = option(function)
    return function


@click.command("invoke-device-method", cls=HubCommand)
@device_option
@_method_options
def invoke_device_method(target: Target, device_id: str, method_name: str, method_payload: str, timeout: int) -> Any:
    """Calls a direct method of a connected device and prints its answer."""
    return _invoke(target, twin_path(device_id), method_name, method_payload, timeout)


@click.command("invoke-module-method", cls=HubCommand)
@device_option
@module_option
@_method_options
def invoke_module_method(
    target: Target, device_id: str, module_id: str, method_name: str, method_payload: str, timeout: int
) -> Any:
    """Calls a direct method of a connected module and prints its answer."""
    return _invoke(target, twin_path(device_id, module_id), method_name, method_payload, timeout)


def _invoke(target: Target, path: str, name: str, payload: str, timeout: int) -> Any:
    body = {
        "methodName": name,
        "payload": read_json(payload, "--method-payload"),
        "responseTimeoutInSeconds": timeout,
        "connectTimeoutInSeconds": timeout,
    }
    return target.service("POST", f"{path}/methods", body, timeout=2 * timeout + MARGIN_SECONDS).json()
