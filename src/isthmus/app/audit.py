"""The journal out of a data folder, whether a server runs on it or not: verified, and exported.

The running server is not asked: what is verified is the file, by whoever may read it.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.access.exported import exported_line, read_exported
from isthmus.access.findings import Fault, Finding, Report
from isthmus.access.head_export import HeadExport, HeadOutlet, Pace
from isthmus.access.heads import FoundHead, heads_in, public_key_of
from isthmus.access.signing_key import load_or_create_signing_key
from isthmus.access.verify import verify
from isthmus.app.domain import Domain
from isthmus.app.stores import STATE_FILE, Stores
from isthmus.backends.head_outlets import HeadsFile, log_server
from isthmus.backends.sqlite import journal_of
from isthmus.base.errors import ConfigurationError
from isthmus.base.places import AUDIT_PUBLIC_KEY, AUDIT_SIGNING_KEY
from isthmus.base.state import JournalEntry
from isthmus.config import Config


def head_export(config: Config, stores: Stores, domain: Domain, machine: str) -> HeadExport:
    """Exports the journal's heads as configured, with the key of the data folder; raises `ConfigurationError`."""
    settings, folder = config.audit, config.data_folder
    key = load_or_create_signing_key(folder / AUDIT_SIGNING_KEY, folder / AUDIT_PUBLIC_KEY, stores.sealed.sealer)
    outlets: list[HeadOutlet] = []
    if settings.heads_file:
        outlets.append(HeadsFile(Path(settings.heads_file)))
    if settings.syslog:
        outlets.append(log_server(settings.syslog, machine=machine, process=os.getpid(), clock=stores.clock))
    pace = Pace(settings.heads_records, settings.heads_interval_seconds)
    return HeadExport(domain.journal, key, outlets, stores.clock, pace)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a journal is verified against; without `public_key` the data folder's own."""

    heads: Sequence[Path] = ()
    public_key: Path | None = None


def verify_folder(data: Path, evidence: Evidence) -> Report:
    """Verifies the journal of a data folder; raises `ConfigurationError` when there is none to verify."""
    heads, bad, ignored = _heads(evidence, data)
    with journal_of(data / STATE_FILE) as (ends, entries):
        broken: list[Finding] = []
        report = verify(ends, _readable(entries, broken), heads)
    report.findings += bad + broken
    report.lines_ignored = ignored
    return report


def verify_file(records: Path, data: Path, evidence: Evidence) -> Report:
    """Verifies records that `export_folder` wrote; raises `ConfigurationError` when the file cannot be read."""
    heads, bad, ignored = _heads(evidence, data)
    broken: list[Finding] = []
    try:
        with records.open("rb") as lines:
            report = verify(None, read_exported(lines, str(records), broken), heads)
    except OSError as error:
        raise ConfigurationError(f"{records} cannot be read: {error.strerror}.") from error
    report.findings += bad + broken
    report.lines_ignored = ignored
    return report


def records_of(data: Path) -> Iterator[bytes]:
    """Every record of a data folder's journal as a line, the oldest first; raises `ConfigurationError`."""
    with journal_of(data / STATE_FILE) as (_, entries):
        yield from map(exported_line, entries)


def _readable(entries: Iterator[JournalEntry], broken: list[Finding]) -> Iterator[JournalEntry]:
    """The entries up to where the file's own structure is broken, which is noted."""
    last, moment = 0, 0
    try:
        for entry in entries:
            last, moment = entry.entry_id, entry.utc_ms
            yield entry
    except ConfigurationError as error:
        reason = f"behind record {last} the file itself is damaged: {error}"
        broken.append(Finding(Fault.UNREADABLE, last + 1, last + 1, moment, reason))


def _heads(evidence: Evidence, data: Path) -> tuple[list[FoundHead], list[Finding], int]:
    good: list[FoundHead] = []
    bad: list[Finding] = []
    ignored = 0
    if not evidence.heads:
        return good, bad, ignored
    place = evidence.public_key or data / AUDIT_PUBLIC_KEY
    key = public_key_of(_read(place), str(place))
    for path in evidence.heads:
        found, faulty, no_heads = heads_in(_read(path).decode("utf-8", "replace").splitlines(), str(path), key)
        good, bad, ignored = good + found, bad + faulty, ignored + no_heads
    return good, bad, ignored


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
