"""`up` and what belongs to the server as a whole: `ca`, `env`, `health`, `metrics`, `demo`."""

import gc
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from isthmus.base.errors import ConfigurationError
from isthmus.base.places import CA_CERTIFICATE
from isthmus.cli.command import HubCommand, data_option, default_data
from isthmus.cli.connection_strings import POLICY_DEFAULT, find_policy, hub_string
from isthmus.cli.errors import CommandError
from isthmus.cli.identities import own_string
from isthmus.cli.output import Readable
from isthmus.cli.target import Target
from isthmus.cli.transport import refusal_of
from isthmus.config import load_config

UNWELL = 503
"""The status of a health answer that tells of a part that is not well."""
CERTIFI_STEP = """\
# azure-iot-hub and the AMQP library under it trust certifi's file alone: append the CA there, once, in each
# environment that runs them:
#   cat {ca} >> "$(python3 -m certifi)"
"""


@click.command("up", params=[data_option()])
@click.option("--config", metavar="FILE", help="Configuration in TOML; flags win over it.")
@click.option("--hostname", help="{hub}.{domain} of the first hub, or an address. Default: localhost.")
@click.option("--bind", multiple=True, metavar="ADDR", help="Address of the public door; repeatable. [127.0.0.1]")
@click.option("--https-port", type=int, help="Default: 443, or 8443 where that may not be bound.")
@click.option("--mqtt-port", type=int, help="Default: 8883.")
@click.option("--amqp-port", type=int, help="Default: 5671.")
@click.option("--management-port", type=int, help="Management over TLS, by tokens. Default: 0, off.")
@click.option("--link-port", type=int, help="Where connectors dial in, from the first enrolment on. Default: 9443.")
@click.option("--partitions", type=int, help="Of the built-in endpoint; counts at the first start. Default: 4.")
@click.option("--sealing-key-file", metavar="FILE", help="The key that seals secrets. Default: see the manual.")
@click.option("--previous-sealing-key-file", metavar="FILE", help="The key before, to go over to a new one.")
@click.option("--ready-file", metavar="FILE", help="Written once every listener accepts.")
@click.option("--ephemeral/--durable", default=None, help="A hub that forgets, for tests and continuous integration.")
@click.option("--seed", metavar="FILE", help="Devices, twins and rules to begin with.")
def up(data_folder: str | None, config: str | None, bind: tuple[str, ...], **flags: Any) -> None:
    """Starts the server and serves until it is told to end."""
    # What a start makes stays; looking it through as it grows would be a tenth of the start (`serving.py` goes on).
    gc.disable()
    from isthmus.app import serve

    said = {"data": data_folder or (None if config else default_data()), "bind": bind or None, **flags}
    try:
        code = serve(load_config(config, said))
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
    sys.exit(code)


@click.command("demo")
def demo() -> None:
    """Plays the demo: devices, a reader and a back-end on the official SDKs, and a door that closes."""
    from isthmus.demo import run

    sys.exit(run())


@click.command("ca", params=[data_option()])
def ca(data_folder: str | None) -> None:
    """Prints the path of the CA certificate that clients have to trust. Works without a running server."""
    click.echo(str(_ca(Path(data_folder or default_data()))))


@click.command("env", cls=HubCommand, local=True)
@click.option("--policy-name", "--policy", "--pn", default=POLICY_DEFAULT, show_default=True, help="Whose keys.")
@click.option("--device-id", "-d", default="", help="Adds the connection string of this device.")
def env(target: Target, policy_name: str, device_id: str) -> Any:
    """Prints connection strings and trust for the shell: `eval "$(isthmus env)"`. Works without a running server."""
    path = str(_ca(target.data))
    policy = find_policy(target, policy_name)
    values = {
        "IOTHUB_CONNECTION_STRING": hub_string(target, policy, "primary", events=False),
        "EVENTHUB_CONNECTION_STRING": hub_string(target, policy, "primary", events=True),
        "EVENTHUB_NAME": target.named_hub.name,
        "IOTHUB_CA_CERTIFICATE": path,
        **dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"), path),
    }
    if device_id:
        values["IOTHUB_DEVICE_CONNECTION_STRING"] = own_string(target, device_id)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    return Readable("\n".join(lines) + "\n" + CERTIFI_STEP.format(ca=shlex.quote(path)), values)


@click.command("health", cls=HubCommand, remote=False)
def health(target: Target) -> Any:
    """Shows whether the server is well, part by part; exits with 1 when it is not."""
    answer = target.ask("/health")
    if answer.status != UNWELL:
        return answer.json()
    parts = json.loads(answer.body)["parts"]
    ill = (f"{name} ({part['reason']})" for name, part in parts.items() if not part["ok"])
    raise CommandError(f"The server is not well: {', '.join(ill)}.")


@click.command("metrics", cls=HubCommand, local=True)
def metrics(target: Target) -> Any:
    """Prints the server's metrics in Prometheus' text format."""
    answer = target.ask("/metrics")
    if answer.status >= 400:
        raise CommandError(refusal_of(answer))
    text = answer.body.decode()
    return Readable(text, text.splitlines())


def _ca(data: Path) -> Path:
    path = (data / CA_CERTIFICATE).absolute()
    if not path.is_file():
        raise CommandError(f"There is no CA in {data} yet: the first `isthmus up` makes it.")
    return path
