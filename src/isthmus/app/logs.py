"""The log out of a data folder, whether a server runs on it or not: read as a whole and told."""

from pathlib import Path

from isthmus.app.stores import LOG_FOLDER, damage_to_json
from isthmus.telemetry.verify import verify_log


def log_report(data: Path) -> dict[str, object]:
    """What is in the log of a data folder and what of it is lost; raises `ConfigurationError` when that is unknown."""
    report = verify_log(data / LOG_FOLDER)
    return {
        "whole": report.is_whole,
        "segments": report.segments,
        "records": report.records,
        "begin": report.begin,
        "end": report.end,
        "damages": [damage_to_json(damage) for damage in report.damages],
        "badIndexes": list(report.bad_indexes),
    }
