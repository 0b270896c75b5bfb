"""`identity`, `iot hub identity` and `role`: managed identities, and which roles they have where.

As `az` prints them, identities, assignments and definitions are flat. `identity secret` is this product's own: by a
secret a workload elsewhere proves to be the identity.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import click

from isthmus.base.ids import RandomIds
from isthmus.cli.command import Group, Words, three_state
from isthmus.cli.durations import read_duration
from isthmus.cli.edits import read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.hubs import read_hub
from isthmus.cli.target import DEVICES_API, Target

PROVIDER = "Microsoft.ManagedIdentity"
AUTHORIZATION = "/providers/Microsoft.Authorization"
IDENTITY_API = {"api-version": "2023-01-31"}
ROLE_API = {"api-version": "2022-04-01"}
NO_HUB = ("--hub-name",)
SYSTEM_FLAGS = ("--system-assigned", "--system")
USER_FLAGS = ("--user-assigned", "--user")

identity = Group(
    "identity", help="User-assigned managed identities.", coming=("federated-credential", "list-resources")
)
secret = Group("secret", help="Secrets by which a workload elsewhere proves to be an identity.")
identity.add_command(secret)
hub_identity = Group("identity", help="The managed identities of a hub.")
role = Group("role", help="Roles: what identities may do with data, and where.", coming=("deny-assignment",))
assignment = Group("assignment", help="Who has which role where.", coming=("list-changelogs", "update"))
definition = Group("definition", help="The built-in roles.", coming=("create", "delete", "update"))
role.add_command(assignment)
role.add_command(definition)

_name = click.option("--name", "-n", "name", required=True, help="The identity.")
_assignee = click.option("assignee", "--assignee-object-id", "--assignee", default="", help="The principal's id.")
_role = click.option("role_name", "--role", default="", help="The role's name or GUID.")
_scope = click.option("--scope", default="", help="Id of a resource, group or subscription; all below it is meant.")


@identity.command("create", hub_flags=NO_HUB, remote=False)
@_name
@click.option("--location", "-l", default="", help="Where it is; any word.")
@click.option("--tags", cls=Words, metavar="NAME=VALUE...", help="Tags.")
def create_identity(target: Target, name: str, location: str, tags: Any) -> Any:
    """Makes an identity, or replaces the tags of one."""
    said = read_pairs([word for group in tags for word in group], "--tags")
    body = {"location": location or "local", "tags": said}
    return _flat(target.manage("PUT", _identity_id(target, name), body, query=IDENTITY_API))


@identity.command("list", hub_flags=NO_HUB, remote=False)
def list_identities(target: Target) -> Any:
    """Lists the identities."""
    return [_flat(each) for each in target.manage("GET", _identity_id(target), query=IDENTITY_API)["value"]]


@identity.command("show", hub_flags=NO_HUB, remote=False)
@_name
def show_identity(target: Target, name: str) -> Any:
    """Shows an identity."""
    return _flat(target.manage("GET", _identity_id(target, name), query=IDENTITY_API))


@identity.command("delete", hub_flags=NO_HUB, remote=False)
@_name
def delete_identity(target: Target, name: str) -> Any:
    """Ends an identity that no hub uses, for ever: another of its name is another identity."""
    return target.manage("DELETE", _identity_id(target, name), query=IDENTITY_API)


@secret.command("create", hub_flags=NO_HUB, remote=False)
@_name
@click.option("--expires-in", default="180d", show_default=True, metavar="TIME", help="12h, 90d, …; 366d at most.")
def create_secret(target: Target, name: str, expires_in: str) -> Any:
    """Makes a secret and prints it, once: only its hash is kept."""
    body = {"expiresIn": read_duration(expires_in, "--expires-in")}
    path = f"{_identity_id(target, name)}/secrets/{RandomIds().uuid()}"
    return target.manage("PUT", path, body, query=IDENTITY_API)


@secret.command("list", hub_flags=NO_HUB, remote=False)
@_name
def list_secrets(target: Target, name: str) -> Any:
    """Lists the secrets of an identity, without their texts."""
    return target.manage("GET", f"{_identity_id(target, name)}/secrets", query=IDENTITY_API)["value"]


@secret.command("delete", hub_flags=NO_HUB, remote=False)
@_name
@click.option("--key-id", required=True, help="The secret.")
def delete_secret(target: Target, name: str, key_id: str) -> Any:
    """Takes a secret back; tokens that were given for it end by themselves."""
    path = f"{_identity_id(target, name)}/secrets/{quote(key_id, safe='')}"
    return target.manage("DELETE", path, query=IDENTITY_API)


@hub_identity.command("assign", hub_flags=("--name", "--hub-name", "-n"), remote=False)
@three_state(*SYSTEM_FLAGS, help="An identity of the hub's own, which lives and dies with it.")
@click.option("users", *USER_FLAGS, cls=Words, metavar="ID...", help="Ids of user-assigned identities.")
@_role
@click.option("--scopes", cls=Words, metavar="ID...", help="Where the hub's own identity is to have the role.")
def assign_identity(target: Target, system_assigned: bool | None, users: Any, role_name: str, scopes: Any) -> Any:
    """Gives a hub its own identity, or user-assigned ones."""
    given, wanted = _words(users), _words(scopes)
    if not system_assigned and not given:
        raise CommandError("Say which identity: --system-assigned, or --user-assigned ID.")
    if bool(role_name) is not bool(wanted) or (role_name and not system_assigned):
        raise CommandError("--role and --scopes go together, and with --system-assigned.")
    own, attached = _present(target)
    shown = _write(target, own or bool(system_assigned), [*attached, *given])
    for scope in wanted:
        _assign(target, shown["principalId"], role_name, scope, principal_type="ServicePrincipal")
    return shown


@hub_identity.command("show", hub_flags=("--name", "--hub-name", "-n"), remote=False)
def show_hub_identity(target: Target) -> Any:
    """Shows the identities of a hub."""
    return read_hub(target)["identity"]


@hub_identity.command("remove", hub_flags=("--name", "--hub-name", "-n"), remote=False)
@three_state(*SYSTEM_FLAGS, help="The hub's own identity, which then ends.")
@click.option("users", *USER_FLAGS, cls=Words, metavar="ID...", help="Ids of user-assigned identities; none for all.")
def remove_identity(target: Target, system_assigned: bool | None, users: tuple[Any, ...]) -> Any:
    """Takes identities from a hub; a user-assigned one lives on."""
    if not system_assigned and not users:
        raise CommandError("Say which identity: --system-assigned, or --user-assigned ID.")
    own, attached = _present(target)
    gone = {each.lower() for each in _words(users)}
    missing = gone - {each.lower() for each in attached}
    if missing:
        raise CommandError(f"The hub does not have the identity {sorted(missing)[0]}.")
    return _write(target, own and not system_assigned, [each for each in attached if each.lower() not in gone])


@assignment.command("create", hub_flags=NO_HUB, remote=False)
@_assignee
@_role
@_scope
@click.option("principal_type", "--assignee-principal-type", default="", help="Needed for a principal of elsewhere.")
@click.option("--name", "-n", default="", help="The assignment's GUID. Default: a new one.")
@click.option("--description", default="", help="What it is for.")
def create_assignment(target: Target, assignee: str, role_name: str, scope: str, **given: str) -> Any:
    """Assigns a role; one that is assigned already is shown."""
    if not (assignee and role_name and scope):
        raise CommandError("Say who, what and where: --assignee-object-id, --role and --scope.")
    return _assign(target, assignee, role_name, scope, **given)


@assignment.command("list", hub_flags=NO_HUB, remote=False)
@_assignee
@_role
@_scope
@click.option("--all", "everywhere", is_flag=True, help="Everywhere, which is what no --scope means, too.")
@click.option("--include-inherited", is_flag=True, help="Also those at scopes above.")
def list_assignments(
    target: Target, assignee: str, role_name: str, scope: str, everywhere: bool, include_inherited: bool
) -> Any:
    """Lists role assignments, those at a scope or below, or all."""
    return _assignments(target, assignee, role_name, "" if everywhere else scope, inherited=include_inherited)


@assignment.command("delete", hub_flags=NO_HUB, remote=False)
@_assignee
@_role
@_scope
@click.option("--ids", cls=Words, metavar="ID...", help="Ids of assignments, instead of who, what and where.")
@click.option("--yes", "-y", is_flag=True, help="For scripts of az; nothing is asked here.")
def delete_assignment(target: Target, assignee: str, role_name: str, scope: str, ids: Any, yes: bool) -> Any:
    """Takes roles away: those with these ids, or all that fit who, what and where exactly."""
    gone = _words(ids)
    if not gone:
        if not (assignee or scope):
            raise CommandError("Say which: --ids, or --assignee-object-id and --scope with or without --role.")
        found = _assignments(target, assignee, role_name, scope)
        gone = [each["id"] for each in found if not scope or _same(each["scope"], scope)]
    if not gone:
        raise CommandError("There is no such role assignment.")
    for each in gone:
        target.manage("DELETE", each, query=ROLE_API)
    return None


@definition.command("list", hub_flags=NO_HUB, remote=False)
@click.option("--name", "-n", default="", help="The role's name or GUID.")
def list_definitions(target: Target, name: str) -> Any:
    """Lists the built-in roles with their actions and data actions."""
    return [each for each in _roles(target) if name.lower() in ("", each["roleName"].lower(), each["name"])]


def _present(target: Target) -> tuple[bool, list[str]]:
    """Whether the hub has its own identity, and the ids of those that it was given."""
    identity = read_hub(target)["identity"]
    return "SystemAssigned" in identity["type"], list(identity.get("userAssignedIdentities") or {})


def _write(target: Target, own: bool, attached: Sequence[str]) -> dict[str, Any]:
    kinds = [*(["SystemAssigned"] if own else []), *(["UserAssigned"] if attached else [])]
    body: dict[str, Any] = {"type": ", ".join(kinds) or "None"}
    if attached:
        body["userAssignedIdentities"] = {each: {} for each in dict.fromkeys(attached)}
    hub = target.manage("PATCH", target.hub_id(), {"identity": body}, query={"api-version": DEVICES_API})
    shown: dict[str, Any] = hub["identity"]
    return shown


def _assign(
    target: Target,
    assignee: str,
    role_name: str,
    scope: str,
    *,
    principal_type: str = "",
    name: str = "",
    description: str = "",
) -> dict[str, Any]:
    role_id = role_name if "/" in role_name else f"{_subscription(target)}{AUTHORIZATION}/roleDefinitions/{role_name}"
    found = [each for each in _roles(target) if role_name.lower() in (each["roleName"].lower(), each["name"])]
    wanted = {"roleDefinitionId": found[0]["id"] if found else role_id, "principalId": assignee}
    said = {"principalType": principal_type, "description": description}
    properties = wanted | {member: value for member, value in said.items() if value}
    same = [] if name else _assignments(target, assignee, role_name, scope)
    present = next((each for each in same if _same(each["scope"], scope)), None)
    if present is not None:
        return present
    path = f"{scope.rstrip('/')}{AUTHORIZATION}/roleAssignments/{quote(name or RandomIds().uuid(), safe='')}"
    made = target.manage("PUT", path, {"properties": properties}, query=ROLE_API)
    return _flat_assignment(made, _roles(target))


def _roles(target: Target) -> list[dict[str, Any]]:
    """All role definitions, flat."""
    found = target.manage("GET", f"{_subscription(target)}{AUTHORIZATION}/roleDefinitions", query=ROLE_API)["value"]
    return [_flat_definition(each) for each in found]


def _assignments(
    target: Target, assignee: str, role_name: str, scope: str, *, inherited: bool = True
) -> list[dict[str, Any]]:
    path = f"{scope.rstrip('/')}{AUTHORIZATION}/roleAssignments"
    asked = ROLE_API | ({"$filter": f"principalId eq '{assignee}'"} if assignee else {})
    roles = _roles(target)
    found = [_flat_assignment(each, roles) for each in target.manage("GET", path, query=asked)["value"]]
    wanted = role_name.lower()
    return [
        each
        for each in found
        if wanted in ("", each["roleDefinitionName"].lower(), each["roleDefinitionId"].rpartition("/")[2])
        and (inherited or not scope or _below(each["scope"], scope))
    ]


def _flat(resource: dict[str, Any]) -> dict[str, Any]:
    group = resource["id"].split("/")[4]
    rest = {name: value for name, value in resource.items() if name != "properties"}
    return {**rest, **resource["properties"], "resourceGroup": group}


def _flat_assignment(resource: dict[str, Any], roles: Iterable[dict[str, Any]]) -> dict[str, Any]:
    properties = resource["properties"]
    named = next((each["roleName"] for each in roles if each["id"] == properties["roleDefinitionId"]), "")
    rest = {name: value for name, value in resource.items() if name != "properties"}
    return {**rest, **properties, "roleDefinitionName": named}


def _flat_definition(resource: dict[str, Any]) -> dict[str, Any]:
    properties = dict(resource["properties"])
    rest = {name: value for name, value in resource.items() if name != "properties"}
    return {**rest, "roleType": properties.pop("type"), **properties}


def _identity_id(target: Target, name: str = "") -> str:
    return target.resource_id(PROVIDER, "userAssignedIdentities", name)


def _subscription(target: Target) -> str:
    return f"/subscriptions/{target.subscription}"


def _words(groups: Iterable[Iterable[str]]) -> list[str]:
    return [word for group in groups for word in group]


def _same(one: str, other: str) -> bool:
    return one.rstrip("/").lower() == other.rstrip("/").lower()


def _below(scope: str, above: str) -> bool:
    return f"{scope.rstrip('/')}/".lower().startswith(f"{above.rstrip('/')}/".lower())
