"""`iot hub routing-endpoint`: endpoints in the older words of `az`, and `routing test`; the same things happen."""

from typing import Any

import click

from isthmus.cli.command import Group
from isthmus.cli.hubs import read_hub
from isthmus.cli.message_endpoints import KINDS, SYSTEM_IDENTITY, add_endpoint, delete_endpoint, show_endpoint
from isthmus.cli.message_routes import test_route
from isthmus.cli.target import Target

HUB_ONLY = ("--hub-name", "-n")

OLD_KINDS = {
    "eventhub": "eventhub",
    "servicebusqueue": "servicebus-queue",
    "servicebustopic": "servicebus-topic",
    "azurestoragecontainer": "storage-container",
}
"""Kinds as they were written, and as they are now."""

routing_endpoint = Group("routing-endpoint", help="Endpoints in the older words: message-endpoint has the newer ones.")
routing = Group("routing", help="Trying routes: message-route has the rest.")
routing.add_command(test_route, "test")
routing_endpoint.add_command(show_endpoint)
routing_endpoint.add_command(delete_endpoint)

_name = click.option("--endpoint-name", "--name", "--en", "name", required=True, help="The endpoint.")
_kind = click.option("--endpoint-type", "--type", "-t", "kind", type=click.Choice(list(OLD_KINDS)), help="Its kind.")


@routing_endpoint.command("create", hub_flags=HUB_ONLY, remote=False)
@_name
@click.option(
    "--endpoint-type", "--type", "-t", "kind", type=click.Choice(list(OLD_KINDS)), required=True, help="Its kind."
)
@click.option("--endpoint-resource-group", "--erg", "-r", "group", help="The target's resource group.")
@click.option("--endpoint-subscription-id", "-s", "subscription_id", help="The target's subscription.")
@click.option("--connection-string", "-c", help="The target's connection string, with its key.")
@click.option("--auth-type", type=click.Choice(("keyBased", "identityBased"), case_sensitive=False), help="[keyBased]")
@click.option("--identity", help="The ARM id of an identity, where it is not the hub's own.")
@click.option("--endpoint-uri", help="The target's address, for identities.")
@click.option("--entity-path", help="The event hub, queue or topic, for identities.")
@click.option("--container-name", "--container", "container", help="The storage container.")
@click.option("--encoding", type=click.Choice(("avro", "avrodeflate", "json"), case_sensitive=False), help="[avro]")
@click.option("--batch-frequency", "-b", type=int, help="A blob's age at most, in seconds: 60 to 720.")
@click.option("--chunk-size", "-w", type=int, help="A blob's size at most, in MB: 10 to 500.")
@click.option("--file-name-format", "--ff", help="With {iothub} {partition} {YYYY} {MM} {DD} {HH} {mm}.")
def create_endpoint(target: Target, name: str, kind: str, auth_type: str | None, **given: Any) -> Any:
    """Adds an endpoint; the hub refuses one that it could never deliver to."""
    if (auth_type or "").lower() == "identitybased":
        given["identity"] = given["identity"] or SYSTEM_IDENTITY
    if kind == "azurestoragecontainer":
        del given["entity_path"]
    return add_endpoint(target, OLD_KINDS[kind], name, given)


@routing_endpoint.command("list", hub_flags=HUB_ONLY, remote=False)
@_kind
def list_endpoints(target: Target, kind: str | None) -> Any:
    """Lists the endpoints, by kind; keys are not shown."""
    endpoints = read_hub(target)["properties"]["routing"]["endpoints"]
    return endpoints[KINDS[OLD_KINDS[kind]]] if kind else endpoints
