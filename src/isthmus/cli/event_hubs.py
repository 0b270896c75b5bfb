"""`eventhubs`: hosted Event Hubs namespaces, their event hubs and consumer groups, in the words of `az eventhubs`."""

from typing import Any

import click

from isthmus.cli.command import Group
from isthmus.cli.namespaces import (
    Function,
    NamespaceKind,
    RuleOwner,
    command,
    flat,
    flat_all,
    namespace_group,
    namespace_option,
    rule_set_group,
    rules_group,
)
from isthmus.cli.target import Target

EVENT_HUBS = NamespaceKind("Microsoft.EventHub", "2024-01-01", "Event Hubs")
STATES = ("Active", "Disabled", "SendDisabled", "ReceiveDisabled")

eventhubs = Group(
    "eventhubs", help="Event Hubs namespaces that this server hosts.", coming=("cluster", "georecovery-alias")
)
eventhub = Group("eventhub", help="Event hubs of a namespace.")
consumer_group = Group("consumer-group", help="Consumer groups of an event hub.")


def _event_hub(function: Function) -> Function:
    function = click.option("name", "--name", "-n", required=True, help="The event hub.")(function)
    return namespace_option()(function)


def _settings(function: Function) -> Function:
    for option in (
        click.option("metadata", "--user-metadata", help="A text of your own."),
        click.option("--status", type=click.Choice(STATES, False), help="Whether it takes and gives events."),
        click.option("cleanup", "--cleanup-policy", help="Delete; others are not offered here."),
        click.option(
            "retention", "--retention-time-in-hours", "--retention-time", type=int, help="Hours events are kept."
        ),
        click.option("days", "--message-retention", type=int, help="The same in days."),
        click.option("partitions", "--partition-count", type=int, help="Partitions; they count when it is made."),
    ):
        function = option(function)
    return function


@_event_hub
@_settings
def _create(target: Target, *, namespace: str, name: str, **given: Any) -> Any:
    """Makes an event hub, with the consumer group $Default."""
    body: dict[str, Any] = {"properties": {}}
    _set_members(body["properties"], given)
    return flat(target.manage("PUT", _path(target, namespace, name), body, query=EVENT_HUBS.query))


@_event_hub
@_settings
def _update(target: Target, *, namespace: str, name: str, **given: Any) -> Any:
    """Changes an event hub."""
    body: dict[str, Any] = target.manage("GET", _path(target, namespace, name), query=EVENT_HUBS.query)
    _set_members(body["properties"], given)
    path = _path(target, namespace, name)
    return flat(target.manage("PUT", path, body, etag=body["etag"], query=EVENT_HUBS.query))


@namespace_option()
def _list(target: Target, *, namespace: str) -> Any:
    """Lists the event hubs of a namespace."""
    return flat_all(target.manage("GET", EVENT_HUBS.path(target, namespace, "eventhubs"), query=EVENT_HUBS.query))


@_event_hub
def _show(target: Target, *, namespace: str, name: str) -> Any:
    """Shows an event hub."""
    return flat(target.manage("GET", _path(target, namespace, name), query=EVENT_HUBS.query))


@_event_hub
def _delete(target: Target, *, namespace: str, name: str) -> Any:
    """Deletes an event hub with its events; answers when its last link is ended."""
    return target.manage("DELETE", _path(target, namespace, name), query=EVENT_HUBS.query)


def _group_of(function: Function) -> Function:
    function = click.option("event_hub", "--eventhub-name", "--event-hub-name", required=True, help="The event hub.")(
        function
    )
    return namespace_option()(function)


_group_name = click.option("group", "--name", "--consumer-group-name", "-n", required=True, help="The consumer group.")


@_group_of
@_group_name
@click.option("metadata", "--user-metadata", default="", help="A text of your own.")
def _put_group(target: Target, *, namespace: str, event_hub: str, group: str, metadata: str) -> Any:
    """Makes a consumer group, or changes the text of one."""
    body = {"properties": {"userMetadata": metadata} if metadata else {}}
    path = _path(target, namespace, event_hub, "consumergroups", group)
    return flat(target.manage("PUT", path, body, query=EVENT_HUBS.query))


@_group_of
def _list_groups(target: Target, *, namespace: str, event_hub: str) -> Any:
    """Lists the consumer groups of an event hub."""
    path = _path(target, namespace, event_hub, "consumergroups")
    return flat_all(target.manage("GET", path, query=EVENT_HUBS.query))


@_group_of
@_group_name
def _show_group(target: Target, *, namespace: str, event_hub: str, group: str) -> Any:
    """Shows a consumer group."""
    path = _path(target, namespace, event_hub, "consumergroups", group)
    return flat(target.manage("GET", path, query=EVENT_HUBS.query))


@_group_of
@_group_name
def _delete_group(target: Target, *, namespace: str, event_hub: str, group: str) -> Any:
    """Deletes a consumer group; answers when its last reader is ended."""
    path = _path(target, namespace, event_hub, "consumergroups", group)
    return target.manage("DELETE", path, query=EVENT_HUBS.query)


def _path(target: Target, namespace: str, event_hub: str, *below: str) -> str:
    return EVENT_HUBS.path(target, namespace, "eventhubs", event_hub, *below)


def _set_members(properties: dict[str, Any], given: dict[str, Any]) -> None:
    """What options say, put where it belongs; options that were not given change nothing."""
    retention = {"cleanupPolicy": given["cleanup"], "retentionTimeInHours": given["retention"]}
    described = {name: value for name, value in retention.items() if value is not None}
    if given["days"] is not None:
        properties.pop("retentionDescription", None)
    if described:
        properties["retentionDescription"] = {**properties.get("retentionDescription", {}), **described}
    said = {
        "partitionCount": given["partitions"],
        "messageRetentionInDays": given["days"],
        "status": given["status"],
        "userMetadata": given["metadata"],
    }
    properties |= {name: value for name, value in said.items() if value is not None}


def _assemble() -> None:
    """Puts the tree together; the shorter words of what `az` has one step further down are taken, too."""
    for name, function in (("create", _create), ("update", _update), ("list", _list), ("show", _show)):
        eventhub.add_command(command(function, name))
    eventhub.add_command(command(_delete, "delete"))
    groups = (("create", _put_group), ("update", _put_group), ("list", _list_groups), ("show", _show_group))
    for name, function in (*groups, ("delete", _delete_group)):
        consumer_group.add_command(command(function, name))
    eventhub.add_command(consumer_group)
    eventhub.add_command(rules_group(EVENT_HUBS, RuleOwner("event hub", "--eventhub-name", "eventhubs")))
    for each in (namespace_group(EVENT_HUBS), eventhub, consumer_group, rule_set_group(EVENT_HUBS)):
        eventhubs.add_command(each)


_assemble()
