"""Scopes as callers write them: the whole installation, the subscription, the group, a resource, a child of one."""

from isthmus.access.roles import segments_of
from isthmus.base.places import RESOURCE_GROUP, SUBSCRIPTION
from isthmus.resources.members import bad

EVERYTHING = "/"
"""The widest scope."""


def checked_scope(scope: str) -> str:
    """The scope as it is kept; raises HubError ArgumentInvalid for one in which nothing can ever be."""
    segments = segments_of(scope)
    group = ("subscriptions", SUBSCRIPTION, "resourcegroups", RESOURCE_GROUP.lower())
    if segments[: len(group)] != group[: len(segments)]:
        raise bad("scope", f"/ or a resource id below /subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}")
    below = segments[len(group) :]
    if below and (below[0] != "providers" or len(below) < 4 or len(below) % 2):
        raise bad("scope", "/, the id of a subscription, a resource group, or a resource")
    return "/" + "/".join(part for part in scope.split("/") if part)
