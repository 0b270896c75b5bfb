"""`eventhubs namespace` and `servicebus namespace`: what hosted namespaces of both kinds have alike.

As `az` prints them, resources are flat: the members of `properties` stand beside the others. Each command is a function
of the target and a `NamespaceKind`; `namespace_group` makes the commands of a kind of them, `rules_group` those for the
authorization rules of whatever has some.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group, HubCommand, Words, three_state
from isthmus.cli.edits import Edits, read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.identities import edit_options
from isthmus.cli.target import Target

NO_HUB = ("--hub-name",)
NAMESPACE_COMING = ("identity", "encryption", "schema-registry", "application-group", "failover", "nsp-configuration")
ACCESS = ("Enabled", "Disabled")

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class NamespaceKind:
    """One of the two kinds: its provider, the api-version that is sent, and what it is called in help texts."""

    provider: str
    api: str
    said: str

    @property
    def query(self) -> dict[str, str]:
        """The query of every call."""
        return {"api-version": self.api}

    def path(self, target: Target, namespace: str = "", *below: str) -> str:
        """The id of a namespace, or of something below it; of all namespaces without a name."""
        steps = "".join(f"/{quote(step, safe='')}" for step in below)
        return target.resource_id(self.provider, "namespaces", namespace) + steps


@dataclass(frozen=True, slots=True)
class RuleOwner:
    """What authorization rules belong to: a namespace, or an entity of it whose flag and collection these are."""

    said: str
    flag: str = ""
    collection: str = ""

    def path(self, kind: NamespaceKind, target: Target, given: dict[str, str], *below: str) -> str:
        """The id of a rule, or of what is below it."""
        entity = (self.collection, given["entity"]) if self.collection else ()
        return kind.path(target, given["namespace"], *entity, "authorizationRules", *below)


def command(function: Function, name: str, *, dry_run: bool = False, **bound: Any) -> HubCommand:
    """The command that calls a function with these arguments bound, its options those that the function declares."""
    params = list(reversed(getattr(function, "__click_params__", [])))
    return HubCommand(
        name,
        params=params,
        callback=partial(function, **bound),
        help=inspect.cleandoc(function.__doc__ or ""),
        hub_flags=NO_HUB,
        remote=False,
        dry_run=dry_run,
    )


def namespace_option(*flags: str) -> Callable[[Function], Function]:
    """The option that names the namespace, `--namespace-name` unless said otherwise."""
    return click.option("namespace", *(flags or ("--namespace-name",)), required=True, help="The namespace.")


def flat(resource: dict[str, Any]) -> dict[str, Any]:
    """A resource as `az` prints it."""
    group = resource["id"].split("/")[4]
    rest = {name: value for name, value in resource.items() if name != "properties"}
    return {**rest, **resource["properties"], "resourceGroup": group}


def flat_all(listed: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of a list."""
    return [flat(each) for each in listed["value"]]


def namespace_group(kind: NamespaceKind) -> Group:
    """The commands for the namespaces of a kind."""
    group = Group("namespace", help=f"{kind.said} namespaces.", coming=NAMESPACE_COMING)
    for name, function in (("create", _create), ("list", _list), ("show", _show), ("exists", _exists)):
        group.add_command(command(function, name, kind=kind))
    for name, function in (("update", _update), ("delete", _delete)):
        group.add_command(command(function, name, kind=kind))
    group.add_command(rules_group(kind, RuleOwner("namespace")))
    group.add_command(rule_set_group(kind))
    connections = Group("private-endpoint-connection", help="Private endpoints that lead to a namespace.")
    for name, function in (("list", _list_connections), ("show", _show_connection), ("delete", _delete_connection)):
        connections.add_command(command(function, name, kind=kind))
    connections.add_command(command(_decide, "approve", kind=kind, status="Approved"))
    connections.add_command(command(_decide, "reject", kind=kind, status="Rejected"))
    group.add_command(connections)
    resources = Group("private-link-resource", help="What of a namespace a private endpoint can lead to.")
    resources.add_command(command(_list_link_resources, "show", kind=kind))
    resources.add_command(command(_list_link_resources, "list", kind=kind))
    group.add_command(resources)
    return group


def rules_group(kind: NamespaceKind, owner: RuleOwner) -> Group:
    """The commands for the authorization rules of an owner."""
    group = Group("authorization-rule", help=f"Shared access rules of a {owner.said}: named keys with rights.")
    keys = Group("keys", help="The keys of a rule.")
    group.add_command(keys)
    places = (
        *((group, "create", _put_rule), (group, "update", _put_rule), (group, "list", _list_rules)),
        *((group, "show", _show_rule), (group, "delete", _delete_rule)),
        *((keys, "list", _list_keys), (keys, "renew", _renew_key)),
    )
    for place, name, function in places:
        made = command(function, name, kind=kind, owner=owner)
        if owner.flag:
            made.params.insert(0, click.Option(["entity", owner.flag], required=True, help=f"The {owner.said}."))
        made.params.insert(0, click.Option(["namespace", "--namespace-name"], required=True, help="The namespace."))
        place.add_command(made)
    return group


def rule_set_group(kind: NamespaceKind) -> Group:
    """The commands for the network rule set of a namespace."""
    group = Group(
        "network-rule-set", help="Who reaches a namespace over the network.", coming=("virtual-network-rule",)
    )
    for name, function in (("show", _show_rule_set), ("list", _list_rule_sets)):
        group.add_command(command(function, name, kind=kind))
    for name in ("create", "update"):
        group.add_command(command(_put_rule_set, name, kind=kind, whole=name == "create"))
    rules = Group("ip-rule", help="Addresses that may connect by the public door.")
    for name in ("add", "remove"):
        rules.add_command(command(_change_ip_rules, name, kind=kind, adds=name == "add"))
    group.add_command(rules)
    return group


_set_namespace = namespace_option("--namespace-name", "--name", "-n")
_own_name = namespace_option("--name", "-n")
_rule_name = click.option("rule", "--name", "--authorization-rule-name", "-n", required=True, help="The rule.")


def _namespace_settings(function: Function) -> Function:
    for option in (
        click.option("--tags", cls=Words, metavar="NAME=VALUE...", help="Tags."),
        click.option("--capacity", type=int, help="Units, kept as said."),
        click.option("--sku", help="Basic, Standard or Premium, kept as said; nothing here depends on it."),
        click.option("access", "--public-network-access", "--public-network", type=click.Choice(ACCESS, False)),
        three_state("--disable-local-auth", help="Refuse keys: let in identities only."),
    ):
        function = option(function)
    return function


@_own_name
@click.option("--location", "-l", default="", help="Where it is; any word.")
@_namespace_settings
def _create(target: Target, *, kind: NamespaceKind, namespace: str, location: str, **given: Any) -> Any:
    """Hosts a namespace in this server, with a rule RootManageSharedAccessKey that has all rights."""
    sku = given["sku"] or "Standard"
    body: dict[str, Any] = {"location": location or "local", "sku": {"name": sku, "tier": sku}, "properties": {}}
    _set_members(body, given)
    return flat(target.manage("PUT", kind.path(target, namespace), body, query=kind.query))


def _list(target: Target, *, kind: NamespaceKind) -> Any:
    """Lists the namespaces."""
    return flat_all(target.manage("GET", kind.path(target), query=kind.query))


@_own_name
def _show(target: Target, *, kind: NamespaceKind, namespace: str) -> Any:
    """Shows a namespace."""
    return flat(target.manage("GET", kind.path(target, namespace), query=kind.query))


@_own_name
def _exists(target: Target, *, kind: NamespaceKind, namespace: str) -> Any:
    """Tells whether a namespace can have this name."""
    path = f"/subscriptions/{target.subscription}/providers/{kind.provider}/CheckNameAvailability"
    return target.manage("POST", path, {"name": namespace}, query=kind.query)


@_own_name
@edit_options
@_namespace_settings
def _update(target: Target, *, kind: NamespaceKind, namespace: str, **given: Any) -> Any:
    """Changes a namespace, also by `--set properties.publicNetworkAccess=Disabled`."""
    body: dict[str, Any] = target.manage("GET", kind.path(target, namespace), query=kind.query)
    _set_members(body, given)
    Edits(given["to_set"], given["to_add"], given["to_remove"]).apply(body)
    return flat(target.manage("PUT", kind.path(target, namespace), body, etag=body["etag"], query=kind.query))


@_own_name
def _delete(target: Target, *, kind: NamespaceKind, namespace: str) -> Any:
    """Deletes a namespace with everything in it."""
    return target.manage("DELETE", kind.path(target, namespace), query=kind.query)


def _set_members(body: dict[str, Any], given: dict[str, Any]) -> None:
    """What options say, put where it belongs; options that were not given change nothing."""
    if given["tags"]:
        body["tags"] = read_pairs(words_of(given["tags"]), "--tags")
    if given["sku"]:
        body["sku"] |= {"name": given["sku"], "tier": given["sku"]}
    if given["capacity"] is not None:
        body["sku"]["capacity"] = given["capacity"]
    if given["access"]:
        body["properties"]["publicNetworkAccess"] = given["access"]
    if given["disable_local_auth"] is not None:
        body["properties"]["disableLocalAuth"] = given["disable_local_auth"]


@_rule_name
@click.option("--rights", cls=Words, required=True, metavar="RIGHT...", help="Some of Listen, Send and Manage.")
def _put_rule(target: Target, *, kind: NamespaceKind, owner: RuleOwner, rule: str, rights: Any, **given: str) -> Any:
    """Makes a rule with keys of its own, or changes the rights of one."""
    body = {"properties": {"rights": words_of(rights)}}
    return flat(target.manage("PUT", owner.path(kind, target, given, rule), body, query=kind.query))


def _list_rules(target: Target, *, kind: NamespaceKind, owner: RuleOwner, **given: str) -> Any:
    """Lists the rules, without their keys."""
    return flat_all(target.manage("GET", owner.path(kind, target, given), query=kind.query))


@_rule_name
def _show_rule(target: Target, *, kind: NamespaceKind, owner: RuleOwner, rule: str, **given: str) -> Any:
    """Shows a rule, without its keys."""
    return flat(target.manage("GET", owner.path(kind, target, given, rule), query=kind.query))


@_rule_name
def _delete_rule(target: Target, *, kind: NamespaceKind, owner: RuleOwner, rule: str, **given: str) -> Any:
    """Deletes a rule; answers when every session by its keys is cut."""
    return target.manage("DELETE", owner.path(kind, target, given, rule), query=kind.query)


@_rule_name
def _list_keys(target: Target, *, kind: NamespaceKind, owner: RuleOwner, rule: str, **given: str) -> Any:
    """Shows the keys and connection strings of a rule."""
    return target.manage("POST", owner.path(kind, target, given, rule, "listKeys"), {}, query=kind.query)


@_rule_name
@click.option("which", "--key", type=click.Choice(("PrimaryKey", "SecondaryKey"), False), required=True)
@click.option("--key-value", default="", help="The new key, base64. Default: a random one.")
def _renew_key(
    target: Target, *, kind: NamespaceKind, owner: RuleOwner, rule: str, which: str, key_value: str, **given: str
) -> Any:
    """Makes one of the keys anew; answers when every session by the old one is cut."""
    body = {"keyType": which} | ({"key": key_value} if key_value else {})
    return target.manage("POST", owner.path(kind, target, given, rule, "regenerateKeys"), body, query=kind.query)


@_set_namespace
def _show_rule_set(target: Target, *, kind: NamespaceKind, namespace: str) -> Any:
    """Shows the network rule set."""
    return flat(_rule_set(target, kind, namespace))


@_set_namespace
def _list_rule_sets(target: Target, *, kind: NamespaceKind, namespace: str) -> Any:
    """Lists the network rule sets: there is one."""
    return [flat(_rule_set(target, kind, namespace))]


@_set_namespace
@click.option("default_action", "--default-action", type=click.Choice(("Allow", "Deny"), False))
@three_state(
    "trusted", "--enable-trusted-service-access", "-t", "--trusted-service-access-enabled", help="Let in hubs."
)
@click.option("access", "--public-network-access", "--public-network", type=click.Choice(ACCESS, False))
@click.option("ip_rules", "--ip-rules", cls=Words, metavar="MASK...", help="Replaces the addresses.")
def _put_rule_set(target: Target, *, kind: NamespaceKind, whole: bool, namespace: str, **given: Any) -> Any:
    """Changes who reaches the namespace; answers when every session obeys.

    Deny lets in nobody but the addresses of the IP rules, and private endpoints. Trusted services are hubs of this
    server with an identity of their own.
    """
    body = {"properties": {}} if whole else _rule_set(target, kind, namespace)
    said = {
        "defaultAction": given["default_action"],
        "trustedServiceAccessEnabled": given["trusted"],
        "publicNetworkAccess": given["access"],
        "ipRules": [_ip_rule(word) for word in words_of(given["ip_rules"])] if given["ip_rules"] else None,
    }
    body["properties"] |= {name: value for name, value in said.items() if value is not None}
    return flat(
        target.manage("PUT", kind.path(target, namespace, "networkRuleSets", "default"), body, query=kind.query)
    )


@_set_namespace
@click.option("ip_rule", "--ip-rule", cls=Words, metavar="ip-address=MASK [action=Allow]", help="An address or block.")
@click.option("address", "--ip-address", default="", help="The same, shorter.")
def _change_ip_rules(
    target: Target, *, kind: NamespaceKind, adds: bool, namespace: str, ip_rule: Any, address: str
) -> Any:
    """Adds or removes an address, or a block of addresses, that may connect by the public door."""
    wanted = [*([_ip_rule(address)] if address else []), *(_ip_rule(*group) for group in ip_rule)]
    if not wanted:
        raise CommandError("Say which address: --ip-rule ip-address=MASK.")
    body = _rule_set(target, kind, namespace)
    masks = {each["ipMask"] for each in wanted}
    kept = [each for each in body["properties"]["ipRules"] if each["ipMask"] not in masks]
    if not adds and len(kept) == len(body["properties"]["ipRules"]):
        raise CommandError(f"There is no IP rule for {', '.join(sorted(masks))}.")
    body["properties"]["ipRules"] = [*kept, *(wanted if adds else [])]
    return flat(
        target.manage("PUT", kind.path(target, namespace, "networkRuleSets", "default"), body, query=kind.query)
    )


def _rule_set(target: Target, kind: NamespaceKind, namespace: str) -> dict[str, Any]:
    path = kind.path(target, namespace, "networkRuleSets", "default")
    found: dict[str, Any] = target.manage("GET", path, query=kind.query)
    return found


def _ip_rule(*words: str) -> dict[str, str]:
    """`ip-address=MASK action=Allow`, or the mask alone."""
    if len(words) == 1 and "=" not in words[0]:
        return {"ipMask": words[0], "action": "Allow"}
    given = read_pairs([each for word in words for each in word.split()], "--ip-rule")
    mask = given.pop("ip-address", "") or given.pop("ip-mask", "")
    action = given.pop("action", "Allow")
    if given or not mask:
        raise CommandError("--ip-rule takes ip-address=MASK and action=Allow.")
    return {"ipMask": mask, "action": action}


@namespace_option()
def _list_connections(target: Target, *, kind: NamespaceKind, namespace: str) -> Any:
    """Lists the private endpoint connections of a namespace."""
    path = kind.path(target, namespace, "privateEndpointConnections")
    return flat_all(target.manage("GET", path, query=kind.query))


def _connection(function: Function) -> Function:
    """Either --id, or the connection's name with the namespace's."""
    for option in (
        click.option("namespace", "--namespace-name", default="", help="The namespace, where --id is not given."),
        click.option("connection", "--name", "-n", default="", help="The connection, where --id is not given."),
        click.option("connection_id", "--id", default="", help="Id of the connection."),
    ):
        function = option(function)
    return function


@_connection
def _show_connection(target: Target, *, kind: NamespaceKind, **given: str) -> Any:
    """Shows a private endpoint connection."""
    return flat(target.manage("GET", _connection_path(target, kind, **given), query=kind.query))


@_connection
@click.option("--yes", "-y", is_flag=True, help="For scripts of az; nothing is asked here.")
def _delete_connection(target: Target, *, kind: NamespaceKind, yes: bool, **given: str) -> Any:
    """Takes a connection away; its private endpoint stays as Disconnected."""
    return target.manage("DELETE", _connection_path(target, kind, **given), query=kind.query)


@_connection
@click.option("--description", default="", help="Why.")
def _decide(target: Target, *, kind: NamespaceKind, status: str, description: str, **given: str) -> Any:
    """Lets a private endpoint lead to the namespace, or refuses it; answers when every session obeys."""
    path = _connection_path(target, kind, **given)
    body = target.manage("GET", path, query=kind.query)
    state = body["properties"]["privateLinkServiceConnectionState"]
    state |= {"status": status, "description": description or state.get("description") or ""}
    return flat(target.manage("PUT", path, body, query=kind.query))


def _connection_path(
    target: Target, kind: NamespaceKind, *, namespace: str, connection: str, connection_id: str
) -> str:
    if connection_id:
        if f"/providers/{kind.provider}/namespaces/".lower() not in connection_id.lower():
            raise CommandError(f"{connection_id} is not the id of a connection of such a namespace.")
        return connection_id
    if not (connection and namespace):
        raise CommandError("Say which connection: --id, or --name with --namespace-name.")
    return kind.path(target, namespace, "privateEndpointConnections", connection)


@namespace_option()
def _list_link_resources(target: Target, *, kind: NamespaceKind, namespace: str) -> Any:
    """Lists what of a namespace a private endpoint can lead to."""
    return target.manage("GET", kind.path(target, namespace, "privateLinkResources"), query=kind.query)["value"]


def words_of(groups: Sequence[Sequence[str]]) -> list[str]:
    """The words of an option that may stand several times, each time with several words."""
    return [word for group in groups for word in group]
