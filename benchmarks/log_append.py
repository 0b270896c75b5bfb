"""Measures the log alone: appends with group commit and fdatasync, and reads, in one process on one disk.

Run it with `python benchmarks/log_append.py [FOLDER]`; the folder (the current one, when none is given) decides which
disk is measured. A window of n keeps n messages not yet acknowledged, each acknowledgement sends the next one. "loop"
is CPU of the event loop's thread, "all" that of the process, each in microseconds a message of 356 bytes on disk:
envelope 124, payload 152, header 80.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from isthmus.base.clock import SystemClock
from isthmus.telemetry.log import LogConfig, SegmentLog
from isthmus.telemetry.message import Envelope, encode_envelope
from isthmus.telemetry.ports import EVENTS, Partition

PARTITIONS = tuple(Partition(1, number) for number in range(4))
PAYLOAD = b"x" * 152
ENVELOPE = encode_envelope(
    Envelope("device-0001", auth_method='{"scope":"device","type":"sas","issuer":"iothub"}', generation_id="6" * 18)
).ljust(124, b" ")
WINDOWS = ((1, 5_000), (16, 40_000), (200, 200_000), (1_000, 400_000), (5_000, 400_000))


class Sender:
    """Keeps a window of messages on the way until so many are acknowledged."""

    def __init__(self, log: SegmentLog, count: int) -> None:
        self._log = log
        self._left = count
        self._unacknowledged = count
        self.done = asyncio.get_running_loop().create_future()

    def send(self, count: int) -> None:
        append, waiter, endpoints = self._log.append, self, (EVENTS,)
        count = min(count, self._left)
        for number in range(self._left, self._left - count, -1):
            append(PARTITIONS[number & 3], endpoints, ENVELOPE, PAYLOAD, 0, waiter, number)
        self._left -= count

    def committed(self, cookies: list[int]) -> None:
        self._unacknowledged -= len(cookies)
        if self._unacknowledged == 0:
            self.done.set_result(None)
        self.send(len(cookies))

    def failed(self, cookies: list[int], reason: str) -> None:
        raise OSError(reason)


async def measure(folder: Path) -> None:
    print(f"{'window':>8} {'msgs/s':>10} {'loop µs':>8} {'all µs':>8} {'a commit':>9} {'commit ms':>10}")
    for window, count in WINDOWS:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            log = SegmentLog.open(Path(place), SystemClock())
            sender = Sender(log, count)
            wall, loop, process = time.perf_counter(), time.thread_time(), time.process_time()
            sender.send(window)
            await sender.done
            wall, loop, process = time.perf_counter() - wall, time.thread_time() - loop, time.process_time() - process
            commits = log.counters.commits
            milliseconds = log.counters.commit_seconds / commits * 1000
            print(
                f"{window:8} {count / wall:10,.0f} {loop / count * 1e6:8.2f} {process / count * 1e6:8.2f}"
                f" {count / commits:9.1f} {milliseconds:10.2f}"
            )
            await log.close()


async def measure_reads(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for name, config in (("memory", LogConfig(tail_cache_bytes=1 << 30)), ("disk", LogConfig(tail_cache_bytes=0))):
            log = SegmentLog.open(Path(place) / name, SystemClock(), config=config)
            sender = Sender(log, 100_000)
            sender.send(5_000)
            await sender.done
            for batch in (10, 300):
                started, count, cursor = time.perf_counter(), 0, 0
                while True:
                    records, cursor = log.read(PARTITIONS[1], cursor, batch, 1_000_000)
                    if not records:
                        break
                    count += len(records)
                cost = (time.perf_counter() - started) / count * 1e6
                print(f"read from {name}, {batch} at a time: {cost:.2f} µs an event")
            await log.close()
        started = time.perf_counter()
        log = SegmentLog.open(Path(place) / "disk", SystemClock())
        print(f"open, {log.recovery.records_scanned:,} records scanned: {time.perf_counter() - started:.2f} s")
        await log.close()


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    uvloop.run(measure(where))
    uvloop.run(measure_reads(where))
