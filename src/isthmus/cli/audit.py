"""`audit`: the journal as an auditor reads, keeps and verifies it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import click

from isthmus.base.errors import ConfigurationError
from isthmus.base.places import AUDIT_PUBLIC_KEY
from isthmus.cli.command import Group
from isthmus.cli.errors import CommandError, NotJudged
from isthmus.cli.moments import moment_of
from isthmus.cli.output import Listed, Readable
from isthmus.cli.target import Target

TOP_DEFAULT = 50
TOP_MAX = 1_000
KINDS = ("allowed", "refused", "delayed", "changed", "read", "pruned", "lost")
TAMPERED = 1
"""Exit code of a verification that found something; 0 is for a whole journal, 2 for one that could not be judged."""

audit = Group("audit", help="Every decision and every change, who made it, and the proof that nobody altered that.")


@audit.command("list", remote=False)
@click.option("--since", "--start-time", "since", default="", metavar="TIME|AGO", help="From then on.")
@click.option("--until", "--end-time", "until", default="", metavar="TIME|AGO", help="Before then.")
@click.option("--who", "--caller", "who", default="", help="By this principal: owner:uid:1000, device:press-1, …")
@click.option("--kind", type=click.Choice(KINDS), help="Of this kind; read is a look at keys.")
@click.option("--device-id", "-d", default="", help="Of this device, or `DEVICE/MODULE`.")
@click.option("--address", default="", help="From this address.")
@click.option("--top", "--max-events", "top", type=click.IntRange(1, TOP_MAX), default=TOP_DEFAULT, show_default=True,
    help="How many, the newest.")  # fmt: skip
def list_records(target: Target, since: str, until: str, kind: str | None, top: int, **given: str) -> Any:
    """Lists records, the newest first: who, what, before and after. Works without a running server.

    Times are ISO 8601, or 30s, 15m, 2h, 1d ago.
    """
    wanted = {
        "since": moment_of("--since", since),
        "until": moment_of("--until", until),
        "who": given["who"],
        "verdict": kind or "",
        "deviceId": given["device_id"],
        "address": given["address"],
        "hub": target.hub,
        "top": str(top),
    }
    records = target.manage("GET", "/audit", query=wanted)
    return Listed(records, [_row(record) for record in records])


@audit.command("show", remote=False)
@click.argument("sequence", type=click.IntRange(min=1))
def show_record(target: Target, sequence: int) -> Any:
    """Shows the record with a number. Works without a running server."""
    return target.manage("GET", f"/audit/{sequence}")


@audit.command("export", remote=False)
@click.option("--to", required=True, metavar="FILE", help="Where to; a dash for standard output.")
def export(target: Target, to: str) -> Any:
    """Writes every record as a JSON line, the oldest first, complete enough to be verified elsewhere.

    Reads the data folder, whether a server runs on it or not. The file must not be there yet.
    """
    from isthmus.app import records_of

    with _told():
        if to != "-":
            return _written(Path(to), records_of(target.data))
        for line in records_of(target.data):
            sys.stdout.buffer.write(line)
        return None


@audit.command("verify", remote=False)
@click.option("--head", "heads", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Exported heads, or a log server's file that holds some; repeatable.")  # fmt: skip
@click.option("--public-key", type=click.Path(path_type=Path), metavar="FILE",
    help="The key of the heads, as it was kept elsewhere. Default: the data folder's.")  # fmt: skip
@click.option("--records", type=click.Path(path_type=Path), metavar="FILE",
    help="Verifies exported records instead of the data folder.")  # fmt: skip
def verify(target: Target, heads: tuple[Path, ...], public_key: Path | None, records: Path | None) -> Any:
    """Says whether the journal is whole, and where it is not.

    Exits with 0 when it is, 1 when it is not, 2 when it cannot be judged.
    Reads the data folder, whether a server runs on it or not.
    """
    from isthmus.app import Evidence, verify_file, verify_folder

    evidence = Evidence(heads, public_key)
    try:
        if records is None:
            report = verify_folder(target.data, evidence)
        else:
            report = verify_file(records, target.data, evidence)
    except ConfigurationError as error:
        raise NotJudged(str(error)) from error
    told = report.to_json()
    return Readable(_report(told, with_heads=bool(heads)), told, 0 if report.is_whole else TAMPERED)


@audit.command("prune", remote=False)
@click.option("--up-to", type=click.IntRange(min=1), required=True, metavar="SEQUENCE", help="The last one to remove.")
def prune(target: Target, up_to: int) -> Any:
    """Removes the oldest records, up to and including a number, and says so in the journal. Export them first."""
    return target.manage("POST", "/audit/prune", {"upTo": up_to})


@audit.command("key", remote=False)
def key(target: Target) -> Any:
    """Prints the public key that verifies heads (PEM), to be kept elsewhere. Works without a running server."""
    path = target.data / AUDIT_PUBLIC_KEY
    try:
        pem = path.read_text()
    except FileNotFoundError:
        raise CommandError(f"There is no key in {target.data} yet: the first `isthmus up` makes it.") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    return Readable(pem, {"publicKey": pem})


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _written(path: Path, lines: Iterator[bytes]) -> dict[str, object]:
    """Writes to a file of its own; where there is no journal to read, none is made."""
    try:
        first = next(lines, b"")
        count = 0
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            for count, line in enumerate(chain((first,) if first else (), lines), 1):  # noqa: B007 - counts them
                file.write(line)
    except FileExistsError:
        raise CommandError(f"{path} is there already: records are never written over others.") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
    return {"records": count, "to": str(path)}


def _row(record: dict[str, Any]) -> dict[str, Any]:
    what = record["detail"] or record["rule"]
    return {
        "sequence": record["sequence"],
        "time": f"{record['time'][:19]}Z",
        "kind": record["verdict"],
        "who": record["principal"] or record["device"],
        "from": record["address"],
        "door": record["door"],
        "hub": record["hub"],
        "what": what if record["count"] == 1 else f"{what} ({record['count']} times)",
    }


def _report(told: dict[str, Any], *, with_heads: bool) -> str:
    """The report in words."""
    held = "none"
    if told["records"]:
        held = f"{told['records']}, {told['firstSequence']} to {told['lastSequence']}, the last of {told['lastTime']}"
    lines = [f"records: {held}"]
    if with_heads:
        older = f", {told['headsBeforeFirst']} are of records that were pruned" if told["headsBeforeFirst"] else ""
        lines.append(f"heads: {told['headsMatched']} match{older}")
    lines += [f"{finding['fault']}: {finding['reason']}" for finding in told["findings"]]
    return "\n".join([*lines, "The journal is whole." if told["whole"] else "The journal is NOT whole."])
