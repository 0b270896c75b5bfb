"""`device-identity` and `module-identity`."""

from collections.abc import Sequence
from typing import Any

import click

from isthmus.base.ids import RandomIds
from isthmus.cli.command import Group, Words, device_option, etag_option, module_option, three_state
from isthmus.cli.edits import Edits
from isthmus.cli.errors import CommandError
from isthmus.cli.login import identity_string
from isthmus.cli.queries import run_query
from isthmus.cli.target import Target, identity_path

AUTH_METHODS = {"shared_private_key": "sas", "x509_thumbprint": "selfSigned", "x509_ca": "certificateAuthority"}
"""The words of `az` for the authentication types of the registry."""
TOP_DEFAULT = 1000

device_identity = Group(
    "device-identity",
    help="Devices of the identity registry.",
    coming=("children", "parent"),
)
module_identity = Group("module-identity", help="Modules of a device.")
device_strings = Group("connection-string", help="Connection strings of devices.")
module_strings = Group("connection-string", help="Connection strings of modules.")
device_identity.add_command(device_strings)
module_identity.add_command(module_strings)


def _auth_options(function: Any) -> Any:
    """Keys and thumbprints, as `az` names them."""
    for option in (
        click.option("--secondary-thumbprint", "--stp", help="SHA-1 or SHA-256 of a second certificate."),
        click.option("--primary-thumbprint", "--ptp", help="SHA-1 or SHA-256 of the device's certificate."),
        click.option("--secondary-key", "--sk", help="Base64; made by the hub when left out."),
        click.option("--primary-key", "--pk", help="Base64; made by the hub when left out."),
        click.option("--auth-method", "--am", type=click.Choice(list(AUTH_METHODS)), help="How it proves itself."),
    ):
        function = option(function)
    return function


def _status_options(function: Any) -> Any:
    for option in (
        click.option("--status-reason", "--star", help="Why, up to 128 characters."),
        click.option("--status", "--sta", type=click.Choice(["enabled", "disabled"]), help="Whether it may connect."),
        three_state("--edge-enabled", "--ee", help="Whether it is an IoT Edge device."),
    ):
        function = option(function)
    return function


def _edit_options(function: Any) -> Any:
    """`--set`, `--add` and `--remove`."""
    for flag, help_text in (
        ("--remove", "PLACE [INDEX]: removes it."),
        ("--add", "PLACE VALUE...: adds to a list."),
        ("--set", "PLACE=VALUE...: sets it."),
    ):
        name = f"to_{flag[2:]}"
        function = click.option(name, flag, cls=Words, metavar="...", help=help_text)(function)
    return function


edit_options = _edit_options


@device_identity.command("create")
@device_option
@_auth_options
@_status_options
@click.option("--device-scope", help="Scope of the parent edge device.")
def create_device(target: Target, device_id: str, device_scope: str | None, **given: Any) -> Any:
    """Creates a device; its keys are made by the hub unless given."""
    body: dict[str, Any] = {
        "deviceId": device_id,
        "authentication": _authentication(given),
        "capabilities": {"iotEdge": bool(given["edge_enabled"])},
        "status": given["status"] or "enabled",
    }
    if given["status_reason"]:
        body["statusReason"] = given["status_reason"]
    if device_scope:
        body |= {"parentScopes": [device_scope]} if given["edge_enabled"] else {"deviceScope": device_scope}
    return target.service("PUT", identity_path(device_id), body).json()


@device_identity.command("show")
@device_option
def show_device(target: Target, device_id: str) -> Any:
    """Shows a device, its keys included."""
    return read_identity(target, device_id)


@device_identity.command("list")
@click.option("--top", type=int, default=TOP_DEFAULT, show_default=True, help="How many; -1 for all.")
@three_state("--edge-enabled", "--ee", help="Only IoT Edge devices.")
def list_devices(target: Target, top: int, edge_enabled: bool | None) -> Any:
    """Lists the devices of the hub, as twins."""
    condition = " where capabilities.iotEdge = true" if edge_enabled else ""
    return run_query(target, f"select * from devices{condition}", top)


@device_identity.command("update")
@device_option
@_auth_options
@_status_options
@_edit_options
@etag_option
def update_device(target: Target, device_id: str, etag: str, **given: Any) -> Any:
    """Changes a device."""
    device = target.service("GET", identity_path(device_id)).json()
    _change(device, given)
    Edits(given["to_set"], given["to_add"], given["to_remove"]).apply(device)
    return target.service("PUT", identity_path(device_id), device, etag=etag or device["etag"]).json()


@device_identity.command("delete")
@device_option
@etag_option
def delete_device(target: Target, device_id: str, etag: str) -> Any:
    """Deletes a device with its modules, twin and queue."""
    return target.service("DELETE", identity_path(device_id), etag=etag).json()


KEY_TYPES = ("primary", "secondary", "both", "swap")


@device_identity.command("renew-key")
@click.option("device_ids", "--device-id", "-d", cls=Words, required=True, metavar="ID...", help="The devices.")
@click.option("--key-type", "--kt", required=True, type=click.Choice(KEY_TYPES), help="Which key to make anew.")
@etag_option
def renew_device_key(target: Target, device_ids: Sequence[Sequence[str]], key_type: str, etag: str) -> Any:
    """Makes keys of devices anew, or swaps them."""
    renewed = [_renew(target, key_type, etag, device) for group in device_ids for device in group]
    return renewed[0] if len(renewed) == 1 else renewed


@device_strings.command("show")
@device_option
@click.option("--key-type", "--kt", type=click.Choice(["primary", "secondary"]), default="primary", help="Which key.")
def show_device_string(target: Target, device_id: str, key_type: str) -> Any:
    """Shows the connection string of a device."""
    return {"connectionString": own_string(target, device_id, "", key_type)}


@module_identity.command("create")
@device_option
@module_option
@_auth_options
def create_module(target: Target, device_id: str, module_id: str, **given: Any) -> Any:
    """Creates a module of a device."""
    body = {"deviceId": device_id, "moduleId": module_id, "authentication": _authentication(given)}
    return target.service("PUT", identity_path(device_id, module_id), body).json()


@module_identity.command("show")
@device_option
@module_option
def show_module(target: Target, device_id: str, module_id: str) -> Any:
    """Shows a module, its keys included."""
    return read_identity(target, device_id, module_id)


@module_identity.command("list")
@device_option
@click.option("--top", type=int, default=TOP_DEFAULT, show_default=True, help="How many; -1 for all.")
def list_modules(target: Target, device_id: str, top: int) -> Any:
    """Lists the modules of a device."""
    modules = target.service("GET", f"{identity_path(device_id)}/modules").json()
    return modules if top < 0 else modules[:top]


@module_identity.command("update")
@device_option
@module_option
@_edit_options
@etag_option
def update_module(target: Target, device_id: str, module_id: str, etag: str, **given: Any) -> Any:
    """Changes a module."""
    path = identity_path(device_id, module_id)
    module = target.service("GET", path).json()
    Edits(given["to_set"], given["to_add"], given["to_remove"]).apply(module)
    return target.service("PUT", path, module, etag=etag or module["etag"]).json()


@module_identity.command("delete")
@device_option
@module_option
@etag_option
def delete_module(target: Target, device_id: str, module_id: str, etag: str) -> Any:
    """Deletes a module with its twin."""
    return target.service("DELETE", identity_path(device_id, module_id), etag=etag).json()


@module_identity.command("renew-key")
@device_option
@click.option("module_ids", "--module-id", "-m", cls=Words, required=True, metavar="ID...", help="The modules.")
@click.option("--key-type", "--kt", required=True, type=click.Choice(KEY_TYPES), help="Which key to make anew.")
@etag_option
def renew_module_key(
    target: Target, device_id: str, module_ids: Sequence[Sequence[str]], key_type: str, etag: str
) -> Any:
    """Makes keys of modules anew, or swaps them."""
    renewed = [_renew(target, key_type, etag, device_id, module) for group in module_ids for module in group]
    return renewed[0] if len(renewed) == 1 else renewed


@module_strings.command("show")
@device_option
@module_option
@click.option("--key-type", "--kt", type=click.Choice(["primary", "secondary"]), default="primary", help="Which key.")
def show_module_string(target: Target, device_id: str, module_id: str, key_type: str) -> Any:
    """Shows the connection string of a module."""
    return {"connectionString": own_string(target, device_id, module_id, key_type)}


def read_identity(target: Target, device_id: str, module_id: str = "") -> dict[str, Any]:
    """The identity with the hub's host name beside it, as `az` shows it."""
    identity: dict[str, Any] = target.service("GET", identity_path(device_id, module_id)).json()
    return identity | {"hub": target.named_hub.host_name}


def own_string(target: Target, device_id: str, module_id: str = "", key_type: str = "primary") -> str:
    """The connection string of a device or module."""
    identity = read_identity(target, device_id, module_id)
    authentication = identity["authentication"]
    match authentication["type"]:
        case "sas":
            credential = f"SharedAccessKey={authentication['symmetricKey'][f'{key_type}Key']}"
        case "selfSigned" | "certificateAuthority":
            credential = "x509=true"
        case other:
            raise CommandError(f"An identity of the type {other} has no connection string.")
    return identity_string(identity["hub"], device_id, module_id, credential)


def _authentication(given: dict[str, Any]) -> dict[str, Any]:
    kind = AUTH_METHODS[given["auth_method"] or "shared_private_key"]
    if kind == "sas":
        keys = {"primaryKey": given["primary_key"], "secondaryKey": given["secondary_key"]}
        if any(keys.values()) and not all(keys.values()):
            raise CommandError("Give both keys or none: --primary-key and --secondary-key.")
        return {"type": kind, "symmetricKey": keys}
    if kind == "selfSigned":
        if not given["primary_thumbprint"]:
            raise CommandError("A device with a certificate of its own needs --primary-thumbprint.")
        prints = {
            "primaryThumbprint": given["primary_thumbprint"],
            "secondaryThumbprint": given["secondary_thumbprint"],
        }
        return {"type": kind, "x509Thumbprint": prints}
    return {"type": kind}


def _change(device: dict[str, Any], given: dict[str, Any]) -> None:
    if given["auth_method"]:
        device["authentication"] = _authentication(given)
    authentication = device["authentication"]
    for group, names in (("symmetricKey", ("key",)), ("x509Thumbprint", ("thumbprint",))):
        for which in ("primary", "secondary"):
            value = given[f"{which}_{names[0]}"]
            if value:
                authentication.setdefault(group, {})[f"{which}{names[0].capitalize()}"] = value
    if given["edge_enabled"] is not None:
        device.setdefault("capabilities", {})["iotEdge"] = given["edge_enabled"]
    device |= {name: value for name, value in _status(given).items() if value is not None}


def _status(given: dict[str, Any]) -> dict[str, str | None]:
    return {"status": given["status"], "statusReason": given["status_reason"]}


def _renew(target: Target, key_type: str, etag: str, device_id: str, module_id: str = "") -> Any:
    path = identity_path(device_id, module_id)
    identity = target.service("GET", path).json()
    if identity["authentication"]["type"] != "sas":
        raise CommandError(f"{module_id or device_id} does not use keys.")
    keys = identity["authentication"]["symmetricKey"]
    old = (keys["primaryKey"], keys["secondaryKey"])
    if key_type == "swap":
        keys["primaryKey"], keys["secondaryKey"] = old[1], old[0]
    if key_type in {"primary", "both"}:
        keys["primaryKey"] = RandomIds().key()
    if key_type in {"secondary", "both"}:
        keys["secondaryKey"] = RandomIds().key()
    return target.service("PUT", path, identity, etag=etag or identity["etag"]).json()
