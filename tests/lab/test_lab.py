"""The lab in real network namespaces: built, tried, broken, mended and taken away."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.base.clock import SystemClock
from isthmus.lab.probe import NO_NAME_SERVER
from isthmus.lab.waiting import wait_until
from lab.plans import FACTORY, factory
from support.lab import RunningLab, why_no_lab
from support.server import ISTHMUS

STAGE_SECONDS = 30.0
"""For a lab to come as far as it is to be killed at."""

needs_lab = pytest.mark.skipif(bool(why_no_lab()), reason=why_no_lab() or "-")


def test_every_path_is_as_expected(lab: RunningLab) -> None:
    rows = lab.json("matrix")
    assert {row["from"] for row in rows} == set(factory().hosts)
    assert [row for row in rows if not row["ok"]] == []
    assert {row["observed"] for row in rows} == {"open", "refused", "closed", "unreachable"}


def test_status_tells_what_runs(lab: RunningLab) -> None:
    facts = lab.json("status")
    assert facts["ok"] is True
    assert {"hub", "supervisor", "connector-cell"} <= {process["name"] for process in facts["processes"]}
    assert facts["ways"] == [{"site": "plant", "gateway": "works", "carries": "vpn", "vpn": [True, True]}]
    assert "plant reaches works by vpn; its VPN is alive" in lab.run("status")


def test_the_line_takes_over_when_the_vpn_dies_and_gives_back(lab: RunningLab) -> None:
    try:
        lab.run("cut", "plant/vpn")
        lab.await_way("line")
        assert {row["way"] for row in lab.json("matrix", "--host", "press-1")} == {"line"}
        lab.run("cut", "plant/line")
        differing = [row for row in lab.json("matrix", "--host", "press-1", code=1) if not row["ok"]]
        assert {(row["address"], row["observed"]) for row in differing} == {("10.20.1.4", NO_NAME_SERVER)}
    finally:
        lab.run("mend", "plant/line")
        lab.run("mend", "plant/vpn")
    lab.await_way("vpn")
    assert {row["way"] for row in lab.json("matrix", "--host", "press-1")} == {"vpn"}


def test_a_vpn_process_that_is_killed_is_started_again(lab: RunningLab) -> None:
    killed = next(each for each in lab.json("status")["processes"] if each["name"] == "wireguard-plant.vpn")
    os.kill(killed["pid"], signal.SIGKILL)
    lab.await_way("line")
    lab.await_way("vpn")
    assert lab.json("status")["ok"] is True


def test_the_connector_has_no_rights(lab: RunningLab) -> None:
    pid = next(each["pid"] for each in lab.json("status")["processes"] if each["name"] == "connector-cell")
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert {int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert lines["NoNewPrivs"] == "1"


def test_a_link_that_is_not_there_is_told(lab: RunningLab) -> None:
    assert "There is no link plant/tunnel" in lab.run("cut", "plant/tunnel", code=1)


def test_a_lab_is_not_built_twice(lab: RunningLab) -> None:
    assert "already: `isthmus lab down`" in lab.run("up", code=1)
    assert lab.json("status")["ok"] is True


@pytest.fixture
def unbuilt() -> Iterator[RunningLab]:
    """A lab that nobody has built yet."""
    other = RunningLab(FACTORY, "half")
    yield other
    other.down()
    assert not other.leavings()


STAGES: dict[str, Callable[[RunningLab], bool]] = {
    "the first namespace": lambda lab: bool(made(lab, "namespace")),
    "half of the namespaces": lambda lab: len(made(lab, "namespace")) > 8,
    "the supervisor": lambda lab: bool(made(lab, "process")),
    "the hub": lambda lab: (lab.folder / "ready.json").exists(),
}


@needs_lab
@pytest.mark.parametrize("stage", STAGES)
def test_a_lab_whose_up_was_killed_is_taken_away(unbuilt: RunningLab, stage: str) -> None:
    up = subprocess.Popen(unbuilt.command("up"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: STAGES[stage](unbuilt), STAGE_SECONDS)
    finally:
        up.kill()
        up.wait()
    mark = unbuilt.mark()
    unbuilt.down()
    assert not unbuilt.leavings()
    assert not unbuilt.marked(mark)


@needs_lab
def test_what_the_lab_did_not_make_is_left_alone(unbuilt: RunningLab) -> None:
    theirs = f"{unbuilt.name}-works"
    subprocess.run(["ip", "netns", "add", theirs], check=True)
    try:
        assert f"There is a namespace {theirs} already" in unbuilt.run("up", code=1)
        assert [Path(left).name for left in unbuilt.leavings()] == [theirs]
    finally:
        subprocess.run(["ip", "netns", "del", theirs], check=True)


BOUND = """\
name = "bound"

[internet]
range = "203.0.113.0/24"

[hub]
hostname = "bound.isthmus.test"
address = "203.0.113.10"
public = true

[networks.works]
range = "10.20.0.0/16"
subnet = "10.20.1.0/24"
presence = "bind"
endpoint = "10.20.1.4"

[networks.office]
range = "10.30.0.0/24"

[[peerings]]
between = ["works", "office"]

[sites.plant]
range = "192.168.10.0/24"
gateway = "works"
line = true

[hosts]
crane = { network = "works", address = "10.20.1.20" }
erp = { network = "office", address = "10.30.0.20" }
press = { network = "plant", address = "192.168.10.11" }
visitor = { network = "internet", address = "203.0.113.66" }
"""


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[RunningLab]:
    """A small lab of its own, up."""
    path = tmp_path / "bound.toml"
    path.write_text(BOUND)
    small = RunningLab(path, "bound")
    try:
        small.run("up")
        yield small
    finally:
        small.down()
    assert not small.leavings()


@needs_lab
def test_an_address_of_the_hubs_own_machine_serves_a_network_as_well(bound: RunningLab) -> None:
    rows = bound.json("matrix")
    met = {(row["from"], row["target"]): row["observed"] for row in rows if row["plane"] == "mqtt"}
    assert met["visitor", "public"] == "open"
    assert {met[host, "works"] for host in ("crane", "erp", "press")} == {"open"}
    assert met["visitor", "works"] == "unreachable"


@needs_lab
def test_a_later_namespace_of_the_same_name_is_left_alone(bound: RunningLab) -> None:
    name = f"{bound.name}-office"
    subprocess.run(["ip", "netns", "del", name], check=True)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        assert bound.json("status", code=1)["ok"] is False
        bound.down()
        assert [Path(left).name for left in bound.leavings()] == [name]
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@needs_lab
def test_taking_away_nothing_says_so(unbuilt: RunningLab) -> None:
    assert f"There is no lab {unbuilt.name}." in unbuilt.run("down")
    assert f"There is no lab {unbuilt.name}" in unbuilt.run("status", code=1)


@needs_lab
def test_whoever_is_not_root_is_told() -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*nobody, str(ISTHMUS), "lab", "status", str(FACTORY)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "only root may" in done.stderr) == (1, True), done.stderr


def made(lab: RunningLab, kind: str) -> list[str]:
    path = lab.folder / "made.jsonl"
    return [line for line in path.read_text().splitlines() if f'"kind": "{kind}"' in line] if path.exists() else []


def until(condition: Callable[[], Any], seconds: float) -> None:
    assert wait_until(SystemClock(), seconds, condition), f"not within {seconds} s"
