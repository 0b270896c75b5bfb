"""Measures a worker without sinks: reading the log, the machine of deliveries, cursors, with a target that takes all.

Run it with `python benchmarks/egress_worker.py [FOLDER]`; the folder (the current one, when none is given) decides
which disk is measured. Records have 256 bytes and name one endpoint, or each of ten. "µs" is CPU of the worker's thread
for one delivery.
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from isthmus.base.clock import SystemClock
from isthmus.egress.channel import Channel
from isthmus.egress.messages import Serve, Settings, decode_order, decode_report
from isthmus.egress.worker import Worker
from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.health import NOTHING_TRIED
from isthmus.routing.sink import Delivery, Egress, HubName, Sink
from isthmus.telemetry.log import SegmentLog
from isthmus.telemetry.message import Envelope, encode_envelope
from isthmus.telemetry.ports import Partition
from isthmus.telemetry.reader import LogReader

RECORDS = 100_000
PAYLOAD = b"x" * 256
ENVELOPE = encode_envelope(
    Envelope("device-0001", auth_method='{"scope":"device","type":"sas","issuer":"iothub"}', generation_id="6" * 18)
)


class Taking:
    """Takes everything and counts it."""

    def __init__(self) -> None:
        self.taken = 0

    async def deliver(self, partition: int, batch: Sequence[Delivery]) -> None:
        self.taken += len(batch)

    async def probe(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Filled:
    """Waits until a log has taken all records."""

    def __init__(self) -> None:
        self.left = RECORDS
        self.done = asyncio.get_running_loop().create_future()

    def committed(self, cookies: list[int]) -> None:
        self.left -= len(cookies)
        if not self.left:
            self.done.set_result(None)

    def failed(self, cookies: list[int], reason: str) -> None:
        raise OSError(reason)


async def measure(folder: Path) -> None:
    print(f"{'endpoints':>10} {'deliveries/s':>13} {'µs':>7}")
    for endpoints in (1, 10):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            numbers = tuple(range(2, 2 + endpoints))
            await fill(Path(place), numbers)
            seconds, processor = await deliver(Path(place), numbers)
            total = RECORDS * endpoints
            print(f"{endpoints:>10} {total / seconds:>13,.0f} {processor / total * 1e6:>7.1f}")


async def fill(folder: Path, endpoints: tuple[int, ...]) -> None:
    log, filled = SegmentLog.open(folder, SystemClock()), Filled()
    for number in range(RECORDS):
        log.append(Partition(1, number & 3), endpoints, ENVELOPE, PAYLOAD, 0, filled, number)
        if not number % 1_000:
            await asyncio.sleep(0)
    await filled.done
    await log.close()


async def deliver(folder: Path, endpoints: tuple[int, ...]) -> tuple[float, float]:
    ours, theirs = socket.socketpair()
    hub, reader, target = await Channel.over(ours, decode_report), LogReader(folder, indexed=False), Taking()

    def make(name: HubName, endpoint: RoutingEndpoint, egress: Egress) -> Sink:
        return target

    worker = Worker(await Channel.over(theirs, decode_order), reader, Settings("", {}), make, SystemClock())
    running = asyncio.create_task(worker.run())
    for number in endpoints:
        made = RoutingEndpoint(number, "", f"e{number}", EndpointKind.QUEUE, EndpointAuthentication.KEY)
        hub.say(Serve(1, "plant", 4, made, 0, {}, NOTHING_TRIED))
    begun, processor = time.perf_counter(), time.process_time()
    while target.taken < RECORDS * len(endpoints):
        await hub.hear()
    measured = time.perf_counter() - begun, time.process_time() - processor
    hub.close()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    reader.close()
    return measured


if __name__ == "__main__":
    asyncio.run(measure(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
