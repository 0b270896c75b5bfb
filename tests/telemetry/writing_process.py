"""A process that stores messages as fast as it can and says which are acknowledged, until it is killed."""

import asyncio
import sys
from pathlib import Path

from isthmus.base.clock import SystemClock
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.ports import EVENTS, Partition

WINDOW = 64
"""Messages not yet acknowledged."""


class Sender:
    """Keeps a window of messages on the way; message n says n, in partition n modulo 3."""

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        self._sent = 0

    def send(self, count: int) -> None:
        for _ in range(count):
            payload = str(self._sent).encode()
            self._log.append(Partition(1, self._sent % 3), (EVENTS,), b"", payload, 0, self, self._sent)
            self._sent += 1

    def committed(self, cookies: list[int]) -> None:
        sys.stdout.write("".join(f"{cookie}\n" for cookie in cookies))
        sys.stdout.flush()
        self.send(len(cookies))

    def failed(self, cookies: list[int], reason: str) -> None:
        raise AssertionError(reason)


async def main() -> None:
    config = LogConfig(segment_bytes=20_000)
    Sender(SegmentLog.open(Path(sys.argv[1]), SystemClock(), config=config)).send(WINDOW)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
