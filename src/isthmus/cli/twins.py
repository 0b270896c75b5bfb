"""`device-twin` and `module-twin`."""

from typing import Any

import click

from isthmus.cli.command import Group, device_option, etag_option, module_option
from isthmus.cli.edits import Edits, read_json
from isthmus.cli.identities import edit_options, list_devices
from isthmus.cli.target import Target, twin_path

device_twin = Group("device-twin", help="Twins of devices.")
module_twin = Group("module-twin", help="Twins of modules.")
device_twin.add_command(list_devices)

_json = click.option("--json", "-j", "document", required=True, metavar="JSON|FILE", help="The whole twin.")


def _patch_options(function: Any) -> Any:
    function = click.option("--tags", metavar="JSON|FILE", help="Patch of the tags; null removes.")(function)
    return click.option("--desired", metavar="JSON|FILE", help="Patch of the desired properties.")(function)


@device_twin.command("show")
@device_option
def show_device_twin(target: Target, device_id: str) -> Any:
    """Shows the twin of a device."""
    return target.service("GET", twin_path(device_id)).json()


@device_twin.command("update")
@device_option
@_patch_options
@edit_options
@etag_option
def update_device_twin(target: Target, device_id: str, etag: str, **given: Any) -> Any:
    """Changes tags and desired properties of a device; what is not named stays."""
    return _update(target, twin_path(device_id), etag, given)


@device_twin.command("replace")
@device_option
@_json
@etag_option
def replace_device_twin(target: Target, device_id: str, document: str, etag: str) -> Any:
    """Replaces tags and desired properties of a device."""
    return target.service("PUT", twin_path(device_id), read_json(document, "--json"), etag=etag).json()


@module_twin.command("show")
@device_option
@module_option
def show_module_twin(target: Target, device_id: str, module_id: str) -> Any:
    """Shows the twin of a module."""
    return target.service("GET", twin_path(device_id, module_id)).json()


@module_twin.command("update")
@device_option
@module_option
@_patch_options
@edit_options
@etag_option
def update_module_twin(target: Target, device_id: str, module_id: str, etag: str, **given: Any) -> Any:
    """Changes tags and desired properties of a module; what is not named stays."""
    return _update(target, twin_path(device_id, module_id), etag, given)


@module_twin.command("replace")
@device_option
@module_option
@_json
@etag_option
def replace_module_twin(target: Target, device_id: str, module_id: str, document: str, etag: str) -> Any:
    """Replaces tags and desired properties of a module."""
    return target.service("PUT", twin_path(device_id, module_id), read_json(document, "--json"), etag=etag).json()


def _update(target: Target, path: str, etag: str, given: dict[str, Any]) -> Any:
    patch: dict[str, Any] = {}
    if given["desired"]:
        patch["properties"] = {"desired": read_json(given["desired"], "--desired")}
    if given["tags"]:
        patch["tags"] = read_json(given["tags"], "--tags")
    edits = Edits(given["to_set"], given["to_add"], given["to_remove"])
    if edits and not patch:
        return _edit(target, path, etag, edits)
    return target.service("PATCH", path, patch, etag=etag).json()


def _edit(target: Target, path: str, etag: str, edits: Edits) -> Any:
    """Reads the twin, applies the edits, and sends what may be written; the etag says nobody came between.

    What an edit removes has to be sent as null, because a patch leaves alone what it does not name.
    """
    twin = target.service("GET", path).json()
    old = _writable(twin)
    edits.apply(twin)
    new = _writable(twin)
    return target.service("PATCH", path, _patch(old, new), etag=etag or twin["etag"]).json()


def _writable(twin: dict[str, Any]) -> dict[str, Any]:
    desired = twin.get("properties", {}).get("desired", {})
    own = {name: value for name, value in desired.items() if not name.startswith("$")}
    copied: dict[str, Any] = _copy({"tags": twin.get("tags", {}), "properties": {"desired": own}})
    return copied


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, list) else value


def _patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The merge patch that makes `new` of `old` (RFC 7396)."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            inner = _patch(before, value)
            patch |= {name: inner} if inner else {}
        elif name not in old or value != before:
            patch[name] = value
    return patch
