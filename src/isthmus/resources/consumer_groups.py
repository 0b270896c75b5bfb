"""Consumer groups of the built-in endpoint: pure changes of the hub record, and their ARM form."""

import re
from dataclasses import replace

from isthmus.base.errors import Code, HubError
from isthmus.resources.hub import CONSUMER_GROUPS_MAX, DEFAULT_CONSUMER_GROUP, Hub

GROUP_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")
"""Event Hubs naming rules: 1 to 50 characters."""


def find_group(hub: Hub, name: str) -> str | None:
    """The group's name as it was created; groups are compared without case."""
    return next((group for group in hub.consumer_groups if group.lower() == name.lower()), None)


def add_group(hub: Hub, name: str) -> Hub:
    """The hub with the group, unchanged when it is there; raises HubError ArgumentInvalid or QuotaExceeded."""
    if find_group(hub, name) is not None:
        return hub
    if not GROUP_NAME.fullmatch(name):
        raise HubError(Code.ARGUMENT_INVALID, f"A consumer group has 1 to 50 letters, digits, '.', '-', '_': {name!r}")
    if len(hub.consumer_groups) >= CONSUMER_GROUPS_MAX:
        raise HubError(Code.QUOTA_EXCEEDED, f"A hub has at most {CONSUMER_GROUPS_MAX} consumer groups")
    return replace(hub, consumer_groups=(*hub.consumer_groups, name))


def remove_group(hub: Hub, name: str) -> Hub:
    """The hub without the group; raises HubError GenericNotFound, or InvalidOperation for the default one."""
    found = _require(hub, name)
    if found == DEFAULT_CONSUMER_GROUP:
        raise HubError(Code.INVALID_OPERATION, f"The consumer group {DEFAULT_CONSUMER_GROUP} cannot be deleted")
    return replace(hub, consumer_groups=tuple(group for group in hub.consumer_groups if group != found))


def group_to_arm(hub: Hub, name: str) -> dict[str, object]:
    """A group as `az iot hub consumer-group show` prints it; raises HubError GenericNotFound."""
    found = _require(hub, name)
    return {
        "id": f"{hub.resource_id}/eventHubEndpoints/events/ConsumerGroups/{found}",
        "name": found,
        "type": "Microsoft.Devices/IotHubs/EventHubEndpoints/ConsumerGroups",
        "etag": None,
        "properties": {},
    }


def _require(hub: Hub, name: str) -> str:
    found = find_group(hub, name)
    if found is None:
        known = ", ".join(hub.consumer_groups)
        raise HubError(Code.NOT_FOUND, f"There is no consumer group {name}; groups of {hub.name}: {known}")
    return found
