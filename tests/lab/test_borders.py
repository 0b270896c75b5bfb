"""What must not work: routes that somebody forged, and customers who have the same ranges."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from isthmus.lab.probe import LINK
from lab.test_grid import CELLS, play
from lab.test_live import CUT_SECONDS, decide, recreate
from support.lab import RunningLab
from support.sender import Sender

PRIVATE = "10.20.1.4"
VPN_OF_WORKS = "203.0.113.30"
HUB_PUBLIC = "203.0.113.10"


def test_no_route_of_the_intruders_leads_to_the_private_address(lab: RunningLab) -> None:
    for gateway in (VPN_OF_WORKS, HUB_PUBLIC):
        with routed(lab, "intruder", f"{PRIVATE}/32", gateway):
            assert verdicts(lab, "intruder", PRIVATE) == {"unreachable"}


def test_a_peer_of_a_peer_that_forges_its_route_gets_no_answer(lab: RunningLab) -> None:
    with routed(lab, "branch", "10.20.0.0/16", address_of(lab, "office", "to-branch")):
        assert verdicts(lab, "till", PRIVATE) == {"unreachable"}


def test_one_whom_all_routers_let_through_is_refused_by_what_was_declared(lab: RunningLab) -> None:
    with (
        routed(lab, "branch", "10.20.0.0/16", address_of(lab, "office", "to-branch")),
        routed(lab, "works", "10.40.0.0/16", address_of(lab, "office", "to-works")),
    ):
        assert verdicts(lab, "till", PRIVATE) == {"refused"}
    explained = json.loads(lab.isthmus("explain", "-n", "factory", "--address", "10.40.0.20", "--output", "json"))
    assert {entry["rule"] for entry in explained} == {"network.not-in-network"}


def test_customers_with_the_same_ranges_do_not_notice_each_other(lab: RunningLab) -> None:
    """Both private endpoints are 10.20.1.4, both hosts 10.20.1.20; each reaches the hub of its own network."""
    for host, hub, other in (("crane", "factory", "bakery"), ("oven", "bakery", "factory")):
        device_id = lab.make_device(host, hub)
        assert play(lab, host, device_id, hub) == dict.fromkeys(CELLS, "ok")
        assert f"{host} {device_id} mqtt" in events_of(lab, hub, device_id)
        assert events_of(lab, other, device_id) == ""
    with Sender(lab, "oven", lab.make_device("crane")) as stray:
        stray.wait(lambda: len(stray.told("failed")) > 1, "refusals")
        assert not stray.acknowledged


def test_rejecting_one_customer_does_not_disturb_the_other(lab: RunningLab) -> None:
    with (
        Sender(lab, "crane", lab.make_device("crane")) as here,
        Sender(lab, "oven", lab.make_device("oven", "bakery"), "bakery") as there,
    ):
        here.acknowledge_more()
        there.acknowledge_more()
        there.cut_within(CUT_SECONDS, lambda: decide(lab, "reject", "bakery", "bakery"))
        here.acknowledge_more(20)
        assert not here.told("disconnected")
        recreate(lab, "bakery", "bakery")
        decide(lab, "approve", "bakery", "bakery")
        there.acknowledge_more()


@contextmanager
def routed(lab: RunningLab, node: str, destination: str, gateway: str) -> Iterator[None]:
    """A route that is there while it lasts."""
    route = ["ip", "-n", f"{lab.name}-{node}", "route"]
    subprocess.run([*route, "add", destination, "via", gateway], check=True)
    try:
        yield
    finally:
        subprocess.run([*route, "del", destination, "via", gateway], check=True)


def address_of(lab: RunningLab, node: str, interface: str) -> str:
    """The address that an interface has."""
    shown = subprocess.run(
        ["ip", "-j", "-n", f"{lab.name}-{node}", "-4", "addr", "show", "dev", interface],
        check=True,
        capture_output=True,
        text=True,
    )
    address: Any = json.loads(shown.stdout)[0]["addr_info"][0]["local"]
    return str(address)


def verdicts(lab: RunningLab, host: str, address: str) -> set[str]:
    """What a host's probe meets at an address, over all planes of the hub."""
    rows = lab.json("matrix", "--host", host, code=None)
    return {row["observed"] for row in rows if row["address"] == address and row["plane"] != LINK}


def events_of(lab: RunningLab, hub: str, device_id: str) -> str:
    """What a hub has kept of a device."""
    return lab.isthmus("monitor-events", "-n", hub, "-d", device_id, "--et", "0", "--timeout", "1")
