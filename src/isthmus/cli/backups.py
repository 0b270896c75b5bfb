"""`backup` and `restore`: everything that a data folder holds, at one moment, and back."""

from pathlib import Path
from typing import Any

import click

from isthmus.base.errors import ConfigurationError
from isthmus.cli.command import HubCommand
from isthmus.cli.errors import CommandError
from isthmus.cli.output import Readable
from isthmus.cli.target import Target

READERS = "Readers go on from any checkpoint; what was there behind these is lost, and new events begin at offset {}."


@click.command("backup", cls=HubCommand, local=True)
@click.argument("destination", type=click.Path(path_type=Path))
def backup(target: Target, destination: Path) -> Any:
    """Copies everything that the data folder holds, as it is at one moment, into the folder DESTINATION.

    Works while the server runs, which stops nothing meanwhile, and when it does not. DESTINATION is made, or is empty;
    the server writes into it. The sealing key is not part of it.
    """
    made = target.backup(destination.absolute())
    return Readable(_words(made, f"Backed up to {made['folder']}"), made)


@click.command("restore", cls=HubCommand, local=True)
@click.argument("source", type=click.Path(path_type=Path))
def restore(target: Target, source: Path) -> Any:
    """Makes the data folder DIR of the backup in the folder SOURCE.

    Every byte is checked first. DIR must not be there yet, or be empty; a server can be started on it afterwards.
    """
    from isthmus.app import restore as restore_folder

    try:
        made = restore_folder(source, target.data)
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
    words = _words(made, f"Restored to {made['folder']}")
    return Readable(f"{words}\n{READERS.format(made['goesOnAtOffset'])}", made)


def _words(told: dict[str, Any], headline: str) -> str:
    """The report in words."""
    lines = [
        f"{headline} in {told['seconds']:.1f} s: {told['files']} files, {told['bytes'] / 2**20:.1f} MiB.",
        f"Recovery point: {told['recoveryPoint']}; everything acknowledged before is in it.",
        f"state  last event {told['state']['outboxId']}, last journal record {told['state']['journalEntry']}",
    ]
    lines += [
        f"log    stream {each['stream']}, partition {each['partition']}: up to sequence number "
        f"{each['lastSequenceNumber']}, offset {each['lastOffset']}, enqueued {each['lastEnqueuedTime']}"
        for each in told["log"]["partitions"]
    ]
    if told["sealingKey"]:
        lines.append(f"keys   sealed by {told['sealingKey']}, which is not in it: no server starts without that key")
    return "\n".join(lines)
