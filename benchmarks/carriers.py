"""What carries a plant's connections: none (direct), our connector, HAProxy; side by side, by the same door.

    carriers.py [--devices 2000] [--rate 1] [--seconds 5] [--rounds 3]

HAProxy does what the connector does: TCP in, TLS with a client certificate and `send-proxy-v2` out. In one section it
sends the header ahead of TLS, which the link door does not take; `haproxy` is measured against the stand-in only, and
`haproxy-in` has the second section that puts the header inside.
Three comparisons:

- *devices*: `--devices` MQTT connections over TLS to one hub, each sending `--rate` messages a second (open loop): the
  latency of the PUBACK is what a carrier adds to. The hub has one core, carrier and load share the other.
- *window1*: 200 devices that send as fast as they are acknowledged, through the whole hub.
- *bytes*: the carrier alone on a core, against a stand-in for the hub (`carrier_door.py`): its own CPU for a small
  round trip and for a megabyte each way. What one core can carry is the inverse.

Rounds are the outer loop, so that a slow minute falls on all; medians are printed.
"""

import argparse
import contextlib
import functools
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from carrier_door import (
    ADDRESS,
    BULK,
    DOOR_PORT,
    DOOR_PORT_HEADER_FIRST,
    ECHO_PORT,
    NAME,
    PORTS,
    PRIVATE_ADDRESS,
    WORKS,
    Usage,
    drive,
    stand,
)
from peers import HOST_NAME, Own, Running, start, stop
from run import HERE, RUN_SECONDS_MAX, WORK, commit, machine

HUB_CORE, CARRIER_CORE = {0}, {1}
LINK_PORT = 22_995
DEVICE_ADDRESS = "127.50.0.5"
START_SECONDS_MAX = 30.0
OPEN_FILES = 20_000
ISTHMUS = Path(sys.executable).with_name("isthmus")

Row = dict[str, Any]


class Carrier(Protocol):
    """One way between a plant and its hub."""

    name: str
    real: bool
    """True when it can lead to a hub, false when only to the stand-in."""

    def command(self, folder: Path, leads: "Leads") -> list[str]:
        """Writes what it needs and returns the command; empty for none."""


class Leads:
    """Where a carrier leads from and to, with the identity that it presents."""

    def __init__(self, data: Path, listen: str, ports: tuple[int, ...], door: str) -> None:
        self.data, self.listen, self.ports, self.door = data, listen, ports, door


class Direct:
    """Nothing in between."""

    name = "direct"
    real = True

    def command(self, folder: Path, leads: Leads) -> list[str]:
        return []


class Connector:
    """`isthmus connector run`."""

    name = "connector"
    real = True

    def command(self, folder: Path, leads: Leads) -> list[str]:
        return [str(ISTHMUS), "connector", "run", "--data", str(leads.data)]


class Haproxy:
    """HAProxy in one section, with one thread, as it has one core: its header goes ahead of TLS, which no hub takes."""

    name = "haproxy"
    real = False

    def command(self, folder: Path, leads: Leads) -> list[str]:
        ca = folder / "hub-ca.pem"
        ca.write_text(json.loads((leads.data / "hub.json").read_text())["ca_pem"])
        outside = (
            f"ssl crt {leads.data / 'identity.pem'} ca-file {ca} verify required verifyhost {HOST_NAME} "
            f"sni str({HOST_NAME}) ssl-min-ver TLSv1.3"
        )
        sections = "".join(self.sections(leads, port, outside) for port in leads.ports)
        (folder / "haproxy.cfg").write_text(
            "global\n  nbthread 1\n  maxconn 9000\n"
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n  backlog 4096\n"
            + sections
        )
        return [_haproxy() or "haproxy", "-db", "-f", str(folder / "haproxy.cfg")]

    def sections(self, leads: Leads, port: int, outside: str) -> str:
        """What carries one port."""
        door = f"{ADDRESS}:{DOOR_PORT_HEADER_FIRST}"
        return f"listen p{port}\n  bind {leads.listen}:{port}\n  server hub {door} {outside} send-proxy-v2\n"


class HaproxyInside(Haproxy):
    """HAProxy in two sections, so that its header goes inside TLS, as the link door takes it."""

    name = "haproxy-in"
    real = True

    def sections(self, leads: Leads, port: int, outside: str) -> str:
        first = f"listen p{port}\n  bind {leads.listen}:{port}\n  server inside abns@bench{port} send-proxy-v2\n"
        return f"{first}listen l{port}\n  bind abns@bench{port}\n  server hub {leads.door} {outside}\n"


CARRIERS: tuple[Carrier, ...] = (Direct(), Connector(), HaproxyInside(), Haproxy())


class LinkedHub(Own):
    """`isthmus up` with a link door and a private endpoint that a carrier listens for."""

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        command, environment = super().command(folder)
        return [*command, "--link-port", str(LINK_PORT)], environment

    def prepared(self, folder: Path, environment: dict[str, str]) -> None:
        super().prepared(folder, environment)
        data = folder / "data"
        hub_id = _isthmus(data, "iot", "hub", "show")["id"]
        _isthmus(
            data,
            *("network", "vnet", "create", "-n", NAME, "--presence", f"connector:{NAME}"),
            *("--address-prefixes", "127.0.0.0/8", "--subnet-name", NAME, "--subnet-prefixes", "127.0.0.0/8"),
        )
        _isthmus(
            data,
            *("network", "private-endpoint", "create", "-n", NAME, "--connection-name", NAME, "--group-id", "iotHub"),
            *("--private-connection-resource-id", hub_id, "--vnet-name", NAME, "--subnet", NAME, "--ip-config"),
            *(f"name={NAME}", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={DEVICE_ADDRESS}"),
        )
        token = _isthmus(data, "connector", "enrol", "-n", NAME)["token"]
        words = ("connector", "run", "--data", folder / "carrier", "--ready-file", folder / "enrolled")
        connector = [str(part) for part in (ISTHMUS, *words)]
        with (folder / "enrolment").open("wb") as output:
            enrolling = subprocess.Popen(connector, stderr=output, env={**os.environ, "ISTHMUS_ENROLMENT_TOKEN": token})
        try:
            _wait((folder / "enrolled").exists, "the connector was not enrolled")
        finally:
            enrolling.terminate()
            enrolling.wait(START_SECONDS_MAX)


def main() -> int:
    options = _options()
    carriers = [carrier for carrier in CARRIERS if not isinstance(carrier, Haproxy) or _haproxy()]
    if len(carriers) < len(CARRIERS):
        print("haproxy is left out: it is not here", file=sys.stderr)
    shapes = {
        "devices": f"--conns {options.devices} --window 4 --rate {options.rate} --connect-inflight 32",
        "window1": "--conns 200 --window 1",
    }
    rows: list[Row] = []
    for number in range(options.rounds):
        rows += [row | {"round": number} for row in _devices(carriers, shapes, options.seconds)]
        rows += [row | {"round": number} for row in _bytes(carriers, options.seconds)]
    print(f"\n{machine()}; commit {commit()}; {options.rounds} rounds of {options.seconds:g} s\n")
    for shape in shapes:
        print(_device_table(shape, shapes[shape], rows, carriers))
    print(_byte_table(rows, carriers))
    return 0


def _devices(carriers: list[Carrier], shapes: dict[str, str], seconds: float) -> Iterator[Row]:
    """One hub, the carriers one after the other."""
    hub, folder = LinkedHub(), WORK / "linked"
    running = start(hub, folder, HUB_CORE)
    leads = Leads(folder / "carrier", DEVICE_ADDRESS, (hub.port,), f"{ADDRESS}:{LINK_PORT}")
    try:
        for shape, arguments in shapes.items():
            for carrier in (each for each in carriers if each.real):
                with _carrying(carrier, folder, leads) as process:
                    yield {"carrier": carrier.name, "shape": shape} | _load(running, process, arguments, seconds)
                    _tell(carrier.name, shape)
    finally:
        stop(hub, running)
        shutil.rmtree(folder, ignore_errors=True)


def _load(hub: Running, carrier: "subprocess.Popen[bytes] | None", arguments: str, seconds: float) -> Row:
    host = ["--host", DEVICE_ADDRESS] if carrier is not None else []
    measured = carrier.pid if carrier is not None else hub.process.pid
    command = [str(HERE / "mqttload"), *host, *hub.arguments, *arguments.split()]
    command += ["--duration", str(seconds), "--server-pid", str(measured), "--max-seconds", "60"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, CARRIER_CORE),
    )
    try:
        row: Row = json.loads(done.stdout)
    except ValueError as error:
        raise RuntimeError(done.stderr[-300:]) from error
    return row


def _bytes(carriers: list[Carrier], seconds: float) -> Iterator[Row]:
    """A stand-in for the hub, the carriers one after the other, each with core 0 to itself."""
    for carrier in carriers:
        if isinstance(carrier, Direct):
            continue
        folder = WORK / "door"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        standing = stand(folder)
        leads = Leads(standing.identity.path.parent, PRIVATE_ADDRESS, PORTS, f"{ADDRESS}:{DOOR_PORT}")
        with _carrying(carrier, folder, leads, HUB_CORE) as process:
            assert process is not None
            rows = drive(standing, CARRIER_CORE, seconds, functools.partial(_used, process.pid))
            for work, row in zip(WORKS, rows, strict=True):
                yield {"carrier": carrier.name, "shape": work.name} | row
            _tell(carrier.name, "bytes")
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _carrying(
    carrier: Carrier, folder: Path, leads: Leads, cores: set[int] = CARRIER_CORE
) -> "Iterator[subprocess.Popen[bytes] | None]":
    """A carrier that runs, on its core; None for the direct way."""
    command = carrier.command(folder, leads)
    if not command:
        yield None
        return

    def on_its_core() -> None:
        os.sched_setaffinity(0, cores)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, OPEN_FILES), hard))

    with (folder / carrier.name).open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, preexec_fn=on_its_core)
    try:
        if leads.listen == DEVICE_ADDRESS:
            _wait(lambda: _accepts(leads.listen, leads.ports[0]) or process.poll() is not None, "nobody listens")
        if process.poll() is not None:
            raise RuntimeError(f"{carrier.name} ended: {(folder / carrier.name).read_text()[-800:]}")
        yield process
    finally:
        process.kill()
        process.wait()


def _device_table(shape: str, arguments: str, rows: list[Row], carriers: list[Carrier]) -> str:
    lines = [
        f"{shape}: {arguments}",
        "carrier     connected  msgs/s   PUBACK ms p50/p99/p99.9   carrier CPU us/msg  KiB/conn",
    ]
    for carrier in carriers:
        own = [row for row in rows if row["shape"] == shape and row["carrier"] == carrier.name]
        if not own:
            continue
        waits = "/".join(f"{_median(own, 'ack_us', part) / 1000:.1f}" for part in ("p50", "p99", "p999"))
        cpu = "-" if isinstance(carrier, Direct) else f"{_median(own, 'server_cpu_us_per_msg'):.1f}"
        size = "-" if isinstance(carrier, Direct) else f"{_median(own, 'rss_kb_per_conn'):.1f}"
        lines.append(
            f"{carrier.name:10}  {_median(own, 'connected'):>9.0f}  {_median(own, 'msgs_per_s'):>7,.0f}  {waits:>24}  "
            f"{cpu:>18}  {size:>8}"
        )
    return "\n".join(lines) + "\n"


def _byte_table(rows: list[Row], carriers: list[Carrier]) -> str:
    lines = ["bytes: the carrier alone on a core"]
    for work in WORKS:
        for carrier in carriers:
            own = [row for row in rows if row["shape"] == work.name and row["carrier"] == carrier.name]
            if not own:
                continue
            count, cpu = _median(own, "count"), _median(own, "cpu_us")
            if work is BULK:
                said = f"{_median(own, 'kib'):.1f} KiB a connection"
            elif work.port == ECHO_PORT:
                said = f"{count:,.0f} /s, carrier {cpu:.1f} us each"
            else:
                said = f"{count / 1e6:,.0f} MB/s, carrier {cpu * 1e3:.2f} ms/MB"
            lines.append(f"{work.name:40} {carrier.name:10} {said}")
    return "\n".join(lines) + "\n"


def _median(rows: list[Row], name: str, part: str = "") -> float:
    return statistics.median(float(row[name][part] if part else row[name]) for row in rows)


def _isthmus(data: Path, *arguments: str) -> Any:
    command = [str(ISTHMUS), *arguments, "--data", str(data), "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


def _used(pid: int) -> Usage:
    """User and system time of a process so far, and the memory it has now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Usage(seconds, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") // 1024)


def _accepts(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.3)
        return probe.connect_ex((address, port)) == 0


def _wait(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{otherwise} after {START_SECONDS_MAX:.0f} s")
        time.sleep(0.05)


def _haproxy() -> str | None:
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _tell(carrier: str, shape: str) -> None:
    print(f"{carrier:12} {shape}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=1.0, help="messages a second of each device")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
