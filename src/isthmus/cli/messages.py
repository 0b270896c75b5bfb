"""`c2d-message` and `monitor-events`: what goes to devices and what comes from them."""

import base64
import json
from pathlib import Path
from typing import Any

import click

from isthmus.base.clock import iso_utc
from isthmus.base.ids import RandomIds
from isthmus.base.places import MANAGEMENT_SOCKET
from isthmus.cli.command import Group, HubCommand, Words, device_option
from isthmus.cli.edits import read_pairs
from isthmus.cli.errors import CommandError
from isthmus.cli.output import show
from isthmus.cli.target import Target, identity_path

BODY_DEFAULT = "Ping from Isthmus"
QUIET_SECONDS_DEFAULT = 300
ACKS = ("none", "positive", "negative", "full")
PROPERTY_KINDS = ("sys", "app", "anno", "all")

c2d_message = Group(
    "c2d-message", help="Cloud-to-device messages.", coming=("receive", "complete", "abandon", "reject")
)


def _property_options(function: Any) -> Any:
    for option in (
        click.option("--ack", type=click.Choice(ACKS), default="none", help="Which feedback is wanted."),
        click.option("--expiry-time-utc", "--expiry", type=int, help="Milliseconds since 1970 UTC."),
        click.option("--user-id", "--uid", help="User id."),
        click.option("--correlation-id", "--cid", help="Correlation id."),
        click.option("--message-id", "--mid", help="Message id; made when left out."),
        click.option("--content-encoding", "--ce", default="utf-8", show_default=True, help="Content encoding."),
        click.option("--content-type", "--ct", help="Content type."),
        click.option("--properties", "--props", "-p", default="", metavar="K=V;K=V", help="Application properties."),
    ):
        function = option(function)
    return function


class SendCommand(HubCommand):
    """`c2d-message send`, where `--data` is the message as in `az`, and also the folder as everywhere else.

    A value that is the folder of a hub is the folder; every other value is the message.
    """

    def invoke(self, ctx: click.Context) -> Any:
        folder: str = ctx.params.pop("folder") or ""
        body: str | None = None
        for value in ctx.params.pop("data"):
            if _is_hub_folder(value):
                folder = value
            else:
                body = value
        ctx.params |= {"data_folder": folder, "body": body}
        return super().invoke(ctx)


@c2d_message.command("send", cls=SendCommand, local=True)
@device_option
@click.option("--data", "--da", multiple=True, metavar="TEXT", help="The message, or the folder of the local server.")
@click.option("--data-folder", "folder", metavar="DIR", help="Folder of the local server.")
@click.option("--data-file-path", "--dfp", help="File with the message.")
@_property_options
def send(target: Target, device_id: str, body: str | None, data_file_path: str | None, **given: Any) -> Any:
    """Puts a message into the queue of a device, connected or not."""
    payload = _read(data_file_path) if data_file_path else (body or BODY_DEFAULT).encode()
    pairs = [pair for pair in given["properties"].split(";") if pair]
    message = {
        "deviceId": device_id,
        "body": base64.b64encode(payload).decode(),
        "messageId": given["message_id"] or RandomIds().uuid(),
        "correlationId": given["correlation_id"],
        "userId": given["user_id"],
        "contentType": given["content_type"],
        "contentEncoding": given["content_encoding"],
        "expiryTimeUtc": iso_utc(given["expiry_time_utc"]) if given["expiry_time_utc"] is not None else None,
        "ack": given["ack"],
        "properties": read_pairs(pairs, "--properties"),
    }
    told = {name: value for name, value in message.items() if value is not None}
    return target.service("POST", "/messages/devicebound", told).json()


@c2d_message.command("purge")
@device_option
def purge(target: Target, device_id: str) -> Any:
    """Empties the queue of a device."""
    return target.service("DELETE", f"{identity_path(device_id)}/commands").json()


class MonitorCommand(HubCommand):
    """Prints as it goes, so that nothing is left to print at the end."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.params["shown"] = {"output": ctx.params["output"] or "", "query": ctx.params.pop("query") or ""}
        return super().invoke(ctx)


@click.command("monitor-events", cls=MonitorCommand, local=True)
@click.option("--device-id", "-d", default="", help="Only of this device; `*` at the end stands for the rest.")
@click.option("--module-id", "-m", default="", help="Only of this module.")
@click.option("--consumer-group", "--cg", "-c", default="$Default", show_default=True, help="Consumer group.")
@click.option("--enqueued-time", "--et", "-e", type=int, help="From this time on, milliseconds since 1970 UTC; 0: all.")
@click.option(
    "--timeout",
    "--to",
    "-t",
    type=click.IntRange(min=0),
    default=QUIET_SECONDS_DEFAULT,
    show_default=True,
    help="Ends after so many seconds without a message; 0: never.",
)
@click.option("--message-count", "--mc", type=click.IntRange(min=1), help="Ends after so many messages.")
@click.option("--content-type", "--ct", default="", help="Shows payloads as this type whatever the device said.")
@click.option(
    "--properties", "--props", "-p", cls=Words, metavar="sys|app|anno|all...", help="Which properties to show."
)
@click.option("--yes", "-y", is_flag=True, hidden=True)
@click.option("--repair", "-r", is_flag=True, hidden=True)
def monitor_events(
    target: Target, timeout: int, message_count: int | None, shown: dict[str, str], **given: Any
) -> None:
    """Shows messages of the built-in endpoint as they come, until Ctrl-C."""
    about = f"device {given['device_id']}" if given["device_id"] else "all devices"
    click.echo(f"Monitoring events of {about}; Ctrl-C ends it.", err=True)
    try:
        for number, line in enumerate(target.events(_events_query(given), timeout or None), 1):
            show(json.loads(line), **shown)
            if number == message_count:
                break
    except TimeoutError:
        click.echo(f"No message within {timeout} s.", err=True)


def _events_query(given: dict[str, Any]) -> dict[str, str]:
    kinds = [word for group in given["properties"] for words in group for word in words.split(",")]
    unknown = next((kind for kind in kinds if kind not in PROPERTY_KINDS), None)
    if unknown is not None:
        raise CommandError(f"--properties takes {', '.join(PROPERTY_KINDS)}, and {unknown!r} is none of them.")
    start = given["enqueued_time"]
    begin = "latest" if start is None else ("earliest" if start == 0 else iso_utc(start))
    return {
        "consumerGroup": given["consumer_group"],
        "start": begin,
        "deviceId": given["device_id"],
        "moduleId": given["module_id"],
        "contentType": given["content_type"],
        "properties": ",".join(kinds),
    }


def _is_hub_folder(value: str) -> bool:
    try:
        return (Path(value) / MANAGEMENT_SOCKET).is_socket()
    except OSError:  # a message is often longer than a path may be
        return False


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"--data-file-path names {path}, which cannot be read: {error.strerror}.") from error
