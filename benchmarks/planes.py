"""Measures what is not telemetry on its way in: methods, twin patches, reading, and a fleet that comes back at once.

    benchmarks/bench.sh planes [--planes methods,twins,reads,storm] [--seconds 5] [--devices 1000]

methods: one of 1,000 connected devices after the other is called through the service API and answers at once; told is
the round trip as the caller sees it. twins: 100 devices each report a property and wait for the answer, which comes
once it is on disk. reads: stock `azure-eventhub` consumers, one and then several, each a process of its own, read a
log that was filled before. storm: 10,000 devices connect at once, each with its own token.

The server may use both cores and shares them with the load; its CPU is told beside each figure.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import certifi
from azure.eventhub import EventData, EventHubConsumerClient, PartitionContext

from isthmus.base.places import CA_CERTIFICATE
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.errors import ConnectCode
from isthmus.wire.mqtt.packets import ConnAck, Connect, Publish, SubAck
from peers import HOST_NAME, Own, Running, start, stop
from run import HERE, RESULTS, RUN_SECONDS_MAX, WORK, commit, machine

ISTHMUS = Path(sys.executable).with_name("isthmus")
ALL_CORES = set(range(os.cpu_count() or 1))
PATCHING, READERS, STORMING = 100, 4, 10_000
FILL_SECONDS, CONNECTING_MAX = 5, 64
API_VERSION = "2021-04-12"
METHOD_TOPIC, TWIN_TOPIC = b"$iothub/methods/POST/", b"$iothub/twin/res/"

Row = dict[str, Any]


class Server:
    """The server of the benchmark, its folder and its CPU."""

    def __init__(self, devices: int) -> None:
        self.own = Own(devices)
        self.folder = WORK / "planes"
        self.running: Running = start(self.own, self.folder, ALL_CORES)
        self.ca = self.folder / "data" / CA_CERTIFICATE
        self.trust = ssl.create_default_context(cafile=str(self.ca))

    def close(self) -> None:
        """Ends the server and takes its folder away."""
        stop(self.own, self.running)
        shutil.rmtree(self.folder, ignore_errors=True)

    def cpu(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.running.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def isthmus(self, *arguments: str) -> str:
        """Runs a command of the owner's."""
        command = [str(ISTHMUS), *arguments, "--data", str(self.folder / "data")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def load(self, *shape: str) -> Row:
        """Runs the load generator to its end."""
        command = [str(HERE / "mqttload"), *self.running.arguments, *shape]
        command += ["--server-pid", str(self.running.process.pid), "--max-seconds", "80"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=True)
        row: Row = json.loads(done.stdout)
        return row

    def credentials(self) -> list[list[str]]:
        """Device id, user name and token of each device."""
        return [line.split("\t") for line in (self.folder / "credentials").read_text().splitlines()]


class Device(asyncio.Protocol):
    """A connected device that answers method calls at once and hears what became of its twin patches."""

    def __init__(self, user: str, token: str) -> None:
        self.session = ClientSession()
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.patched: asyncio.Future[bytes] | None = None
        self._connect = Connect(user.split("/")[1], keep_alive=600, user_name=user, password=token.encode())
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self.session.connect(self._connect))

    def data_received(self, data: bytes) -> None:
        for event in self.session.receive(data):
            match event:
                case ConnAck(code=code) if code is ConnectCode.ACCEPTED:
                    filters = ((f"{METHOD_TOPIC.decode()}#", 0), (f"{TWIN_TOPIC.decode()}#", 0))
                    self._transport.write(self.session.subscribe(*filters))
                case SubAck():
                    self.subscribed.set_result(None)
                case Publish(topic=topic) if topic.startswith(METHOD_TOPIC):
                    request = topic.rpartition(b"/?$rid=")[2]
                    self._transport.write(self.session.publish(b"$iothub/methods/res/200/?$rid=" + request, b"{}"))
                case Publish(topic=topic) if topic.startswith(TWIN_TOPIC) and self.patched is not None:
                    self.patched.set_result(topic)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in (self.subscribed, self.patched):
            if waiting is not None and not waiting.done():
                waiting.set_exception(exc or ConnectionError("the server hung up"))

    async def patch(self, number: int) -> None:
        """Reports a property; returns once the hub has said that it is kept."""
        self.patched = asyncio.get_running_loop().create_future()
        topic = b"$iothub/twin/PATCH/properties/reported/?$rid=%d" % number
        self._transport.write(self.session.publish(topic, b'{"temperature":%d}' % number))
        answer = await self.patched
        if not answer.startswith(b"$iothub/twin/res/204/"):
            raise RuntimeError(f"a twin patch was answered by {answer.decode()}")

    def close(self) -> None:
        """Hangs up."""
        self._transport.abort()


@asynccontextmanager
async def connected(server: Server, count: int) -> AsyncIterator[list[Device]]:
    """So many devices, connected and subscribed."""
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(CONNECTING_MAX)

    async def connect(user: str, token: str) -> Device:
        async with gate:
            port = server.own.port
            _, device = await loop.create_connection(
                lambda: Device(user, token), "127.0.0.1", port, ssl=server.trust, server_hostname=HOST_NAME
            )
            await device.subscribed
            return device

    devices = await asyncio.gather(*(connect(user, token) for _, user, token in server.credentials()[:count]))
    try:
        yield devices
    finally:
        for device in devices:
            device.close()


async def methods(server: Server, seconds: float) -> Row:
    """Calls one connected device after the other."""
    token = server.isthmus("iot", "hub", "generate-sas-token", "-o", "tsv").strip()
    ids = [device_id for device_id, _, _ in server.credentials()]
    url = f"https://{HOST_NAME}:{server.own.port + 2000}/twins/{{}}/methods?api-version={API_VERSION}"
    call = {"methodName": "reboot", "payload": None, "responseTimeoutInSeconds": 30}
    connector = aiohttp.TCPConnector(ssl=server.trust, resolver=_Here())
    headers = {"Authorization": token}
    waits: list[float] = []
    async with connected(server, len(ids)), aiohttp.ClientSession(connector=connector, headers=headers) as client:
        cpu, until = server.cpu(), time.monotonic() + seconds
        while (began := time.monotonic()) < until:
            async with client.post(url.format(ids[len(waits) % len(ids)]), json=call) as response:
                answer = await response.json()
            if answer.get("status") != 200:
                raise RuntimeError(f"a method was answered by {answer}")
            waits.append(time.monotonic() - began)
        cpu = server.cpu() - cpu
    return {"connected": len(ids), "calls": len(waits), **_waits(waits), **_each(cpu, len(waits), "call")}


async def twins(server: Server, seconds: float) -> Row:
    """Each device reports and waits, over and over."""
    waits: list[float] = []

    async def report(device: Device, until: float) -> None:
        number = 0
        while (began := time.monotonic()) < until:
            number += 1
            await device.patch(number)
            waits.append(time.monotonic() - began)

    async with connected(server, PATCHING) as devices:
        cpu, began = server.cpu(), time.monotonic()
        await asyncio.gather(*(report(device, began + seconds) for device in devices))
        cpu, lasted = server.cpu() - cpu, time.monotonic() - began
    rate = {"devices": PATCHING, "patches_per_s": round(len(waits) / lasted)}
    return rate | _waits(waits) | _each(cpu, len(waits), "patch")


async def reads(server: Server, seconds: float) -> Row:
    """Fills the log, and reads it with one stock consumer and with several at once, each with a group of its own."""
    server.load("--conns", "200", "--window", "16", "--duration", str(FILL_SECONDS))
    for number in range(READERS):
        server.isthmus("iot", "hub", "consumer-group", "create", "-n", f"readers-{number}")
    string = server.isthmus("connection-string", "--events").strip()
    row: Row = {}
    for readers in (1, READERS):
        cpu = server.cpu()
        counts = await asyncio.to_thread(_read, string, server, readers, seconds)
        row[f"events_per_s_by_{readers}"] = round(sum(counts) / seconds)
        row[f"server_cpu_us_by_{readers}"] = round((server.cpu() - cpu) / max(1, sum(counts)) * 1e6, 1)
    return row


async def storm(server: Server, seconds: float) -> Row:
    """All devices of the credentials connect at once."""
    count = len(server.credentials())
    shape = ("--conns", str(count), "--idle", "--hold", "1", "--connect-inflight", "1000", "--drain", "1")
    began = time.monotonic()
    told = await asyncio.to_thread(server.load, *shape)
    row = {"devices": count, "connected": told["connected"], "errors": sum(told["errors"].values())}
    lasted = {"connects_per_s": round(told["connect_per_s"]), "run_s": round(time.monotonic() - began, 1)}
    each = {"connect_cpu_us": round(told["connect_cpu_us_each"]), "rss_kib_each": round(told["rss_kb_per_conn"], 1)}
    return (
        row
        | lasted
        | each
        | {f"connect_{part}_ms": round(told[f"connect_{part}_us"] / 1000) for part in ("p50", "p99")}
    )


def _read(string: str, server: Server, readers: int, seconds: float) -> list[int]:
    with multiprocessing.get_context("spawn").Pool(readers) as pool:
        jobs = [
            (string, str(server.ca), server.own.port + 1000, f"readers-{number}", seconds) for number in range(readers)
        ]
        return pool.starmap(consume, jobs)


def consume(string: str, ca: str, port: int, group: str, seconds: float) -> int:
    """How many events one stock consumer hears in so many seconds, from the first one on."""
    certifi.where = lambda: ca
    count, until = 0, 0.0

    def take(context: PartitionContext, events: list[EventData]) -> None:
        nonlocal count, until
        if events and not until:
            until = time.monotonic() + seconds
        count += len(events) if time.monotonic() < until else 0
        if events and time.monotonic() >= until:
            client.close()

    client = EventHubConsumerClient.from_connection_string(
        string,
        group,
        custom_endpoint_address=f"sb://127.0.0.1:{port}",
        connection_verify=ca,
    )
    client.receive_batch(take, starting_position="-1", max_batch_size=300, prefetch=3000)
    return count


class _Here(aiohttp.abc.AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is held."""


def _waits(waits: Sequence[float]) -> Row:
    cuts = statistics.quantiles(waits, n=1000, method="inclusive")
    return {f"{name}_ms": round(cuts[place] * 1000, 1) for name, place in (("p50", 499), ("p99", 989), ("p999", 998))}


def _each(cpu: float, count: int, what: str) -> Row:
    return {f"server_cpu_us_per_{what}": round(cpu / max(1, count) * 1e6)}


PLANES: dict[str, Callable[[Server, float], Coroutine[Any, Any, Row]]] = {
    "methods": methods,
    "twins": twins,
    "reads": reads,
    "storm": storm,
}


def main() -> int:
    options = _options()
    RESULTS.mkdir(exist_ok=True)
    about = {"commit": commit(), "machine": machine()}
    out = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{about['commit']}-planes.jsonl"
    with out.open("a") as file:
        for plane in options.planes.split(","):
            server = Server(STORMING if plane == "storm" else options.devices)
            try:
                row = {"plane": plane, **asyncio.run(PLANES[plane](server, options.seconds))}
            finally:
                server.close()
            file.write(json.dumps(row | about) + "\n")
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    print(f"{about['machine']}; commit {about['commit']}; {out}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planes", default=",".join(PLANES))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--devices", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
