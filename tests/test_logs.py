"""Logs: one JSON object a line, whatever is in it."""

import json
import logging
from pathlib import Path

from isthmus.logs import JsonLines


def line(message: str, *arguments: object, exc_info: object = None, **fields: object) -> dict[str, object]:
    record = logging.LogRecord("isthmus.test", logging.WARNING, "x.py", 1, message, arguments, None)
    record.exc_info = exc_info  # type: ignore[assignment]
    vars(record).update(fields)
    record.created, record.msecs = 1_767_225_600.123, 123.0
    text = JsonLines().format(record)
    assert "\n" not in text
    parsed: dict[str, object] = json.loads(text)
    return parsed


def test_time_level_logger_message_and_fields() -> None:
    assert line("connection %s", "ended", hub="hub", duration_ms=3) == {
        "time": "2026-01-01T00:00:00.123Z",
        "level": "warning",
        "logger": "isthmus.test",
        "message": "connection ended",
        "hub": "hub",
        "duration_ms": 3,
    }


def test_what_json_does_not_know_is_written_as_text() -> None:
    assert line("x", path=Path("a/b"))["path"] == "a/b"


def test_an_exception_stays_on_the_line() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        shown = line("x", exc_info=(type(error), error, error.__traceback__))

    assert "ValueError: first\nsecond" in str(shown["exception"])
