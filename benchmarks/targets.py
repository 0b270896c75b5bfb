"""Measures delivery to hosted targets: each sink alone, and the whole way from devices through the log and a worker.

    benchmarks/bench.sh targets [--seconds 5] [--targets eventhub,queue,topic,json,avro] [--whole-way]

Alone: one process, as a worker is, delivers batches of 256-byte messages of 200 devices in four partitions, side by
side, and measures what the target confirms; the server with the targets runs beside it, and its CPU is told apart.
Whole way: the load generator sends 5,000 messages a second from 200 devices to a hub with a route to the target, which
is reached by identity; told are the PUBACK latencies, how much was delivered while the load lasted, and how long the
rest took afterwards. Everything shares the machine: the load, the hub, the target in it, and the worker.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isthmus.base.clock import SystemClock
from isthmus.base.ids import HubId, RandomIds
from isthmus.base.places import CA_CERTIFICATE
from isthmus.resources.routing_endpoint import (
    BlobEncoding,
    EndpointAuthentication,
    EndpointKind,
    RoutingEndpoint,
    StorageSettings,
)
from isthmus.routing.sink import Delivery, Destination, HubName, Sink
from isthmus.sinks.factory import sink_factory
from isthmus.telemetry.message import Envelope, encode_envelope
from isthmus.telemetry.ports import Partition, Record
from peers import HOST_NAME, Own, Running, start, stop
from run import HERE, RESULTS, RUN_SECONDS_MAX, SHAPES, WORK, commit, machine

ISTHMUS = Path(sys.executable).with_name("isthmus")
DOMAIN = HOST_NAME.partition(".")[2]
EVENTS, BUS, ACCOUNT = "bench-events", "bench-bus", "benchstore"
ENTITIES = {"eventhub": "telemetry", "queue": "orders", "topic": "news", "json": "json", "avro": "avro"}
KINDS = {"eventhub": "eventhub", "queue": "servicebus-queue", "topic": "servicebus-topic"}
DEVICES, PARTITIONS, BATCH, PAYLOAD_BYTES = 200, 4, 500, 256
AMQPS_PORT = 5671
DRAIN_SECONDS_MAX = 120
ALL_CORES = set(range(os.cpu_count() or 1))

Row = dict[str, Any]


def main() -> int:
    options = _options()
    RESULTS.mkdir(exist_ok=True)
    about = {"commit": commit(), "machine": machine()}
    out = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{about['commit']}-targets.jsonl"
    with out.open("a") as file:
        for target in options.targets.split(","):
            row = _whole_way(target, options.seconds) if options.whole_way else _alone(target, options.seconds)
            file.write(json.dumps(row | about) + "\n")
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    print(f"{about['machine']}; commit {about['commit']}; {out}")
    return 0


def _alone(target: str, seconds: float) -> Row:
    own, folder = _Beside(), WORK / "targets"
    running = start(own, folder, ALL_CORES)
    try:
        _make_targets(folder)
        endpoint = _endpoint(target, folder)
        return asyncio.run(_measure(target, endpoint, _Egress(folder, own), running.process.pid, seconds))
    finally:
        stop(own, running)
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(target: str, endpoint: RoutingEndpoint, egress: "_Egress", server: int, seconds: float) -> Row:
    sink = sink_factory(SystemClock(), RandomIds())(HubName(HubId(1), "hub"), endpoint, egress)
    batch = _batch()
    await asyncio.gather(*(sink.deliver(partition, batch) for partition in range(PARTITIONS)))
    began, own_cpu, server_cpu = time.monotonic(), time.process_time(), _cpu(server)
    counts = await asyncio.gather(
        *(_deliver(sink, partition, batch, began + seconds) for partition in range(PARTITIONS))
    )
    lasted, count = time.monotonic() - began, sum(counts)
    row: Row = {
        "target": target,
        "msgs_per_s": round(count / lasted),
        "worker_cpu_us_per_msg": round((time.process_time() - own_cpu) / count * 1e6, 1),
        "server_cpu_us_per_msg": round((_cpu(server) - server_cpu) / count * 1e6, 1),
    }
    await sink.close()
    return row


async def _deliver(sink: Sink, partition: int, batch: Sequence[Delivery], until: float) -> int:
    count = 0
    while time.monotonic() < until:
        await sink.deliver(partition, batch)
        count += len(batch)
    return count


def _whole_way(target: str, seconds: float) -> Row:
    own, folder = _Beside(), WORK / "targets"
    running = start(own, folder, ALL_CORES)
    try:
        if target != "none":
            _make_targets(folder)
            _route(target, folder)
        shape = SHAPES["open5k"].format(seconds=seconds)
        load = [str(HERE / "mqttload"), *running.arguments, *shape.split()]
        load += ["--server-pid", str(running.process.pid), "--max-seconds", "60"]
        done = subprocess.run(load, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=True)
        told = json.loads(done.stdout)
        row: Row = {"target": target, "sent_per_s": round(told["msgs_per_s"])}
        row |= {f"puback_{part}_ms": round(told["ack_us"][part] / 1000, 1) for part in ("p50", "p99", "p999")}
        return row if target == "none" else row | _drained(folder, running)
    finally:
        stop(own, running)
        shutil.rmtree(folder, ignore_errors=True)


def _drained(folder: Path, running: Running) -> Row:
    """How much was delivered when the load ended, and when the rest was."""
    began = time.monotonic()
    first = _metric(folder, "isthmus_egress_delivered_total")
    while _metric(folder, "isthmus_egress_waiting") or _metric(folder, "isthmus_egress_behind_bytes"):
        if time.monotonic() - began > DRAIN_SECONDS_MAX:
            raise RuntimeError(f"not delivered within {DRAIN_SECONDS_MAX} s")
        time.sleep(0.2)
    lasted, all_of_it = time.monotonic() - began, _metric(folder, "isthmus_egress_delivered_total")
    return {
        "delivered_meanwhile": round(first),
        "delivered": round(all_of_it),
        "rest_took_s": round(lasted, 1),
        "worker_cpu_us_per_msg": round(sum(map(_cpu, _children(running.process.pid))) / all_of_it * 1e6, 1),
    }


def _metric(folder: Path, name: str) -> float:
    lines = _isthmus(folder, "metrics").splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


def _make_targets(folder: Path) -> None:
    in_bus = ("--namespace-name", BUS)
    for command in (
        ("eventhubs", "namespace", "create", "-n", EVENTS),
        ("eventhubs", "eventhub", "create", "--namespace-name", EVENTS, "-n", "telemetry", "--partition-count", "4"),
        ("servicebus", "namespace", "create", "-n", BUS),
        ("servicebus", "queue", "create", *in_bus, "-n", "orders", "--max-size", "81920"),
        ("servicebus", "topic", "create", *in_bus, "-n", "news", "--max-size", "81920"),
        ("servicebus", "topic", "subscription", "create", *in_bus, "--topic-name", "news", "-n", "readers"),
        ("storage", "account", "create", "-n", ACCOUNT),
        ("storage", "container", "create", "--account-name", ACCOUNT, "-n", "json"),
        ("storage", "container", "create", "--account-name", ACCOUNT, "-n", "avro"),
    ):
        _isthmus(folder, *command)


def _route(target: str, folder: Path) -> None:
    """The hub's own identity, a role, an endpoint and a route."""
    principal = json.loads(_isthmus(folder, "iot", "hub", "identity", "assign", "--system", "true"))["principalId"]
    words = {"eventhub": ("eventhubs", EVENTS), "queue": ("servicebus", BUS), "topic": ("servicebus", BUS)}
    shown = ("storage", "account", "show", "-n", ACCOUNT)
    role = "Storage Blob Data Contributor"
    uri = f"https://{ACCOUNT}.blob.{DOMAIN}"
    more: tuple[str, ...] = ("--container", target, "--encoding", target)
    if target in words:
        word, namespace = words[target]
        shown = (word, "namespace", "show", "-n", namespace)
        role = "Azure Event Hubs Data Sender" if target == "eventhub" else "Azure Service Bus Data Sender"
        uri, more = f"sb://{namespace}.servicebus.{DOMAIN}", ("--entity-path", ENTITIES[target])
    scope = json.loads(_isthmus(folder, *shown))["id"]
    _isthmus(folder, "role", "assignment", "create", "--assignee", principal, "--role", role, "--scope", scope)
    kind = KINDS.get(target, "storage-container")
    identity = ("--en", "target", "--identity", "[system]", "--endpoint-uri", uri)
    _isthmus(folder, "iot", "hub", "message-endpoint", "create", kind, *identity, *more)
    _isthmus(folder, "iot", "hub", "message-route", "create", "--rn", "all", "-t", "DeviceMessages", "--en", "target")


def _endpoint(target: str, folder: Path) -> RoutingEndpoint:
    """An endpoint with a key: the sink alone has no hub to ask for tokens."""
    entity = ENTITIES[target]
    kinds = {"eventhub": EndpointKind.EVENT_HUB, "queue": EndpointKind.QUEUE, "topic": EndpointKind.TOPIC}
    settings = None
    if target in kinds:
        namespace = EVENTS if target == "eventhub" else BUS
        key = _isthmus(folder, "connection-string", "--namespace", namespace, "--entity", entity).strip()
    else:
        shown = json.loads(_isthmus(folder, "storage", "account", "show-connection-string", "-n", ACCOUNT))
        key = shown["connectionString"]
        settings = StorageSettings(entity, encoding=BlobEncoding.JSON if target == "json" else BlobEncoding.AVRO)
    kind = kinds.get(target, EndpointKind.STORAGE)
    by_key = EndpointAuthentication.KEY
    return RoutingEndpoint(2, "0", target, kind, by_key, key, entity_path=entity, storage=settings)


class _Beside(Own):
    """At a port of its own, so that another benchmark may run meanwhile."""

    port = 23_093


class _Egress:
    """Every name leads to the server of the benchmark."""

    def __init__(self, folder: Path, own: Own) -> None:
        self.ca_file = folder / "data" / CA_CERTIFICATE
        self._amqp, self._https = own.port + 1000, own.port + 2000

    async def token(self, hub: HubId, identity: str, scope: str) -> tuple[str, int]:
        raise AssertionError("keys need no token")

    async def resolve(self, hub: HubId, host: str, port: int) -> Sequence[Destination]:
        is_amqp = host.partition(".")[2].startswith("servicebus.")
        return [Destination("127.0.0.1", self._amqp if is_amqp else self._https)]


def _batch() -> list[Delivery]:
    payload = os.urandom(PAYLOAD_BYTES)
    return [_delivery(number, payload) for number in range(BATCH)]


def _delivery(number: int, payload: bytes) -> Delivery:
    envelope = Envelope(
        f"device-{number % DEVICES}",
        auth_method='{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}',
        generation_id="638999999999999999",
        system={"message-id": str(number)},
        properties={"level": "hot"},
    )
    now_ms = SystemClock().utc_ms()
    record = Record(Partition(1, 0), -1, number, now_ms, now_ms, (2,), 0, encode_envelope(envelope), payload)
    return Delivery(record, envelope)


def _isthmus(folder: Path, *arguments: str) -> str:
    command = [str(ISTHMUS), *arguments, "--data", str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def _cpu(pid: int) -> float:
    """Processor seconds of one process, its workers left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=",".join(ENTITIES), help="with --whole-way also none, for comparison")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--whole-way", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
