"""The flags of `iot hub create` and `update` that say where devices put files, and how services hear of it."""

from typing import Any

import click

from isthmus.cli.command import three_state

SYSTEM_IDENTITY = "[system]"
"""Stands for the hub's own identity, as in `az`."""

HOURS_MAX = 48
SAS_HOURS_MAX = 24

_KEYS = click.Choice(["keyBased", "identityBased"], case_sensitive=False)


def file_upload_options(function: Any) -> Any:
    """`--fileupload-…`, with the short forms of `az`."""
    for option in reversed(
        (
            _storage("connectionstring", "--fcs", "The storage account that files go to, by its connection string."),
            _storage("container-name", "--fc", "The container there; it is made when it is not there."),
            _option("--fileupload-storage-auth-type", "--fsa", type=_KEYS, help="How the hub proves itself there."),
            _storage("identity", "--fsi", f"The identity it uses, by ARM id; {SYSTEM_IDENTITY} for its own."),
            _hours("--fileupload-sas-ttl", "--fst", SAS_HOURS_MAX, "Hours that a device may take for a file."),
            three_state("--fileupload-relay", help="Lets files go through the hub's own address."),
            three_state("--fileupload-notifications", "--fn", help="Tells services of each file."),
            _option(
                "--fileupload-notification-max-delivery-count",
                "--fnd",
                type=click.IntRange(1, 100),
                help="How often a notification is delivered at most.",
            ),
            _hours("--fileupload-notification-ttl", "--fnt", HOURS_MAX, "Hours that a notification waits."),
            _option(
                "--fileupload-notification-lock-duration",
                "--fnld",
                type=click.IntRange(5, 300),
                help="Seconds that a reader may take for a notification.",
            ),
        )
    ):
        function = option(function)
    return function


def apply_file_upload(given: dict[str, Any], properties: dict[str, Any]) -> None:
    """Puts what was said into a hub's properties, in place."""
    storage = _storage_members(given)
    if storage:
        properties.setdefault("storageEndpoints", {}).setdefault("$default", {}).update(storage)
    notifications = _said(
        maxDeliveryCount=given["fileupload_notification_max_delivery_count"],
        ttlAsIso8601=_duration("PT{}H", given["fileupload_notification_ttl"]),
        lockDurationAsIso8601=_duration("PT{}S", given["fileupload_notification_lock_duration"]),
    )
    if notifications:
        properties.setdefault("messagingEndpoints", {}).setdefault("fileNotifications", {}).update(notifications)
    properties.update(_said(enableFileUploadNotifications=given["fileupload_notifications"]))


def _storage_members(given: dict[str, Any]) -> dict[str, Any]:
    identity, authentication = given["fileupload_storage_identity"], given["fileupload_storage_auth_type"]
    members = _said(
        connectionString=given["fileupload_storage_connectionstring"],
        containerName=given["fileupload_storage_container_name"],
        authenticationType=authentication,
        sasTtlAsIso8601=_duration("PT{}H", given["fileupload_sas_ttl"]),
        relay=given["fileupload_relay"],
    )
    if identity is not None:
        members["identity"] = None if identity == SYSTEM_IDENTITY else {"userAssignedIdentity": identity}
    elif authentication == "keyBased":
        members["identity"] = None
    return members


def _said(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _duration(form: str, count: int | None) -> str | None:
    return None if count is None else form.format(count)


def _storage(what: str, short: str, about: str) -> Any:
    return _option(f"--fileupload-storage-{what}", short, help=about)


def _hours(name: str, short: str, most: int, about: str) -> Any:
    return _option(name, short, type=click.IntRange(1, most), help=about)


def _option(*names: str, **more: Any) -> Any:
    return click.option(*names, **more)
