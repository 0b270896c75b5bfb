"""Drives each server with the same load and prints them side by side; keeps every run as a JSON line.

    run.py [--peers isthmus,rabbitmq-quorum,nats-synced,mosquitto,rumqttd] [--shapes window1,window16] [--rounds 3]
           [--seconds 3]

More peers are our own server in pure Python, isthmus-pure, with JSON messages, isthmus-json, and with ten routes for
them, isthmus-10-routes.

The rounds are the outer loop and the servers the inner one, so that a slow minute of the machine falls on all. The
server is held to one core and the load to another; CPU is that of the server's process tree in the measured window.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peers import (
    Mosquitto,
    NatsSynced,
    Own,
    OwnJson,
    OwnPure,
    OwnRouted,
    Peer,
    RabbitQuorum,
    Rumqttd,
    Running,
    missing,
    start,
    stop,
)

HERE = Path(__file__).parent
RESULTS = HERE / "results"
WORK = RESULTS / "work"
"""On the disk of the checkout: a folder in memory would make durable servers look fast."""
SERVER_CORES, LOAD_CORES = {0}, {1}
RUN_SECONDS_MAX = 90
SHAPES = {
    "window1": "--conns 200 --window 1 --duration {seconds}",
    "window16": "--conns 200 --window 16 --duration {seconds}",
    "open5k": "--conns 200 --window 16 --rate 25 --duration {seconds}",
    "idle2000": "--conns 2000 --idle --hold 3 --connect-inflight 64",
}
"""200 devices of 256-byte messages, each waiting for its acknowledgement (a fleet) or 16 ahead (a burst)."""
HEADINGS = ("server", "acknowledged", "msgs/s", "min-max", "CPU us/msg", "PUBACK ms p50/p99/p99.9", "RSS MB", "errors")
IDLE_HEADINGS = (
    "server",
    "connected",
    "connects/s",
    "CPU us/connect",
    "connect ms p50/p99",
    "KiB/connection",
    "errors",
)
DEFAULT_SHAPES = "window1,window16"
COMPARED = (Own, RabbitQuorum, NatsSynced, Mosquitto, Rumqttd)

Row = dict[str, Any]


def main() -> int:
    options = _options()
    peers = [peer for peer in _peers(options.peers) if _is_there(peer)]
    shapes = options.shapes.split(",")
    RESULTS.mkdir(exist_ok=True)
    about = {"commit": commit(), "machine": machine()}
    out = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{about['commit']}.jsonl"
    rows: list[Row] = []
    with out.open("a") as file:
        for row in _measure(peers, shapes, rounds=options.rounds, seconds=options.seconds):
            rows.append(row)
            file.write(json.dumps(row | about) + "\n")
            file.flush()
            _tell(row)
    print(f"\n{about['machine']}; commit {about['commit']}; {options.rounds} rounds of {options.seconds:g} s; {out}\n")
    for shape in shapes:
        print(table(shape, [row for row in rows if row["shape"] == shape], peers))
    return 0 if any(row["peer"].startswith(Own.name) and "failed" not in row for row in rows) else 1


def table(shape: str, rows: list[Row], peers: Iterable[Peer]) -> str:
    """The medians of a shape as text in columns."""
    idle = "--idle" in SHAPES[shape]
    lines: list[tuple[str, ...]] = [IDLE_HEADINGS if idle else HEADINGS]
    for peer in peers:
        good = [row for row in rows if row["peer"] == peer.name and "failed" not in row]
        if good:
            lines.append(_idle_cells(peer, good) if idle else _cells(peer, good))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, tuple("-" * width for width in widths))
    body = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return f"TLS, {shape}: {SHAPES[shape].partition(' --duration')[0]}\n{body}\n"


def _cells(peer: Peer, rows: list[Row]) -> tuple[str, ...]:
    rates = [row.get("msgs_per_s", 0) for row in rows]
    waits = "/".join(f"{_median(rows, 'ack_us', part) / 1000:.1f}" for part in ("p50", "p99", "p999"))
    return (
        peer.name,
        peer.promise,
        f"{statistics.median(rates):,.0f}",
        f"{min(rates):,.0f}-{max(rates):,.0f}",
        f"{_median(rows, 'server_cpu_us_per_msg'):.1f}",
        waits,
        f"{_median(rows, 'rss_mb'):.0f}",
        str(sum(sum(row["errors"].values()) for row in rows)),
    )


def _idle_cells(peer: Peer, rows: list[Row]) -> tuple[str, ...]:
    waits = "/".join(f"{_median(rows, f'connect_{part}_us') / 1000:.1f}" for part in ("p50", "p99"))
    return (
        peer.name,
        f"{_median(rows, 'connected'):.0f}",
        f"{_median(rows, 'connect_per_s'):,.0f}",
        f"{_median(rows, 'connect_cpu_us_each'):.0f}",
        waits,
        f"{_median(rows, 'rss_kb_per_conn'):.1f}",
        str(sum(sum(row["errors"].values()) for row in rows)),
    )


def _median(rows: list[Row], name: str, part: str = "") -> float:
    return statistics.median(float(row[name][part] if part else row[name]) for row in rows)


def _measure(peers: list[Peer], shapes: list[str], *, rounds: int, seconds: float) -> Iterable[Row]:
    for number in range(rounds):
        for peer in peers:
            for row in _measure_peer(peer, shapes, seconds):
                yield row | {"peer": peer.name, "round": number}


def _measure_peer(peer: Peer, shapes: list[str], seconds: float) -> Iterable[Row]:
    """A server is started afresh for each shape, so that what one left in its store does not slow the next."""
    for shape in shapes:
        try:
            running = start(peer, WORK / peer.name, SERVER_CORES)
        except RuntimeError as error:
            yield {"shape": shape, "failed": str(error)}
            continue
        try:
            yield {"shape": shape, **_load(running, SHAPES[shape].format(seconds=seconds))}
        finally:
            stop(peer, running)
            shutil.rmtree(WORK / peer.name, ignore_errors=True)


def _load(running: Running, shape: str) -> Row:
    command = [str(HERE / "mqttload"), *running.arguments, *shape.split()]
    command += ["--server-pid", str(running.process.pid), "--max-seconds", "60"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, LOAD_CORES),
    )
    try:
        row: Row = json.loads(done.stdout)
    except ValueError:
        return {"failed": done.stderr[-300:]}
    return row


def _tell(row: Row) -> None:
    if "failed" in row:
        print(f"{row['peer']:16} {row['shape']:9} failed: {row['failed']}", file=sys.stderr)
        return
    waits = row.get("ack_us", {})
    print(
        f"{row['peer']:16} {row['shape']:9} {row.get('msgs_per_s', 0):>9,.0f} msgs/s "
        f"{row.get('server_cpu_us_per_msg', 0):>7.1f} us cpu  p50 {waits.get('p50', 0) / 1000:>6.1f} ms  "
        f"p99 {waits.get('p99', 0) / 1000:>6.1f} ms  connected {row.get('connected')}",
        file=sys.stderr,
        flush=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(peer.name for peer in COMPARED))
    parser.add_argument("--shapes", default=DEFAULT_SHAPES, help=", ".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured, after one of warm-up")
    return parser.parse_args()


def _peers(names: str) -> list[Peer]:
    known: list[Peer] = [peer() for peer in (*COMPARED, OwnPure, OwnJson, OwnRouted)]
    return [peer for name in names.split(",") for peer in known if peer.name == name]


def _is_there(peer: Peer) -> bool:
    absent = missing(peer)
    if absent:
        print(f"{peer.name} is left out: there is no {', '.join(absent)} here", file=sys.stderr)
    return not absent


def commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
