"""Connection strings of hosted namespaces: by which of their rules, and with which key."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from isthmus.cli.errors import CommandError
from isthmus.cli.target import Target

NAMESPACES_API = {"api-version": "2024-01-01"}
ENTITIES = {"Microsoft.EventHub": ("eventhubs",), "Microsoft.ServiceBus": ("queues", "topics")}
"""What has rules of its own in a namespace, by provider."""

ROOT_RULE = "RootManageSharedAccessKey"


def namespace_strings(
    target: Target, namespace: str, entity: str, policy: str, key_type: str, *, show_all: bool
) -> list[str]:
    """The strings of a rule, the root rule where none is named, or of all rules; raises CommandError for none.

    With an entity the string names it, and its own rules count before those of the namespace.
    """
    found = _namespace_id(target, namespace)
    owners = [*_entity_ids(target, found, entity), found] if entity else [found]
    wanted = policy or ROOT_RULE
    names = [(owner, rule) for owner in owners for rule in _rules(target, owner)]
    chosen = names if show_all else [each for each in names if each[1].lower() == wanted.lower()][:1]
    if not chosen:
        raise CommandError(f"There is no rule {wanted} (rules here: {', '.join(rule for _, rule in names) or 'none'}).")
    return [_string(target, owner, rule, key_type, entity) for owner, rule in chosen]


def _namespace_id(target: Target, name: str) -> str:
    """The id of the namespace of that name, of whichever kind."""
    known = [each for provider in ENTITIES for each in _listed(target, target.resource_id(provider, "namespaces"))]
    for each in known:
        if each["name"].lower() == name.lower():
            return str(each["id"])
    names = ", ".join(each["name"] for each in known) or "none"
    raise CommandError(f"There is no namespace {name} (namespaces here: {names}).")


def _entity_ids(target: Target, namespace_id: str, entity: str) -> list[str]:
    """The ids of what has that name in the namespace; raises CommandError when nothing has."""
    provider = namespace_id.partition("/providers/")[2].partition("/")[0]
    known = [each for kind in ENTITIES[provider] for each in _listed(target, f"{namespace_id}/{kind}")]
    found = [str(each["id"]) for each in known if each["name"].lower() == entity.lower()]
    if not found:
        names = ", ".join(each["name"] for each in known) or "nothing"
        raise CommandError(f"There is no {entity} in this namespace (in it: {names}).")
    return found


def _rules(target: Target, owner: str) -> Iterator[str]:
    return (str(each["name"]) for each in _listed(target, f"{owner}/authorizationRules"))


def _string(target: Target, owner: str, rule: str, key_type: str, entity: str) -> str:
    path = f"{owner}/authorizationRules/{quote(rule, safe='')}/listKeys"
    keys = target.manage("POST", path, {}, query=NAMESPACES_API)
    string = str(keys[f"{key_type}ConnectionString"])
    return string if not entity or ";EntityPath=" in string else f"{string};EntityPath={entity}"


def _listed(target: Target, path: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = target.manage("GET", path, query=NAMESPACES_API)["value"]
    return listed
