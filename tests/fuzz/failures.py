"""Hears what is logged as an error while something runs that should not fail."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Failures(logging.Handler):
    """Keeps what is logged as an error, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


@contextmanager
def failures_of() -> Iterator[Failures]:
    """All loggers' errors from now on to the end of the block."""
    failures, logger = Failures(), logging.getLogger()
    logger.addHandler(failures)
    try:
        yield failures
    finally:
        logger.removeHandler(failures)
