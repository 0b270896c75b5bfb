"""Measures a hub of many devices: `benchmarks/bench.sh million [--devices N ...] [--keep DIR]`.

The devices are written through the state port, as the registry stores them, which takes a tenth of the time that an
import takes; each tenth has a tag. Then the server starts on that folder, and what it costs is told: seconds from the
beginning of the process to the ready file, memory, and the time of single calls on the owner's socket, one after the
other. With `--keep` the folders stay, and those that are there are used again.
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.app.stores import Stores, open_stores
from isthmus.base.ids import DeviceRef, HubId
from isthmus.base.places import MANAGEMENT_SOCKET
from isthmus.base.state import Put
from isthmus.config import Config
from isthmus.devices.documents import identity_key, presence_key, twin_key
from isthmus.devices.identity import IdentityBody, encode_identity, new_identity
from isthmus.devices.presence import PresenceRecord, encode_presence
from isthmus.devices.twin import encode_twin, new_twin

ISTHMUS = Path(sys.executable).with_name("isthmus")
WORK = Path(__file__).parent / "results" / "work"
"""On the disk of the checkout: a folder in memory would make syncing free."""

HUB = "hub"
HOST_NAME = f"{HUB}.isthmus.test"
PORT = 23893
DEVICES_A_COMMIT = 5_000
CALLS = 1_000
PAGES = 50
STARTS = 3
WAIT_SECONDS = 120.0
HALLS = 100
"""A query for one hall finds a thousandth of the devices."""


class Served:
    """`isthmus up` on a folder until the block ends."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self._ready = folder / "ready.json"
        ports = ["--mqtt-port", PORT, "--amqp-port", PORT + 1000, "--https-port", PORT + 2000]
        command = [ISTHMUS, "up", "--data", self.data, "--hostname", HOST_NAME, *ports, "--ready-file", self._ready]
        self._ready.unlink(missing_ok=True)
        begun = time.monotonic()
        with (folder / "output").open("ab") as output:
            self._process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output)
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > begun + WAIT_SECONDS:
                raise RuntimeError((folder / "output").read_text()[-2000:])
            time.sleep(0.002)
        self.seconds = time.monotonic() - begun
        self.processor = self._processor()

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(WAIT_SECONDS)

    def _processor(self) -> float:
        """Seconds of processor that it has used, which others on the machine change less than the clock's."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> tuple[int, int]:
        """MiB that the server has now, and the most it had."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        return int(lines["VmRSS"].split()[0]) // 1024, int(lines["VmHWM"].split()[0]) // 1024


class Owner:
    """The service API on the owner's socket, over one connection."""

    def __init__(self, data: Path) -> None:
        self._connection = http.client.HTTPConnection("localhost")
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.connect(str(data / MANAGEMENT_SOCKET))

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[Any, Any]:
        """The answer's JSON and headers."""
        target = f"/hubs/{HUB}{path}?api-version=2021-04-12"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, target, None if body is None else json.dumps(body), given)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {data[:200]!r}")
        return json.loads(data) if data else None, answer.headers

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Measured:
    """What a call took, in milliseconds."""

    what: str
    p50: float
    p99: float


def main() -> int:
    options = _options()
    for count in options.devices:
        with ExitStack() as stack:
            WORK.mkdir(parents=True, exist_ok=True)
            place = options.keep or stack.enter_context(tempfile.TemporaryDirectory(dir=WORK, prefix="million-"))
            folder = Path(place) / str(count)
            if not (folder / "filled").exists():
                fill(folder, count)
            measure(folder, count)
    return 0


def fill(folder: Path, count: int) -> None:
    """A data folder with so many devices, less those that are made later: a hub has a million at most."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with Served(folder):
        pass
    begun = time.monotonic()
    asyncio.run(_write(folder / "data", count - CALLS))
    (folder / "filled").touch()
    print(f"{count:,} devices written in {time.monotonic() - begun:.0f} s")


async def _write(data: Path, count: int) -> None:
    async with open_stores(Config(data=str(data))) as stores:
        await _write_devices(stores, count)


async def _write_devices(stores: Stores, count: int) -> None:
    ids, utc_ms = stores.ids, stores.clock.utc_ms()
    twin, presence = new_twin(), encode_presence(PresenceRecord())
    for first in range(0, count, DEVICES_A_COMMIT):
        puts: list[Put] = []
        for number in range(first, min(first + DEVICES_A_COMMIT, count)):
            ref = DeviceRef(HubId(1), device(number))
            identity = new_identity(ref, IdentityBody(), ids, utc_ms)
            tagged = msgspec.structs.replace(twin, tags={"hall": number % HALLS} if number % 10 == 0 else {})
            puts.append(Put(identity_key(ref), encode_identity(identity), 0))
            puts.append(Put(twin_key(ref), encode_twin(tagged), 0))
            puts.append(Put(presence_key(ref), presence, 0))
        await stores.state.commit(puts)


def device(number: int) -> str:
    return f"device-{number:07}"


def measure(folder: Path, count: int) -> None:
    """Prints what a server on that folder costs."""
    starts: list[Served] = []
    for _ in range(STARTS - 1):
        with Served(folder) as served:
            starts.append(served)
    with Served(folder) as served:
        starts.append(served)
        before, _ = served.memory()
        measured = calls(served.data, count)
        after, most = served.memory()
    size = (folder / "data" / "state.db").stat().st_size // 2**20
    print(f"{count:>9,} devices, state {size:,} MiB: ready after {_listed(starts)}")
    print(f"  memory at start {before} MiB, after the calls {after} MiB, at most {most} MiB")
    for each in measured:
        print(f"  {each.what:40} p50 {each.p50:>8.2f} ms   p99 {each.p99:>8.2f} ms")


def _listed(starts: list[Served]) -> str:
    return ", ".join(f"{each.seconds:.2f} s ({each.processor:.2f} s of processor)" for each in starts)


def calls(data: Path, count: int) -> list[Measured]:
    owner, chance = Owner(data), random.Random(1)

    def anybody() -> str:
        return device(chance.randrange(count - CALLS))

    fresh = iter(range(CALLS))
    gone = iter(range(CALLS))
    tags = {"tags": {"mark": 1}}
    measured = [
        timed("identity read", CALLS, lambda: owner.call("GET", f"/devices/{anybody()}")),
        timed("twin read", CALLS, lambda: owner.call("GET", f"/twins/{anybody()}")),
        timed("twin changed", CALLS, lambda: owner.call("PATCH", f"/twins/{anybody()}", tags)),
        timed("identity made", CALLS, lambda: make(owner, f"new-{next(fresh)}")),
        timed("identity deleted", CALLS, lambda: delete(owner, f"new-{next(gone)}")),
        *pages(owner, "SELECT * FROM devices", "page of all, 100 rows"),
        *pages(owner, "SELECT * FROM devices WHERE deviceId = 'device-0000042'", "query for one id"),
        *pages(owner, "SELECT * FROM devices WHERE tags.hall = 30", "page of one device in a thousand, 100 rows"),
        timed("number of devices", 3, lambda: owner.call("GET", "/statistics/devices")),
    ]
    owner.close()
    return measured


def make(owner: Owner, device_id: str) -> None:
    owner.call("PUT", f"/devices/{device_id}", {"deviceId": device_id})


def delete(owner: Owner, device_id: str) -> None:
    owner.call("DELETE", f"/devices/{device_id}", If_Match="*")


def pages(owner: Owner, query: str, what: str) -> list[Measured]:
    """One page after the other, from the first again after the last."""
    following = ""

    def page() -> None:
        nonlocal following
        more = {"x_ms_continuation": following} if following else {}
        _, headers = owner.call("POST", "/devices/query", {"query": query}, x_ms_max_item_count="100", **more)
        following = headers.get("x-ms-continuation", "")

    return [timed(what, PAGES, page)]


def timed(what: str, times: int, call: Callable[[], object]) -> Measured:
    took: list[float] = []
    for _ in range(times):
        begun = time.monotonic()
        call()
        took.append((time.monotonic() - begun) * 1000)
    took.sort()
    return Measured(what, took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--keep", help="the folder below which data folders stay")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
