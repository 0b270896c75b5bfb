"""Notes each station of a walk: its time and verdict, and where the walk ended."""

import asyncio
import os
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from isthmus.base.clock import Clock
from isthmus.paths.errand import Station, Step, Verdict

STATION_SECONDS_MAX = 5.0
"""For one station; a client that waits longer counts as cut off."""

DETAIL_CHARACTERS_MAX = 400

Value = TypeVar("Value")


class Trouble(Exception):  # noqa: N818 - what was met at a station, not whose error it was
    """The station was not passed; the text says what was met there."""


class Ended(Exception):  # noqa: N818 - the end of a walk, which its last step tells
    """The walk goes no further."""


@dataclass(frozen=True, slots=True)
class Met(Generic[Value]):
    """What a passed station gave, and how it is told; `skipped` when there was nothing to try."""

    value: Value
    detail: str = ""
    skipped: bool = False


class Steps:
    """The steps of one walk."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.taken: list[Step] = []

    async def take(self, station: Station, trying: Coroutine[Any, Any, Met[Value]]) -> Value:
        """What the station gave, within `STATION_SECONDS_MAX`; raises `Ended` when it was not passed."""
        since = self._clock.monotonic()
        try:
            async with asyncio.timeout(STATION_SECONDS_MAX):
                met = await trying
        except (Trouble, OSError, EOFError, ValueError) as error:
            self._note(station, Verdict.FAILED, since, _words(error))
            raise Ended from error
        self._note(station, Verdict.SKIPPED if met.skipped else Verdict.OK, since, met.detail)
        return met.value

    def _note(self, station: Station, verdict: Verdict, since: float, detail: str) -> None:
        milliseconds = round((self._clock.monotonic() - since) * 1_000, 1)
        self.taken.append(Step(station, verdict, milliseconds, detail[:DETAIL_CHARACTERS_MAX]))


def _words(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"the certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS ends: {(error.reason or 'closed').lower().replace('_', ' ')}"
        case ConnectionRefusedError():
            return "nobody listens there"
        case TimeoutError():
            return f"no answer in {STATION_SECONDS_MAX:g} s"
        case EOFError() | ConnectionResetError():
            return "the connection was closed"
        case OSError():
            return os.strerror(error.errno).lower() if error.errno else str(error) or type(error).__name__
    return str(error) or type(error).__name__
