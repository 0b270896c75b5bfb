"""`iot hub message-endpoint`: where routes lead besides the built-in endpoint, in the words of `az`' extension."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group
from isthmus.cli.errors import CommandError
from isthmus.cli.hubs import API, read_hub
from isthmus.cli.target import Target

HUB_ONLY = ("--hub-name", "-n")

KINDS = {
    "eventhub": "eventHubs",
    "servicebus-queue": "serviceBusQueues",
    "servicebus-topic": "serviceBusTopics",
    "storage-container": "storageContainers",
}
"""Kinds of endpoints as they are written here, and the lists of the hub's document that they stand in."""

SYSTEM_IDENTITY = "[system]"
MEGABYTE = 1_048_576

Json = dict[str, Any]

message_endpoint = Group("message-endpoint", help="Endpoints: where routes lead besides the built-in endpoint.")
create = Group("create", help="Adds an endpoint.", coming=("cosmosdb-container", "fabric-eventstream"))
update = Group("update", help="Changes an endpoint.", coming=("cosmosdb-container", "fabric-eventstream"))
message_endpoint.add_command(create)
message_endpoint.add_command(update)

_name = click.option("--endpoint-name", "--en", "name", required=True, help="The endpoint.")
_kind = click.option("--endpoint-type", "--type", "-t", "kind", type=click.Choice(list(KINDS)), help="Only this kind.")


def _common(function: Any) -> Any:
    """What endpoints of all kinds have."""
    for option in (
        click.option("--endpoint-subscription-id", "-s", "subscription_id", help="The target's subscription."),
        click.option("--endpoint-resource-group", "--erg", "-r", "group", help="The target's resource group."),
        click.option("--endpoint-uri", help="The target's address, for identities: sb://… or https://…"),
        click.option(
            "--identity",
            help=f"Who the hub is there: {SYSTEM_IDENTITY} for its own identity, or the ARM id of another.",
        ),
        click.option("--connection-string", "-c", help="The target's connection string, with its key."),
        _name,
    ):
        function = option(function)
    return function


def _entity(function: Any) -> Any:
    return click.option("--entity-path", help="The event hub, queue or topic.")(function)


def _blobs(function: Any) -> Any:
    """How blobs are written."""
    for option in (
        click.option("--file-name-format", "--ff", help="With {iothub} {partition} {YYYY} {MM} {DD} {HH} {mm}."),
        click.option("--chunk-size", "-w", type=int, help="A blob's size at most, in MB: 10 to 500."),
        click.option("--batch-frequency", "-b", type=int, help="A blob's age at most, in seconds: 60 to 720."),
    ):
        function = option(function)
    return function


def _command(kind: str) -> None:
    """`create KIND` and `update KIND` of what is reached by messages."""

    @create.command(kind, hub_flags=HUB_ONLY, remote=False)
    @_common
    @_entity
    @click.option("--endpoint-namespace-name", "--namespace", "namespace", help="A hosted namespace, for its key.")
    @click.option("--endpoint-policy-name", "--policy-name", "--policy", "policy", help="The policy of that key.")
    def added(target: Target, name: str, namespace: str | None, policy: str | None, **given: Any) -> Any:
        """Adds an endpoint; the hub refuses one that it could never deliver to."""
        if given["connection_string"] is None and given["identity"] is None and namespace:
            given["connection_string"] = _namespace_key(target, kind, namespace, given["entity_path"], policy)
        return add_endpoint(target, kind, name, given)

    @update.command(kind, hub_flags=HUB_ONLY, remote=False)
    @_common
    @_entity
    def changed(target: Target, name: str, **given: Any) -> Any:
        """Changes what is given; its messages that wait are delivered there then."""
        return _updated(target, kind, name, given)


for _each in ("eventhub", "servicebus-queue", "servicebus-topic"):
    _command(_each)


@create.command("storage-container", hub_flags=HUB_ONLY, remote=False)
@_common
@_blobs
@click.option("--container-name", "--container", "container", required=True, help="The container.")
@click.option("--encoding", type=click.Choice(("avro", "avrodeflate", "json"), case_sensitive=False), help="[avro]")
@click.option("--endpoint-account", "account", help="A hosted storage account, for its key.")
def create_container(target: Target, name: str, container: str, account: str | None, **given: Any) -> Any:
    """Adds a storage container."""
    if given["connection_string"] is None and given["identity"] is None and account:
        given["connection_string"] = _account_key(target, account)
    return add_endpoint(target, "storage-container", name, given | {"container": container})


@update.command("storage-container", hub_flags=HUB_ONLY, remote=False)
@_common
@_blobs
def update_container(target: Target, name: str, **given: Any) -> Any:
    """Changes what is given of a storage container's endpoint."""
    return _updated(target, "storage-container", name, given)


@message_endpoint.command("list", hub_flags=HUB_ONLY, remote=False)
@_kind
def list_endpoints(target: Target, kind: str | None) -> Any:
    """Lists the endpoints, by kind; keys are not shown."""
    endpoints = _endpoints(read_hub(target))
    return endpoints[KINDS[kind]] if kind else endpoints


@message_endpoint.command("show", hub_flags=HUB_ONLY, remote=False)
@_name
def show_endpoint(target: Target, name: str) -> Any:
    """Shows an endpoint; its key is not shown."""
    return _require(_endpoints(read_hub(target)), name, None)[1]


@message_endpoint.command("show-health", hub_flags=HUB_ONLY, remote=False)
@click.option("--endpoint-name", "--en", "name", help="Only this one.")
def show_health(target: Target, name: str | None) -> Any:
    """How endpoints do: healthy or not, since when, and what has to be set right."""
    listed = target.manage("GET", f"{target.hub_id()}/routingEndpointsHealth", query=API)["value"]
    if name is None:
        return listed
    found = next((each for each in listed if each["endpointId"].lower() == name.lower()), None)
    if found is None:
        raise CommandError(
            f"There is no endpoint {name}; this hub has: {_names(each['endpointId'] for each in listed)}."
        )
    return found


@message_endpoint.command("delete", hub_flags=HUB_ONLY, remote=False)
@click.option("--endpoint-name", "--en", "name", help="The endpoint; without it, all of the kind or all.")
@_kind
@click.option("--force", "-f", is_flag=True, help="Also deletes routes and enrichments that name it.")
@click.option("--yes", "-y", is_flag=True, help="For scripts of az; nothing is asked here.")
def delete_endpoint(target: Target, name: str | None, kind: str | None, force: bool, yes: bool) -> Any:
    """Deletes an endpoint, or several; what still waits for it goes to the dead-letter log."""

    def without(routing: Json) -> None:
        gone = _taken_out(routing["endpoints"], name, kind)
        if force:
            routing["routes"] = [each for each in routing["routes"] if not gone & _lowered(each["endpointNames"])]
            routing["enrichments"] = _left(routing["enrichments"], gone)

    return _changed(target, without)


def _taken_out(endpoints: Json, name: str | None, kind: str | None) -> set[str]:
    """Takes endpoints out, and answers their names in small letters."""
    if name is not None:
        _require(endpoints, name, kind)
    gone: set[str] = set()
    for each in [KINDS[kind]] if kind else list(KINDS.values()):
        meant = [found for found in endpoints[each] if name is None or found["name"].lower() == name.lower()]
        endpoints[each] = [found for found in endpoints[each] if found not in meant]
        gone |= {found["name"].lower() for found in meant}
    return gone


def _left(enrichments: list[Json], gone: set[str]) -> list[Json]:
    """Enrichments without these endpoints, and without those that named no other."""
    kept = [
        {**each, "endpointNames": [name for name in each["endpointNames"] if name.lower() not in gone]}
        for each in enrichments
    ]
    return [each for each in kept if each["endpointNames"]]


def _lowered(names: list[str]) -> set[str]:
    return {name.lower() for name in names}


def add_endpoint(target: Target, kind: str, name: str, given: Json) -> Any:
    """Adds an endpoint as options say it, by their names here, and answers with the hub."""
    _check_one_proof(given)
    endpoint = {"name": name, "authenticationType": "keyBased"} | _said(given)

    def added(routing: Json) -> None:
        if _find(routing["endpoints"], name, None) is not None:
            said = f"There is an endpoint {name} already"
            raise CommandError(f"{said}; change it with message-endpoint update.")
        routing["endpoints"][KINDS[kind]].append(endpoint)

    return _changed(target, added)


def _check_one_proof(given: Json) -> None:
    if given["connection_string"] is not None and given["identity"] is not None:
        raise CommandError("Give either --connection-string or --identity: the hub shows a key or itself.")


def _said(given: Json) -> Json:
    members: Json = {
        "connectionString": given["connection_string"],
        "endpointUri": given["endpoint_uri"],
        "entityPath": given.get("entity_path"),
        "resourceGroup": given["group"],
        "subscriptionId": given["subscription_id"],
        "batchFrequencyInSeconds": given.get("batch_frequency"),
        "maxChunkSizeInBytes": given["chunk_size"] * MEGABYTE if given.get("chunk_size") else None,
        "fileNameFormat": given.get("file_name_format"),
        "containerName": given.get("container"),
        "encoding": given.get("encoding"),
    }
    said = {key: value for key, value in members.items() if value is not None}
    if given["identity"] is not None:
        other = None if given["identity"] == SYSTEM_IDENTITY else {"userAssignedIdentity": given["identity"]}
        said |= {"authenticationType": "identityBased", "identity": other, "connectionString": None}
    elif given["connection_string"] is not None:
        said |= {"authenticationType": "keyBased", "identity": None, "endpointUri": None}
        said["entityPath"] = given.get("entity_path")
    return {key: value for key, value in said.items() if key != "entityPath" or "entity_path" in given}


def _updated(target: Target, kind: str, name: str, given: Json) -> Any:
    _check_one_proof(given)

    def updated(routing: Json) -> None:
        endpoint = _require(routing["endpoints"], name, kind)[1]
        endpoint |= _said(given)

    return _changed(target, updated)


def _changed(target: Target, change: Callable[[Json], None]) -> Any:
    """Changes the hub's routing under its etag, and answers with the hub as it is then."""
    hub = read_hub(target)
    change(hub["properties"]["routing"])
    return target.manage("PUT", target.hub_id(), hub, etag=hub.get("etag", ""), query=API)


def _endpoints(hub: Json) -> Json:
    endpoints: Json = hub["properties"]["routing"]["endpoints"]
    return endpoints


def _find(endpoints: Json, name: str, kind: str | None) -> tuple[str, Json] | None:
    for each in [KINDS[kind]] if kind else KINDS.values():
        for endpoint in endpoints[each]:
            if endpoint["name"].lower() == name.lower():
                return each, endpoint
    return None


def _require(endpoints: Json, name: str, kind: str | None) -> tuple[str, Json]:
    found = _find(endpoints, name, kind)
    if found is None:
        known = _names(each["name"] for kinds in KINDS.values() for each in endpoints[kinds])
        raise CommandError(f"There is no {kind or 'endpoint'} {name}; this hub has: {known}.")
    return found


def _names(names: Any) -> str:
    return ", ".join(names) or "none"


def _namespace_key(target: Target, kind: str, namespace: str, entity: str | None, policy: str | None) -> str:
    """The connection string of a hosted entity by one of its policies, or of its namespace's."""
    if not entity or not policy:
        raise CommandError("A hosted namespace's key needs --entity-path and --endpoint-policy-name, too.")
    provider, entities = _PROVIDERS[kind]
    place = f"{target.resource_id(provider, 'namespaces', namespace)}/{entities}/{quote(entity, safe='')}"
    path = f"{place}/authorizationRules/{quote(policy, safe='')}/listKeys"
    keys: Json = target.manage("POST", path, query={"api-version": _NAMESPACES_API})
    return str(keys["primaryConnectionString"])


def _account_key(target: Target, account: str) -> str:
    """The connection string of a hosted storage account."""
    place = target.resource_id("Microsoft.Storage", "storageAccounts", account)
    query = {"api-version": _STORAGE_API}
    blobs = target.manage("GET", place, query=query)["properties"]["primaryEndpoints"]["blob"]
    key = target.manage("POST", f"{place}/listKeys", query=query)["keys"][0]["value"]
    return f"DefaultEndpointsProtocol=https;AccountName={account};AccountKey={key};BlobEndpoint={blobs}"


_NAMESPACES_API = "2021-11-01"
_STORAGE_API = "2023-01-01"
_PROVIDERS = {
    "eventhub": ("Microsoft.EventHub", "eventhubs"),
    "servicebus-queue": ("Microsoft.ServiceBus", "queues"),
    "servicebus-topic": ("Microsoft.ServiceBus", "topics"),
}
