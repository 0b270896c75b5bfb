"""Changes while a device is connected and sending: the session is cut within a second, the client comes back by its
own retry when it is let in again, and what was acknowledged is there.
"""

import json
from collections.abc import Iterator

import pytest

from support.lab import RunningLab
from support.sender import Sender

CUT_SECONDS = 1.0
ENDPOINT = "10.20.1.4"
HUB_TYPE = "Microsoft.Devices/IotHubs"


@pytest.fixture
def sender(lab: RunningLab) -> Iterator[Sender]:
    """A device in the plant that sends; afterwards everything it was told to be safe must be."""
    with Sender(lab, "press-1", lab.make_device("press-1")) as sending:
        sending.acknowledge_more()
        yield sending
        sending.acknowledge_more()
    assert_nothing_lost(lab, sending)


def test_a_rejected_endpoint_cuts_and_a_new_one_lets_in_once_approved(lab: RunningLab, sender: Sender) -> None:
    sender.cut_within(CUT_SECONDS, lambda: decide(lab, "reject"))
    recreate(lab)
    before = len(sender.acknowledged)
    sender.wait(lambda: len(sender.told("failed")) > 0, "refusals")
    assert len(sender.acknowledged) == before
    decide(lab, "approve")
    sender.acknowledge_more()


def test_a_deleted_endpoint_cuts(lab: RunningLab, sender: Sender) -> None:
    sender.cut_within(CUT_SECONDS, lambda: lab.isthmus("network", "private-endpoint", "delete", "-n", "works"))
    create(lab)
    decide(lab, "approve")
    sender.acknowledge_more()


def test_a_disabled_device_is_cut(lab: RunningLab, sender: Sender) -> None:
    set_status(lab, sender, "enabled")
    sender.cut_within(CUT_SECONDS, lambda: set_status(lab, sender, "disabled"))
    set_status(lab, sender, "enabled")
    sender.acknowledge_more()


def test_a_peering_that_ends_cuts_the_peer_alone(lab: RunningLab, sender: Sender) -> None:
    with Sender(lab, "erp", lab.make_device("erp")) as peer:
        peer.acknowledge_more()
        ways = (("works", "to-office", "office"), ("office", "to-works", "works"))
        ending = ("network", "vnet", "peering", "delete", "--vnet-name", "works", "-n", "to-office")
        foretold = json.loads(lab.isthmus(*ending, "--dry-run", "--output", "json"))
        live = [(each["device"], each["address"], each["rule"]) for each in foretold if each["live"]]
        assert live == [(peer.device_id, "10.30.0.20", "network.not-in-network")]
        peer.cut_within(CUT_SECONDS, lambda: lab.isthmus(*ending))
        explained = json.loads(lab.isthmus("explain", "--device-id", peer.device_id, "-n", "factory", "-o", "json"))
        assert "network.not-in-network" in {each["rule"] for each in explained}
        lab.isthmus("network", "vnet", "peering", "delete", "--vnet-name", "office", "-n", "to-works")
        for network, name, remote in ways:
            lab.isthmus(
                *("network", "vnet", "peering", "create", "--vnet-name", network, "-n", name),
                *("--remote-vnet", remote, "--allow-vnet-access", "true"),
            )
        peer.acknowledge_more()
    assert_nothing_lost(lab, peer)
    assert not sender.told("disconnected")


def test_rules_of_the_public_side_hold_for_whoever_is_inside(lab: RunningLab) -> None:
    set_hub(lab, "properties.publicNetworkAccess=Enabled")
    try:
        with Sender(lab, "intruder", lab.make_device("intruder")) as outside:
            outside.acknowledge_more()
            outside.cut_within(CUT_SECONDS, lambda: set_hub(lab, rules("Deny")))
            set_hub(lab, rules("Deny", "203.0.113.66"))
            outside.acknowledge_more()
            outside.cut_within(CUT_SECONDS, lambda: set_hub(lab, "properties.publicNetworkAccess=Disabled"))
        assert_nothing_lost(lab, outside)
    finally:
        set_hub(lab, "properties.publicNetworkAccess=Disabled", rules("Allow"))


def test_the_line_takes_over_under_a_session_that_goes_on(lab: RunningLab, sender: Sender) -> None:
    lab.run("cut", "plant/vpn")
    try:
        lab.await_way("line")
        sender.acknowledge_more(20)
    finally:
        lab.run("mend", "plant/vpn")
    lab.await_way("vpn")
    sender.acknowledge_more(20)
    assert not sender.told("disconnected")


def test_a_connector_that_is_cut_off_for_a_while_loses_nothing(lab: RunningLab) -> None:
    with Sender(lab, "robot", lab.make_device("robot")) as robot:
        robot.acknowledge_more()
        lab.run("cut", "cell/connector")
        try:
            rows = lab.json("matrix", "--host", "robot", code=1)
        finally:
            lab.run("mend", "cell/connector")
        assert "open" not in {row["observed"] for row in rows}
        robot.acknowledge_more(20)
    assert_nothing_lost(lab, robot)


def assert_nothing_lost(lab: RunningLab, sender: Sender) -> None:
    """Every message that was acknowledged is in the log; one that was not may be there as well."""
    events = lab.isthmus(
        *("monitor-events", "-n", "factory", "-d", sender.device_id, "--et", "0", "--timeout", "1"),
        *("--output", "json"),
    )
    kept = {number for number in sender.acknowledged if f'"{sender.device_id} {number}"' in events}
    assert sorted(set(sender.acknowledged) - kept) == []


def rules(default: str, *allowed: str) -> str:
    """The assignment of a whole rule set."""
    listed = [{"filterName": mask, "ipMask": mask, "action": "Allow"} for mask in allowed]
    value = {"defaultAction": default, "applyToBuiltInEventHubEndpoint": True, "ipRules": listed}
    return f"properties.networkRuleSets={json.dumps(value)}"


def set_hub(lab: RunningLab, *assignments: str) -> None:
    lab.isthmus("iot", "hub", "update", "-n", "factory", "--force", "--set", *assignments)


def set_status(lab: RunningLab, sender: Sender, status: str) -> None:
    lab.isthmus("device-identity", "update", "-n", "factory", "-d", sender.device_id, "--status", status)


def decide(lab: RunningLab, verb: str, endpoint: str = "works", hub: str = "factory") -> None:
    """A hub's owner decides on a private endpoint."""
    listed = lab.isthmus(
        "network", "private-endpoint-connection", "list", "-n", hub, "--type", HUB_TYPE, "--output", "json"
    )
    found = [each["id"] for each in json.loads(listed) if f"/{endpoint}" in each["properties"]["privateEndpoint"]["id"]]
    assert len(found) == 1, listed
    lab.isthmus("network", "private-endpoint-connection", verb, "--id", found[0])


def recreate(lab: RunningLab, endpoint: str = "works", hub: str = "factory") -> None:
    """Deletes a private endpoint and asks for it again."""
    lab.isthmus("network", "private-endpoint", "delete", "-n", endpoint)
    create(lab, endpoint, hub)


def create(lab: RunningLab, endpoint: str = "works", hub: str = "factory") -> None:
    """Asks for a private endpoint as it was asked for when the lab was built."""
    resource = json.loads(lab.isthmus("iot", "hub", "show", "-n", hub, "--output", "json"))["id"]
    lab.isthmus(
        *("network", "private-endpoint", "create", "-n", endpoint, "--connection-name", endpoint),
        *("--private-connection-resource-id", resource, "--group-id", "iotHub", "--manual-request", "true"),
        *("--vnet-name", endpoint, "--subnet", "lan"),
        *("--ip-config", "name=one", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={ENDPOINT}"),
    )
