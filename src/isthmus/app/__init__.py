"""Builds everything and connects it; the only room that knows all, and contains no rules of its own."""

from isthmus.app.audit import Evidence, records_of, verify_file, verify_folder
from isthmus.app.backups import restore
from isthmus.app.logs import log_report
from isthmus.app.offline import offline
from isthmus.app.sealing import create_sealing_key, shown_sealing
from isthmus.app.serving import serve
from isthmus.app.tracing import FOUND_MAX, Wanted, find_records

__all__ = [
    "FOUND_MAX",
    "Evidence",
    "Wanted",
    "create_sealing_key",
    "find_records",
    "log_report",
    "offline",
    "records_of",
    "restore",
    "serve",
    "shown_sealing",
    "verify_file",
    "verify_folder",
]
