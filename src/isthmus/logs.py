"""Structured logs: one JSON object a line on standard error, a constant message and fields."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every log record has; the rest came as `extra`."""


logger = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, then its fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def tell_unraisable(event: "sys.UnraisableHookArgs") -> None:
    """Logs what could not be raised to anybody, save what a stranger can cause at will.

    Python reads a server name in a client hello (RFC 6066 §3) as ASCII and tells so here when it is not, with the name
    as the object; the handshake fails of it, which is told where it fails.
    """
    if event.exc_type is UnicodeDecodeError and isinstance(event.object, bytes):
        return
    error = event.exc_value
    logger.error("an error that nobody could be told", exc_info=error, extra={"object": repr(event.object)[:200]})


def configure_logging(level: int = logging.INFO) -> None:
    """Sends the logs of the whole process to standard error, with what could not be raised to anybody."""
    sys.unraisablehook = tell_unraisable
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in ("aiohttp", "azure"):
        logging.getLogger(library).setLevel(logging.WARNING)
