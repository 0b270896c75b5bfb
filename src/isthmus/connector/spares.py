"""Warm lines: dialled ahead, so that a device's connection does not wait for two handshakes.

Theory of operation. The pool keeps `wanted` spare lines per the hub's setup. `take` gives one away, or makes its caller
wait for the next that comes up; lines go to whoever has waited longest, and only then to the spares. Dials in flight
are as many as are missing, at most `DIALS_MAX`; a failed one is followed by a pause that grows, then by the next.

A spare line is listened to: a hub that ends it, or refuses it after the handshake (in TLS 1.3 a client learns only
then that its certificate is not accepted), costs the pool that line and no device a connection. A line that ages is
closed and replaced before the hub's own limit for silent lines, and before middle boxes forget it. Ages are spread over
a third of their limit by their order, so that lines that were opened together are not all replaced together.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.connector.backoff import Backoff
from isthmus.connector.dialling import READ_BYTES, DialFailed
from isthmus.connector.line import Line
from isthmus.wire.tls_error import TlsError

DIALS_MAX = 32
"""Handshakes in flight: a storm of devices is served at the processor's speed, and the hub's door is not flooded."""

WAITING_MAX = 4_096
"""Devices' connections that wait for a line; the next is reset, and its device tries again."""

AGE_SECONDS_MIN = 60.0
AGE_SECONDS_MAX = 90.0
"""Life of a spare line: below the 120 s after which a hub closes one that has stayed silent."""

logger = logging.getLogger(__name__)

Taker = Callable[[Line], None]


class SpareLines:
    """The pool. Use it on its loop only; `close` ends it."""

    def __init__(self, dial: Callable[[], Awaitable[Line]], *, clock: Clock, ids: Ids) -> None:
        """`dial` gives a line or raises `DialFailed`."""
        self._dial = dial
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(ids)
        self._wanted = 0
        self._paused = True
        self._spares: deque[_Spare] = deque()
        self._waiting: dict[object, Taker] = {}
        self._dials: set[asyncio.Task[None]] = set()
        self._opened = 0
        self._rest: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> int:
        """Spare lines that can be taken at once."""
        return len(self._spares)

    @property
    def waiting(self) -> int:
        """Takers that wait for a line."""
        return len(self._waiting)

    def keep(self, wanted: int) -> None:
        """Opens the pool and sets how many lines it keeps ready; a larger number of them is closed."""
        self._wanted = wanted
        self._paused = False
        self._backoff.reset()
        self._cancel_rest()
        while len(self._spares) > wanted:
            self._spares.popleft().close()
        self._dial_what_is_missing()

    def pause(self) -> None:
        """Closes the spare lines and dials no more until `keep`; whoever waits goes on waiting."""
        self._paused = True
        self._cancel_rest()
        for dial in self._dials:
            dial.cancel()
        while self._spares:
            self._spares.popleft().close()

    def renew(self) -> None:
        """Replaces the spare lines, because the certificate they were opened with is no longer the newest."""
        while self._spares:
            self._spares.popleft().close()
        self._dial_what_is_missing()

    def take(self, key: object, taker: Taker) -> bool:
        """Gives a line to `taker`, at once or later; False when too many wait already. `key` is for `forget`."""
        if self._spares:
            line = self._spares.popleft().give()
            self._dial_what_is_missing()
            taker(line)
            return True
        if len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting[key] = taker
        self._dial_what_is_missing()
        return True

    def forget(self, key: object) -> None:
        """Somebody waits no longer; without effect for others."""
        self._waiting.pop(key, None)

    async def close(self) -> None:
        """Ends every spare line and every dial."""
        self.pause()
        self._waiting.clear()
        await asyncio.gather(*self._dials, return_exceptions=True)

    def _dial_what_is_missing(self) -> None:
        if self._paused or self._rest is not None:
            return
        missing = len(self._waiting) + self._wanted - len(self._spares) - len(self._dials)
        for _ in range(min(missing, DIALS_MAX - len(self._dials))):
            dial = self._loop.create_task(self._open())
            self._dials.add(dial)
            dial.add_done_callback(self._dialled)

    async def _open(self) -> None:
        try:
            line = await self._dial()
        except DialFailed as error:
            self._failed(error)
            return
        self._backoff.reset()
        if self._paused:
            line.close()
        elif self._waiting:
            self._waiting.pop(next(iter(self._waiting)))(line)
        else:
            self._opened += 1
            spread = (AGE_SECONDS_MAX - AGE_SECONDS_MIN) * (self._opened % 8) / 8
            self._spares.append(_Spare(line, self._loop, AGE_SECONDS_MIN + spread, self._lost))

    def _dialled(self, dial: "asyncio.Task[None]") -> None:
        self._dials.discard(dial)
        with suppress(asyncio.CancelledError):
            dial.result()
        self._dial_what_is_missing()

    def _failed(self, error: DialFailed) -> None:
        if self._rest is not None or self._paused:
            return
        seconds = self._backoff.next_seconds()
        logger.warning("no line to the hub", extra={"reason": str(error), "duration_ms": int(seconds * 1000)})
        self._rest = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        self._dial_what_is_missing()

    def _cancel_rest(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _lost(self, spare: "_Spare", *, aged: bool) -> None:
        """A spare line has ended, or is to be replaced. One that ended young counts as a failed dial."""
        self._spares.remove(spare)
        if not aged:
            self._failed(DialFailed("the hub ended a spare line"))
        self._dial_what_is_missing()


class _Spare:
    """A line that waits to be taken, and is listened to meanwhile."""

    __slots__ = ("_age", "_line", "_loop", "_lost")

    def __init__(
        self,
        line: Line,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        lost: Callable[..., None],
    ) -> None:
        self._line = line
        self._loop = loop
        self._lost = lost
        self._age = loop.call_later(seconds, self._end, True)
        loop.add_reader(line.socket.fileno(), self._heard)

    def give(self) -> Line:
        self._loop.remove_reader(self._line.socket.fileno())
        self._age.cancel()
        return self._line

    def close(self) -> None:
        self.give().close()

    def _heard(self) -> None:
        line = self._line
        try:
            data = line.socket.recv(READ_BYTES)
            if data:
                line.early += line.layer.receive(data)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, TlsError):
            data = b""
        # A hub has nothing to say here: what comes besides TLS' own records means the end.
        if not data or line.layer.ended or line.early:
            self._end(False)

    def _end(self, aged: bool) -> None:
        self.close()
        self._lost(self, aged=aged)
