"""The grid: device, service and reader, in each place, on the official SDKs, by the hub's usual name.

Every cell runs inside the namespace of its place; the lab is up once for all of them.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from clients.grid_client import Task
from house.source import ROOT
from support.lab import RunningLab

CLIENT = ROOT / "tests" / "clients" / "grid_client.py"
PLACE_SECONDS_MAX = 150.0
CELLS = {
    "device mqtt 8883",
    "device websocket 443",
    "service https 443",
    "service amqp 5671",
    "reader amqp 5671",
    "reader websocket 443",
}
HOPS = ("name", "tcp", "tls", "protocol", "authentication", "message")
PLACES = {
    "same network": "crane",
    "peered": "erp",
    "on-premises over VPN": "press-1",
    "connector in an unprivileged namespace": "robot",
}


def test_every_cell_works(lab: RunningLab) -> None:
    assert lab.json("status")["ways"][0]["carries"] == "vpn"
    with ThreadPoolExecutor(2) as threads:
        outcomes = dict(zip(PLACES, threads.map(lambda host: play(lab, host), PLACES.values()), strict=True))
    assert outcomes == {place: dict.fromkeys(CELLS, "ok") for place in PLACES}


def test_every_cell_works_over_the_private_line(lab: RunningLab) -> None:
    lab.run("cut", "plant/vpn")
    try:
        lab.await_way("line")
        assert play(lab, "press-2") == dict.fromkeys(CELLS, "ok")
        assert lab.json("status")["ways"][0]["carries"] == "line"
    finally:
        lab.run("mend", "plant/vpn")
        lab.await_way("vpn")


def test_the_intruder_is_refused_with_every_sdk(lab: RunningLab) -> None:
    outcomes = play(lab, "intruder", device_id="crane")
    assert set(outcomes) == CELLS
    assert "ok" not in outcomes.values()


def test_every_private_path_is_proved_from_inside_its_network(lab: RunningLab) -> None:
    """In a namespace, in another customer's with the same ranges, and where a connector is."""
    paths = []
    for hub in ("factory", "bakery"):
        paths += json.loads(lab.isthmus("check", "path", "-n", hub, "--output", "json"))
    walked = {(path["hub"], path["endpoint"], path["from"].partition(":")[0]) for path in paths}
    assert walked == {("factory", "works", "netns"), ("factory", "cell", "connector"), ("bakery", "bakery", "netns")}
    assert len(paths) == len(walked) * 4
    for path in paths:
        assert [(hop["hop"], hop["verdict"]) for hop in path["hops"]] == [(hop, "ok") for hop in HOPS], path


def play(lab: RunningLab, host: str, device_id: str = "", hub: str = "factory") -> dict[str, str]:
    """Runs the client on a host, as a device of a hub."""
    device_id = device_id or lab.make_device(host, hub)
    task = Task(
        ca=str(lab.ca),
        device=lab.isthmus("connection-string", "-n", hub, "--device-id", device_id).strip(),
        service=lab.isthmus("connection-string", "-n", hub, "--policy", "iothubowner").strip(),
        events=lab.isthmus("connection-string", "-n", hub, "--events").strip(),
        device_id=device_id,
        mark=f"{host} {device_id}",
    )
    return dict(run_inside(lab, host, [sys.executable, str(CLIENT)], asdict(task)))


def run_inside(lab: RunningLab, host: str, command: Sequence[str], given: dict[str, Any]) -> Any:
    done = subprocess.run(
        lab.within(host, command),
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=PLACE_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
