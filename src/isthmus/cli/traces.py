"""`trace`: what became of a message, from the door it came in by to what each sink answered."""

from typing import Any

import click

from isthmus.base.clock import parse_iso_ms
from isthmus.base.errors import ConfigurationError
from isthmus.cli.command import HubCommand
from isthmus.cli.errors import CommandError
from isthmus.cli.moments import moment_of
from isthmus.cli.output import Readable, as_table
from isthmus.cli.target import Target

SINCE_DEFAULT = "1d"
NOT_FOUND = 1


@click.command("trace", cls=HubCommand, local=True, remote=False)
@click.argument("message_id", default="")
@click.option("--device-id", "-d", default="", help="Only messages of this device.")
@click.option(
    "--since", default=SINCE_DEFAULT, show_default=True, metavar="TIME|AGO", help="How far back the log is read."
)
@click.option("--offset", type=click.IntRange(min=0), help="The record at this offset, which readers see, instead.")
def trace(target: Target, message_id: str, device_id: str, since: str, offset: int | None) -> Any:
    """Follows a message: its door and identity, the routes it takes, its place in the log, and what each sink answered.

    MESSAGE_ID is the message id or correlation id that its sender gave it. The log is read by this command, beside the
    server, which then tells what became of the message. Exits with 1 when there is none.
    """
    from isthmus.app import FOUND_MAX, Wanted, find_records

    if bool(message_id) == (offset is not None):
        raise CommandError("Say which message: its id, or the --offset of its record.")
    since_ms = parse_iso_ms(moment_of("--since", since)) or 0
    try:
        records = find_records(target.data, Wanted(message_id, device_id, since_ms, -1 if offset is None else offset))
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
    traced = [target.manage("POST", "/trace", record) for record in records]
    found = [each for each in traced if each and target.hub.lower() in ("", each["hub"].lower())]
    more = f"\nThese are the first {FOUND_MAX}; there may be more." if len(records) == FOUND_MAX else ""
    if not found:
        return Readable(_nothing(message_id, device_id, since), found, NOT_FOUND)
    return Readable("\n".join(_text(each) for each in found) + more, found)


def _nothing(message_id: str, device_id: str, since: str) -> str:
    device = f" --device-id {device_id}" if device_id else ""
    return (
        f"No message {message_id or 'at that offset'} since {since}. One that was refused has no record; why it was: "
        f"isthmus explain{device}"
    )


def _text(found: dict[str, Any]) -> str:
    sequence = "" if found["sequenceNumber"] is None else f", sequence number {found['sequenceNumber']}"
    means = found["authentication"]
    proved = f" by {means['type']}" if isinstance(means, dict) and means.get("type") else ""
    lines = (
        ("message", found["messageId"] or found["correlationId"] or "(no id)"),
        ("from", f"{found['device']}, {found['source']}, {found['bytes']} bytes, {found['ingressTime'][:23]}Z"),
        ("door", found["door"] or "(none: an event of the hub's own)"),
        ("identity", f"{found['identity']}{proved}" if found["identity"] else "(the hub)"),
        ("log", f"{found['hub']}, partition {found['partition']}, offset {found['offset']}{sequence}"),
        ("routes", ", ".join(found["routes"]) or "(none, as routes are now)"),
    )
    told = [{name: each[name] for name in ("endpoint", "type", "state", "answer")} for each in found["deliveries"]]
    table = as_table(told, everything=True) if told else "No route took it: nobody was to get it.\n"
    return "".join(f"{name:10}{value}\n" for name, value in lines) + "\n" + table
