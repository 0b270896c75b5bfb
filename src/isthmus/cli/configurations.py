"""`configuration`, and `iot edge`: automatic device management, deployments, and modules set by hand."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from isthmus.cli.command import Group, Words, device_option, etag_option
from isthmus.cli.edits import Edits, read_json, read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.identities import edit_options
from isthmus.cli.queries import run_query
from isthmus.cli.target import Target

SCHEMA_VERSION = "2.0"
"""What `az` writes."""

EDGE_KIND = "modulesContent"
OLD_EDGE_KIND = "moduleContent"
"""What the content of deployments was called before there were configurations for modules."""

MANAGEMENT_KINDS = ("deviceContent", "moduleContent")
SYSTEM_MODULES = ("$edgeAgent", "$edgeHub")
METRIC_TYPES = {"user": "metrics", "system": "systemMetrics"}

configuration = Group("configuration", help="Configurations that devices and modules are kept to.")
edge = Group("edge", help="IoT Edge devices.", coming=("devices", "export-modules"))
deployment = Group("deployment", help="Deployments that the modules of edge devices are kept to.")
edge.add_command(deployment)


def _config_option(function: Any) -> Any:
    return click.option("--config-id", "-c", required=True, help="The configuration; in small letters.")(function)


def _deployment_option(function: Any) -> Any:
    return click.option("--deployment-id", "-d", "config_id", required=True, help="The deployment; in small letters.")(
        function
    )


def _content_option(function: Any) -> Any:
    return click.option("--content", "-k", required=True, metavar="JSON|FILE", help="What is written.")(function)


def _create_options(function: Any) -> Any:
    for option in (
        click.option("--target-condition", "--tc", "-t", default="", help="For whom: what stands behind WHERE, or *."),
        click.option("--priority", "--pri", type=int, default=0, show_default=True, help="The highest one wins."),
        click.option("--labels", "--lab", metavar="JSON|FILE", help="Labels, as an object."),
        click.option("--custom-labels", "--cl", cls=Words, metavar="NAME=VALUE...", help="Labels, one by one."),
        click.option("--metrics", "-m", metavar="JSON|FILE", help='Queries of metrics: {"queries": {...}}.'),
        click.option(
            "--custom-metric-queries", "--cmq", cls=Words, metavar="NAME=QUERY...", help="The same, one by one."
        ),
    ):
        function = option(function)
    return function


def _metric_options(function: Any) -> Any:
    kinds = click.Choice(list(METRIC_TYPES))
    function = click.option("--metric-type", "--mt", type=kinds, default="user", help="Default: user.")(function)
    return click.option("--metric-id", "-m", required=True, help="Name of the metric.")(function)


def _top_option(function: Any) -> Any:
    return click.option("--top", type=int, default=-1, help="How many; all unless given.")(function)


@configuration.command("create")
@_config_option
@_content_option
@_create_options
def create_configuration(target: Target, config_id: str, content: str, **given: Any) -> Any:
    """Creates a configuration for devices, or for modules."""
    found = _content(content)
    if not any(found.get(kind) for kind in MANAGEMENT_KINDS):
        raise CommandError(f"--content needs one of {' and '.join(MANAGEMENT_KINDS)}.")
    return _create(target, config_id, found, given)


@configuration.command("show")
@_config_option
def show_configuration(target: Target, config_id: str) -> Any:
    """Shows a configuration, with what its metrics count."""
    return _get(target, config_id)


@configuration.command("list")
@_top_option
def list_configurations(target: Target, top: int) -> Any:
    """Lists the configurations for devices and modules."""
    return _list(target, top, of_edge=False)


@configuration.command("update")
@_config_option
@edit_options
@etag_option
def update_configuration(target: Target, config_id: str, etag: str, **given: Any) -> Any:
    """Changes labels, metrics, priority or targetCondition of a configuration; its content stays."""
    return _update(target, config_id, etag, given)


@configuration.command("delete")
@_config_option
@etag_option
def delete_configuration(target: Target, config_id: str, etag: str) -> Any:
    """Deletes a configuration; what it has written leaves the twins."""
    return _delete(target, config_id, etag)


@configuration.command("show-metric")
@_config_option
@_metric_options
def show_configuration_metric(target: Target, config_id: str, metric_id: str, metric_type: str) -> Any:
    """Asks the query of a metric."""
    return _metric(target, config_id, metric_id, metric_type)


@deployment.command("create")
@_deployment_option
@_content_option
@_create_options
@click.option("--layered", is_flag=True, help="The content only adds to that of other deployments.")
@click.option("--no-validation", "--nv", is_flag=True, help="Sends the content whatever is in it.")
def create_deployment(
    target: Target, config_id: str, content: str, layered: bool, no_validation: bool, **given: Any
) -> Any:
    """Creates a deployment for edge devices."""
    found = _edge_content(content)
    if not layered and not no_validation:
        _check_whole(found[EDGE_KIND])
    return _create(target, config_id, found, given)


@deployment.command("show")
@_deployment_option
def show_deployment(target: Target, config_id: str) -> Any:
    """Shows a deployment, with what its metrics count."""
    return _get(target, config_id)


@deployment.command("list")
@_top_option
def list_deployments(target: Target, top: int) -> Any:
    """Lists the deployments."""
    return _list(target, top, of_edge=True)


@deployment.command("update")
@_deployment_option
@edit_options
@etag_option
def update_deployment(target: Target, config_id: str, etag: str, **given: Any) -> Any:
    """Changes labels, metrics, priority or targetCondition of a deployment; its content stays."""
    return _update(target, config_id, etag, given)


@deployment.command("delete")
@_deployment_option
@etag_option
def delete_deployment(target: Target, config_id: str, etag: str) -> Any:
    """Deletes a deployment; what it has written leaves the modules' twins."""
    return _delete(target, config_id, etag)


@deployment.command("show-metric")
@_deployment_option
@_metric_options
def show_deployment_metric(target: Target, config_id: str, metric_id: str, metric_type: str) -> Any:
    """Asks the query of a metric."""
    return _metric(target, config_id, metric_id, metric_type)


@edge.command("set-modules")
@device_option
@_content_option
def set_modules(target: Target, device_id: str, content: str) -> Any:
    """Sets the modules of one edge device, and lists them."""
    path = f"/devices/{quote(device_id, safe='')}"
    found = _edge_content(content)
    _check_whole(found[EDGE_KIND])
    target.service("POST", f"{path}/applyConfigurationContent", found)
    return target.service("GET", f"{path}/modules").json()


def _create(target: Target, config_id: str, content: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    body = {
        "id": config_id.lower(),
        "schemaVersion": SCHEMA_VERSION,
        "content": content,
        "targetCondition": given["target_condition"],
        "priority": given["priority"],
        "labels": _labels(given),
        "metrics": {"queries": _queries(given)},
    }
    return target.service("PUT", _path(config_id), body).json()


def _get(target: Target, config_id: str) -> dict[str, Any]:
    found: dict[str, Any] = target.service("GET", _path(config_id)).json()
    return found


def _list(target: Target, top: int, *, of_edge: bool) -> list[Any]:
    found = [
        each for each in target.service("GET", "/configurations").json() if (EDGE_KIND in each["content"]) is of_edge
    ]
    return found if top < 0 else found[:top]


def _update(target: Target, config_id: str, etag: str, given: Mapping[str, Any]) -> Any:
    found = _get(target, config_id)
    Edits(given["to_set"], given["to_add"], given["to_remove"]).apply(found)
    return target.service("PUT", _path(config_id), found, etag=etag or found["etag"]).json()


def _delete(target: Target, config_id: str, etag: str) -> Any:
    return target.service("DELETE", _path(config_id), etag=etag or "*").json()


def _metric(target: Target, config_id: str, metric_id: str, metric_type: str) -> dict[str, Any]:
    queries = _get(target, config_id)[METRIC_TYPES[metric_type]]["queries"]
    if metric_id not in queries:
        raise CommandError(f"{config_id} has no {metric_type} metric {metric_id!r}.")
    query = queries[metric_id]
    return {"metric": metric_id, "query": query, "result": run_query(target, query, -1)}


def _content(given: str) -> dict[str, Any]:
    """The content itself; files often have it below a member of that name."""
    document = read_json(given, "--content")
    found = document.get("content", document) if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise CommandError("--content must be a JSON object.")
    return {name: value for name, value in found.items() if name != "$schema"}


def _edge_content(given: str) -> dict[str, Any]:
    found = _content(given)
    modules = found.get(EDGE_KIND) or found.get(OLD_EDGE_KIND)
    if not isinstance(modules, dict):
        raise CommandError(f"--content needs {EDGE_KIND}.")
    return {EDGE_KIND: modules}


def _check_whole(modules: Mapping[str, Any]) -> None:
    """Without its system modules a deployment would take away what an edge device runs on."""
    for name in SYSTEM_MODULES:
        settings = modules.get(name)
        if not isinstance(settings, dict) or not isinstance(settings.get("properties.desired"), dict):
            raise CommandError(f"--content has no properties.desired of {name}; --layered is for what only adds.")


def _labels(given: Mapping[str, Any]) -> Any:
    if given["labels"]:
        return read_json(given["labels"], "--labels")
    return _pairs(given["custom_labels"], "--custom-labels") or None


def _queries(given: Mapping[str, Any]) -> Any:
    if not given["metrics"]:
        return _pairs(given["custom_metric_queries"], "--custom-metric-queries")
    document = read_json(given["metrics"], "--metrics")
    found = document.get("metrics", document) if isinstance(document, dict) else {}
    if not isinstance(found, dict) or not isinstance(found.get("queries"), dict):
        raise CommandError('--metrics must be an object with "queries".')
    return found["queries"]


def _pairs(groups: Sequence[Sequence[str]], flag: str) -> dict[str, str]:
    return {name: value for group in groups for name, value in read_pairs(group, flag).items()}


def _path(config_id: str) -> str:
    return f"/configurations/{quote(config_id.lower(), safe='')}"
