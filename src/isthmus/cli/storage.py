"""`storage account` and `storage container`: hosted storage accounts in the words of `az storage`."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group, Words, three_state
from isthmus.cli.edits import Edits, read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.identities import edit_options
from isthmus.cli.namespaces import NO_HUB, flat, flat_all, words_of
from isthmus.cli.target import Target

PROVIDER = "Microsoft.Storage"
API = {"api-version": "2023-05-01"}
KEYS = ("primary", "secondary", "key1", "key2")
BYPASSES = ("None", "Logging", "Metrics", "AzureServices")

storage = Group(
    "storage",
    help="Hosted storage accounts.",
    coming=("blob", "queue", "table", "share", "file", "copy", "cors", "logging", "metrics", "fs", "message", "entity"),
)
account = Group(
    "account", help="Storage accounts.", coming=("generate-sas", "management-policy", "blob-service-properties")
)
keys = Group("keys", help="The keys of an account.")
rule = Group("network-rule", help="Who reaches an account by its public door.")
connections = Group("private-endpoint-connection", help="Private endpoints that lead to an account.")
resources = Group("private-link-resource", help="What of an account a private endpoint can lead to.")
container = Group("container", help="Containers of an account.", coming=("generate-sas", "policy", "lease", "metadata"))
storage.add_command(account)
storage.add_command(container)
for below in (keys, rule, connections, resources):
    account.add_command(below)

_name = click.option("name", "--name", "-n", "--account-name", required=True, help="The account.")
_account_name = click.option("account_name", "--account-name", required=True, help="The account.")
_container_name = click.option("name", "--name", "-n", required=True, help="The container.")
_auth_mode = click.option("--auth-mode", type=click.Choice(("key", "login")), help="For scripts of az: the owner asks.")
_yes = click.option("--yes", "-y", is_flag=True, help="For scripts of az; nothing is asked here.")
_connection_name = click.option("connection", "--name", "-n", required=True, help="The connection.")


def _settings(function: Any) -> Any:
    options = (
        click.option("sku", "--sku", default="", help="Its name, such as Standard_LRS; nothing depends on it."),
        click.option("access", "--public-network-access", type=click.Choice(("Enabled", "Disabled"), False)),
        click.option("default_action", "--default-action", type=click.Choice(("Allow", "Deny"), False)),
        click.option("bypass", "--bypass", cls=Words, metavar="None|AzureServices...", help="Who passes the rules."),
        three_state("shared_key", "--allow-shared-key-access", "-k", help="Take keys and what they sign."),
        three_state("public_blobs", "--allow-blob-public-access", help="Only false is offered."),
        three_state("https_only", "--https-only", help="Only true is offered."),
        click.option("min_tls", "--min-tls-version", type=click.Choice(("TLS1_2",)), help="Always this."),
        click.option("access_tier", "--access-tier", type=click.Choice(("Hot",)), help="Always this."),
        click.option("tags", "--tags", cls=Words, metavar="NAME=VALUE...", help="Tags."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@account.command("create", hub_flags=NO_HUB, remote=False)
@_name
@click.option("--location", "-l", default="", help="Where it is; any word.")
@click.option("--kind", type=click.Choice(("StorageV2",)), help="Always this.")
@_settings
def create_account(target: Target, name: str, location: str, kind: str | None, **given: Any) -> Any:
    """Makes an account with two random keys."""
    body: dict[str, Any] = {"location": location or "local", "kind": "StorageV2", "properties": {}}
    _set_members(body, given)
    return _told(target.manage("PUT", _path(target, name), body, query=API))


@account.command("list", hub_flags=NO_HUB, remote=False)
def list_accounts(target: Target) -> Any:
    """Lists the accounts."""
    return [_told(each) for each in target.manage("GET", _path(target), query=API)["value"]]


@account.command("show", hub_flags=NO_HUB, remote=False)
@_name
def show_account(target: Target, name: str) -> Any:
    """Shows an account."""
    return _told(target.manage("GET", _path(target, name), query=API))


@account.command("update", hub_flags=NO_HUB, remote=False)
@_name
@edit_options
@_settings
def update_account(target: Target, name: str, **given: Any) -> Any:
    """Changes an account, also by `--set properties.publicNetworkAccess=Disabled`.

    Answers when every session obeys.
    """
    body: dict[str, Any] = target.manage("GET", _path(target, name), query=API)
    _set_members(body, given)
    Edits(given["to_set"], given["to_add"], given["to_remove"]).apply(body)
    return _told(target.manage("PUT", _path(target, name), body, etag=body["etag"], query=API))


@account.command("delete", hub_flags=NO_HUB, remote=False)
@_name
@_yes
def delete_account(target: Target, name: str, yes: bool) -> Any:
    """Deletes an account with everything in it."""
    return target.manage("DELETE", _path(target, name), query=API)


@account.command("check-name", hub_flags=NO_HUB, remote=False)
@click.option("name", "--name", "-n", required=True, help="The name.")
def check_account_name(target: Target, name: str) -> Any:
    """Tells whether an account can have this name."""
    path = f"/subscriptions/{target.subscription}/providers/{PROVIDER}/checkNameAvailability"
    found = target.manage("POST", path, {"name": name, "type": f"{PROVIDER}/storageAccounts"}, query=API)
    return {"message": None, "reason": None, **found}


@account.command("show-connection-string", hub_flags=NO_HUB, remote=False)
@_name
@click.option("which", "--key", type=click.Choice(KEYS), default="primary", show_default=True, help="Which key.")
def show_connection_string(target: Target, name: str, which: str) -> Any:
    """Shows what SDKs are given to sign in with."""
    shown = target.manage("GET", _path(target, name), query=API)
    listed = target.manage("POST", _path(target, name, "listKeys"), {}, query=API)["keys"]
    key = next(each["value"] for each in listed if each["keyName"] == _key_name(which))
    endpoint = shown["properties"]["primaryEndpoints"]["blob"]
    suffix = endpoint.split("/")[2].partition(".blob.")[2]
    said = f"DefaultEndpointsProtocol=https;EndpointSuffix={suffix};AccountName={shown['name']};AccountKey={key}"
    return {"connectionString": f"{said};BlobEndpoint={endpoint}"}


@keys.command("list", hub_flags=NO_HUB, remote=False)
@_name
def list_keys(target: Target, name: str) -> Any:
    """Shows the keys of an account."""
    return target.manage("POST", _path(target, name, "listKeys"), {}, query=API)["keys"]


@keys.command("renew", hub_flags=NO_HUB, remote=False)
@_name
@click.option("which", "--key", type=click.Choice(KEYS), required=True, help="Which key.")
def renew_key(target: Target, name: str, which: str) -> Any:
    """Makes one of the keys anew; what the old one signed is refused from then on."""
    body = {"keyName": _key_name(which)}
    return target.manage("POST", _path(target, name, "regenerateKey"), body, query=API)["keys"]


def _rule_options(function: Any) -> Any:
    function = click.option("--tenant-id", default="", help="The tenant of the resource.")(function)
    function = click.option("--resource-id", default="", help="A hub that passes by its own identity.")(function)
    return click.option("ip_addresses", "--ip-address", cls=Words, metavar="MASK...", help="Addresses, or blocks.")(
        function
    )


@rule.command("add", hub_flags=NO_HUB, remote=False)
@_name
@_rule_options
def add_rule(target: Target, name: str, **given: Any) -> Any:
    """Lets addresses, or a resource instance, past the firewall."""
    return _change_rules(target, name, adds=True, **given)


@rule.command("list", hub_flags=NO_HUB, remote=False)
@_name
def list_rules(target: Target, name: str) -> Any:
    """Lists whom the firewall lets in."""
    rules = _told(target.manage("GET", _path(target, name), query=API))["networkRuleSet"]
    return {member: rules[member] for member in ("ipRules", "resourceAccessRules", "virtualNetworkRules")}


@rule.command("remove", hub_flags=NO_HUB, remote=False)
@_name
@_rule_options
def remove_rule(target: Target, name: str, **given: Any) -> Any:
    """Takes such a rule back."""
    return _change_rules(target, name, adds=False, **given)


@connections.command("list", hub_flags=NO_HUB, remote=False)
@_account_name
def list_connections(target: Target, account_name: str) -> Any:
    """Lists the private endpoint connections of an account."""
    return flat_all(target.manage("GET", _path(target, account_name, "privateEndpointConnections"), query=API))


@connections.command("show", hub_flags=NO_HUB, remote=False)
@_account_name
@_connection_name
def show_connection(target: Target, account_name: str, connection: str) -> Any:
    """Shows a private endpoint connection."""
    path = _path(target, account_name, "privateEndpointConnections", connection)
    return flat(target.manage("GET", path, query=API))


@connections.command("approve", hub_flags=NO_HUB, remote=False)
@_account_name
@_connection_name
@click.option("--description", default="", help="Why.")
def approve_connection(target: Target, account_name: str, connection: str, description: str) -> Any:
    """Lets a private endpoint lead to the account."""
    return _decide(target, account_name, connection, "Approved", description)


@connections.command("reject", hub_flags=NO_HUB, remote=False)
@_account_name
@_connection_name
@click.option("--description", default="", help="Why.")
def reject_connection(target: Target, account_name: str, connection: str, description: str) -> Any:
    """Refuses a private endpoint; answers when every session obeys."""
    return _decide(target, account_name, connection, "Rejected", description)


@connections.command("delete", hub_flags=NO_HUB, remote=False)
@_account_name
@_connection_name
@_yes
def delete_connection(target: Target, account_name: str, connection: str, yes: bool) -> Any:
    """Takes a connection away; its private endpoint stays as Disconnected."""
    path = _path(target, account_name, "privateEndpointConnections", connection)
    return target.manage("DELETE", path, query=API)


@resources.command("list", hub_flags=NO_HUB, remote=False)
@_account_name
def list_link_resources(target: Target, account_name: str) -> Any:
    """Lists what of an account a private endpoint can lead to."""
    return target.manage("GET", _path(target, account_name, "privateLinkResources"), query=API)["value"]


@container.command("create", hub_flags=NO_HUB, remote=False)
@_account_name
@_container_name
@_auth_mode
@click.option("metadata", "--metadata", cls=Words, metavar="NAME=VALUE...", help="Metadata.")
def create_container(target: Target, account_name: str, name: str, auth_mode: str | None, metadata: Any) -> Any:
    """Makes a container, unless there is one."""
    made = not _exists(target, account_name, name)
    if made:
        body = {"properties": {"metadata": read_pairs(words_of(metadata), "--metadata")}}
        target.manage("PUT", _container(target, account_name, name), body, query=API)
    return {"created": made}


@container.command("list", hub_flags=NO_HUB, remote=False)
@_account_name
@_auth_mode
def list_containers(target: Target, account_name: str, auth_mode: str | None) -> Any:
    """Lists the containers of an account."""
    return [_shown(each) for each in target.manage("GET", _container(target, account_name), query=API)["value"]]


@container.command("show", hub_flags=NO_HUB, remote=False)
@_account_name
@_container_name
@_auth_mode
def show_container(target: Target, account_name: str, name: str, auth_mode: str | None) -> Any:
    """Shows a container."""
    return _shown(target.manage("GET", _container(target, account_name, name), query=API))


@container.command("exists", hub_flags=NO_HUB, remote=False)
@_account_name
@_container_name
@_auth_mode
def container_exists(target: Target, account_name: str, name: str, auth_mode: str | None) -> Any:
    """Tells whether there is a container."""
    return {"exists": _exists(target, account_name, name)}


@container.command("delete", hub_flags=NO_HUB, remote=False)
@_account_name
@_container_name
@_auth_mode
@_yes
def delete_container(target: Target, account_name: str, name: str, auth_mode: str | None, yes: bool) -> Any:
    """Deletes a container with the blobs in it."""
    there = _exists(target, account_name, name)
    target.manage("DELETE", _container(target, account_name, name), query=API)
    return {"deleted": there}


def _path(target: Target, name: str = "", *below: str) -> str:
    steps = "".join(f"/{quote(step, safe='')}" for step in below)
    return target.resource_id(PROVIDER, "storageAccounts", name) + steps


def _told(resource: dict[str, Any]) -> dict[str, Any]:
    """An account as `az` prints it, which calls two members otherwise than ARM does."""
    told = flat(resource)
    acls = told["networkAcls"]
    ip_rules = [{"ipAddressOrRange": each["value"], "action": each["action"]} for each in acls["ipRules"]]
    told["networkRuleSet"] = {**acls, "ipRules": ip_rules}
    told["enableHttpsTrafficOnly"] = told["supportsHttpsTrafficOnly"]
    return told


def _container(target: Target, account_name: str, name: str = "") -> str:
    below = (name,) if name else ()
    return _path(target, account_name, "blobServices", "default", "containers", *below)


def _exists(target: Target, account_name: str, name: str) -> bool:
    listed = target.manage("GET", _container(target, account_name), query=API)["value"]
    return any(each["name"] == name for each in listed)


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    properties = dict(found["properties"])
    metadata = properties.pop("metadata", None) or None
    return {"name": found["name"], "id": found["id"], "metadata": metadata, "properties": properties}


def _decide(target: Target, name: str, connection: str, status: str, description: str) -> Any:
    path = _path(target, name, "privateEndpointConnections", connection)
    body = target.manage("GET", path, query=API)
    state = body["properties"]["privateLinkServiceConnectionState"]
    state |= {"status": status, "description": description or state.get("description") or ""}
    return flat(target.manage("PUT", path, body, query=API))


def _change_rules(
    target: Target, name: str, *, adds: bool, ip_addresses: Sequence[Sequence[str]], resource_id: str, tenant_id: str
) -> Any:
    masks = words_of(ip_addresses)
    if not masks and not resource_id:
        raise CommandError("Say whom: --ip-address MASK, or --resource-id ID.")
    body: dict[str, Any] = target.manage("GET", _path(target, name), query=API)
    acls = body["properties"]["networkAcls"]
    named = {resource_id.lower()} if resource_id else set()
    ip_rules = [each for each in acls["ipRules"] if each["value"] not in masks]
    resource_rules = [each for each in acls["resourceAccessRules"] if each["resourceId"].lower() not in named]
    gone = len(acls["ipRules"]) + len(acls["resourceAccessRules"]) - len(ip_rules) - len(resource_rules)
    if not adds and not gone:
        raise CommandError(f"There is no rule for {', '.join((*masks, *named))}.")
    if adds:
        ip_rules += [{"value": mask, "action": "Allow"} for mask in masks]
        owner = {"tenantId": tenant_id} if tenant_id else {}
        resource_rules += [{**owner, "resourceId": resource_id}] if resource_id else []
    acls |= {"ipRules": ip_rules, "resourceAccessRules": resource_rules}
    return _told(target.manage("PUT", _path(target, name), body, etag=body["etag"], query=API))


def _set_members(body: dict[str, Any], given: dict[str, Any]) -> None:
    """What options say, put where it belongs; options that were not given change nothing."""
    properties = body["properties"]
    if given["tags"]:
        body["tags"] = read_pairs(words_of(given["tags"]), "--tags")
    if given["sku"]:
        body["sku"] = {"name": given["sku"]}
    said = {
        "publicNetworkAccess": given["access"],
        "allowSharedKeyAccess": given["shared_key"],
        "allowBlobPublicAccess": given["public_blobs"],
        "supportsHttpsTrafficOnly": given["https_only"],
    }
    properties |= {name: value for name, value in said.items() if value is not None}
    acls = {"defaultAction": given["default_action"], "bypass": _bypass(words_of(given["bypass"]))}
    wanted = {name: value for name, value in acls.items() if value}
    if wanted:
        properties["networkAcls"] = {**properties.get("networkAcls", {}), **wanted}


def _bypass(words: Sequence[str]) -> str:
    found = {word.lower(): word for word in BYPASSES}
    unknown = [word for word in words if word.lower() not in found]
    if unknown:
        raise CommandError(f"--bypass takes {', '.join(BYPASSES)}, not {unknown[0]}.")
    return ", ".join(found[word.lower()] for word in words)


def _key_name(which: str) -> str:
    return {"primary": "key1", "secondary": "key2"}.get(which, which)
