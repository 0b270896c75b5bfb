"""`servicebus`: hosted Service Bus namespaces and what is in them, in the words of `az servicebus`."""

from collections.abc import Callable
from typing import Any

import click

from isthmus.cli.command import Group, three_state
from isthmus.cli.edits import read_pairs
from isthmus.cli.errors import CommandError
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

SERVICE_BUS = NamespaceKind("Microsoft.ServiceBus", "2024-01-01", "Service Bus")
STATES = ("Active", "Disabled", "SendDisabled", "ReceiveDisabled")

servicebus = Group(
    "servicebus", help="Service Bus namespaces that this server hosts.", coming=("georecovery-alias", "migration")
)
queue = Group("queue", help="Queues of a namespace.")
topic = Group("topic", help="Topics of a namespace.")
subscription = Group("subscription", help="Subscriptions of a topic.")
rule = Group("rule", help="Rules of a subscription: which messages it gets.")

_topic_option = click.option("topic", "--topic-name", required=True, help="The topic.")
_subscription_option = click.option("reader", "--subscription-name", required=True, help="The subscription.")


def _named(what: str) -> Callable[[Function], Function]:
    return click.option("name", "--name", "-n", required=True, help=f"The {what}.")


def _shared_settings(function: Function) -> Function:
    for option in (
        three_state("batched", "--enable-batched-operations", help="Always true."),
        click.option("idle", "--auto-delete-on-idle", metavar="DURATION", help="Deletion when idle; not offered here."),
        click.option("metadata", "--user-metadata", help="A text of your own."),
        click.option("--status", type=click.Choice(STATES, False), help="Whether it takes and gives messages."),
        click.option(
            "ttl", "--default-message-time-to-live", metavar="DURATION", help="How long messages live, such as P1D."
        ),
    ):
        function = option(function)
    return function


def _lock_settings(function: Function) -> Function:
    for option in (
        click.option("forward", "--forward-to", help="Forwarding; not offered here."),
        click.option("forward_dead", "--forward-dead-lettered-messages-to", help="The same of dead letters."),
        three_state("sessions", "--enable-session", "--requires-session", help="Sessions; not offered here."),
        three_state(
            "expired",
            "--enable-dead-lettering-on-message-expiration",
            "--dead-letter-on-message-expiration",
            help="Whether messages that ran out go to the dead-letter queue.",
        ),
        click.option(
            "deliveries", "--max-delivery-count", type=int, help="Deliveries before a message is dead-lettered."
        ),
        click.option("lock", "--lock-duration", metavar="DURATION", help="How long a lock holds, such as PT1M."),
    ):
        function = option(function)
    return function


def _size_settings(function: Function) -> Function:
    for option in (
        three_state("partitions", "--enable-partitioning", help="Partitioning; not offered here."),
        three_state("express", "--enable-express", help="Always false: what is accepted is on disk."),
        click.option("message_size", "--max-message-size", type=int, help="Always 1024, in kilobytes."),
        click.option(
            "history", "--duplicate-detection-history-time-window", metavar="DURATION", help="Without effect here."
        ),
        three_state(
            "duplicates",
            "--enable-duplicate-detection",
            "--duplicate-detection",
            help="Duplicate detection; not offered here.",
        ),
        click.option("size", "--max-size", "--max-size-in-megabytes", type=int, help="Megabytes it may hold."),
    ):
        function = option(function)
    return function


_MEMBERS = {
    "batched": "enableBatchedOperations",
    "idle": "autoDeleteOnIdle",
    "forward": "forwardTo",
    "forward_dead": "forwardDeadLetteredMessagesTo",
    "partitions": "enablePartitioning",
    "express": "enableExpress",
    "message_size": "maxMessageSizeInKilobytes",
    "history": "duplicateDetectionHistoryTimeWindow",
    "metadata": "userMetadata",
    "status": "status",
    "ttl": "defaultMessageTimeToLive",
    "sessions": "requiresSession",
    "expired": "deadLetteringOnMessageExpiration",
    "deliveries": "maxDeliveryCount",
    "lock": "lockDuration",
    "duplicates": "requiresDuplicateDetection",
    "size": "maxSizeInMegabytes",
}


def _set_members(properties: dict[str, Any], given: dict[str, Any]) -> None:
    """What options say; options that were not given change nothing."""
    properties |= {_MEMBERS[option]: value for option, value in given.items() if value is not None}


@namespace_option()
@_named("queue")
@_shared_settings
@_lock_settings
@_size_settings
def _put_queue(target: Target, *, updates: bool, namespace: str, name: str, **given: Any) -> Any:
    """Makes a queue, or changes one."""
    return _put(target, SERVICE_BUS.path(target, namespace, "queues", name), given, updates=updates)


@namespace_option()
@_named("topic")
@_shared_settings
@_size_settings
def _put_topic(target: Target, *, updates: bool, namespace: str, name: str, **given: Any) -> Any:
    """Makes a topic, or changes one."""
    return _put(target, SERVICE_BUS.path(target, namespace, "topics", name), given, updates=updates)


@namespace_option()
@_topic_option
@_named("subscription")
@_shared_settings
@_lock_settings
def _put_subscription(target: Target, *, updates: bool, namespace: str, topic: str, name: str, **given: Any) -> Any:
    """Makes a subscription, which gets everything until its rules say otherwise, or changes one."""
    path = SERVICE_BUS.path(target, namespace, "topics", topic, "subscriptions", name)
    return _put(target, path, given, updates=updates)


def _put(target: Target, path: str, given: dict[str, Any], *, updates: bool) -> Any:
    body: dict[str, Any] = target.manage("GET", path, query=SERVICE_BUS.query) if updates else {"properties": {}}
    _set_members(body["properties"], given)
    etag = body["etag"] if updates else ""
    return flat(target.manage("PUT", path, {"properties": body["properties"]}, etag=etag, query=SERVICE_BUS.query))


@namespace_option()
def _list(target: Target, *, collection: str, namespace: str) -> Any:
    """Lists them."""
    return flat_all(target.manage("GET", SERVICE_BUS.path(target, namespace, collection), query=SERVICE_BUS.query))


@namespace_option()
@click.option("name", "--name", "-n", required=True, help="Its name.")
def _show(target: Target, *, collection: str, namespace: str, name: str) -> Any:
    """Shows one, with the numbers of its messages."""
    return flat(target.manage("GET", SERVICE_BUS.path(target, namespace, collection, name), query=SERVICE_BUS.query))


@namespace_option()
@click.option("name", "--name", "-n", required=True, help="Its name.")
def _delete(target: Target, *, collection: str, namespace: str, name: str) -> Any:
    """Deletes one with its messages; answers when its last link is ended."""
    return target.manage("DELETE", SERVICE_BUS.path(target, namespace, collection, name), query=SERVICE_BUS.query)


@namespace_option()
@_topic_option
def _list_subscriptions(target: Target, *, namespace: str, topic: str) -> Any:
    """Lists the subscriptions of a topic."""
    path = SERVICE_BUS.path(target, namespace, "topics", topic, "subscriptions")
    return flat_all(target.manage("GET", path, query=SERVICE_BUS.query))


@namespace_option()
@_topic_option
@_named("subscription")
def _show_subscription(target: Target, *, namespace: str, topic: str, name: str) -> Any:
    """Shows a subscription, with the numbers of its messages."""
    path = SERVICE_BUS.path(target, namespace, "topics", topic, "subscriptions", name)
    return flat(target.manage("GET", path, query=SERVICE_BUS.query))


@namespace_option()
@_topic_option
@_named("subscription")
def _delete_subscription(target: Target, *, namespace: str, topic: str, name: str) -> Any:
    """Deletes a subscription with its messages; answers when its last link is ended."""
    path = SERVICE_BUS.path(target, namespace, "topics", topic, "subscriptions", name)
    return target.manage("DELETE", path, query=SERVICE_BUS.query)


@namespace_option()
@_topic_option
@_subscription_option
@_named("rule")
@click.option("kind", "--filter-type", type=click.Choice(("SqlFilter", "CorrelationFilter"), False))
@click.option("sql", "--filter-sql-expression", help="1=1 for everything, 1=0 for nothing; no other SQL here.")
@click.option("correlation_id", "--correlation-id", help="The correlation id of messages that are wanted.")
@click.option("message_id", "--message-id", help="Their message id.")
@click.option("to", "--to", help="Whom they are to.")
@click.option("reply_to", "--reply-to", help="Whom to answer.")
@click.option("label", "--label", help="Their subject.")
@click.option("session_id", "--session-id", help="Their session id.")
@click.option("reply_to_session_id", "--reply-to-session-id", help="The session id to answer to.")
@click.option("content_type", "--content-type", help="Their content type.")
@click.option(
    "pairs",
    "--correlation-filter-property",
    "--correlation-filter",
    multiple=True,
    metavar="KEY=VALUE",
    help="Application properties that they have.",
)
def _put_rule(
    target: Target,
    *,
    namespace: str,
    topic: str,
    reader: str,
    name: str,
    kind: str | None,
    sql: str | None,
    pairs: tuple[str, ...],
    **given: str | None,
) -> Any:
    """Makes a rule, or puts one in the place of another.

    A subscription is made with the rule $Default, which gets everything: delete it to get only what others select.
    """
    wanted: dict[str, Any] = {_CORRELATION[option]: value for option, value in given.items() if value is not None}
    properties = read_pairs([each for pair in pairs for each in pair.split()], "--correlation-filter-property")
    if properties:
        wanted["properties"] = properties
    if sql is not None and wanted:
        raise CommandError("A rule has an SQL filter or a correlation filter, not both.")
    body: dict[str, Any] = {"filterType": kind or ("CorrelationFilter" if wanted else "SqlFilter")}
    if body["filterType"].lower() == "correlationfilter":
        body["correlationFilter"] = wanted
    else:
        body["sqlFilter"] = {"sqlExpression": sql or "1=1"}
    path = _rules(target, namespace, topic, reader, name)
    return flat(target.manage("PUT", path, {"properties": body}, query=SERVICE_BUS.query))


_CORRELATION = {
    "correlation_id": "correlationId",
    "message_id": "messageId",
    "to": "to",
    "reply_to": "replyTo",
    "label": "label",
    "session_id": "sessionId",
    "reply_to_session_id": "replyToSessionId",
    "content_type": "contentType",
}


@namespace_option()
@_topic_option
@_subscription_option
def _list_rules(target: Target, *, namespace: str, topic: str, reader: str) -> Any:
    """Lists the rules of a subscription."""
    return flat_all(target.manage("GET", _rules(target, namespace, topic, reader), query=SERVICE_BUS.query))


@namespace_option()
@_topic_option
@_subscription_option
@_named("rule")
def _show_rule(target: Target, *, namespace: str, topic: str, reader: str, name: str) -> Any:
    """Shows a rule."""
    return flat(target.manage("GET", _rules(target, namespace, topic, reader, name), query=SERVICE_BUS.query))


@namespace_option()
@_topic_option
@_subscription_option
@_named("rule")
def _delete_rule(target: Target, *, namespace: str, topic: str, reader: str, name: str) -> Any:
    """Deletes a rule; without any, a subscription gets nothing."""
    return target.manage("DELETE", _rules(target, namespace, topic, reader, name), query=SERVICE_BUS.query)


def _rules(target: Target, namespace: str, topic: str, reader: str, *name: str) -> str:
    return SERVICE_BUS.path(target, namespace, "topics", topic, "subscriptions", reader, "rules", *name)


def _assemble() -> None:
    """Puts the tree together; the shorter words of what `az` has one step further down are taken, too."""
    for group, put, collection, said in (
        (queue, _put_queue, "queues", "queue"),
        (topic, _put_topic, "topics", "topic"),
    ):
        group.add_command(command(put, "create", updates=False))
        group.add_command(command(put, "update", updates=True))
        for name, function in (("list", _list), ("show", _show), ("delete", _delete)):
            group.add_command(command(function, name, collection=collection))
        group.add_command(rules_group(SERVICE_BUS, RuleOwner(said, f"--{said}-name", collection)))
    subscription.add_command(command(_put_subscription, "create", updates=False))
    subscription.add_command(command(_put_subscription, "update", updates=True))
    for name, function in (
        ("list", _list_subscriptions),
        ("show", _show_subscription),
        ("delete", _delete_subscription),
    ):
        subscription.add_command(command(function, name))
    for name, function in (("create", _put_rule), ("update", _put_rule), ("list", _list_rules), ("show", _show_rule)):
        rule.add_command(command(function, name))
    rule.add_command(command(_delete_rule, "delete"))
    subscription.add_command(rule)
    topic.add_command(subscription)
    for each in (namespace_group(SERVICE_BUS), queue, topic, subscription, rule, rule_set_group(SERVICE_BUS)):
        servicebus.add_command(each)


_assemble()
