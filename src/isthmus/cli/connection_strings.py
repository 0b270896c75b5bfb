"""`connection-string` and `generate-sas-token`: what SDKs and scripts are given to sign in with."""

from typing import Any

import click

from isthmus.base.clock import SystemClock
from isthmus.base.sas_token import sign
from isthmus.cli.command import HubCommand, three_state
from isthmus.cli.errors import CommandError
from isthmus.cli.identities import own_string, read_identity
from isthmus.cli.login import events_string, policy_string
from isthmus.cli.namespace_keys import namespace_strings
from isthmus.cli.output import Readable
from isthmus.cli.target import Target

POLICY_DEFAULT = "iothubowner"
TOKEN_SECONDS_DEFAULT = 3600


def _policy_options(function: Any) -> Any:
    function = click.option(
        "--key-type", "--kt", type=click.Choice(["primary", "secondary"]), default="primary", help="Which key."
    )(function)
    return click.option(
        "--policy-name", "--policy", "--pn", default=POLICY_DEFAULT, show_default=True, help="Shared access policy."
    )(function)


@click.command("connection-string", cls=HubCommand, remote=False)
@click.argument("form", type=click.Choice(["show"]), required=False)
@_policy_options
@click.option("--device-id", "-d", default="", help="Of this device instead of a policy.")
@click.option("--module-id", "-m", default="", help="Of this module of the device.")
@three_state("--events", "--default-eventhub", "--eh", help="For readers of the built-in endpoint.")
@click.option("--show-all", "--all", is_flag=True, help="Of all policies.")
@click.option(
    "--namespace", default="", help="Of a hosted Event Hubs or Service Bus namespace; no policy means its root."
)
@click.option(
    "--entity", default="", help="An event hub, queue or topic of the namespace, whose own rules count first."
)
def connection_string(
    target: Target, form: str | None, namespace: str, entity: str, show_all: bool, **given: Any
) -> Any:
    """Prints the connection string of a policy, a device or a module, or of a hosted namespace.

    With the word `show` the output is the JSON of `az iot hub connection-string show`. Works without a running server.
    """
    if namespace:
        policy = "" if given["policy_name"] == POLICY_DEFAULT else given["policy_name"]
        strings = namespace_strings(target, namespace, entity, policy, given["key_type"], show_all=show_all)
    else:
        strings = _strings(target, show_all=show_all, **given)
    data: dict[str, Any] = {"connectionString": strings if show_all else strings[0]}
    return data if form else Readable("\n".join(strings), data)


@click.command("generate-sas-token", cls=HubCommand)
@click.option("--device-id", "-d", default="", help="Token of this device instead of a policy's.")
@click.option("--module-id", "-m", default="", help="Token of this module of the device.")
@_policy_options
@click.option("--duration", "--du", type=click.IntRange(min=1), default=TOKEN_SECONDS_DEFAULT, show_default=True)
def generate_sas_token(
    target: Target, device_id: str, module_id: str, policy_name: str, key_type: str, duration: int
) -> Any:
    """Signs a token for scripts; `--duration` is its life in seconds."""
    expires = SystemClock().utc_ms() // 1000 + duration
    host = target.named_hub.host_name
    if device_id:
        keys = read_identity(target, device_id, module_id)["authentication"].get("symmetricKey") or {}
        key = keys.get(f"{key_type}Key")
        if not key:
            raise CommandError(f"{module_id or device_id} has no keys to sign with.")
        module = f"/modules/{module_id}" if module_id else ""
        return {"sas": sign(f"{host}/devices/{device_id}{module}", key, expires)}
    if target.signed_in:
        return {"sas": sign(host, target.signed_in.key, expires, target.signed_in.policy)}
    policy = find_policy(target, policy_name)
    return {"sas": sign(host, policy[f"{key_type}Key"], expires, policy["keyName"])}


def policies(target: Target) -> list[dict[str, str]]:
    """The shared access policies of the hub with their keys."""
    found: list[dict[str, str]] = target.manage("POST", f"{target.hub_id()}/listkeys")["value"]
    return found


def find_policy(target: Target, name: str) -> dict[str, str]:
    """One policy by its name, which has no case; raises CommandError when there is none."""
    known = policies(target)
    for policy in known:
        if policy["keyName"].lower() == name.lower():
            return policy
    raise CommandError(f"There is no policy {name} (policies here: {', '.join(each['keyName'] for each in known)}).")


def _strings(
    target: Target, *, show_all: bool, device_id: str, module_id: str, events: bool | None, **key: str
) -> list[str]:
    if module_id and not device_id:
        raise CommandError("A module belongs to a device: give --device-id too.")
    if device_id:
        return [own_string(target, device_id, module_id, key["key_type"])]
    known = policies(target) if show_all else [find_policy(target, key["policy_name"])]
    return [hub_string(target, policy, key["key_type"], events=bool(events)) for policy in known]


def hub_string(target: Target, policy: dict[str, str], key_type: str, *, events: bool) -> str:
    """The connection string of a policy, for service SDKs or for readers of the built-in endpoint."""
    key = policy[f"{key_type}Key"]
    hub = target.named_hub
    if events:
        return events_string(hub.host_name, policy["keyName"], key, hub.name)
    return policy_string(hub.service_host, policy["keyName"], key)
